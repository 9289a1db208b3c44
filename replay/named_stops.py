"""Stops by the names that people give them: "deliverable 0", "hypercall 5", "space".

    raised N, delivered N, interrupt N, hypercall N, trap N, console, ended    events of the log
    deliverable N    IRQ N became deliverable: pending, not blocked, interrupts on, outside the noirq window
    held N           IRQ N is pending and something holds it back
    space            the Guest changes to other page tables
    ring N           ring N is entered, or any ring but the one before
    switch           the Guest is entered or left

Without a number any is meant. Read next: stops.py, predicate.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hostvm.abi import Call
from replay.look import Look
from replay.stops import EventStop, Happening, Predicate, Stop

if TYPE_CHECKING:
    from replay.timeline import Timeline

_IN_LOG = {happening.value: happening for happening in Happening if happening is not Happening.ANY}
_STATES = {
    "deliverable": ("deliverable >> {0} & 1", "deliverable"),
    "held": (
        "pending >> {0} & 1 and not deliverable >> {0} & 1",
        "pending and pending & deliverable != pending",
    ),
    "ring": ("cpl == {0}", ""),
}
NAMES = (*_IN_LOG, *_STATES, "space", "switch")


class NoSuchStop(ValueError):
    """A name that no stop has, or a number that it cannot have."""


def named_stop(timeline: Timeline, name: str, number: int | None = None, guest: int = 0) -> Stop:
    """The stop of this name. Raises NoSuchStop."""
    if number is not None and not 0 <= number < 1 << 16:
        raise NoSuchStop(f"{name} {number}: no such number")
    if name in _IN_LOG:
        return EventStop(_IN_LOG[name], number)
    if name == "space":
        calls = timeline.machine.guests[guest].lguest.abi.hypercalls
        new_tables = next(n for n, call in calls.items() if call is Call.NEW_PGTABLE)
        return EventStop(Happening.HYPERCALL, new_tables, guest)
    if name == "switch":
        return timeline.predicate("in_guest")
    if name == "ring" and number is None:
        return _other_ring(timeline)
    if name in _STATES:
        one, some = _STATES[name]
        return timeline.predicate(some if number is None else one.format(number))
    raise NoSuchStop(f"no stop is called {name!r}; there are {', '.join(NAMES)}")


def _other_ring(timeline: Timeline) -> Predicate:
    """True where the ring is another than the one at the cursor."""
    cpl = timeline.machine.cpu.cpl

    def differs(look: Look) -> bool:
        return look.machine.cpu.cpl != cpl

    return Predicate(f"not ring {cpl}", differs)


__all__ = ["NAMES", "NoSuchStop", "named_stop"]
