"""The virtio disk: an image that the World has, under sectors that the Guest wrote.

A request is a chain of 16 bytes (u32 type, u32 priority, u64 sector), data, and a last byte for the status. What is
read comes from the World, so that a trace has it; what is written stays here and never leaves. Each takes as long as
the World pleases. A write takes effect when the disk takes it, not when it is said to be done.

Two things are answered differently from lguest's Launcher, which no driver sees: a write that is not of whole sectors
is an error, and requests that were not offered (SCSI, the disk's serial number) are unsupported.

Source: virtio specification 0.9.5, appendix D; lguest's Launcher (blk_request). Read next: bus.py.
"""

from __future__ import annotations

import struct
from dataclasses import replace

from hostvm.devices.config import SECTOR, BlockConfig
from hostvm.devices.descriptor_page import PlacedDevice
from hostvm.devices.device import Device, DeviceHost, DeviceState
from hostvm.devices.launcher_memory import LauncherMemory
from hostvm.devices.overlay import Overlay
from hostvm.devices.virtqueue import Chain, Pieces, Virtqueue, Waiting, gather, scatter, size
from hostvm.errors import GuestKilled
from hostvm.world import Action

_HEAD = struct.Struct("<IIQ")
_OUT, _SCSI, _FLUSH, _GET_ID = 1, 2, 4, 8
_OK, _IO_ERROR, _UNSUPPORTED = 0, 1, 2
_MOST_BYTES = 1 << 63


class DiskDevice(Device):
    """What disks have in common: so many bytes, and what the Guest has written over them."""

    name = "block"

    def __init__(self, placed: PlacedDevice, memory: LauncherMemory, host: DeviceHost) -> None:
        super().__init__(placed, memory, host)
        assert isinstance(placed.config, BlockConfig)
        self.size = placed.config.sectors * SECTOR
        self.overlay = Overlay()

    def state(self) -> DeviceState:
        """All that is not in the Guest's memory."""
        return replace(super().state(), sectors=self.overlay.sectors())

    def restore(self, state: DeviceState) -> None:
        """Be as in `state`."""
        super().restore(state)
        self.overlay = Overlay(state.sectors)

    def digest_bytes(self) -> bytes:
        """Bytes that are equal exactly if the states are, as far as a digest can tell."""
        return super().digest_bytes() + self.overlay.digest()


class BlockDevice(DiskDevice):
    """One queue, of requests. The last piece of a request that waits is the byte for its status."""

    def begin(self, queue: Virtqueue, chain: Chain) -> None:
        """Read a request and begin with it."""
        head, readable = _split(chain.readable, self.placed.block_head)
        if size(head) < self.placed.block_head:
            raise self.memory.killed("iovec too short!")
        kind, _, sector = _HEAD.unpack(gather(self.memory, head)[: _HEAD.size])
        found = _status_byte(chain.writable)
        if found is None:
            raise queue.killed("Bad virtblk cmd with no room for status")
        status, writable = found
        if kind & (_SCSI | _GET_ID):
            self._answer(queue, chain.head, status, _UNSUPPORTED)
        elif kind & _OUT:
            self._write(queue, chain.head, _position(sector), readable, status)
        elif kind & _FLUSH:
            self.wait_for(queue, Waiting(chain.head, Action.FLUSH, 0, 0, status))
        else:
            self._read(queue, chain.head, _position(sector), writable, status)

    def _write(
        self, queue: Virtqueue, head: int, position: int, readable: Pieces, status: Pieces
    ) -> None:
        count = size(readable)
        if count and position + count > self.size:
            raise queue.killed(f"Write past end {position}+{count}")
        if count % SECTOR:
            self._answer(queue, head, status, _IO_ERROR)
            return
        self.overlay.store(position, gather(self.memory, readable))
        self.wait_for(queue, Waiting(head, Action.WRITE, position, count, status))

    def _read(
        self, queue: Virtqueue, head: int, position: int, writable: Pieces, status: Pieces
    ) -> None:
        count = max(0, min(size(writable), self.size - position))
        if count:
            self.wait_for(queue, Waiting(head, Action.READ, position, count, writable + status))
        else:
            self._answer(queue, head, status, _OK)

    def finish(self, queue: Virtqueue, waiting: Waiting, data: bytes) -> None:
        """Say that a request is done, and hand over what was read."""
        done = 0
        if waiting.action is Action.READ:
            now = self.overlay.over(waiting.position, data)
            done = scatter(self.memory, waiting.pieces[:-1], now)
        self._answer(queue, waiting.head, waiting.pieces[-1:], _OK, done)

    def _answer(
        self, queue: Virtqueue, head: int, status: Pieces, value: int, done: int = 0
    ) -> None:
        scatter(self.memory, status, bytes((value,)))
        queue.add_used(head, done + 1)


def _split(pieces: Pieces, count: int) -> tuple[Pieces, Pieces]:
    """The first `count` bytes, or as many as there are, and the rest."""
    front: list[tuple[int, int]] = []
    rest: list[tuple[int, int]] = []
    for address, length in pieces:
        part = min(count, length)
        count -= part
        front.append((address, part))
        rest.append((address + part, length - part))
    return tuple(front), tuple(rest)


def _position(sector: int) -> int:
    position = sector * SECTOR
    if position >= _MOST_BYTES:
        raise GuestKilled(f"Bad seek to sector {sector}")
    return position


def _status_byte(writable: Pieces) -> tuple[Pieces, Pieces] | None:
    """The last byte to be written, for the status; the pieces without it. None if there is none."""
    for at in range(len(writable) - 1, -1, -1):
        address, length = writable[at]
        if length:
            data = *writable[:at], (address, length - 1)
            return ((address + length - 1, 1),), data
    return None


__all__ = ["BlockDevice", "DiskDevice"]
