"""Locations in words: what `last-write` and its like are asked about.

    eax, $eax                 a register of the CPU
    idt N, gdt N              an entry of the Guest's table, as the Host keeps it; real-idt N: the CPU's gate
    pending N                 whether interrupt N is pending
    gpte ADDRESS, spte ADDRESS   the page-table entry for an address: the Guest's own, and its shadow
    field NAME                a word that Guest and Host share, such as irq_enabled
    ADDRESS [LENGTH]          memory, 4 bytes by default; an address is a number, a symbol, or an expression of them

Read next: words.py; replay/provenance.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from gdbstub.errors import TargetFault
from gdbstub.points import Points
from replay.predicate import BadPredicate
from replay.provenance import (
    REGISTERS,
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
from replay.timeline import Timeline

_NUMBERED: Mapping[str, Callable[[int], Location]] = MappingProxyType(
    {
        "idt": IdtEntry,
        "gdt": GdtEntry,
        "real-idt": RealIdtEntry,
        "pending": PendingBit,
        "gpte": GuestEntry,
        "spte": ShadowEntry,
    }
)
# Words of the page that Guest and Host share, which nothing else is called by.
_SHARED = frozenset(("irq_enabled", "irq_pending", "blocked_interrupts"))
_LONGEST = 4096


def location_of(timeline: Timeline, points: Points, words: Sequence[str]) -> Location:
    """The location that words mean here.

    Raises: TargetFault when they mean none.
    """
    match words:
        case [name] if name.removeprefix("$") in REGISTERS:
            return Register(name.removeprefix("$"))
        case [kind, number] if kind in _NUMBERED:
            return _NUMBERED[kind](_value(timeline, number))
        case ["field", name]:
            return SharedField(name)
        case [name] if name in _SHARED:
            return SharedField(name)
        case [address]:
            return points.place(_value(timeline, address), 4)
        case [address, length] if length.isdecimal() and 0 < int(length) <= _LONGEST:
            return points.place(_value(timeline, address), int(length))
    raise TargetFault(f"{' '.join(words)!a} is no location; `monitor help last-write` lists them")


def _value(timeline: Timeline, text: str) -> int:
    try:
        return timeline.address(text)
    except BadPredicate as error:
        raise TargetFault(str(error)) from error


__all__ = ["location_of"]
