"""Console, disk and network of 2.6.23: what the Launcher does with a buffer that was sent to one of its keys.

A device asks for a buffer that the Guest has bound to its key, and fills it. If the Guest has not yet looked at any of
them, it gets the last one, and what was in it is lost: so lguest did it, and a driver that types slowly never sees it.

The disk answers when the World has: lguest's Launcher kept its Guest waiting meanwhile. A second request before the
answer to the first takes that one's place, as no driver does.

What Device has for virtqueues is not used here, except that what waits for the World is kept where a queue keeps it.

Source: lguest's Launcher in Linux 2.6.23 (handle_output, handle_console_input, handle_block_output). Read next: bus.py.
"""

from __future__ import annotations

import struct

from hostvm.devices.block import DiskDevice
from hostvm.devices.config import SECTOR
from hostvm.devices.device import Device
from hostvm.devices.launcher_memory import LauncherMemory
from hostvm.devices.lguest_bus import CONSOLE_KEY, GUEST_SLOT
from hostvm.devices.net import LONGEST_FRAME
from hostvm.devices.virtqueue import Pieces, Virtqueue, Waiting, gather, scatter, size
from hostvm.errors import GuestKilled
from hostvm.lguest_dma import DMA_SIZE, KEY_ALIGNMENT, parse_dma
from hostvm.world import Action

_WORD = struct.Struct("<I")
_COMMAND = struct.Struct("<iII")
_BYTES, _RESULT = 8, 12
_DONE, _FAILED = 1, 2


def sections_of(memory: LauncherMemory, dma: int) -> Pieces:
    """Where the bytes of the buffer at `dma` are. Raises GuestKilled unless all of it is the Guest's."""
    sections = parse_dma(memory.read(dma, DMA_SIZE)).sections
    for address, length in sections:
        memory.check(address, length)
    return sections


def set_used_len(memory: LauncherMemory, dma: int, used: int) -> None:
    """Say in a buffer how much of it was used."""
    memory.write(dma, _WORD.pack(used))


class DmaDevice(Device):
    """A device with a key: `placed.queues[0].address`."""

    def dma_sent(self, sections: Pieces) -> int:
        """Take what the Guest sent; how many bytes of it."""
        raise NotImplementedError

    def fill(self, key: int, data: bytes) -> int:
        """Put `data` into a buffer that the Guest has bound to `key`, and interrupt it; how many bytes are dealt with.

        That is all of them if there is no such buffer, or no room in it.
        """
        buffer = self.host.dma_buffer(key)
        if buffer is None:
            return len(data)
        address, irq = buffer
        done = scatter(self.memory, sections_of(self.memory, address), data)
        set_used_len(self.memory, address, done)
        self.host.raise_irq(irq)
        return done or len(data)

    def complete(self, queue: Virtqueue, data: bytes) -> None:
        """The World has answered."""
        waiting, queue.waiting = queue.waiting, None
        if waiting is not None:
            self.finish(queue, waiting, data[: waiting.count])


class DmaConsole(DmaDevice):
    """Prints what is sent, and puts what was typed into the buffer that is bound."""

    name = "console"

    def dma_sent(self, sections: Pieces) -> int:
        """Print."""
        text = gather(self.memory, sections)
        if text:
            self.host.console_output(text)
        return len(text)

    def complete(self, queue: Virtqueue, data: bytes) -> None:
        """Something was typed: it is lost if the Guest has bound nothing."""
        while data:
            data = data[self.fill(CONSOLE_KEY, data) :]


class DmaNet(DmaDevice):
    """A network of the Guest and its Launcher, which passes frames to the World and the World's frames to the Guest."""

    name = "net"

    def dma_sent(self, sections: Pieces) -> int:
        """Send a frame: one that is longer than a trace can tell is lost."""
        frame = gather(self.memory, sections)
        if 0 < len(frame) <= LONGEST_FRAME:
            self.host.packet_sent(self.placed.number, frame)
        return len(frame)

    def complete(self, queue: Virtqueue, data: bytes) -> None:
        """A frame has come in; what does not fit into the Guest's buffer is cut off."""
        if data:
            self.fill(queue.address + GUEST_SLOT * KEY_ALIGNMENT, data)


class DmaSharedNet(DmaDevice):
    """The page in which Guests meet. They send to each other, and none of that comes to the Launcher."""

    name = "net"

    def complete(self, queue: Virtqueue, data: bytes) -> None:
        """The World has nothing for this network."""


class DmaBlock(DmaDevice, DiskDevice):
    """The disk. What waits has the bound buffer's used_len as its first piece, and its interrupt as `head`."""

    def dma_sent(self, sections: Pieces) -> int:
        """Begin with what the page asks for."""
        (queue,) = self.queues
        kind, sector, _ = _COMMAND.unpack(self.memory.read(queue.address, _COMMAND.size))
        position = sector * SECTOR
        if position >= self.size:
            raise GuestKilled(f"Bad offset {position} vs {self.size}")
        buffer = self.host.dma_buffer(queue.address)
        if buffer is None:
            raise GuestKilled("Block request didn't give us a dma buffer")
        reply = sections_of(self.memory, buffer[0])
        if kind:
            self._write(queue, position, sections, buffer)
        else:
            count = min(size(reply), self.size - position)
            self._wait(queue, Action.READ, position, count, buffer, reply)
        return 0

    def _write(
        self, queue: Virtqueue, position: int, sections: Pieces, buffer: tuple[int, int]
    ) -> None:
        count = size(sections)
        if position + count > self.size:
            raise GuestKilled(f"Write past end {position}+{count}")
        if count % SECTOR:
            self._answer(queue, _FAILED, buffer, 0)
            return
        self.overlay.store(position, gather(self.memory, sections))
        self._wait(queue, Action.WRITE, position, count, buffer)

    def _wait(
        self,
        queue: Virtqueue,
        action: Action,
        position: int,
        count: int,
        buffer: tuple[int, int],
        reply: Pieces = (),
    ) -> None:
        address, irq = buffer
        waiting = Waiting(irq, action, position, count, ((address, _WORD.size), *reply))
        if count:
            self.wait_for(queue, waiting)
        else:
            self.finish(queue, waiting, b"")

    def finish(self, queue: Virtqueue, waiting: Waiting, data: bytes) -> None:
        """Say how it went, and hand over what was read."""
        (address, _), *reply = waiting.pieces
        used, done = 0, waiting.count
        if waiting.action is Action.READ:
            now = self.overlay.over(waiting.position, data)
            used = done = scatter(self.memory, tuple(reply), now)
        (wanted,) = _WORD.unpack(self.memory.read(queue.address + _BYTES, _WORD.size))
        result = _DONE if done == wanted else _FAILED
        self._answer(queue, result, (address, waiting.head), used)

    def _answer(self, queue: Virtqueue, result: int, buffer: tuple[int, int], used: int) -> None:
        address, irq = buffer
        self.memory.write(queue.address + _RESULT, _WORD.pack(result))
        set_used_len(self.memory, address, used)
        self.host.raise_irq(irq)


__all__ = [
    "DmaBlock",
    "DmaConsole",
    "DmaDevice",
    "DmaNet",
    "DmaSharedNet",
    "sections_of",
    "set_used_len",
]
