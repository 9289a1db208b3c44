"""The timeline: a trace as a place to be in. Seek, step, resume, in both directions, exactly.

A machine only ever runs forward. Going back means: take the last snapshot before the goal, and run to the goal in a
ReplayWorld, which checks every step against the trace. What makes that quick:

(i) *A grid* of snapshots, taken on the way while history is passed for the first time, about every GRID_NS of run time.
(ii) *Dense snapshots* before each goal, at distances that grow fourfold. A debugger that steps back, steps back again;
     so the next goal is a few ticks behind a snapshot, and the whole step costs less than a millisecond.
(iii) *Scans* (scan.py): a resume backwards looks through the stretch just before the cursor first, then through longer
     and longer ones; in each it runs forward, notes hits, and the last one counts.
(iv) *The log* answers for event stops, and bounds what has to be scanned for the others.

A move that is cancelled, or that ends in an error, leaves the cursor where it was.

Read next: moves.py for the units of stepping, snapshots.py, scan.py. Source of the shape: rr's ReplayTimeline.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from os import PathLike
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeAlias

from hostvm.cpu_state import CpuState
from hostvm.edits import Edit
from hostvm.machine import Machine
from hostvm.probes import NO_PROBES
from hostvm.units import Tick
from replay.bookmarks import Bookmarks
from replay.device_answers import Disks
from replay.event_store import EventCursor, EventStore, Position
from replay.events import Event, Kind
from replay.instructions import LONGEST, is_rep_string
from replay.log import TraceReader
from replay.look import CURRENT, Look, Space
from replay.moves import Unit, step
from replay.places import fixed
from replay.predicate import evaluate, parse
from replay.provenance import Location, Write, last_write, next_write
from replay.scan import Hit, Scan, meets
from replay.session import ReplayWorld, start_of
from replay.snapshots import Snapshot, Snapshots
from replay.stops import (
    Arrival,
    Breakpoint,
    BreakpointHit,
    Cancelled,
    EventMet,
    EventStop,
    HistoryEnd,
    HistoryStart,
    Predicate,
    Reason,
    Stepped,
    Stop,
    StopTable,
    Watchpoint,
)
from replay.stored_states import StoredStates
from replay.symbols import Symbols
from replay.where import tick_of
from replay.whynot import Obstacle, whynot
from replay.worlds import NO_DISKS

if TYPE_CHECKING:
    from replay.branch import Branch

ROOM = 256 << 20
SLICE_NS = 40_000_000
GRID_NS = 100_000_000
GRID_SHARE = 25
PROGRESS_NS = 100_000_000
# A stored state is used if it saves so many ticks: about what loading one costs.
STORED_PAYS = 2_000_000
FIRST_SLICE = 50_000
Stops: TypeAlias = tuple[tuple[int, Stop], ...]
_DENSE = (262_144, 65_536, 16_384, 4_096, 1_024, 256, 64, 16)
_WINDOWS = (1_024, 32_768, 1_048_576)


class Interrupted(Exception):
    """A search was cancelled; the position is where it was."""


class _Broken(Exception):
    """A move was cancelled."""


class TimelineWorld(ReplayWorld):
    """A ReplayWorld that tells a scan of hardware interrupts, which no probe sees."""

    scan: Scan | None = None

    def interrupt_line(self, tick: Tick) -> int | None:
        vector = super().interrupt_line(tick)
        if vector is not None and self.scan is not None and self.scan.delivery(tick):
            self.pause()
            return None
        return vector

    pause: Callable[[], None]


class Timeline:
    """The history in `reader`, with a cursor. `room` bounds the memory that snapshots take, in bytes.

    `store`: the events, where they are not simply the reader's (branch.py).

    One thread moves it; `cancel` may be called from any. Raises as Session does, and the same from every move:
    Divergence where the replay differs from the trace, TraceError where damage is met.
    """

    def __init__(
        self, reader: TraceReader, room: int = ROOM, store: EventStore | None = None
    ) -> None:
        self.reader = reader
        self.stops = StopTable()
        self.progress: Callable[[Tick], None] | None = None
        self.generation = 0
        start = start_of(reader)
        self.store = EventStore(reader, start.entry) if store is None else store
        self._guests = len(start.config.guests)
        self._torn = start.torn
        self._cursor = EventCursor(self.store)
        self.machine: Machine = start.machine(self._world())
        self.symbols = Symbols(self.machine)
        self.bookmarks = Bookmarks(reader.path, reader.trace_id)
        self.look = Look(self.machine)
        self.first_tick = self.machine.tick
        self.end_tick = max(self.first_tick, start.end_tick)
        self.snapshots = Snapshots(self.machine, self._cursor.position, room)
        self.stored = StoredStates(reader, self.store)
        self._continues = False
        self._cancelled = False
        self._slice = FIRST_SLICE
        self._grid_at = time.monotonic_ns()
        self._grid_cost = 0
        self._shown_at = 0

    def _world(self) -> TimelineWorld:
        world = TimelineWorld(self._cursor, self._guests, self._torn)
        world.pause = self._pause
        return world

    def _pause(self) -> None:
        self.machine.paused = True

    def close(self) -> None:
        """Close the trace."""
        self.reader.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # ---- looking --------------------------------------------------------------------------------

    @property
    def tick(self) -> Tick:
        """Where the cursor is: the step with this number comes next."""
        return self.machine.tick

    @property
    def position(self) -> Position:
        """Which events of `store` are past."""
        return self._cursor.position

    @property
    def cpu(self) -> CpuState:
        """The registers."""
        return self.look.cpu

    @property
    def begins(self) -> bool:
        """Whether the step at hand begins an instruction: it is no interrupt delivery and no REP's second iteration."""
        return not self._continues and not self.store.interrupt_at(self.tick)

    def read(self, address: int, count: int, space: Space = CURRENT) -> bytes:
        """Up to `count` bytes at an address of a space; fewer where it is not mapped."""
        return self.look.read(address, count, space)

    # ---- moving ---------------------------------------------------------------------------------

    def cancel(self) -> None:
        """Break off the move under way, from any thread or a signal handler."""
        self._cancelled = True

    def seek(self, where: int | str) -> Arrival:
        """Be at a tick, or where words say (where.py). Raises BadPlace."""
        return self.go(where if isinstance(where, int) else tick_of(self, where))

    def go(self, tick: int) -> Arrival:
        """Be at a tick; beyond an edge of history one stays at the edge."""
        goal = Tick(min(max(tick, self.first_tick), self.end_tick))
        with self.moving() as move:
            self.run_to(goal)
            move.append(self._arrival(self._edge(tick)))
        return move[0]

    def resume(self, *, backwards: bool = False, limit: int | None = None) -> Arrival:
        """Go to the next stop, or to the edge of history, or to `limit`, whichever comes first."""
        return self.resume_with(tuple(self.stops), backwards=backwards, limit=limit)

    def resume_with(self, stops: Stops, *, backwards: bool, limit: int | None = None) -> Arrival:
        """As `resume`, for these stops instead of those in the table."""
        with self.moving() as move:
            move.append(self.search(stops, backwards=backwards, limit=limit))
        return move[0]

    def step(self, unit: Unit, *, backwards: bool = False, count: int = 1) -> Arrival:
        """Make `count` steps of a unit (moves.py); ends early at an edge, and where a stop says so."""
        with self.moving() as move:
            for _ in range(count):
                move[:] = [step(self, unit, backwards=backwards)]
                if any(not isinstance(reason, Stepped) for reason in move[0].reasons):
                    break
        return move[0]

    def search(self, stops: Stops, *, backwards: bool, limit: int | None = None) -> Arrival:
        """The work of a resume, for those who are `moving` already."""
        seek = self._backward if backwards else self._forward
        return seek(stops, limit)

    @contextmanager
    def moving(self) -> Iterator[list[Arrival]]:
        """Around each move: undo it if it is cancelled or fails. The body puts the outcome into the list."""
        outcome: list[Arrival] = []
        origin = self.tick
        self.generation += 1
        self.snapshots.pinned = origin
        self.keep_here()
        arrived = False
        try:
            yield outcome
            arrived = True
        except _Broken:
            outcome[:] = [Arrival(origin, (Cancelled(),))]
        finally:
            self._cancelled = False
            self._quiet()
            if not arrived:
                self._restore_at(origin)

    @contextmanager
    def excursion(self) -> Iterator[None]:
        """Move about and come back, whatever happens. Raises Interrupted when cancelled."""
        origin = self.tick
        self.snapshots.pinned = origin
        self.keep_here()
        try:
            yield
        except _Broken as broken:
            raise Interrupted from broken
        finally:
            self._cancelled = False
            self._quiet()
            self._restore_at(origin)

    def poll(self) -> None:
        """For long searches: end here if the move was cancelled."""
        if self._cancelled:
            raise _Broken

    def keep_here(self) -> Snapshot:
        """Take a snapshot of where the cursor is: the way back costs nothing then."""
        return self.snapshots.take(self._cursor.position, continues=self._continues, dense=True)

    def _edge(self, wanted: int) -> tuple[Reason, ...]:
        if wanted > self.end_tick:
            return (HistoryEnd(),)
        return (HistoryStart(),) if wanted < self.first_tick else ()

    def branch(
        self,
        edits: Iterable[Edit] = (),
        *,
        events: Iterable[Event] | None = None,
        seed: int = 0,
        disks: Disks = NO_DISKS,
    ) -> Branch:
        """A child timeline that leaves this history here, with edits (branch.py). Raises BadEdit."""
        # Branches are timelines.
        from replay.branch import branch  # noqa: PLC0415

        return branch(self, edits, events=events, seed=seed, disks=disks)

    # ---- asking -----------------------------------------------------------------------------------

    def last_write(self, location: Location) -> Write | None:
        """Who changed a location last before the cursor (provenance.py). Raises NoSuchLocation, Interrupted."""
        return last_write(self, location)

    def next_write(self, location: Location) -> Write | None:
        """Who changes a location next, from the cursor on. Raises NoSuchLocation, Interrupted."""
        return next_write(self, location)

    def whynot(self, irq: int, guest: int = 0) -> tuple[Obstacle, ...]:
        """Why a virtual interrupt is not being delivered here (whynot.py). Raises ValueError, Interrupted."""
        return whynot(self, irq, guest)

    def predicate(self, text: str) -> Predicate:
        """A stop for when an expression becomes true (predicate.py). Raises BadPredicate."""
        guest = self.look.guest.lguest
        return parse(text, self.symbols.address_of, (guest.noirq_start, guest.noirq_end))

    def evaluate(self, text: str) -> int:
        """The value of such an expression here. Raises BadPredicate."""
        return evaluate(text, self.look, self.symbols.address_of)

    def address(self, text: str) -> int:
        """A linear address: a number or a symbol. Raises BadPredicate."""
        return evaluate(text, self.look, self.symbols.address_of) & 0xFFFFFFFF

    # ---- going to a tick ------------------------------------------------------------------------

    def run_to(self, goal: Tick) -> None:
        """Be at `goal`, which lies in history, with snapshots close before it."""
        if goal == self.tick:
            return
        self._approach(goal)
        for distance in _DENSE:
            mark = Tick(goal - distance)
            if mark > self.tick + distance // 4:
                self._arrive(mark)
                self.keep_here()
        self._arrive(goal)

    def _approach(self, goal: Tick) -> None:
        """Go back to the last snapshot not after `goal`, unless the machine is between the two already."""
        while (stored := self._worthwhile(goal)) is not None:
            if self._start_from_stored(stored):
                return
        snapshot = self.snapshots.at_or_before(goal)
        assert snapshot is not None
        if self.tick > goal or snapshot.tick > self.tick:
            self._restore(snapshot)

    def _worthwhile(self, goal: Tick) -> Tick | None:
        """Tick of the state stored in the trace, if there is one, from which the way to `goal` is much shorter."""
        snapshot = self.snapshots.at_or_before(goal)
        assert snapshot is not None
        nearest = snapshot.tick if self.tick > goal else max(snapshot.tick, self.tick)
        tick = self.stored.before(goal)
        return None if tick is None or tick - nearest < STORED_PAYS else tick

    def _start_from_stored(self, tick: Tick) -> bool:
        """Be in the state stored for `tick`, which must have the digest that it should; else it is refused."""
        loaded = self.stored.load(tick, self.machine)
        if loaded is None:
            return False
        found = self.snapshots.adopt(
            loaded.state, loaded.pages, loaded.position, continues=loaded.row.continues
        )
        self._restore(found)
        if self.machine.digest() == loaded.row.digest:
            return True
        trusted = self.snapshots.at_or_before(Tick(tick - 1))
        assert trusted is not None
        self._restore(trusted)
        self.snapshots.drop(found)
        self.stored.refuse(tick, "it is not the state that it says")
        return False

    def _restore_at(self, tick: Tick) -> None:
        snapshot = self.snapshots.at_or_before(tick)
        assert snapshot is not None
        assert snapshot.tick == tick
        self._restore(snapshot)

    def _restore(self, snapshot: Snapshot) -> None:
        self._cursor = EventCursor(self.store, snapshot.position)
        self.machine.world = self._world()
        self.snapshots.restore(snapshot)
        self._continues = snapshot.continues

    def _arrive(self, goal: Tick) -> None:
        """Run forward to `goal`, and know whether the step there goes on with a REP."""
        if goal == self.tick:
            return
        self._run(Tick(goal - 1))
        if self.tick == goal - 1:
            self._last_step(goal)

    def _last_step(self, goal: Tick) -> None:
        before = self.machine.cpu.eip
        self._run(goal)
        eip = self.machine.cpu.eip
        self._continues = eip == before and is_rep_string(self.look.read(eip, LONGEST))

    def _run(self, goal: Tick) -> None:
        """Run forward in slices; the machine may end, or be paused by a scan, before `goal`."""
        machine = self.machine
        while machine.tick < goal and not machine.finished:
            begin, tick = time.monotonic_ns(), machine.tick
            self._continues = False
            machine.run(Tick(min(goal, tick + self._slice)))
            if machine.paused:
                return
            now = time.monotonic_ns()
            self._fit_slice(machine.tick - tick, now - begin)
            if machine.tick < goal:
                self._between_slices(now)

    def _fit_slice(self, ticks: int, ns: int) -> None:
        if ticks >= self._slice:
            fitting = ticks * SLICE_NS // max(ns, 1)
            self._slice = max(1000, min(fitting, self._slice * 2))

    def _between_slices(self, now: int) -> None:
        if self._cancelled:
            raise _Broken
        if now - self._grid_at >= max(GRID_NS, self._grid_cost * GRID_SHARE):
            self._extend_grid(now)
        if self.progress is not None and now - self._shown_at >= PROGRESS_NS:
            self._shown_at = now
            self.progress(self.tick)

    def _extend_grid(self, now: int) -> None:
        if not self._continues_unknown():
            self.snapshots.take(self._cursor.position, continues=False, dense=False)
        self._grid_at = time.monotonic_ns()
        self._grid_cost = self._grid_at - now

    def _continues_unknown(self) -> bool:
        return is_rep_string(self.look.read(self.machine.cpu.eip, LONGEST))

    # ---- resuming forwards ----------------------------------------------------------------------

    def _forward(self, stops: Stops, limit: int | None) -> Arrival:
        end = self.end_tick if limit is None else Tick(max(self.tick, min(limit, self.end_tick)))
        event = self._first_event(stops, end)
        goal = min(end, event)
        scan = self.scan(stops, backwards=False)
        if scan.needs_running:
            self.run_scan(scan, goal)
        if scan.hits:
            here = min(tick for tick, _ in scan.hits)
            self._stand_at(here)
            reasons = tuple(reason for tick, reason in scan.hits if tick == here)
            return self._arrival(reasons, stops)
        self._quiet()
        self.run_to(goal)
        ended = goal == self.end_tick and event > goal and limit is None
        return self._arrival((HistoryEnd(),) if ended else (), stops)

    def _first_event(self, stops: Iterable[tuple[int, Stop]], end: Tick) -> Tick:
        """Tick of the first event behind the cursor that a stop wants; beyond `end` if there is none up to there."""
        first = Tick(end + 1)
        for _, stop in stops:
            if isinstance(stop, EventStop):
                event = next(self.store.find_after(self.tick, stop.wants, stop.kinds), None)
                first = min(first, event.tick) if event is not None else first
        return first

    def _stand_at(self, tick: Tick) -> None:
        """A probe stopped the machine at `tick`, or just behind it: make it stand there in full knowledge."""
        self._quiet()
        if self.tick == tick and not self._continues_unknown():
            self._continues = False
            return
        self._seek_quietly(Tick(tick - 1))
        self._arrive(tick)

    # ---- resuming backwards ---------------------------------------------------------------------

    def _backward(self, stops: Stops, limit: int | None) -> Arrival:
        begin = self.first_tick if limit is None else Tick(max(self.first_tick, limit))
        event = self._last_event(stops, begin)
        floor = Tick(max(begin, event))
        scan = self.scan(stops, backwards=True)
        found = self._search_back(stops, floor) if scan.needs_running else []
        self._quiet()
        if found:
            here = max(tick for tick, _ in found)
            self.run_to(here)
            return self._arrival([reason for tick, reason in found if tick == here], stops)
        self.run_to(floor)
        ended = limit is None and event < begin
        return self._arrival((HistoryStart(),) if ended else (), stops)

    def _last_event(self, stops: Iterable[tuple[int, Stop]], begin: Tick) -> int:
        last = begin - 1
        for _, stop in stops:
            if isinstance(stop, EventStop):
                event = next(self.store.find_before(self.tick, stop.wants, stop.kinds), None)
                last = max(last, event.tick) if event is not None else last
        return last

    def _search_back(self, stops: Stops, floor: Tick) -> list[Hit]:
        """The hits of the last stretch that has any, down to `floor`."""
        for hits in self.scan_back(stops, floor):
            found = [hit for hit in hits if hit[0] >= floor]
            if found:
                return found
        return []

    def scan_back(self, stops: Stops, floor: Tick | None = None) -> Iterator[list[Hit]]:
        """Scan stretch after stretch, the last before the cursor first; yield the hits of each, in order of time.

        It leaves the machine somewhere in history: whoever uses this goes to a tick with `return_to` or `run_to`.
        """
        stops = self._pinned(stops)
        end = self.tick
        true_at_end = self.scan(stops, backwards=True).predicates_true()
        for begin in self._stretches(self.first_tick if floor is None else floor):
            self._seek_quietly(begin)
            scan = self.scan(stops, backwards=True)
            self.run_scan(scan, end)
            true_at_end = scan.finish(end, true_at_end)
            yield scan.hits
            end = begin

    def return_to(self, tick: Tick) -> None:
        """Go to `tick` after a scan."""
        self._quiet()
        self.run_to(tick)

    def _pinned(self, stops: Iterable[tuple[int, Stop]]) -> Stops:
        """Places in the space of the moment mean the space of the cursor, wherever the scan goes."""
        return tuple((number, self._pin(stop)) for number, stop in stops)

    def _pin(self, stop: Stop) -> Stop:
        if isinstance(stop, Watchpoint):
            return Watchpoint(fixed(stop.place, self.look), stop.touch, stop.condition)
        return stop

    def _stretches(self, floor: Tick) -> Iterator[Tick]:
        """Where the stretches to scan begin, last one first; from then on, from snapshot to snapshot."""
        origin = begin = self.tick
        for window in _WINDOWS:
            if begin > floor:
                begin = Tick(max(floor, origin - window))
                yield begin
        while begin > floor:
            snapshot = self.snapshots.at_or_before(Tick(begin - 1))
            assert snapshot is not None
            begin = max(floor, snapshot.tick, self.stored.before(begin - 1) or floor)
            yield begin

    def _seek_quietly(self, goal: Tick) -> None:
        self._quiet()
        self._approach(goal)
        self._arrive(goal)

    # ---- scans ----------------------------------------------------------------------------------

    def scan(self, stops: Iterable[tuple[int, Stop]], *, backwards: bool) -> Scan:
        """A scan of `stops` that begins at the cursor."""
        return Scan(
            self.look,
            stops,
            backwards=backwards,
            continues=self._continues,
            alive=self._show_alive,
        )

    def _show_alive(self) -> bool:
        now = time.monotonic_ns()
        if self.progress is not None and now - self._shown_at >= PROGRESS_NS:
            self._shown_at = now
            self.progress(self.look.tick)
        return not self._cancelled

    def run_scan(self, scan: Scan, goal: Tick) -> None:
        """Run forward to `goal` under a scan; one that goes forwards ends at its first hit."""
        machine, world = self.machine, self.machine.world
        assert isinstance(world, TimelineWorld)
        machine.cpu.set_probes(scan.probes())
        machine.memory.listener = scan.listen
        world.scan = scan
        scan.begin(self.tick)
        while machine.tick < goal and not machine.finished:
            self._run(goal)
            if scan.settle():
                machine.cpu.set_probes(scan.probes())
            if scan.hits and not scan.backwards:
                return
            if self._cancelled:
                raise _Broken

    def _quiet(self) -> None:
        """No probes, no listener: run at full speed and disturb nobody."""
        self.machine.memory.listener = None
        self.machine.cpu.set_probes(NO_PROBES)
        world = self.machine.world
        if isinstance(world, TimelineWorld):
            world.scan = None

    # ---- arriving -------------------------------------------------------------------------------

    def _arrival(
        self, reasons: Iterable[Reason], stops: Iterable[tuple[int, Stop]] | None = None
    ) -> Arrival:
        """Where we are, with all reasons: those known, and those that show only now."""
        known = tuple(reasons)
        more = self.reasons_here(tuple(self.stops) if stops is None else stops)
        return Arrival(self.tick, known + tuple(r for r in more if r not in known))

    def reasons_here(self, stops: Iterable[tuple[int, Stop]]) -> Iterator[Reason]:
        """Stops that are met by standing here: breakpoints, and events of the step at hand."""
        for number, stop in stops:
            match stop:
                case Breakpoint(address) if address == self.machine.cpu.eip and self.begins:
                    if meets(stop, self.look):
                        yield BreakpointHit(number)
                case EventStop():
                    yield from (EventMet(number, event) for event in self._events_here(stop))

    def events_at(self, tick: Tick) -> Iterator[Event]:
        """What the log says of the step at `tick`."""
        everything = frozenset(Kind)
        for event in self.store.find_after(Tick(tick - 1), lambda _: True, everything):
            if event.tick != tick:
                return
            yield event

    def _events_here(self, stop: EventStop) -> Iterator[Event]:
        for event in self.store.find_after(Tick(self.tick - 1), stop.wants, stop.kinds):
            if event.tick != self.tick:
                return
            yield event


def open_timeline(path: str | PathLike[str], room: int = ROOM) -> Timeline:
    """The timeline of the trace at `path`, at its beginning. Raises TraceError, TraceMismatch, ConfigurationError."""
    reader = TraceReader(path)
    timeline = None
    try:
        timeline = Timeline(reader, room)
    finally:
        if timeline is None:
            reader.close()
    return timeline


__all__ = ["ROOM", "Interrupted", "Timeline", "open_timeline"]
