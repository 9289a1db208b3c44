"""Stops in the words of gdb: `break lguest_iret if eax == 1`, `watch 0xc0109000`, `catch delivered 0`.

The text of a stop is what makes it again; so a session of the screen can be kept, and two debuggers can share stops.

Read next: named_stops.py; shared_position.py.
"""

from __future__ import annotations

from replay.location_words import place_of
from replay.named_stops import named_stop
from replay.stops import Breakpoint, Stop, Touch, Watchpoint
from replay.timeline import Timeline

_TOUCHES = {
    "watch": Touch.CHANGE,
    "wwatch": Touch.WRITE,
    "rwatch": Touch.READ,
    "awatch": Touch.ACCESS,
}
STOP_WORDS = ("break", *_TOUCHES, "catch", "when")


class BadStop(ValueError):
    """Words that are no stop, or no number."""


def stop_of(timeline: Timeline, text: str) -> Stop:
    """The stop that a text says. Raises BadStop, BadLocation, BadPredicate, NoSuchStop."""
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
            return Watchpoint(place_of(timeline, rest), _TOUCHES[word])
    raise BadStop(f"{word!r} is no stop: {', '.join(STOP_WORDS)}")


def _breakpoint(timeline: Timeline, rest: str) -> Stop:
    place, has_condition, condition = rest.partition(" if ")
    place = place.strip().lstrip("*")
    address = timeline.address(place) if place else timeline.machine.cpu.eip
    if not has_condition:
        return Breakpoint(address)
    return Breakpoint(address, condition=timeline.predicate(condition).holds)


def number_of(text: str) -> int:
    """A number as people write it. Raises BadStop."""
    try:
        return int(text.strip().replace(",", ""), 0)
    except ValueError:
        raise BadStop(f"{text.strip()!r} is no number") from None


__all__ = ["STOP_WORDS", "BadStop", "number_of", "stop_of"]
