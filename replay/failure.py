"""Where a trace's failure is: the end of a Guest, the bad ones first.

Read next: pack.py, which has traces open there.
"""

from __future__ import annotations

from hostvm.observations import EndReason, GuestEnded
from hostvm.units import Tick
from replay.events import Kind
from replay.log import TraceReader

BAD_ENDS = frozenset({EndReason.KILLED, EndReason.CRASHED})


def ends_of(reader: TraceReader) -> list[GuestEnded]:
    """The ends of Guests, in order. Raises TraceError where damage is met."""
    found: list[GuestEnded] = []
    for rank, entry in enumerate(reader.chunks):
        known = reader.kinds_at(rank)
        if entry.count and (known is None or Kind.GUEST_ENDED in known):
            found += (e for e in reader.chunk_events(entry) if isinstance(e, GuestEnded))
    return found


def failure_of(reader: TraceReader) -> GuestEnded | None:
    """The first end that is bad: a Guest that was killed, or that gave up. Raises TraceError."""
    return next((end for end in ends_of(reader) if end.reason in BAD_ENDS), None)


def final_moment(reader: TraceReader) -> Tick:
    """The tick of the failure; else of the last Guest's end; else the last of all. Raises TraceError."""
    ends = ends_of(reader)
    bad = [end for end in ends if end.reason in BAD_ENDS]
    if bad or ends:
        return (bad or ends[-1:])[0].tick
    return Tick(reader.end.tick) if reader.end else reader.last_tick or Tick(0)


__all__ = ["BAD_ENDS", "ends_of", "failure_of", "final_moment"]
