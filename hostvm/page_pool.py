"""Pages for shadow page tables: a range of host-physical memory, handed out lowest first.

Where a shadow page lies is never visible to a Guest, but it is part of the machine's state; "lowest free page" makes it
a function of what happened before and of nothing else. Each Guest has a pool of its own, so that one Guest's appetite
cannot kill another.
"""

from __future__ import annotations

from hostvm.memory import PhysicalMemory
from hostvm.units import HostPhysical
from hostvm.x86 import PAGE_SIZE

_ZEROES = bytes(PAGE_SIZE)


class PagePool:
    """`count` pages from `base`, which is page-aligned."""

    __slots__ = ("base", "count", "physical", "taken")

    def __init__(self, physical: PhysicalMemory, base: HostPhysical, count: int) -> None:
        self.physical = physical
        self.base = base
        self.count = count
        self.taken = 0  # bit i: page i is in use

    def allocate(self) -> HostPhysical | None:
        """A page full of zeroes, or None if all are in use."""
        taken = self.taken
        lowest = ~taken & taken + 1
        index = lowest.bit_length() - 1
        if index >= self.count:
            return None
        self.taken = taken | lowest
        address = HostPhysical(self.base + index * PAGE_SIZE)
        self.physical.write(address, _ZEROES)
        return address

    def free(self, address: int) -> None:
        """Take back a page that `allocate` gave."""
        bit = 1 << (address - self.base) // PAGE_SIZE
        assert self.taken & bit, f"page {address:#x} is not in use"
        self.taken ^= bit

    def state(self) -> tuple[int, ...]:
        """Indices of the pages in use, ascending."""
        return tuple(index for index in range(self.taken.bit_length()) if self.taken >> index & 1)

    def restore(self, state: tuple[int, ...]) -> None:
        """Make exactly these pages count as in use; their contents are memory's affair."""
        assert all(0 <= index < self.count for index in state)
        self.taken = sum(1 << index for index in set(state))


__all__ = ["PagePool"]
