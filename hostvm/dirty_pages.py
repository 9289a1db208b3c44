"""Which pages changed since one last asked, at a cost that goes with the page tables and not with memory.

A snapshot needs to know what to copy. Python's own stores are noted at the one door (memory.py). The CPU's are found as
a hypervisor finds them, from the D bits of the page tables that it walks:

(i) *Collecting* takes every shadow entry with D set, clears D, and flushes the TLB; the next store to that page sets
    it again. D of a shadow entry decides nothing else: lguest looks at it in the Guest's own entries alone, and state
    digests leave it out.
(ii) *Entries that go* take their D along; ShadowPageTables hands them over (`lost_dirty`) when it overwrites an entry
    or releases a table.
(iii) *What no shadow entry maps*: the pages that the Switcher and the Host use while they run, and the shadow tables
    themselves, in which the CPU sets A and D, count as changed every time. There are a few dozen of them.

(iv) *Tables that nobody watched yet*, at first and after a Guest was launched again: all of the Guest's memory.

The answer may name pages that did not change; it never leaves one out (tests compare with all of memory).
Source: Intel SDM 3A 4.8. Read next: replay/snapshots.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from hostvm.memory_map import (
    HOST_AREA,
    OLD_CPU_PAGES,
    guest_regs_page,
    guest_switcher_page_table,
)
from hostvm.x86 import PAGE_SHIFT, PAGE_SIZE, Pte

if TYPE_CHECKING:
    from hostvm.launched_guest import LaunchedGuest
    from hostvm.memory import PhysicalMemory

_P_AND_D = int(Pte.P | Pte.D)
_NOT_D = np.uint32(0xFFFFFFFF & ~int(Pte.D))
_HOST_PAGES = frozenset(range(HOST_AREA >> PAGE_SHIFT, (OLD_CPU_PAGES >> PAGE_SHIFT) + 2))


def _whole_slice(guest: LaunchedGuest) -> range:
    first = guest.base >> PAGE_SHIFT
    return range(first, first + guest.loaded.pfn_limit)


class DirtyPages:
    """Watches `memory` under what `guests()` answers. Only one at a time may collect."""

    def __init__(
        self, memory: PhysicalMemory, guests: Callable[[], Sequence[LaunchedGuest]]
    ) -> None:
        self._memory = memory
        self._first = memory.base >> PAGE_SHIFT
        self._last = memory.base + memory.size >> PAGE_SHIFT
        self._guests = guests
        self._always = _HOST_PAGES | {
            page >> PAGE_SHIFT
            for guest in guests()
            for page in (guest_regs_page(guest.number), guest_switcher_page_table(guest.number))
        }

    def collect(self) -> set[int]:
        """Numbers of the pages that may have changed since the last call; the TLB must be flushed then."""
        found = set(self._always)
        found |= self._memory.dirty
        self._memory.dirty.clear()
        for guest in self._guests():
            if guest.tables.lost_dirty is None:
                found.update(_whole_slice(guest))
            else:
                found |= guest.tables.lost_dirty
            guest.tables.lost_dirty = set()
            self._collect_tables(guest, found)
        return found

    def _collect_tables(self, guest: LaunchedGuest, found: set[int]) -> None:
        pool = guest.tables.pool
        taken = pool.state()
        first = pool.base >> PAGE_SHIFT
        found.update(first + page for page in taken)
        roots = {(root - pool.base) // PAGE_SIZE for root in guest.tables.roots if root}
        leaves = [page for page in taken if page not in roots]
        if not leaves:
            return
        entries = self._entries(pool.base, leaves[-1] + 1)
        tables = entries[leaves]
        dirty = tables & np.uint32(_P_AND_D) == _P_AND_D
        if dirty.any():
            frames = np.unique(tables[dirty] >> np.uint32(PAGE_SHIFT))
            # Tables in a forged checkpoint may lead anywhere.
            inside = (frames >= self._first) & (frames < self._last)
            found.update(frames[inside].tolist())
            entries[leaves] = tables & _NOT_D

    def _entries(self, base: int, pages: int) -> np.ndarray[tuple[int, int], np.dtype[np.uint32]]:
        offset = base - self._memory.base
        words = np.frombuffer(self._memory.mapping, np.uint32, pages * 1024, offset)
        return words.reshape(pages, 1024)


__all__ = ["DirtyPages"]
