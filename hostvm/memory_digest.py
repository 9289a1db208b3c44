"""A digest of all memory that costs in proportion to what changed.

Each page has a hash of its number and content; the digest is their sum modulo 2^128, so a changed page is one
subtraction and one addition, and the order of changes does not matter. Which pages changed is found by comparing with
a copy, 64 KiB at a time; memory that nobody ever touched costs neither space nor time worth speaking of.

In page tables the CPU sets Accessed and Dirty bits; whether it has done so is left out of the digest (`masked`).
"""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b

from hostvm.memory import PhysicalMemory
from hostvm.x86 import PAGE_SHIFT, PAGE_SIZE, Pte

_BLOCK = 64 << 10
_ZEROES = bytes(PAGE_SIZE)
_MODULUS = 1 << 128
_KEPT_BITS = (0xFFFFFFFF & ~int(Pte.A | Pte.D)).to_bytes(4, "little")
_MASK = int.from_bytes(_KEPT_BITS * (PAGE_SIZE // 4), "little")
_memcmp = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)(
    ("memcmp", ctypes.CDLL(None))
)


@dataclass(frozen=True, slots=True)
class Range:
    """Part of memory: first and last-plus-one host-physical address, page-aligned. `masked`: page tables."""

    begin: int
    end: int
    masked: bool = False


class MemoryDigest:
    """Keeps the digest of `ranges` of `memory`; pages outside them do not count."""

    def __init__(self, memory: PhysicalMemory, ranges: Sequence[Range]) -> None:
        self._memory = memory
        self._ranges = tuple(ranges)
        self._copy = mmap.mmap(-1, memory.size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self._copy_view = memoryview(self._copy)
        self._here = ctypes.addressof(ctypes.c_char.from_buffer(memory.mapping))
        self._there = ctypes.addressof(ctypes.c_char.from_buffer(self._copy))
        self._hashes: dict[int, int] = {}
        self._sum = 0
        self._copied = bytearray(memory.size >> PAGE_SHIFT)

    def value(self) -> bytes:
        """16 bytes; equal exactly when all pages in the ranges are equal (up to chance)."""
        for part in self._ranges:
            for page in self.changed(part):
                self._renew(page, part.masked)
        return self._sum.to_bytes(16, "little")

    def changed(self, part: Range) -> Iterator[int]:
        """Numbers of the pages in a range that differ from the copy."""
        touched = self._memory.touched(part.begin, part.end)
        first = part.begin - self._memory.base >> PAGE_SHIFT
        for begin in range(part.begin, part.end, _BLOCK):
            end = min(begin + _BLOCK, part.end)
            at, behind = begin - part.begin >> PAGE_SHIFT, end - part.begin >> PAGE_SHIFT
            if touched.find(1, at, behind) < 0 > self._copied.find(1, first + at, first + behind):
                continue
            if self._differs(begin, end - begin):
                for address in range(begin, end, PAGE_SIZE):
                    if self._differs(address, PAGE_SIZE):
                        yield address >> PAGE_SHIFT

    def _differs(self, address: int, count: int) -> bool:
        offset = address - self._memory.base
        return bool(_memcmp(self._here + offset, self._there + offset, count))

    def _renew(self, page: int, masked: bool) -> None:
        offset = (page << PAGE_SHIFT) - self._memory.base
        content = bytes(self._memory.view[offset : offset + PAGE_SIZE])
        self._copy_view[offset : offset + PAGE_SIZE] = content
        self._copied[offset >> PAGE_SHIFT] = 1
        if masked:
            content = (int.from_bytes(content, "little") & _MASK).to_bytes(PAGE_SIZE, "little")
        new = 0
        if content != _ZEROES:
            keyed = blake2b(content, digest_size=16, key=page.to_bytes(8, "little"))
            new = int.from_bytes(keyed.digest(), "little")
        self._sum = (self._sum + new - self._hashes.get(page, 0)) % _MODULUS
        self._hashes[page] = new


__all__ = ["MemoryDigest", "Range"]
