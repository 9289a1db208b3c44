"""`lgreplay pack`: a trace as one attaches it to a bug report: alone, small, and open at the failure.

A trace has all that a replay needs in it; packing makes sure of that by replaying what it wrote. What is left out can
be had again: states of an index, checkpoints between the events. One state stays, or is made: that from which the
opening place is reached at once, where running there would take somebody more than a moment.

Where it opens stands in the end record (`opens_at`), so the trace's id is as it was, and so are its bookmarks.

Read next: derived.py, failure.py.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from os import PathLike

from hostvm.units import Tick
from replay.checkpoints import fields_of
from replay.derived import (
    BEST,
    Derived,
    KeptState,
    Progress,
    check_output,
    demand_whole,
    derive,
    events_of,
    first_of,
    head_of,
    silent,
)
from replay.event_store import EventStore
from replay.failure import final_moment
from replay.instructions import goes_on_with_rep
from replay.log import TraceReader
from replay.session import Session
from replay.slices import run_in_slices
from replay.stored_states import Row, place_in_log
from replay.timeline import Timeline
from replay.trace_header import TraceEnd

# Whoever has to run further than this waits for it.
FAR_AWAY = 50_000_000


@dataclass(frozen=True, slots=True)
class Packed:
    """What came of it: where the trace opens, its size in bytes and that of the original, and the state kept."""

    opens_at: Tick
    size: int
    before: int
    state: Tick | None


def pack(
    path: str | PathLike[str],
    output: str | PathLike[str],
    *,
    at: str | None = None,
    far_away: int = FAR_AWAY,
    force: bool = False,
    progress: Progress = silent,
) -> Packed:
    """Make the smallest trace of the one at `path` that opens at the place `at` names, else at its failure.

    A state is kept if that place is more than `far_away` ticks from the beginning. Raises BadOutput, BadPlace,
    TraceError, TraceMismatch, Divergence, TraceWriteError.
    """
    with TraceReader(path) as reader:
        end = demand_whole(reader)
        target = check_output(output, reader.path, force=force)
        opens_at = _opening(reader, end, at)
        state = _state_before(reader, opens_at, far_away, progress)
        header, images = head_of(reader)
        derived = Derived(
            header,
            images,
            first_of(reader),
            lambda: events_of(reader),
            replace(end, opens_at=opens_at),
            state,
        )
        size = derive(derived, target, level=BEST, force=force, progress=progress)
        return Packed(opens_at, size, reader.size, state.row.tick if state else None)


def _opening(reader: TraceReader, end: TraceEnd, at: str | None) -> Tick:
    """The tick to open at. Raises BadPlace."""
    if at is None:
        return reader.opens_at or final_moment(EventStore(reader), end.tick)
    return Timeline(reader).seek(at).tick


def _state_before(
    reader: TraceReader, opens_at: Tick, far_away: int, progress: Progress
) -> KeptState | None:
    """A state to store: the last before `opens_at` that the log vouches for; None where one can as well run there."""
    session = Session(reader)
    machine = session.machine
    interval = machine.config.digest_interval
    store = EventStore(reader, session.start.entry)
    goal = Tick(opens_at // interval * interval)
    if goal - session.first_tick <= far_away:
        return None
    for tick in run_in_slices(machine, Tick(goal - 1)):
        progress("looking for the place to open at", tick, goal)
    before = machine.cpu.eip
    machine.run(goal)
    row = Row(machine.tick, machine.digest(), goes_on_with_rep(machine.cpu, before))
    if place_in_log(row, store, reader.end) is None:
        return None
    state = machine.state()
    return KeptState(row, fields_of(state), state.pages)


__all__ = ["FAR_AWAY", "Packed", "pack"]
