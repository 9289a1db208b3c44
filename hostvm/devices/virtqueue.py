"""A virtqueue from the device's side: buffers come out of the ring, and go back into it with a length.

The ring is the Guest's memory, and everything in it is what the Guest pleased to write: a position that jumped, a chain
that runs in a circle, a buffer outside its memory. Each is checked where it is read, and kills the Guest. What the
device itself must remember is in `QueueState`, not in the ring.

    0x0000  256 descriptors: u64 address, u32 length, u16 flags, u16 next
    0x1000  available: u16 flags, u16 idx, u16 head[256]       the Guest writes, the device reads
    0x2000  used: u16 flags, u16 idx, {u32 head, u32 length}[256]      the other way

In 2.6.24 there are 128 of each, the second part follows at once, and the third begins on the next page. On PCI the
Guest says where each part is (pci_virtqueue.py).

A device takes one chain at a time and does it to its end, as each of the Launcher's threads does; `waiting` is the one
that it cannot end before the World answers. Only when nothing is left to take is the Guest interrupted for what was
used, and asked to ring again; in the meantime it is told not to.

Indirect descriptors are not offered. A chain of more bytes than a trace takes in one event is refused: the Launcher
has no such limit, and drivers never come near it.

Source: virtio specification 0.9.5, 2.3; lguest's Launcher. Read next: device.py.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from hostvm.devices.descriptor_page import QUEUE_ENTRIES, PlacedQueue
from hostvm.devices.launcher_memory import LauncherMemory
from hostvm.errors import GuestKilled
from hostvm.world import Action
from hostvm.x86 import PAGE_SIZE

RING_SIZE = 2 * PAGE_SIZE + 4 + 8 * QUEUE_ENTRIES + 2
LONGEST_CHAIN = 1 << 21
_FLAGS, _IDX, _RING = 0, 2, 4
_NEXT, _WRITE, _INDIRECT = 1, 2, 4
_NO_INTERRUPT = _NO_NOTIFY = 1
_DESCRIPTOR = struct.Struct("<QIHH")
_USED_ENTRY = struct.Struct("<II")

# (guest-physical address, length) of each piece.
Pieces: TypeAlias = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Chain:
    """Buffers that the Guest passed in one go: `readable` for the device to read, `writable` for it to fill."""

    head: int
    readable: Pieces
    writable: Pieces


@dataclass(frozen=True, slots=True)
class Waiting:
    """A chain that waits for the World: what for (`position`, `count` in bytes), and which pieces to fill then."""

    head: int
    action: Action
    position: int
    count: int
    pieces: Pieces


@dataclass(frozen=True, slots=True)
class QueueState:
    """What a device knows of a virtqueue: how far it came, and whether used chains were not yet interrupted for."""

    taken: int = 0
    untold: bool = False
    waiting: Waiting | None = None


class Virtqueue:
    """The queue in its place; whoever serves it looks at `waiting`."""

    __slots__ = (
        "_available",
        "_descriptors",
        "_entries",
        "_memory",
        "_taken",
        "_used",
        "address",
        "irq",
        "untold",
        "waiting",
    )

    def __init__(self, memory: LauncherMemory, placed: PlacedQueue) -> None:
        self._memory = memory
        self.address = placed.address
        self.irq = placed.irq
        self._entries = placed.entries
        self._descriptors = placed.address
        self._available = placed.address + placed.entries * _DESCRIPTOR.size
        # Behind the last head stands one word more.
        end = self._available + _RING + 2 * placed.entries + 2
        self._used = -(-end // PAGE_SIZE) * PAGE_SIZE
        self.restore(QueueState())

    def killed(self, text: str) -> GuestKilled:
        """The Guest's end, for a mistake in this queue."""
        return GuestKilled(text)

    def state(self) -> QueueState:
        """All that is not in the Guest's memory."""
        return QueueState(self._taken, self.untold, self.waiting)

    def restore(self, state: QueueState) -> None:
        """Be as in `state`."""
        self._taken = state.taken
        self.untold = state.untold
        self.waiting = state.waiting

    def reset(self) -> None:
        """Forget everything, and wipe the ring."""
        self._memory.write(self.address, bytes(RING_SIZE))
        self.restore(QueueState())

    def take(self) -> Chain | None:
        """The next chain of the Guest, or None."""
        available = self._available
        idx = self._memory.read_u16(available + _IDX)
        ready = idx - self._taken & 0xFFFF
        if ready > self._entries:
            raise self.killed(f"Guest moved used index from {self._taken} to {idx}")
        if not ready:
            return None
        head = self._memory.read_u16(available + _RING + self._taken % self._entries * 2)
        self._taken = self._taken + 1 & 0xFFFF
        if head >= self._entries:
            raise self.killed(f"Guest says index {head} is available")
        self._set_no_notify(True)
        return self._chain(head)

    def put_back(self) -> None:
        """Have not taken the last chain: it will be the next again."""
        self._taken = self._taken - 1 & 0xFFFF

    def _chain(self, head: int) -> Chain:
        readable: list[tuple[int, int]] = []
        writable: list[tuple[int, int]] = []
        total, at, flags = 0, head, _NEXT
        while flags & _NEXT:
            if len(readable) + len(writable) == self._entries:
                raise self.killed("Looped descriptor")
            address, length, flags, following = self._descriptor(at)
            total += length
            if flags & _WRITE:
                writable.append((address, length))
            elif writable:
                raise self.killed("Descriptor has out after in")
            else:
                readable.append((address, length))
            if flags & _NEXT and following >= self._entries:
                raise self._memory.killed(f"Desc next is {following}")
            at = following
        if total > LONGEST_CHAIN:
            raise self.killed(f"Chain of {total} bytes")
        return Chain(head, tuple(readable), tuple(writable))

    def _descriptor(self, index: int) -> tuple[int, int, int, int]:
        raw = self._memory.read(self._descriptors + index * _DESCRIPTOR.size, _DESCRIPTOR.size)
        address, length, flags, following = _DESCRIPTOR.unpack(raw)
        if flags & _INDIRECT:
            raise self._indirect()
        self._memory.check(address, length)
        return address, length, flags, following

    def _indirect(self) -> GuestKilled:
        return self.killed("Indirect descriptor, which was not offered")

    def add_used(self, head: int, length: int) -> None:
        """Give a chain back, `length` bytes of it filled. The Guest is not interrupted yet."""
        used = self._used
        idx = self._memory.read_u16(used + _IDX)
        entry = used + _RING + idx % self._entries * _USED_ENTRY.size
        self._memory.write(entry, _USED_ENTRY.pack(head, length))
        self._memory.write_u16(used + _IDX, idx + 1 & 0xFFFF)
        self.untold = True

    def interrupt_due(self) -> bool:
        """Whether the Guest must be told now that chains were used; it counts as told."""
        untold, self.untold = self.untold, False
        flags = self._memory.read_u16(self._available + _FLAGS)
        return untold and not flags & _NO_INTERRUPT

    def ask_for_notify(self) -> None:
        """Let the Guest ring when it has more."""
        self._set_no_notify(False)

    def _set_no_notify(self, quiet: bool) -> None:
        at = self._used + _FLAGS
        flags = self._memory.read_u16(at)
        wanted = flags | _NO_NOTIFY if quiet else flags & ~_NO_NOTIFY
        if wanted != flags:
            self._memory.write_u16(at, wanted)


# Pieces.


def size(pieces: Sequence[tuple[int, int]]) -> int:
    """How many bytes these are."""
    return sum(length for _, length in pieces)


def gather(memory: LauncherMemory, pieces: Pieces) -> bytes:
    """What stands in these pieces."""
    return b"".join(memory.read(address, length) for address, length in pieces)


def scatter(memory: LauncherMemory, pieces: Pieces, data: bytes) -> int:
    """Fill the pieces in order with as much of `data` as goes in; the number of bytes stored."""
    done = 0
    for address, length in pieces:
        part = data[done : done + length]
        memory.write(address, part)
        done += len(part)
    return done


__all__ = [
    "LONGEST_CHAIN",
    "RING_SIZE",
    "Chain",
    "Pieces",
    "QueueState",
    "Virtqueue",
    "Waiting",
    "gather",
    "scatter",
    "size",
]
