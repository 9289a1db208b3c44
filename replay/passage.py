"""Being at a tick: a machine that replays a trace, with snapshots to go back to, and so is anywhere at once.

A machine only ever runs forward. Going back means: take the last snapshot before the goal, and run to the goal in a
ReplayWorld, which checks every step against the trace. What makes that quick:

(i) *A grid* of snapshots, taken on the way while history is passed for the first time, about every GRID_NS of run time.
(ii) *Dense snapshots* before each goal, at distances that grow fourfold. A debugger that steps back, steps back again;
     so the next goal is a few ticks behind a snapshot, and the whole step costs less than a millisecond.
(iii) *States stored in the trace* (stored_states.py), where one saves enough; each is checked before it is used.

Runs are cut into slices, between which somebody may cancel. Read next: search.py, timeline.py.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from hostvm.machine import Machine
from hostvm.probes import NO_PROBES
from hostvm.units import Tick
from replay.event_store import EventCursor, EventStore, Position
from replay.instructions import goes_on_with_rep, stands_at_rep
from replay.log import TraceReader
from replay.look import Look
from replay.scan import Scan
from replay.session import ReplayWorld, Start, start_of
from replay.snapshots import Snapshot, Snapshots
from replay.stops import Stop
from replay.stored_states import StoredStates

ROOM = 256 << 20
SLICE_NS = 40_000_000
GRID_NS = 100_000_000
GRID_SHARE = 25
PROGRESS_NS = 100_000_000
# A stored state is used if it saves so many ticks: about what loading one costs.
STORED_PAYS = 2_000_000
FIRST_SLICE = 50_000
_DENSE = (262_144, 65_536, 16_384, 4_096, 1_024, 256, 64, 16)


class Broken(Exception):
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


def _last_certain_tick(start: Start) -> Tick:
    """The last tick that there is everything for: of a torn trace the last digest may not have been written."""
    end = start.end_tick
    torn_at_digest = start.torn is not None and end % start.config.digest_interval == 0
    return Tick(end - 1) if torn_at_digest and end else end


class Passage:
    """The history in `reader`, and a machine somewhere in it. `room` bounds the memory for snapshots, in bytes.

    `store`: the events, where they are not simply the reader's (branch.py). Raises as Session does, and the same from
    whatever runs: Divergence where the replay differs from the trace, TraceError where damage is met.
    """

    def __init__(
        self, reader: TraceReader, room: int = ROOM, store: EventStore | None = None
    ) -> None:
        self.reader = reader
        self.progress: Callable[[Tick], None] | None = None
        start = start_of(reader)
        self.store = EventStore(reader, start.entry) if store is None else store
        self._guests = len(start.config.guests)
        self._torn = start.torn
        self._cursor = EventCursor(self.store)
        self.machine: Machine = start.machine(self._world())
        self.look = Look(self.machine)
        self.first_tick = self.machine.tick
        self.end_tick = max(self.first_tick, _last_certain_tick(start))
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

    @property
    def tick(self) -> Tick:
        """Where the machine is: the step with this number comes next."""
        return self.machine.tick

    @property
    def position(self) -> Position:
        """Which events of `store` are past."""
        return self._cursor.position

    @property
    def begins(self) -> bool:
        """Whether the step at hand begins an instruction: it is no interrupt delivery and no REP's second iteration."""
        return not self._continues and not self.store.interrupt_at(self.tick)

    @property
    def amid_rep(self) -> bool:
        """Whether the step at hand goes on with a REP instruction."""
        return self._continues

    def cancel(self) -> None:
        """Break off the move under way, from any thread or a signal handler."""
        self._cancelled = True

    def poll(self) -> None:
        """For long searches: end here if the move was cancelled."""
        if self._cancelled:
            raise Broken

    def keep_here(self) -> Snapshot:
        """Take a snapshot of where the cursor is: the way back costs nothing then."""
        return self.snapshots.take(self._cursor.position, continues=self._continues, dense=True)

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
        self._continues = goes_on_with_rep(self.machine.cpu, before)

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
        self.poll()
        if now - self._grid_at >= max(GRID_NS, self._grid_cost * GRID_SHARE):
            self._extend_grid(now)
        self._show_progress(now)

    def _show_progress(self, now: int) -> None:
        if self.progress is not None and now - self._shown_at >= PROGRESS_NS:
            self._shown_at = now
            self.progress(self.look.tick)

    def _extend_grid(self, now: int) -> None:
        if not self._continues_unknown():
            self.snapshots.take(self._cursor.position, continues=False, dense=False)
        self._grid_at = time.monotonic_ns()
        self._grid_cost = self._grid_at - now

    def _continues_unknown(self) -> bool:
        return stands_at_rep(self.machine.cpu)

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
        self._show_progress(time.monotonic_ns())
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
            self.poll()

    def _quiet(self) -> None:
        """No probes, no listener: run at full speed and disturb nobody."""
        self.machine.memory.listener = None
        self.machine.cpu.set_probes(NO_PROBES)
        world = self.machine.world
        if isinstance(world, TimelineWorld):
            world.scan = None


__all__ = ["ROOM", "Broken", "Passage"]
