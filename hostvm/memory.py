"""Physical memory of the emulated machine, and a Guest's bounds-checked part of it.

`PhysicalMemory` is one flat, lazily committed mapping that the CPU engine shares; Python sees it without copying.
The engine caches translations of code, so a write from Python must be known to it: `write` is the one door, and it
notes the pages written for the CPU to look at before it runs again (cpu.py decides whether code was hit).

`GuestMemory` is what lguest calls lgread and lgwrite: guest-physical addresses, checked against the Guest's limit, and
a wrong address kills the Guest. The limit rule differs by generation: up to 3.2 a range that ends exactly at the limit
is refused, later ones accept it. Source: seeds' core.c, lguest_address_ok.
"""

from __future__ import annotations

import mmap
import struct
from typing import Protocol

from hostvm.errors import GuestKilled
from hostvm.units import GuestPhysical, HostPhysical
from hostvm.x86 import PAGE_SHIFT, PAGE_SIZE, WORD_MASK

_U32 = struct.Struct("<I")


class PhysicalMemory:
    """`size` bytes of host-physical memory starting at `base`, zeroed, committed only where touched."""

    def __init__(self, base: HostPhysical, size: int) -> None:
        self.base = base
        self.size = size
        self.mapping = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self.view = memoryview(self.mapping)
        self.written: set[int] = set()

    def read(self, address: int, count: int) -> bytes:
        """`count` bytes at a host-physical address."""
        start = address - self.base
        return bytes(self.view[start : start + count])

    def write(self, address: int, data: bytes | bytearray | memoryview) -> None:
        """Store bytes at a host-physical address and note the pages touched."""
        start = address - self.base
        end = start + len(data)
        self.view[start:end] = data
        for page in range(address >> PAGE_SHIFT, (address + len(data) - 1 >> PAGE_SHIFT) + 1):
            self.written.add(page)

    def read_u32(self, address: int) -> int:
        """Little-endian word at a host-physical address."""
        word: int = _U32.unpack_from(self.view, address - self.base)[0]
        return word

    def write_u32(self, address: int, value: int) -> None:
        """Store a little-endian word that does not cross a page."""
        _U32.pack_into(self.view, address - self.base, value)
        self.written.add(address >> PAGE_SHIFT)


class GuestMemory(Protocol):
    """Guest-physical memory as the Host's routines use it; every access is checked.

    Raises GuestKilled with lguest's text when the Guest gave an address outside its memory.
    """

    def ok(self, address: int, count: int) -> bool:
        """Whether the Guest may name this range."""
        ...

    def read(self, address: int, count: int) -> bytes:
        """lgread of a range."""
        ...

    def write(self, address: int, data: bytes) -> None:
        """lgwrite of a range."""
        ...

    def read_u32(self, address: int) -> int:
        """lgread of one word."""
        ...

    def write_u32(self, address: int, value: int) -> None:
        """lgwrite of one word."""
        ...


class BoundedMemory:
    """GuestMemory over a slice of PhysicalMemory: guest-physical 0 lies at `base`.

    `pfn_limit` is the number of guest-physical pages; `limit_is_exclusive` selects the older rule that refuses a range
    ending exactly at the limit.
    """

    def __init__(
        self, physical: PhysicalMemory, base: HostPhysical, pfn_limit: int, limit_is_exclusive: bool
    ) -> None:
        self.physical = physical
        self.base = base
        self.pfn_limit = pfn_limit
        self.limit_is_exclusive = limit_is_exclusive

    def ok(self, address: int, count: int) -> bool:
        """lguest_address_ok, in its 32-bit arithmetic."""
        end = address + count & WORD_MASK
        if end < address:
            return False
        if self.limit_is_exclusive:
            return end // PAGE_SIZE < self.pfn_limit
        return end <= self.pfn_limit * PAGE_SIZE

    def read(self, address: int, count: int) -> bytes:
        """Bytes at a guest-physical address."""
        if not self.ok(address, count):
            raise GuestKilled(f"bad read address {address:#x} len {count}")
        return self.physical.read(self.base + address, count)

    def write(self, address: int, data: bytes) -> None:
        """Store bytes at a guest-physical address."""
        if not self.ok(address, len(data)):
            raise GuestKilled(f"bad write address {address:#x} len {len(data)}")
        self.physical.write(self.base + address, data)

    def read_u32(self, address: int) -> int:
        """Word at a guest-physical address."""
        return int.from_bytes(self.read(address, 4), "little")

    def write_u32(self, address: int, value: int) -> None:
        """Store a word at a guest-physical address."""
        self.write(address, (value & WORD_MASK).to_bytes(4, "little"))

    def host_address(self, address: GuestPhysical) -> HostPhysical:
        """Where a guest-physical address lies on the machine's bus (unchecked)."""
        return HostPhysical(self.base + address)


__all__ = ["BoundedMemory", "GuestMemory", "PhysicalMemory"]
