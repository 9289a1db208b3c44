"""Where a trace's failure is: the end of a Guest, the bad ones first.

Read next: pack.py, which has traces open there; where.py, which calls it `failure`.
"""

from __future__ import annotations

from hostvm.observations import EndReason, GuestEnded
from hostvm.units import Tick
from replay.event_store import EventStore
from replay.events import Event, Kind

BAD_ENDS = frozenset({EndReason.KILLED, EndReason.CRASHED})


def _is_end(event: Event) -> bool:
    return isinstance(event, GuestEnded)


def ends_of(store: EventStore) -> list[GuestEnded]:
    """The ends of Guests, in order. Raises TraceError where damage is met."""
    found = store.find_after(Tick(-1), _is_end, frozenset({Kind.GUEST_ENDED}))
    return [event for event in found if isinstance(event, GuestEnded)]


def failure_of(store: EventStore) -> GuestEnded | None:
    """The first end that is bad: a Guest that was killed, or that gave up. Raises TraceError."""
    return next((end for end in ends_of(store) if end.reason in BAD_ENDS), None)


def final_moment(store: EventStore, end: Tick) -> Tick:
    """The tick of the failure; else of the last Guest's end; else `end`. Raises TraceError."""
    ends = ends_of(store)
    bad = [each for each in ends if each.reason in BAD_ENDS]
    return (bad or ends[-1:])[0].tick if ends else end


__all__ = ["BAD_ENDS", "ends_of", "failure_of", "final_moment"]
