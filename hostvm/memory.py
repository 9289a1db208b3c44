"""Physical memory of the emulated machine, and a Guest's bounds-checked part of it.

`PhysicalMemory` is one flat, lazily committed mapping that the CPU engine shares; Python sees it without copying.
The engine caches translations of code, so a write from Python must be known to it: `write` is the one door, and it
notes the pages written for the CPU to look at before it runs again (translations.py decides whether code was hit), and
once more for whoever takes snapshots (dirty_pages.py). A `listener` hears of each such write before it is made.

`GuestMemory` is what lguest calls lgread and lgwrite: guest-physical addresses, checked against the Guest's limit, and
a wrong address kills the Guest. The limit rule differs by generation: up to 3.9 a range that ends exactly at the limit
is refused, later ones accept it. `get_user` and `put_user` are the other way in, for structures whose address was
checked once: no limit, and a failure is an answer instead of a death. Source: seeds' core.c, lguest_address_ok.
"""

from __future__ import annotations

import ctypes
import mmap
import struct
import sys
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Protocol

from hostvm.errors import GuestKilled
from hostvm.touched_pages import touched_pages
from hostvm.units import HostPhysical
from hostvm.x86 import PAGE_SHIFT, PAGE_SIZE, WORD_MASK

_U32 = struct.Struct("<I")
_ZEROES = bytes(PAGE_SIZE)
NOTHING_SHARED: Mapping[int, HostPhysical] = MappingProxyType({})


class Words(Protocol):
    """A row of words of memory."""

    def __getitem__(self, index: int, /) -> int:
        """The word at `index` now."""
        ...


class _SwappedWords:
    """Words of the emulated machine on a computer that has its bytes the other way round."""

    def __init__(self, part: memoryview) -> None:
        self._part = part

    def __getitem__(self, index: int, /) -> int:
        word: int = _U32.unpack_from(self._part, 4 * index)[0]
        return word


class PhysicalMemory:
    """`size` bytes of host-physical memory starting at `base`, zeroed, committed only where touched."""

    def __init__(self, base: HostPhysical, size: int) -> None:
        self.base = base
        self.size = size
        self.mapping = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self.view = memoryview(self.mapping)
        self.written: set[int] = set()
        self.dirty: set[int] = set()
        self.listener: Callable[[int, int], None] | None = None

    def read(self, address: int, count: int) -> bytes:
        """`count` bytes at a host-physical address."""
        start = address - self.base
        return bytes(self.view[start : start + count])

    def write(self, address: int, data: bytes | bytearray | memoryview) -> None:
        """Store bytes at a host-physical address and note the pages touched."""
        if self.listener is not None:
            self.listener(address, len(data))
        start = address - self.base
        end = start + len(data)
        self.view[start:end] = data
        for page in range(address >> PAGE_SHIFT, (address + len(data) - 1 >> PAGE_SHIFT) + 1):
            self.written.add(page)
            self.dirty.add(page)

    def used_pages(self) -> tuple[tuple[int, bytes], ...]:
        """(page number, content) of every page that is not all zero, ascending."""
        first, view = self.base >> PAGE_SHIFT, self.view
        marks = self.touched(self.base, self.base + self.size)
        touched = (page for page, mark in enumerate(marks) if mark)
        pages = (
            (first + page, bytes(view[page * PAGE_SIZE : (page + 1) * PAGE_SIZE]))
            for page in touched
        )
        return tuple(each for each in pages if each[1] != _ZEROES)

    def touched(self, begin: int, end: int) -> bytes:
        """A byte for each page between two host-physical addresses: 0 if nobody was there yet, so it is zero."""
        start = ctypes.addressof(ctypes.c_char.from_buffer(self.mapping)) + begin - self.base
        return touched_pages(start, end - begin >> PAGE_SHIFT)

    def clear(self) -> None:
        """Zero everything, and give the space back."""
        self.mapping.madvise(mmap.MADV_DONTNEED)
        everything = range(self.base >> PAGE_SHIFT, self.base + self.size >> PAGE_SHIFT)
        self.written.update(everything)
        self.dirty.update(everything)

    def read_u32(self, address: int) -> int:
        """Little-endian word at a host-physical address."""
        word: int = _U32.unpack_from(self.view, address - self.base)[0]
        return word

    def words(self, address: int, count: int) -> Words:
        """Little-endian words from a host-physical address on, as they are when one looks at them; aligned."""
        start = address - self.base
        part = self.view[start : start + 4 * count]
        return part.cast("I") if sys.byteorder == "little" else _SwappedWords(part)

    def write_u32(self, address: int, value: int) -> None:
        """Store a little-endian word that does not cross a page."""
        if self.listener is not None:
            self.listener(address, 4)
        _U32.pack_into(self.view, address - self.base, value)
        page = address >> PAGE_SHIFT
        self.written.add(page)
        self.dirty.add(page)


class MemoryAccess(Protocol):
    """What a Guest's part of memory needs of what it is a part of; addresses are host-physical."""

    def read(self, address: int, count: int) -> bytes:
        """`count` bytes."""
        ...

    def write(self, address: int, data: bytes) -> None:
        """Store bytes."""
        ...

    def read_u32(self, address: int) -> int:
        """Little-endian word."""
        ...

    def write_u32(self, address: int, value: int) -> None:
        """Store a little-endian word that does not cross a page."""
        ...


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

    def get_user(self, address: int) -> int | None:
        """Word at a guest-physical address, whatever the limit; None if it cannot be reached."""
        ...

    def get_user_bytes(self, address: int, count: int) -> bytes | None:
        """Bytes at a guest-physical address, whatever the limit; None if they cannot be reached."""
        ...

    def put_user(self, address: int, value: int) -> bool:
        """Store a word, whatever the limit; False if it cannot be reached."""
        ...

    def put_user_byte(self, address: int, value: int) -> bool:
        """Store a byte, whatever the limit; False if it cannot be reached."""
        ...


class BoundedMemory:
    """GuestMemory over a slice of PhysicalMemory: guest-physical 0 lies at `base`.

    `pfn_limit` is the number of guest-physical pages; `limit_is_exclusive` selects the older rule that refuses a range
    ending exactly at the limit. 2.6.23 does not print the length in the kill text of a word access. `shared` tells of
    guest-physical pages that lie elsewhere (shared_pages.py). Pages from `pfn_limit` up to `device_limit` are devices'.
    """

    def __init__(
        self,
        physical: MemoryAccess,
        base: HostPhysical,
        pfn_limit: int,
        limit_is_exclusive: bool,
        word_kill_names_length: bool = True,
        shared: Mapping[int, HostPhysical] = NOTHING_SHARED,
        device_limit: int = 0,
    ) -> None:
        self.physical = physical
        self.base = base
        self.device_limit = device_limit
        self.pfn_limit = pfn_limit
        self.limit_is_exclusive = limit_is_exclusive
        self.word_kill_names_length = word_kill_names_length
        self.shared = shared

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
        if not self.ok(address, 4):
            raise self._bad_word("read", address)
        return self.physical.read_u32(self.base + address)

    def write_u32(self, address: int, value: int) -> None:
        """Store a word at a guest-physical address."""
        if not self.ok(address, 4):
            raise self._bad_word("write", address)
        self.put_user(address, value)

    def get_user(self, address: int) -> int | None:
        """Word at a guest-physical address inside memory (unchecked)."""
        return self.physical.read_u32(self.base + address)

    def get_user_bytes(self, address: int, count: int) -> bytes | None:
        """Bytes at a guest-physical address inside memory (unchecked)."""
        return self.physical.read(self.base + address, count)

    def put_user(self, address: int, value: int) -> bool:
        """Store a word at a guest-physical address inside memory (unchecked)."""
        if address & PAGE_SIZE - 1 > PAGE_SIZE - 4:
            self.physical.write(self.base + address, (value & WORD_MASK).to_bytes(4, "little"))
        else:
            self.physical.write_u32(self.base + address, value & WORD_MASK)
        return True

    def put_user_byte(self, address: int, value: int) -> bool:
        """Store a byte at a guest-physical address inside memory (unchecked)."""
        self.physical.write(self.base + address, bytes((value,)))
        return True

    def host_address(self, address: int) -> HostPhysical:
        """Where a guest-physical address lies on the machine's bus (unchecked)."""
        offset = address & PAGE_SIZE - 1
        page = self.shared.get(address - offset)
        return HostPhysical(self.base + address if page is None else page + offset)

    def _bad_word(self, what: str, address: int) -> GuestKilled:
        length = " len 4" if self.word_kill_names_length else ""
        return GuestKilled(f"bad {what} address {address:#x}{length}")


__all__ = [
    "NOTHING_SHARED",
    "BoundedMemory",
    "GuestMemory",
    "MemoryAccess",
    "PhysicalMemory",
    "Words",
]
