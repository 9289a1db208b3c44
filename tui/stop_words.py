"""Stops and locations in the words of gdb: `break lguest_iret if eax == 1`, `watch 0xc0109000`, `catch delivered 0`.

The text of a stop is what makes it again, so that a session can be kept. For the engine's thread.
Read next: commands.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from replay.named_stops import named_stop
from replay.places import Place
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
from replay.stops import Breakpoint, Stop, Touch, Watchpoint
from replay.timeline import Timeline
from tui.desk import Refused

_TOUCHES = {
    "watch": Touch.CHANGE,
    "wwatch": Touch.WRITE,
    "rwatch": Touch.READ,
    "awatch": Touch.ACCESS,
}
STOP_WORDS = ("break", *_TOUCHES, "catch", "when")
_WORD = 4
_NUMBERED: Mapping[str, Callable[[int, int], Location]] = {
    "idt": IdtEntry,
    "realidt": lambda vector, _: RealIdtEntry(vector),
    "gdt": GdtEntry,
    "irq": PendingBit,
}


def stop_of(timeline: Timeline, text: str) -> Stop:
    """The stop that a text says. Raises BadPredicate, NoSuchStop, Refused."""
    word, _, rest = text.strip().partition(" ")
    match word:
        case "break":
            return _breakpoint(timeline, rest)
        case "catch":
            name, _, number = rest.strip().partition(" ")
            return named_stop(timeline, name, number_of(number) if number.strip() else None)
        case "when":
            return timeline.predicate(rest)
        case _ if word in _TOUCHES:
            return _watchpoint(timeline, rest, _TOUCHES[word])
    raise Refused(f"{word!r} is no stop: {', '.join(STOP_WORDS)}")


def _breakpoint(timeline: Timeline, rest: str) -> Stop:
    place, has_condition, condition = rest.partition(" if ")
    place = place.strip().lstrip("*")
    address = timeline.address(place) if place else timeline.machine.cpu.eip
    if not has_condition:
        return Breakpoint(address)
    return Breakpoint(address, condition=timeline.predicate(condition).holds)


def _watchpoint(timeline: Timeline, rest: str, touch: Touch) -> Stop:
    return Watchpoint(_place(timeline, rest), touch)


def _place(timeline: Timeline, text: str) -> Place:
    where, _, length = text.rpartition(",") if "," in text else (text, "", "")
    if not where.strip():
        raise Refused("an address is wanted, such as esp or 0xc0109000, and perhaps ,LENGTH")
    size = number_of(length) if length else _WORD
    if not 0 < size <= 4096:
        raise Refused(f"{size} bytes are too many, or too few")
    return Place(timeline.address(where.strip().lstrip("*")), size)


def location_of(timeline: Timeline, text: str) -> Location:
    """The location that a text says: a register, `idt 14`, `irq 0`, `pte ADDRESS`, `irq_enabled`, or an address.

    Raises BadPredicate, Refused.
    """
    word, _, rest = text.strip().partition(" ")
    guest = timeline.look.guest.number
    if word.lstrip("$") in REGISTERS and not rest:
        return Register(word.lstrip("$"))
    if word in _NUMBERED:
        return _NUMBERED[word](number_of(rest), guest)
    if word in ("pte", "spte"):
        entry = GuestEntry if word == "pte" else ShadowEntry
        return entry(timeline.address(rest), guest)
    if hasattr(timeline.look.guest.lguest.data.layout, word):
        return SharedField(word, guest)
    return _place(timeline, text)


def number_of(text: str) -> int:
    """A number as people write it. Raises Refused."""
    try:
        return int(text.strip().replace(",", ""), 0)
    except ValueError:
        raise Refused(f"{text.strip()!r} is no number") from None


__all__ = ["STOP_WORDS", "location_of", "number_of", "stop_of"]
