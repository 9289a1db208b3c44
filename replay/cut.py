"""`lgreplay cut`: a part of a trace as a trace of its own, which begins with a stored state.

The state at the first tick becomes a checkpoint, as a flight recorder makes them (keep.py), and stands in the place of
all that was before. Ticks keep their numbers, and the trace its id: it is a part of the same recording. The digests in
the part are those that the recorder made; the end, where it is another one, has the digest that the replay had there.

A part does not begin in the middle of a REP instruction, but before it. Read next: derived.py, passage.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from os import PathLike

from hostvm.units import Tick
from replay.checkpoints import checkpoint_of
from replay.derived import (
    QUICK,
    Derived,
    Progress,
    check_output,
    demand_known,
    derive,
    head_of,
    silent,
)
from replay.event_store import EventStore, Position
from replay.events import Event
from replay.frontier import events_from
from replay.log import Checkpoint, TraceReader
from replay.moves import Unit
from replay.timeline import Timeline
from replay.trace_header import TraceEnd, TraceEndReason
from replay.where import BadPlace


@dataclass(frozen=True, slots=True)
class Part:
    """What came of it: first and last tick, number of events, bytes of the file and of the original."""

    first: Tick
    last: Tick
    events: int
    size: int
    before: int


def cut(
    path: str | PathLike[str],
    output: str | PathLike[str],
    *,
    start: str = "start",
    stop: str | None = None,
    force: bool = False,
    progress: Progress = silent,
) -> Part:
    """Make a trace of the part of the one at `path` that lies between two places, by default up to its end.

    -N is so far before the end, and `stop` may be +N: so far behind `start`.

    Raises: BadPlace, BadOutput, TraceError, TraceMismatch, Divergence, TraceWriteError.
    """
    with TraceReader(path) as reader:
        demand_known(reader)
        target = check_output(output, reader.path, force=force)
        timeline = Timeline(reader)
        timeline.progress = lambda tick: progress("going there", tick, timeline.end_tick)
        begin = _begin(timeline, start)
        first, since = _first(timeline)
        digest = timeline.machine.digest()
        end = _end(timeline, stop)
        if end.tick <= begin:
            raise BadPlace(f"nothing is between tick {begin:,} and tick {end.tick:,}")
        count = timeline.store.ordinal_of(_position(timeline, end))
        count -= timeline.store.ordinal_of(since)
        header, images = head_of(reader)
        derived = Derived(
            header,
            images,
            first,
            lambda: _events(timeline.store, since, count),
            _opening_inside(end, begin),
            begins_as=digest,
        )
        size = derive(derived, target, level=QUICK, force=force, progress=progress)
        return Part(begin, end.tick, count, size, reader.size)


def _before_end(where: str) -> str:
    return f"end{where.strip()}" if where.strip().startswith("-") else where


def _begin(timeline: Timeline, start: str) -> Tick:
    timeline.seek(_before_end(start))
    if timeline.amid_rep:
        timeline.step(Unit.INSTRUCTION, backwards=True)
    return timeline.tick


def _first(timeline: Timeline) -> tuple[Checkpoint | None, Position]:
    """The state that the part begins with, and the place in the log; at power-on the machine has asked already."""
    if timeline.tick == timeline.first_tick and timeline.reader.starts_at_power_on:
        return None, Position(0, 0)
    return checkpoint_of(timeline.machine), timeline.position


def _end(timeline: Timeline, stop: str | None) -> TraceEnd:
    """Be at the end of the part; its end record."""
    whole = timeline.reader.end if timeline.reader.complete else None
    if stop is None and whole is not None:
        return whole
    tick = timeline.seek("end" if stop is None else _before_end(stop)).tick
    if whole is not None and tick == whole.tick:
        return whole
    opens_at = 0 if whole is None else whole.opens_at
    return TraceEnd(tick, timeline.machine.digest(), TraceEndReason.CUT, opens_at=opens_at)


def _position(timeline: Timeline, end: TraceEnd) -> Position:
    """The place in the log behind the last event of the part."""
    if end == timeline.reader.end:
        return timeline.store.position_of(len(timeline.store))
    return timeline.position


def _opening_inside(end: TraceEnd, begin: Tick) -> TraceEnd:
    inside = begin <= end.opens_at <= end.tick
    return end if inside else replace(end, opens_at=0)


def _events(store: EventStore, since: Position, count: int) -> Iterator[Event]:
    return islice(events_from(store, since), count)


__all__ = ["Part", "cut"]
