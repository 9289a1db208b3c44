"""A recording that is a timeline while it is being made: to go back in, to come back to the present, and to go on.

`end_tick` is the present: the newest tick at which somebody has been. What was made beyond it, because history is made
in pieces, is nobody's past yet. It will come as it was made if nobody interferes; a debugger's write in the present
throws it away, and history is made anew from there.

(i) *What is written into the trace* is what lies before the present, and so nothing of it has to be taken back.
(ii) *Breaking off.* A Guest that sleeps is waited for in the middle of a Host's turn, and that can last for ever.
Broken off there, the machine of the frontier is of no use; but everything up to the step at hand is history. So what
belongs to that step is forgotten, and before more is made, the machine is put where the timeline's is at that tick.
(iii) *Time* stands still for the Guest while nobody lets it run.

Without writes, a recording in virtual time becomes the same whether somebody stops it or not, as long as nothing is
broken off. Read next: growing.py, recording.py, hostvm/edits.py.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from os import PathLike
from pathlib import Path
from typing import TypeAlias

from hostvm.edits import Edit
from hostvm.edits import refusal as edit_refusal
from hostvm.machine import Machine, MachineConfig, MachineState
from hostvm.observations import ConsoleOutput, DirectTraps, StateDigest
from hostvm.units import Tick
from hostvm.world import World
from replay.bookmarks import Bookmarks
from replay.branch import since
from replay.edited_world import BadEdit
from replay.event_store import EventCursor, EventStore, Position
from replay.events import DebuggerWrite, Event
from replay.frontier import BranchStore, Frontier, events_from
from replay.growing import GrowingTimeline
from replay.host_world import HostWorld
from replay.log import LogWriter, TraceReader
from replay.machine_header import Origin, header_of
from replay.moves import Unit
from replay.passage import ROOM, Broken
from replay.recording import RecordingWorld
from replay.search import Stops
from replay.stops import Arrival, Cancelled, HistoryEnd
from replay.timeline import Timeline
from replay.trace_file import incomplete_path
from replay.trace_header import TraceEnd, TraceEndReason
from replay.world_time import FAR, POWER_ON, Since

MakeWorld: TypeAlias = Callable[[Since], World]
# What is at hand at a tick before its step is made.
_BEFORE_THE_STEP = (StateDigest, DirectTraps, DebuggerWrite)


def _ignore(_: bytes) -> None:
    pass


class _LiveWorld(RecordingWorld):
    """Records what `inner` answers and, as edits, what it is told to write."""

    def __init__(self, inner: World) -> None:
        super().__init__(inner)
        self.edits: deque[Edit] = deque()

    def edit(self, tick: Tick, refusal: Callable[[Edit], str | None]) -> Edit | None:
        if not self.edits:
            return None
        edit = self.edits.popleft()
        self._put(DebuggerWrite(tick, edit.guest, edit.target, edit.address, edit.data))
        return edit


class LiveFrontier(Frontier):
    """Makes the history of a recording from power-on. What a Guest prints, it gives to `console` at once."""

    def __init__(
        self, machine: Machine, world: World, recording: _LiveWorld, store: BranchStore, limit: Tick
    ) -> None:
        super().__init__(machine, world, store)
        self.console: Callable[[bytes], None] = _ignore
        self.until: Tick | None = None
        self._limit = limit
        self._recording = recording
        recording.attach(self._put)

    def _put(self, event: Event) -> None:
        self.store.append(event)
        if isinstance(event, ConsoleOutput):
            self.console(event.data)

    @property
    def tick(self) -> Tick:
        """How far history is made."""
        return self.machine.tick if self.until is None else self.until

    @property
    def open(self) -> bool:
        """Whether more can be made."""
        return self.tick < self._limit and (self.until is not None or not self.machine.finished)

    def extend(self, until: int) -> Iterator[Tick]:
        """Make history up to `until`."""
        return super().extend(min(until, self._limit))

    def _piece(self, until: Tick) -> None:
        whole = False
        try:
            self.machine.run(until)
            whole = True
        finally:
            if not whole:
                self._break_off()

    def _break_off(self) -> None:
        """Forget the step at hand. The machine is in the middle of it, and of no further use as it is."""
        here = self.machine.step_tick
        self.until = here
        begun = sum(
            event.tick > here or not isinstance(event, _BEFORE_THE_STEP)
            for event in self.store.own_events_since(here)
        )
        self.store.cut(len(self.store) - begun)

    def put_at(self, state: MachineState, events: int, world: World) -> None:
        """Go on from `state`, with so many events before it, in `world`."""
        self.store.cut(events)
        self.store.begin_chunk()
        self.world = world
        self._recording = _LiveWorld(world)
        self._recording.attach(self._put)
        self.machine.world = self._recording
        self.machine.restore(state)
        self.until = None

    def write(self, edits: Sequence[Edit]) -> None:
        """Make edits that are possible, here and now."""
        self.store.begin_chunk()
        self._recording.edits.extend(edits)
        self.machine.make_edits()


class LiveTimeline(GrowingTimeline):
    """A run of `config` that is recorded into `log` while somebody moves about in it.

    `reader` reads the same trace, of which nothing but the head needs to be there. `make_world` makes the World in
    which a run goes on from a time. Raises as Timeline does, BadEdit, and TraceWriteError.
    """

    frontier: LiveFrontier

    def __init__(
        self,
        frontier: LiveFrontier,
        make_world: MakeWorld,
        log: LogWriter,
        reader: TraceReader,
        room: int = ROOM,
    ) -> None:
        self.frontier = frontier
        self._make_world = make_world
        self._log = log
        self._logged = 0
        super().__init__(reader, room, frontier.store)
        self.bookmarks = Bookmarks(log.path, reader.trace_id)
        self._torn = None
        self._cursor = EventCursor(self.store, self._cursor.position)
        self.machine.world = self._world()
        self._present = self.end_tick = self.first_tick
        world = frontier.world
        if isinstance(world, HostWorld):
            world.while_waiting = self.poll
            world.rest()

    # ---- moving ---------------------------------------------------------------------------------

    @contextmanager
    def _ahead(self) -> Iterator[None]:
        """What has been made beyond the present can be gone into, and then it is the past."""
        self.end_tick = max(self._present, self.frontier.tick)
        try:
            yield
        finally:
            self._present = self.end_tick = max(self._present, self.tick)
            self._keep_log()

    def go(self, tick: int) -> Arrival:
        """Be at a tick; history is made as far as that, if need be."""
        with self._ahead():
            return super().go(tick)

    def step(self, unit: Unit, *, backwards: bool = False, count: int = 1) -> Arrival:
        """Make `count` steps of a unit."""
        with self._ahead():
            return super().step(unit, backwards=backwards, count=count)

    def resume_with(self, stops: Stops, *, backwards: bool, limit: int | None = None) -> Arrival:
        """Go to the next of these stops. One that is cancelled behind the present ends where it is then."""
        with self._ahead():
            return super().resume_with(stops, backwards=backwards, limit=limit)

    def search(self, stops: Stops, *, backwards: bool, limit: int | None = None) -> Arrival:
        """The work of a resume."""
        present = self._present
        try:
            return super().search(stops, backwards=backwards, limit=limit)
        except Broken:
            if backwards or self.tick < present:
                raise
        return self._catch_up(stops, limit)

    def _catch_up(self, stops: Stops, limit: int | None) -> Arrival:
        """Broken off while history is made: go to the end of what there is, if no stop is on the way."""
        self._stay()
        try:
            arrival = Timeline.search(self, stops, backwards=False, limit=limit)
        except Broken:
            self._stay()
            return Arrival(self.tick, (Cancelled(),))
        met = any(not isinstance(reason, HistoryEnd) for reason in arrival.reasons)
        return arrival if met else Arrival(self.tick, (Cancelled(),))

    def _stay(self) -> None:
        """Stand where the machine is, however often one is told to break off."""
        here, stands = self.tick, False
        while not stands:
            self._cancelled = False
            with suppress(Broken):
                self._stand_at(here)
                stands = True

    # ---- making history -------------------------------------------------------------------------

    def extend(self, until: int) -> None:
        """Make history up to `until`, if the last Guest does not end before."""
        if self.tick > self._present:
            self._present = self.tick
            self._keep_log()
        self._mend()
        world = self.frontier.world
        if isinstance(world, HostWorld):
            world.go_on()
        try:
            super().extend(until)
        finally:
            if isinstance(world, HostWorld):
                world.rest()

    def _mend(self) -> None:
        """Make a machine that was broken off whole."""
        until = self.frontier.until
        if until is None:
            return
        here = self.keep_here()
        self._quiet()
        self.run_to(until)
        count = self.store.ordinal_of(self.position)
        self.frontier.put_at(self.machine.state(), count, self.frontier.world)
        self._restore(here)

    def write(self, edits: Sequence[Edit]) -> None:
        """Write in the present, where the cursor must be. Raises BadEdit."""
        here = self.tick
        assert here == self.end_tick
        if here == self.first_tick:
            raise BadEdit(here, "no step before it")
        for edit in edits:
            why = edit_refusal(self.machine, edit)
            if why is not None:
                raise BadEdit(here, why)
        frontier = self.frontier
        if frontier.tick != here or frontier.until is not None:
            world = frontier.world
            if not isinstance(world, HostWorld):
                world = self._make_world(since(self))
            count = self.store.ordinal_of(self.position)
            frontier.put_at(self.machine.state(), count, world)
        frontier.write(edits)
        self._see_it_written(here)

    def _see_it_written(self, here: Tick) -> None:
        """Come here again, and now it is written."""
        before = self.snapshots.at_or_before(Tick(here - 1))
        assert before is not None
        self.generation += 1
        self.snapshots.pinned = before.tick
        self._restore(before)
        for snapshot in [each for each in self.snapshots if each.tick >= here]:
            self.snapshots.drop(snapshot)
        self.run_to(here)
        self._keep_log()

    # ---- the trace ------------------------------------------------------------------------------

    def _keep_log(self) -> None:
        """Write down what is before the present, if the cursor is there."""
        if self.tick != self._present:
            return
        count = self.store.ordinal_of(self.position)
        begin = self.store.position_of(self._logged)
        for event in itertools.islice(events_from(self.store, begin), max(0, count - self._logged)):
            self._log.write(event)
        self._logged = max(self._logged, count)
        self._log.pulse()

    def publish(self) -> None:
        """Let all that is logged be in the file, for others to read."""
        self._keep_log()
        self._log.flush()

    def end_recording(self) -> TraceEnd:
        """End the recording in the present, and make the trace whole."""
        # Whatever has ended the session may have left the machine in the middle of a step.
        snapshot = self.snapshots.at_or_before(self._present)
        assert snapshot is not None
        self._cancelled = False
        self._quiet()
        self._restore(snapshot)
        self._arrive(self._present)
        self._keep_log()
        end = TraceEnd(self.tick, self.machine.digest(), self._reason())
        self._log.close(end)
        return end

    def _reason(self) -> TraceEndReason:
        if self.machine.finished:
            return TraceEndReason.FINISHED
        return TraceEndReason.INTERRUPTED if self.frontier.open else TraceEndReason.LIMIT

    @property
    def events_logged(self) -> int:
        """How many events are in the trace."""
        return self._logged


@contextmanager
def record_live(
    config: MachineConfig,
    make_world: MakeWorld,
    path: str | PathLike[str],
    origin: Origin,
    *,
    max_ticks: int = FAR,
) -> Iterator[LiveTimeline]:
    """Power a machine on and record it into `path`, for somebody who moves about in it.

    The trace is made whole at the end, whatever ends it. Raises: ConfigurationError before any file is made;
    TraceWriteError.
    """
    world = make_world(POWER_ON)
    recording = _LiveWorld(world)
    machine = Machine(config, recording)
    header, images = header_of(config, origin)
    with LogWriter(path, header, images) as log, TraceReader(incomplete_path(Path(path))) as reader:
        store = BranchStore(EventStore(reader), Position(0, 0))
        frontier = LiveFrontier(machine, world, recording, store, Tick(max_ticks))
        timeline = LiveTimeline(frontier, make_world, log, reader)
        try:
            yield timeline
        finally:
            timeline.end_recording()


__all__ = ["LiveFrontier", "LiveTimeline", "MakeWorld", "record_live"]
