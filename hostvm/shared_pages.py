"""Pages that Guests share: where a Guest's slice of memory has a hole, and somebody else's page is seen through it.

Launchers of 2.6.23 can map one file into several Guests, and so two Guests meet in a page of physical memory. The CPU
goes there by itself, because the shadow tables lead to the shared page. The Host's and the Launcher's own accesses go
by guest-physical address, and through this.

Read next: dma.py, whose keys are places in such pages.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from hostvm.memory import MemoryAccess
from hostvm.units import HostPhysical
from hostvm.x86 import PAGE_SIZE

_PAGE = ~(PAGE_SIZE - 1)


class SharedPages:
    """`memory`, except that host-physical pages that are keys of `elsewhere` are found at its values."""

    __slots__ = ("_elsewhere", "_memory")

    def __init__(self, memory: MemoryAccess, elsewhere: Mapping[int, HostPhysical]) -> None:
        self._memory = memory
        self._elsewhere = elsewhere

    def _at(self, address: int) -> int:
        page = self._elsewhere.get(address & _PAGE)
        return address if page is None else page + (address & PAGE_SIZE - 1)

    def _parts(self, address: int, count: int) -> Iterator[tuple[int, int]]:
        """Where the range really lies, page by page: address and number of bytes."""
        while count:
            length = min(count, PAGE_SIZE - address % PAGE_SIZE)
            yield self._at(address), length
            address += length
            count -= length

    def read(self, address: int, count: int) -> bytes:
        """Bytes at a host-physical address."""
        return b"".join(self._memory.read(*part) for part in self._parts(address, count))

    def write(self, address: int, data: bytes) -> None:
        """Store bytes at a host-physical address."""
        done = 0
        for at, length in self._parts(address, len(data)):
            self._memory.write(at, data[done : done + length])
            done += length

    def read_u32(self, address: int) -> int:
        """Little-endian word at a host-physical address."""
        return int.from_bytes(self.read(address, 4), "little")

    def write_u32(self, address: int, value: int) -> None:
        """Store a little-endian word that does not cross a page."""
        self._memory.write_u32(self._at(address), value)


__all__ = ["SharedPages"]
