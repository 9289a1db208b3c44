"""Places in memory that can be watched, and where they are at a moment.

A place is a few bytes in some space (look.py). In a Guest's linear space it lies where the Guest's page tables say, so
its content also changes when one of the two entries that map it does; those words are watched with it (`roots`), and
when one is written the place is looked up again.

Read next: stops.py, scan.py.
"""

from __future__ import annotations

from dataclasses import dataclass

from hostvm.probes import Span
from hostvm.x86 import PAGE_SIZE
from replay.look import CURRENT, CurrentSpace, GuestSpace, Look, MachineSpace, Space


@dataclass(frozen=True, slots=True)
class Place:
    """`length` bytes at `address` of a space. CURRENT means: as the CPU translates when the watching begins."""

    address: int
    length: int
    space: Space = CURRENT


@dataclass(frozen=True, slots=True)
class Located:
    """Where a place is at a moment: host-physical spans of its bytes, and of the page-table words that say so."""

    spans: tuple[Span, ...]
    roots: tuple[Span, ...]


def fixed(place: Place, look: Look) -> Place:
    """The same place in a space that means the same at every moment."""
    if not isinstance(place.space, CurrentSpace):
        return place
    if look.machine.cpu.cpl:
        guest = look.guest.number
        shared = place.address >= look.guest.tables.kernel_address
        directory = None if shared else look.directory
        return Place(place.address, place.length, GuestSpace(guest, directory))
    physical = look.physical(place.address)
    return Place(physical or 0, place.length if physical else 0, MachineSpace())


def locate(place: Place, look: Look) -> Located:
    """Where the bytes of `place` are now; unmapped bytes are nowhere."""
    spans, roots = [], []
    address, left = place.address, place.length
    while left > 0:
        step = min(left, PAGE_SIZE - (address & PAGE_SIZE - 1))
        physical = look.physical(address, place.space)
        if physical is not None:
            spans.append((physical, physical + step - 1))
        if isinstance(place.space, GuestSpace):
            roots += _roots(address, place.space, look)
        address, left = address + step, left - step
    return Located(tuple(spans), tuple(roots))


def _roots(address: int, space: GuestSpace, look: Look) -> list[Span]:
    base = look.machine.guests[space.guest].base
    entries = look.entry_addresses(address, space)
    return [(base + at, base + at + 3) for at in entries if at is not None]


def content(place: Place, look: Look) -> bytes:
    """The bytes of a place now; short where it is not mapped."""
    return look.read(place.address, place.length, place.space)


__all__ = ["Located", "Place", "content", "fixed", "locate"]
