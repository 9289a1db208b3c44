"""The sweep: an interrupt at every place of a window, and what becomes of each.

From the history of a trace one run leaves at each place, with an interrupt there (sweep_world.py), and goes on until
its Guest ends, an oracle (outcomes.py) has its answer, or its ticks are used up. Then the machine is put back, by the
pages that changed, and moved to the next place.

(i) *Places* are ticks. By default an interrupt is placed where the CPU would take it and lguest would deliver it at
once; with `force` everywhere: its line goes up there, and whoever has to take it does so as soon as he can.
(ii) *The same again.* The run at a place depends on the trace, the plan and the tick alone: not on who makes it, nor on
what was run before. So the work can be divided, taken up again (sweep_crew.py), and each run be had as a trace.

Read next: sweep_crew.py.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from hostvm.observations import EndReason
from hostvm.units import Tick
from replay.branch import Branch, since
from replay.errors import ReplayError
from replay.instructions import LONGEST
from replay.log import TraceReader
from replay.look import GuestSpace, Look, World
from replay.outcomes import Oracle, Outcome, Reception, Verdict
from replay.predicate import NAMES, BadPredicate
from replay.snapshots import Snapshot
from replay.stops import EventStop, InstructionMet, Instructions, Predicate
from replay.sweep_world import Notes, Placed, PlacedWorld, place
from replay.symbols import Symbols
from replay.timeline import Timeline

# The user's own: a class for the end of a run, or None if there is nothing to say of it.
Judge: TypeAlias = Callable[[Look], str | None]
MOST_PLACES = 1_000_000
_NEAR = 4096
_VERDICTS = {
    EndReason.KILLED: Verdict.KILLED,
    EndReason.CRASHED: Verdict.CRASHED,
    EndReason.POWEROFF: Verdict.ENDED,
    EndReason.RESTART: Verdict.ENDED,
}


class BadSweep(ReplayError):
    """A sweep that cannot be: no such place, symbol, interrupt or expression."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is placed at each place, and how the runs go on."""

    irq: int = 0
    guest: int = 0
    seed: int = 0
    force: bool = False
    oracle: Oracle = field(default_factory=Oracle)

    def to_json(self) -> dict[str, Any]:
        """As JSON has it."""
        plan = {"irq": self.irq, "guest": self.guest, "seed": self.seed, "force": self.force}
        return {**plan, "oracle": self.oracle.to_json()}

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Plan:
        """The plan that `to_json` wrote."""
        return cls(
            int(found["irq"]),
            int(found["guest"]),
            int(found["seed"]),
            bool(found["force"]),
            Oracle.from_json(found["oracle"]),
        )


class Sweep(Timeline):
    """A timeline that makes the runs of `plan`. Raises BadSweep for a plan that does not fit the trace."""

    def __init__(self, reader: TraceReader, plan: Plan, judge: Judge | None = None) -> None:
        super().__init__(reader)
        self.plan = plan
        self._judge = judge
        if not 0 <= plan.guest < len(self.machine.guests):
            raise BadSweep(f"there is no guest {plan.guest}")
        if not 0 <= plan.irq < 32:
            raise BadSweep(f"there is no irq {plan.irq}")
        try:
            self._panic = None if plan.oracle.panic is None else re.compile(plan.oracle.panic)
            self._wrong = [*map(self._never, plan.oracle.holds), *map(self._met, plan.oracle.until)]
        except (re.error, BadPredicate) as error:
            raise BadSweep(str(error)) from error

    def _never(self, text: str) -> tuple[Verdict, str, Predicate]:
        return Verdict.ASSERTION, text, self.predicate(f"not ({text})")

    def _met(self, text: str) -> tuple[Verdict, str, Predicate]:
        return Verdict.MET, text, self.predicate(text)

    # ---- one place after the other --------------------------------------------------------------

    def outcomes(self, ticks: Iterable[Tick]) -> Iterator[Outcome]:
        """What comes of an interrupt at each of these ticks, ascending."""
        for tick in ticks:
            if self.tick <= tick <= self.tick + _NEAR:
                self._arrive(tick)
            else:
                self.go(tick)
            code = self.read(self.machine.cpu.eip, LONGEST)
            yield replace(self._outcome(), code=code)

    def _outcome(self) -> Outcome:
        reception = self._reception()
        placed = place(self.machine, self.plan.guest, self.plan.irq)
        wanted = reception is Reception.DELIVERED or (
            self.plan.force and reception is not Reception.UNSET
        )
        if placed is None or not wanted:
            return Outcome(self.tick, self.machine.cpu.eip, reception, Verdict.SKIPPED)
        self.snapshots.pinned = self.tick
        keep = self.keep_here()
        outcome = self._run_from(placed, reception)
        if outcome.verdict is Verdict.PASSED and self.plan.oracle.region is not None:
            outcome = self._compared(keep, placed, outcome)
        self._quiet()
        self._restore(keep)
        return outcome

    def _reception(self) -> Reception:
        """What would happen to the interrupt here."""
        machine, plan = self.machine, self.plan
        its = machine.guests[plan.guest].lguest
        placed = place(machine, plan.guest, plan.irq)
        if placed is None:
            return Reception.UNSET
        if (
            machine.current_guest.number != plan.guest
            or not machine.cpu.cpl
            or not machine.cpu.interruptible(placed.vector)
        ):
            return Reception.DEAF
        blocked = NAMES["blocked"](self.look) >> plan.irq & 1
        gate = its.idt[32 + plan.irq][1] & 0x8000
        if blocked or not gate or not NAMES["irq_enabled"](self.look) & 0x200:
            return Reception.HELD
        return Reception.HELD if NAMES["in_noirq"](self.look) else Reception.DELIVERED

    # ---- one run --------------------------------------------------------------------------------

    def continuation(self, tick: Tick, seed: int) -> Outcome:
        """What comes of a run from `tick` on in which nothing is placed."""
        self.go(tick)
        self.snapshots.pinned = self.tick
        keep = self.keep_here()
        outcome = self._run_from(None, Reception.UNSET, seed)
        self._quiet()
        self._restore(keep)
        return outcome

    def _run_from(
        self, placed: Placed | None, reception: Reception, seed: int | None = None
    ) -> Outcome:
        plan, machine = self.plan, self.machine
        notes = Notes(plan.guest, plan.irq, self._panic)
        start, eip = self.tick, machine.cpu.eip
        seed = plan.seed if seed is None else seed
        world = PlacedWorld(since(self), placed, notes, seed=seed, pause=self._pause)
        machine.enter(world)
        wrong = self._go_on(world, Tick(start + plan.oracle.ticks))
        verdict, text = wrong or self._judged(notes)
        return Outcome(start, eip, reception, verdict, text, machine.tick, notes.delivered)

    def _go_on(self, world: PlacedWorld, until: Tick) -> tuple[Verdict, str] | None:
        """Run to `until`, or until there is something to say; answers which expression was met."""
        if not self._wrong:
            self.machine.run(until)
            return None
        for verdict, text, predicate in self._wrong:
            if predicate.holds(self.look):
                return verdict, text
        machine = self.machine
        stops = [(number, predicate) for number, (_, _, predicate) in enumerate(self._wrong)]
        scan = world.scan = self.scan(stops, backwards=False)
        machine.cpu.set_probes(scan.probes())
        machine.memory.listener = scan.listen
        scan.begin(self.tick)
        while machine.tick < until and not machine.finished:
            machine.run(until)
            if scan.settle():
                machine.cpu.set_probes(scan.probes())
            if scan.hits:
                _, reason = scan.hits[0]
                verdict, text, _ = self._wrong[getattr(reason, "number", 0)]
                return verdict, text
            if world.done:
                break
        return None

    def _judged(self, notes: Notes) -> tuple[Verdict, str]:
        if notes.ended is not None:
            verdict, text = _VERDICTS[notes.ended.reason], notes.ended.text
            return verdict, text if verdict.failed else notes.ended.reason.name.lower()
        if notes.said is not None:
            return Verdict.PANIC, notes.said[1]
        said = None if self._judge is None else self._judge(self.look)
        if said is not None:
            return Verdict.MET, said
        if self.machine.finished:
            return Verdict.STUCK, "nothing can wake it"
        return Verdict.PASSED, ""

    def _compared(self, keep: Snapshot, placed: Placed, outcome: Outcome) -> Outcome:
        """The outcome, given what the region would be at its end if the interrupt had not come."""
        with_it = self._region()
        self._quiet()
        self._restore(keep)
        self._run_from(None, outcome.reception)
        if self._region() == with_it:
            return outcome
        return replace(outcome, verdict=Verdict.DIFFERS)

    def _region(self) -> bytes:
        assert self.plan.oracle.region is not None
        address, count = self.plan.oracle.region
        return self.look.read(address, count, GuestSpace(self.plan.guest))

    # ---- the same as a trace ----------------------------------------------------------------------

    def branch_of(self, outcome: Outcome) -> Branch:
        """The run of an outcome as a branch, up to its end."""
        self.go(outcome.tick)
        placed = place(self.machine, self.plan.guest, self.plan.irq)
        notes = Notes(self.plan.guest, self.plan.irq)
        world = PlacedWorld(since(self), placed, notes, seed=self.plan.seed)
        branch = Branch(self, world, self.plan.seed)
        branch.extend(outcome.end)
        return branch

    # ---- places -----------------------------------------------------------------------------------

    def visits(self, name: str, first: int, last: int) -> list[Tick]:
        """Ticks from `first` to before `last` at which the Guest's kernel is in the function `name`."""
        low, high = extent_of(self.symbols, name, self.plan.guest)
        guest = self.plan.guest

        def wants(look: Look) -> bool:
            return look.world is World.KERNEL and look.guest.number == guest

        self.go(first)
        scan = self.scan([(0, Instructions(wants, (low, high)))], backwards=True)
        self.run_scan(scan, Tick(min(last, self.end_tick)))
        self._quiet()
        ticks = sorted({tick for tick, reason in scan.hits if isinstance(reason, InstructionMet)})
        self._restore_somewhere()
        return [tick for tick in ticks if tick < last]

    def _restore_somewhere(self) -> None:
        """Behind a scan the machine may stand at its end, where nothing is known of REPs."""
        snapshot = self.snapshots.at_or_before(self.tick)
        assert snapshot is not None
        self._restore(snapshot)

    def around(self, stop: EventStop, distance: int) -> list[Tick]:
        """Ticks not further than `distance` from an event that `stop` wants."""
        found: set[Tick] = set()
        for event in self.store.find_after(Tick(-1), stop.wants, stop.kinds):
            low = max(self.first_tick, event.tick - distance)
            high = min(self.end_tick - 1, event.tick + distance)
            found.update(Tick(tick) for tick in range(low, high + 1))
            if len(found) > MOST_PLACES:
                raise BadSweep(f"more than {MOST_PLACES:,} places")
        return sorted(found)


def extent_of(symbols: Symbols, name: str, guest: int) -> tuple[int, int]:
    """First and last address of a function; up to the next symbol if nothing says how long it is. Raises BadSweep."""
    table = symbols.kernels[guest]
    symbol = table.by_name.get(name)
    if symbol is None:
        raise BadSweep(f"the kernel has no symbol {name}")
    if symbol.size:
        return symbol.address, symbol.address + symbol.size - 1
    behind = min((s.address for s in table if s.address > symbol.address), default=1 << 32)
    return symbol.address, behind - 1


__all__ = ["MOST_PLACES", "BadSweep", "Judge", "Plan", "Sweep", "extent_of"]
