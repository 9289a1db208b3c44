"""Locations: anything of the machine that has a value, and where in memory it is, if it is there.

A location is bytes in memory, a register of the CPU, or something that the Host keeps in its own mind: a Guest's IDT or
GDT entry, a pending interrupt. Some are a word in memory that has to be found first - a page-table entry, a field of
the page that Guest and Host share - and where they are may change as the machine runs.

Read next: location_values.py, location_words.py; provenance.py for what is asked of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from hostvm.memory_map import SWITCHER_SLOT
from hostvm.x86 import PAGE_MASK, Pte
from replay.look import GuestPhysicalSpace, GuestSpace, Look, MachineSpace
from replay.places import Place, fixed

VECTORS = 256


class NoSuchLocation(ValueError):
    """A location that this machine does not have, or not at this moment."""


@dataclass(frozen=True, slots=True)
class Register:
    """A register of the CPU: general, segment, eip, eflags, cr0 cr2 cr3 cr4, idtr, gdtr, tr, or fpu."""

    name: str


@dataclass(frozen=True, slots=True)
class IdtEntry:
    """What a Guest asked for as gate of a vector."""

    vector: int
    guest: int = 0


@dataclass(frozen=True, slots=True)
class RealIdtEntry:
    """The gate that the CPU really has for a vector while a Guest runs."""

    vector: int


@dataclass(frozen=True, slots=True)
class GdtEntry:
    """A descriptor of a Guest's GDT, as the Host keeps it."""

    index: int
    guest: int = 0


@dataclass(frozen=True, slots=True)
class PendingBit:
    """Whether a virtual interrupt is pending."""

    irq: int
    guest: int = 0


@dataclass(frozen=True, slots=True)
class GuestEntry:
    """The Guest's own page-table entry for a linear address."""

    address: int
    guest: int = 0


@dataclass(frozen=True, slots=True)
class ShadowEntry:
    """The shadow page-table entry for a linear address, without A and D, which the CPU and snapshots set and clear."""

    address: int
    guest: int = 0


@dataclass(frozen=True, slots=True)
class SharedField:
    """A word of the page that Guest and Host share, such as irq_enabled."""

    name: str
    guest: int = 0


Location: TypeAlias = (
    Place
    | Register
    | IdtEntry
    | RealIdtEntry
    | GdtEntry
    | PendingBit
    | GuestEntry
    | ShadowEntry
    | SharedField
)


def place_of(look: Look, location: Location) -> Place:
    """Where in memory a location is at this moment. Raises NoSuchLocation."""
    match location:
        case Place():
            return fixed(location, look)
        case RealIdtEntry(vector) if 0 <= vector < VECTORS:
            return Place(look.guest.place.guest_idt + 8 * vector, 8, MachineSpace())
        case GuestEntry(address, guest):
            return _guest_entry(look, address, guest)
        case ShadowEntry(address, guest):
            return _shadow_entry(look, address, guest)
        case SharedField(name, guest):
            return _shared_field(look, name, guest)
    raise NoSuchLocation(f"there is no {location}")


def _guest_entry(look: Look, address: int, guest: int) -> Place:
    _, at = look.entry_addresses(address, GuestSpace(guest))
    if at is None:
        raise NoSuchLocation(f"guest {guest} has no page table for {address:#x} here")
    return Place(at, 4, GuestPhysicalSpace(guest))


def _shadow_entry(look: Look, address: int, guest: int) -> Place:
    machine = look.machine
    root = machine.guests[guest].tables.root
    directory = machine.memory.read_u32(root + (address >> 20 & 0xFFC))
    if address >> 22 >= SWITCHER_SLOT or not directory & Pte.P:
        raise NoSuchLocation(f"no shadow page table for {address:#x} here")
    return Place((directory & PAGE_MASK) + (address >> 10 & 0xFFC), 4, MachineSpace())


def _shared_field(look: Look, name: str, guest: int) -> Place:
    data = look.machine.guests[guest].lguest.data
    offset = getattr(data.layout, name, None)
    if not isinstance(offset, int) or data.address is None:
        raise NoSuchLocation(f"guest {guest} shares no word called {name} here")
    return Place(data.address + offset, 4, GuestPhysicalSpace(guest))


__all__ = [
    "VECTORS",
    "GdtEntry",
    "GuestEntry",
    "IdtEntry",
    "Location",
    "NoSuchLocation",
    "PendingBit",
    "RealIdtEntry",
    "Register",
    "ShadowEntry",
    "SharedField",
    "place_of",
]
