"""Locations in words: what "who wrote this?" is asked about, in every program that asks it.

    eax, $eax                 a register of the CPU
    idt N, gdt N              an entry of the Guest's table, as the Host keeps it; real-idt N: the CPU's gate
    pending N, irq N          whether interrupt N is pending
    gpte ADDRESS, pte ADDRESS the Guest's own page-table entry for an address; spte ADDRESS: its shadow
    field NAME                a word that Guest and Host share; NAME alone, such as irq_enabled, where no symbol has it
    ADDRESS [LENGTH]          memory, 4 bytes by default; also ADDRESS,LENGTH

A number or an address is an expression over symbols, registers and the Guest's state (predicate.py).

Read next: locations.py, provenance.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeAlias

from hostvm.lguest_data import DataLayout
from replay.location_values import REGISTERS
from replay.locations import (
    GdtEntry,
    GuestEntry,
    IdtEntry,
    Location,
    PendingBit,
    RealIdtEntry,
    Register,
    ShadowEntry,
    SharedField,
)
from replay.places import Place

if TYPE_CHECKING:
    from replay.timeline import Timeline

MakePlace: TypeAlias = Callable[[int, int], Place]
_NUMBERED: Mapping[str, Callable[[int, int], Location]] = MappingProxyType(
    {
        "idt": IdtEntry,
        "gdt": GdtEntry,
        "real-idt": lambda vector, _: RealIdtEntry(vector),
        "realidt": lambda vector, _: RealIdtEntry(vector),
        "pending": PendingBit,
        "irq": PendingBit,
        "gpte": GuestEntry,
        "pte": GuestEntry,
        "spte": ShadowEntry,
    }
)
WORDS = (*_NUMBERED, "field")
# Words of the page that Guest and Host share, which nothing else is called by.
SHARED = ("irq_enabled", "irq_pending", "blocked_interrupts")
_FIELDS = frozenset(each.name for each in fields(DataLayout)) - {"size", "slot_words"}
_LENGTH = 4
_LONGEST = 4096


class BadLocation(ValueError):
    """Words that mean no location."""


def location_of(
    timeline: Timeline, text: str, guest: int | None = None, place: MakePlace = Place
) -> Location:
    """The location that words mean where `timeline` stands.

    `guest`: whose, by default the one that runs. `place`: whose memory an address means. Raises BadLocation,
    BadPredicate.
    """
    number = timeline.look.guest.number if guest is None else guest
    kind, _, rest = text.strip().partition(" ")
    if kind.removeprefix("$") in REGISTERS and not rest:
        return Register(kind.removeprefix("$"))
    if not rest and _is_field(timeline, kind, number):
        return SharedField(kind, number)
    if kind == "field":
        return _field(rest.strip(), number)
    if kind in _NUMBERED:
        if not rest.strip():
            raise BadLocation(f"{kind} of what? `{kind} 14`, for one")
        return _NUMBERED[kind](timeline.address(rest), number)
    return place_of(timeline, text, place)


def _is_field(timeline: Timeline, word: str, guest: int) -> bool:
    known = word in _FIELDS and timeline.symbols.address_of(word, guest) is None
    return known or word in SHARED


def _field(name: str, guest: int) -> Location:
    if name not in _FIELDS:
        raise BadLocation(f"no field {name!r}; there are {', '.join(sorted(_FIELDS))}")
    return SharedField(name, guest)


def place_of(timeline: Timeline, text: str, place: MakePlace = Place) -> Place:
    """The memory that words mean: an address, and perhaps a length in bytes. Raises BadLocation, BadPredicate."""
    where, length = _address_and_length(text.strip())
    if not where:
        raise BadLocation("an address is wanted, such as 0xc0109000 or esp+4, and perhaps a length")
    if not 0 < length <= _LONGEST:
        raise BadLocation(f"between 1 and {_LONGEST} bytes, not {length}")
    return place(timeline.address(where), length)


def _address_and_length(text: str) -> tuple[str, int]:
    where, comma, length = text.rpartition(",")
    if not comma:
        match text.split():
            case [where, length] if length.isdecimal():
                pass
            case _:
                return text.lstrip("*"), _LENGTH
    try:
        return where.strip().lstrip("*"), int(length.strip(), 0)
    except ValueError:
        raise BadLocation(f"{length.strip()!r} is no length") from None


__all__ = ["SHARED", "WORDS", "BadLocation", "MakePlace", "location_of", "place_of"]
