"""A scan: running a stretch of history with probes in the engine, and noting where the stops in force are met.

A `Scan` is the answering side of the probes for a set of stops. The timeline runs the machine; the scan is told of
each probed instruction and access, and collects `hits`: (tick of the position, reason). Two ways of use:

(i) *Stopping* (forwards): the run ends at the first position with a hit.
(ii) *Noting* (backwards): the run goes on to its end, since the last hit counts, which is known only then.

An instruction is stopped at cleanly, before it is executed. An access is met in the middle of a step: what it changed
can be seen only behind it, so the machine is paused there in both ways (`settle`), compared, and run on. That is also
when a place is looked up again whose page-table entry was written.

Where every instruction is looked at, a run is slow; `alive` is asked now and then whether to go on.

What counts as the first iteration of a REP: one whose preceding step was not an iteration of the same. The scan knows
that by following the ticks; of its first tick it is told (`continues`).

Read next: timeline.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from hostvm.probes import EVERYWHERE, Access, Probes, Span, touches
from hostvm.units import Tick
from replay.instructions import LONGEST, is_rep_string
from replay.look import Look, World
from replay.places import Located, Place, content, fixed, locate
from replay.sparse import moments
from replay.stops import (
    Actor,
    Breakpoint,
    BreakpointHit,
    InstructionMet,
    Instructions,
    Predicate,
    PredicateTrue,
    Reason,
    Stop,
    Touch,
    WatchHit,
    Watchpoint,
)

Hit = tuple[Tick, Reason]
_LOOK_UP = 2048


@dataclass(slots=True)
class _Touched:
    """What a step did to a place: its content before, who did it, whether the place itself was touched, and written."""

    tick: Tick
    old: bytes
    by: Actor
    itself: bool = False
    is_write: bool = False


@dataclass(slots=True)
class _Watched:
    """A watchpoint under scan: where its place is now, and the access of the step under way, if there is one."""

    number: int
    stop: Watchpoint
    place: Place
    located: Located
    touched: _Touched | None = None


class Scan:
    """Listens for `stops` while `look.machine` runs; `backwards` decides what is noted and what ends the run."""

    def __init__(
        self,
        look: Look,
        stops: Iterable[tuple[int, Stop]],
        *,
        backwards: bool,
        continues: bool = False,
        alive: Callable[[], bool] = lambda: True,
    ) -> None:
        self._look = look
        self._machine = look.machine
        self.backwards = backwards
        self._start = look.tick
        self._alive = alive
        self._reports = 0
        self.hits: list[Hit] = []
        self._breaks: dict[int, list[tuple[int, Breakpoint]]] = {}
        self._predicates: list[tuple[int, Predicate]] = []
        self._sparse: list[tuple[int, Predicate]] = []
        self._values: dict[int, bool] = {}
        self._look_again = False
        self._instructions: list[tuple[int, Instructions]] = []
        self._watched: list[_Watched] = []
        self._true_at: dict[int, Tick] = {}
        self._first_true: dict[int, Tick] = {}
        self._last: tuple[int, int] = (-1, -1)
        self._repeated = False
        if continues:
            self._last = (look.machine.cpu.eip, look.tick - 1)
        for number, stop in stops:
            self._take_in(number, stop)
        self._names = frozenset[str]().union(*(p.depends or () for _, p in self._sparse))
        self._moments = moments(look, self._names)

    def _take_in(self, number: int, stop: Stop) -> None:
        match stop:
            case Breakpoint(address):
                self._breaks.setdefault(address, []).append((number, stop))
            case Predicate(depends=None):
                self._predicates.append((number, stop))
            case Predicate():
                self._sparse.append((number, stop))
            case Instructions():
                self._instructions.append((number, stop))
            case Watchpoint(place):
                place = fixed(place, self._look)
                self._watched.append(_Watched(number, stop, place, locate(place, self._look)))

    @property
    def needs_running(self) -> bool:
        """Whether there is anything that only a run can find."""
        found = self._breaks, self._predicates, self._sparse, self._watched, self._instructions
        return any(found)

    # ---- probes ---------------------------------------------------------------------------------

    def probes(self) -> Probes:
        """What the engine must report."""
        code: list[Span] = [(address, address) for address in self._breaks]
        code += [p.domain or EVERYWHERE for _, p in self._predicates]
        code += [i.domain for _, i in self._instructions]
        reads, writes = set[Span](), set[Span]()
        if self._sparse:
            code += self._moments.code
            writes.update(self._moments.words)
        for watched in self._watched:
            writes.update(watched.located.roots)
            if watched.stop.touch in (Touch.READ, Touch.ACCESS):
                reads.update(watched.located.spans)
            if watched.stop.touch is not Touch.READ:
                writes.update(watched.located.spans)
        return Probes(
            _apart(code),
            tuple(sorted(reads)),
            tuple(sorted(writes)),
            self._on_code,
            self._on_access,
        )

    def listen(self, address: int, count: int) -> None:
        """Python is about to write to memory: the Host, a device, or the delivery of an interrupt."""
        self._on_access(Access(address, count, is_write=True, by_cpu=False))

    # ---- code -----------------------------------------------------------------------------------

    def _on_code(self, address: int) -> bool:
        tick = self._machine.probed_tick
        self._reports += 1
        if not self._reports % _LOOK_UP and not self._alive():
            return True
        last_address, last_tick = self._last
        self._last = (address, tick)
        if tick == last_tick:
            return False
        for number, predicate in self._predicates:
            if predicate.holds(self._look):
                self._note_true(number, tick)
        if self._sparse:
            self._at_moment(address, tick)
        again = last_address == address and last_tick == tick - 1 and self._repeats(address)
        self._repeated = again
        if not again and self._counts(tick):
            self._meet(tick, address)
        return bool(self.hits) and not self.backwards

    def _counts(self, tick: Tick) -> bool:
        """Forwards the place where one stands already is no place to stop at."""
        return self.backwards or tick > self._start

    def _repeats(self, address: int) -> bool:
        # The third time and later it is known; only the second time it has to be looked at.
        return self._repeated or is_rep_string(self._look.read(address, LONGEST))

    def _meet(self, tick: Tick, address: int) -> None:
        for number, stop in self._breaks.get(address, ()):
            if meets(stop, self._look):
                self.hits.append((tick, BreakpointHit(number)))
        for number, every in self._instructions:
            if every.domain[0] <= address <= every.domain[1] and every.wants(self._look):
                self.hits.append((tick, InstructionMet(number)))

    # ---- sparse predicates ----------------------------------------------------------------------

    def _at_moment(self, address: int, tick: Tick) -> None:
        found = self._moments
        if address == found.turn[0]:
            self._look_at_sparse(tick)
            if moments(self._look, self._names) != found:
                self._pause()
        elif found.window is not None and found.window[0] <= address <= found.window[1]:
            self._look_at_sparse(tick)
            self._pause()

    def _pause(self) -> None:
        """End the run behind the step under way, and look then."""
        self._look_again = True
        self._machine.paused = True
        if self._machine.cpu.running:
            self._machine.cpu.stop_soon()

    def _look_at_sparse(self, tick: Tick) -> None:
        for number, predicate in self._sparse:
            value = predicate.holds(self._look)
            before = self._values.get(number)
            self._values[number] = value
            if before is None or before == value:
                continue
            if self.backwards and before:
                self.hits.append((Tick(tick - 1), PredicateTrue(number)))
            elif not self.backwards and value and self._counts(tick):
                self.hits.append((tick, PredicateTrue(number)))

    # ---- predicates -----------------------------------------------------------------------------

    def delivery(self, tick: Tick) -> bool:
        """The step at `tick` takes a hardware interrupt; no probe sees that. Answers whether to stop before it."""
        for number, predicate in self._predicates:
            if predicate.holds(self._look):
                self._note_true(number, tick)
        return bool(self.hits) and not self.backwards

    def begin(self, tick: Tick) -> None:
        """Look at the predicates where the run starts: being true there already is no beginning."""
        self._look_at_sparse(tick)
        if self.backwards:
            return
        for number, predicate in self._predicates:
            if predicate.holds(self._look):
                self._true_at[number] = tick

    def _note_true(self, number: int, tick: Tick) -> None:
        before = self._true_at.get(number)
        self._true_at[number] = tick
        self._first_true.setdefault(number, tick)
        if before == tick:
            return
        if self.backwards:
            if before is not None and before != tick - 1:
                self.hits.append((before, PredicateTrue(number)))
        elif before != tick - 1 and self._counts(tick):
            self.hits.append((tick, PredicateTrue(number)))

    def finish(self, end: Tick, true_at_end: set[int]) -> set[int]:
        """A run backwards-noting has come to `end`, where these predicates hold. Answers which hold at its start."""
        self._look_at_sparse(end)
        for number, last in self._true_at.items():
            if last != end - 1 or number not in true_at_end:
                self.hits.append((last, PredicateTrue(number)))
        return {number for number, first in self._first_true.items() if first == self._start}

    def predicates_true(self) -> set[int]:
        """Numbers of the predicates that hold where the machine stands."""
        return {number for number, predicate in self._predicates if predicate.holds(self._look)}

    # ---- memory ---------------------------------------------------------------------------------

    def _on_access(self, access: Access) -> bool:
        met = False
        for watched in self._watched:
            met = self._concerns(watched, access) or met
        if self._sparse and access.is_write:
            met = touches(self._moments.words, access.address, access.count) or met
        if met:
            self._pause()
        return met

    def _concerns(self, watched: _Watched, access: Access) -> bool:
        located, touch = watched.located, watched.stop.touch
        moved = access.is_write and touches(located.roots, access.address, access.count)
        # A Guest without page tables has no words that say where the place is; it gets them in a turn of the Host.
        moved = moved or not (access.by_cpu or located.roots or located.spans)
        wanted = touch is not Touch.READ if access.is_write else touch in (Touch.READ, Touch.ACCESS)
        hit = wanted and touches(located.spans, access.address, access.count)
        if not (hit or moved):
            return False
        touched = watched.touched
        if touched is None:
            old = content(watched.place, self._look)
            touched = _Touched(self._machine.probed_tick, old, self._actor(access))
            watched.touched = touched
        touched.itself |= hit
        touched.is_write |= hit and access.is_write
        return True

    def _actor(self, access: Access) -> Actor:
        if self._machine.editing:
            return Actor.DEBUGGER
        if not access.by_cpu:
            running = self._machine.cpu.running or self._machine.cpu.cpl
            return Actor.DELIVERY if running else Actor.HOST
        return Actor.GUEST if self._look.world in (World.KERNEL, World.USER) else Actor.SWITCHER

    def settle(self) -> bool:
        """Look at what the accesses of the last step did; answers whether the probes must be set anew."""
        moved = self._settle_sparse()
        for watched in self._watched:
            if watched.touched is None:
                continue
            touched, watched.touched = watched.touched, None
            now = locate(watched.place, self._look)
            moved = moved or now != watched.located
            watched.located = now
            self._judge(watched, touched)
        return moved

    def _settle_sparse(self) -> bool:
        if not (self._look_again and self._sparse):
            return False
        self._look_again = False
        self._look_at_sparse(self._machine.tick)
        found, self._moments = self._moments, moments(self._look, self._names)
        return found != self._moments

    def _judge(self, watched: _Watched, touched: _Touched) -> None:
        new = content(watched.place, self._look)
        stop, old, tick = watched.stop, touched.old, touched.tick
        if old == new and (stop.touch is Touch.CHANGE or not touched.itself):
            return
        if stop.condition is not None and not stop.condition(self._look):
            return
        is_write = touched.is_write or old != new
        reason = WatchHit(watched.number, tick, is_write, watched.place, old, new, touched.by)
        self.hits.append((tick if self.backwards else Tick(tick + 1), reason))


def meets(stop: Breakpoint, look: Look) -> bool:
    """Whether the instruction that begins here is one that a breakpoint at this address means."""
    if stop.ring is not None and look.machine.cpu.cpl != stop.ring:
        return False
    if stop.directory is not None and (
        not look.machine.cpu.cpl or look.directory != stop.directory
    ):
        return False
    return stop.condition is None or stop.condition(look)


def _apart(spans: Iterable[Span]) -> tuple[Span, ...]:
    """The same addresses in spans that do not overlap: each instruction is reported once."""
    merged: list[Span] = []
    for begin, end in sorted(set(spans)):
        if merged and begin <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((begin, end))
    return tuple(merged)


__all__ = ["Hit", "Scan", "meets"]
