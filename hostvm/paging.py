"""The two-level page walk, done in Python where the CPU layer itself must touch memory by linear address.

The engine walks page tables for instructions. Delivery of an interrupt (reading gates, pushing a frame) is ours, so
it needs the same walk, with the same accessed and dirty bits set and the same page fault when it fails. Source: Intel
SDM 3A 4.3 (32-bit paging) and 4.7 (error code).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import NamedTuple

from hostvm.memory import PhysicalMemory
from hostvm.x86 import PAGE_MASK, PAGE_SIZE, PageFault, Pte

_LARGE_PAGE_MASK = 0xFFC00000
_WORD = struct.Struct("<I").unpack_from
# Plain integers: an IntFlag costs more per operation than the whole walk.
_P, _RW, _US, _A, _D, _PSE = (int(f) for f in (Pte.P, Pte.RW, Pte.US, Pte.A, Pte.D, Pte.PSE))
_FAULT_P, _FAULT_WRITE, _FAULT_USER = (
    int(f) for f in (PageFault.P, PageFault.WRITE, PageFault.USER)
)


@dataclass(frozen=True, slots=True)
class PageNotAccessible(Exception):
    """A walk failed: linear address and the page-fault error code the CPU would report."""

    address: int
    error_code: int


class AddressSpace(NamedTuple):
    """How linear addresses are translated: page directory, whether paging is on, 4 MiB pages allowed."""

    root: int
    enabled: bool
    large_pages: bool


def translate(
    memory: PhysicalMemory, space: AddressSpace, linear: int, *, write: bool, user: bool
) -> int:
    """Physical address of `linear`; sets accessed and dirty bits as a CPU with CR0.WP set does.

    Raises PageNotAccessible. Written flat: it runs five times for each interrupt that is delivered.
    """
    root, enabled, large_pages = space
    if not enabled:
        return linear
    view, base, size = memory.view, memory.base, memory.size
    code = (_FAULT_WRITE if write else 0) | (_FAULT_USER if user else 0)
    at = (root & PAGE_MASK) - base + (linear >> 22 << 2)
    pde: int = _WORD(view, at)[0] if 0 <= at < size else 0
    if not pde & _P:
        raise PageNotAccessible(linear, code)
    pde_at, pte = at, pde
    large = large_pages and pde & _PSE
    if not large:
        at = (pde & PAGE_MASK) - base + (linear >> 10 & 0xFFC)
        pte = _WORD(view, at)[0] if 0 <= at < size else 0
        if not pte & _P:
            raise PageNotAccessible(linear, code)
    if (write and not pde & pte & _RW) or (user and not pde & pte & _US):
        raise PageNotAccessible(linear, code | _FAULT_P)
    if not pde & _A:
        memory.write_u32(pde_at + base, pde | _A)
    wanted = _A | _D if write else _A
    if pte & wanted != wanted:
        memory.write_u32(at + base, pte | wanted)
    if large:
        return (pde & _LARGE_PAGE_MASK) | (linear & ~_LARGE_PAGE_MASK)
    return (pte & PAGE_MASK) | (linear & 0xFFF)


def peek(memory: PhysicalMemory, space: AddressSpace, linear: int) -> int | None:
    """Physical address of `linear` whatever its protection, changing nothing; None where unmapped."""
    root, enabled, large_pages = space
    if not enabled:
        return linear
    view, base, size = memory.view, memory.base, memory.size
    at = (root & PAGE_MASK) - base + (linear >> 20 & 0xFFC)
    pde: int = _WORD(view, at)[0] if 0 <= at < size else 0
    if not pde & _P:
        return None
    if large_pages and pde & _PSE:
        return (pde & _LARGE_PAGE_MASK) | (linear & ~_LARGE_PAGE_MASK)
    at = (pde & PAGE_MASK) - base + (linear >> 10 & 0xFFC)
    pte: int = _WORD(view, at)[0] if 0 <= at < size else 0
    return (pte & PAGE_MASK) | (linear & (PAGE_SIZE - 1)) if pte & _P else None


def peek_bytes(memory: PhysicalMemory, space: AddressSpace, linear: int, count: int) -> bytes:
    """Up to `count` bytes from `linear`; stops short at the first unmapped page."""
    out = b""
    while True:
        at = linear + len(out) & 0xFFFFFFFF
        physical = peek(memory, space, at)
        if physical is None or not memory.base <= physical < memory.base + memory.size:
            return out
        room = PAGE_SIZE - (at & (PAGE_SIZE - 1))
        missing = count - len(out)
        out += memory.read(physical, min(room, missing))
        if missing <= room:
            return out


__all__ = ["AddressSpace", "PageNotAccessible", "peek", "peek_bytes", "translate"]
