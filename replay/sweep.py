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
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from hostvm.interrupts_and_traps import LGUEST_IRQS, interrupts_on
from hostvm.machine import Machine
from hostvm.observations import EndReason, IrqRaised
from hostvm.units import Tick
from replay.branch import Branch, since
from replay.errors import ReplayError
from replay.ethernet import ports_of
from replay.events import Kind
from replay.instructions import LONGEST, text_of
from replay.log import TraceReader
from replay.look import GuestSpace, Look, World
from replay.outcomes import Oracle, Outcome, Reception, Verdict
from replay.predicate import NAMES, BadPredicate
from replay.run_notes import Allowed, Notes, Watch
from replay.snapshots import Snapshot
from replay.stops import EventStop, InstructionMet, Instructions, Predicate
from replay.sweep_world import FREE, Background, Course, Placed, PlacedWorld, place
from replay.symbols import Symbols
from replay.timeline import Timeline

# The user's own: a class for the end of a run, or None if there is nothing to say of it.
Judge: TypeAlias = Callable[[Look], str | None]
MOST_PLACES = 1_000_000
_NEAR = 4096
VERDICTS = {
    EndReason.KILLED: Verdict.KILLED,
    EndReason.CRASHED: Verdict.CRASHED,
    EndReason.POWEROFF: Verdict.ENDED,
    EndReason.RESTART: Verdict.ENDED,
}


class BadSweep(ReplayError):
    """A sweep that cannot be: no such place, symbol, interrupt or expression."""


class NoFailure(BadSweep):
    """A trace that ends well, as far as the oracle can tell."""

    def __str__(self) -> str:
        return "the trace does not fail: nothing to look for"


@dataclass(frozen=True, slots=True)
class Plan:
    """What is placed at each place, and how the runs go on.

    `irqs` come all at once; with `pairs`, the first comes at the place and the last of them each of 1 to `pairs` ticks
    later, in a run of its own. `move`: tick of a hardware interrupt of the history that comes at the place instead.
    """

    irqs: tuple[int, ...] = (0,)
    guest: int = 0
    seed: int = 0
    force: bool = False
    oracle: Oracle = field(default_factory=Oracle)
    background: Background = Background.SEEDED
    pairs: int = 0
    move: Tick | None = None

    @property
    def gaps(self) -> Sequence[int]:
        """How many ticks after the first interrupt the second one comes; 0: there is none."""
        return range(1, self.pairs + 1) if self.pairs else (0,)

    def to_json(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "irqs": list(self.irqs),
            "guest": self.guest,
            "seed": self.seed,
            "force": self.force,
            "oracle": self.oracle.to_json(),
            "background": self.background.value,
            "pairs": self.pairs,
            "move": self.move,
        }

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Plan:
        """The plan that `to_json` wrote."""
        return cls(
            tuple(int(irq) for irq in found["irqs"]),
            int(found["guest"]),
            int(found["seed"]),
            bool(found["force"]),
            Oracle.from_json(found["oracle"]),
            Background(found["background"]),
            int(found["pairs"]),
            None if found["move"] is None else Tick(int(found["move"])),
        )


class Sweep(Timeline):
    """A timeline that makes the runs of `plan`. Raises BadSweep for a plan that does not fit the trace."""

    def __init__(self, reader: TraceReader, plan: Plan, judge: Judge | None = None) -> None:
        super().__init__(reader)
        self.plan = plan
        self._judge = judge
        if not 0 <= plan.guest < len(self.machine.guests):
            raise BadSweep(f"there is no guest {plan.guest}")
        for irq in plan.irqs:
            if not 0 <= irq < LGUEST_IRQS:
                raise BadSweep(f"there is no irq {irq}")
        if plan.move is not None and not self.store.interrupt_at(plan.move):
            raise BadSweep(f"no hardware interrupt is taken at tick {plan.move}")
        oracle = plan.oracle
        try:
            self._watch = Watch(
                plan.guest,
                frozenset(plan.irqs),
                None if oracle.panic is None else re.compile(oracle.panic),
                oracle.late,
                dict(self._call(name, times) for name, times in oracle.calls),
                tuple(map(self._at_delivery, oracle.delivered)),
            )
            self._wrong = [*map(self._never, oracle.holds), *map(self._met, oracle.until)]
        except (re.error, BadPredicate) as error:
            raise BadSweep(str(error)) from error

    def _call(self, name: str, times: int) -> tuple[int, Allowed]:
        """A hypercall by its name or number. Raises BadSweep."""
        for number, call in self.machine.guests[self.plan.guest].lguest.abi.hypercalls.items():
            if name.upper() in (call.name, str(number)):
                return number, Allowed(call.name, times)
        raise BadSweep(f"the guest's lguest has no hypercall {name}")

    def _at_delivery(self, text: str) -> tuple[str, Callable[[], bool]]:
        predicate = self.predicate(text)
        return text, lambda: predicate.holds(self.look)

    def _never(self, text: str) -> tuple[Verdict, str, Predicate]:
        return Verdict.ASSERTION, text, self.predicate(f"not ({text})")

    def _met(self, text: str) -> tuple[Verdict, str, Predicate]:
        return Verdict.MET, text, self.predicate(text)

    # ---- one place after the other --------------------------------------------------------------

    def outcomes(self, ticks: Iterable[Tick]) -> Iterator[Outcome]:
        """What comes of interrupts at each of these ticks; ascending is quickest."""
        for tick in ticks:
            start = tick if self.plan.move is None else min(tick, self.plan.move)
            if self.tick <= start <= self.tick + _NEAR:
                self._arrive(start)
            else:
                self.go(start)
            yield from self._at(tick)

    def _at(self, tick: Tick) -> Iterator[Outcome]:
        """All runs of one place, made from where the machine stands, which is there or before it."""
        here = self._here(self._reception()) if self.tick == tick else None
        if here is not None and not self._wanted(here.reception):
            yield here
            return
        self.snapshots.pinned = self.tick
        keep = self.keep_here()
        for gap in self.plan.gaps:
            with self._run_of_its_own(keep):
                outcome = self._outcome(tick, gap, here)
            if outcome.verdict is Verdict.PASSED and self.plan.oracle.region is not None:
                outcome = self._compared(keep, outcome)
            yield outcome
            if outcome.verdict is Verdict.SKIPPED:
                return

    def _wanted(self, reception: Reception) -> bool:
        return reception is Reception.DELIVERED or (
            self.plan.force and reception is not Reception.UNSET
        )

    def _here(self, reception: Reception) -> Outcome:
        """An outcome of which nothing is known but where it is."""
        eip = self.machine.cpu.eip
        code = self.read(eip, LONGEST)
        return Outcome(self.machine.tick, eip, reception, Verdict.SKIPPED, code=code)

    @contextmanager
    def _run_of_its_own(self, keep: Snapshot) -> Iterator[None]:
        """Around a run that leaves history: the way back."""
        yield
        self._quiet()
        self._restore(keep)

    def _outcome(self, tick: Tick, gap: int, here: Outcome | None) -> Outcome:
        """A run of its own, `here` if the machine stands there. It then stands at its end; with SKIPPED, anywhere."""
        machine, notes = self.machine, Notes(self._watch)
        world = self._world_from_here(notes)
        machine.enter(world)
        if here is None:
            # What is moved to a later tick is held back until then.
            machine.run(tick)
            if machine.tick != tick:
                return replace(self._here(Reception.DEAF), tick=tick, gap=gap)
            here = self._here(self._reception())
            if not self._wanted(here.reception):
                return replace(here, gap=gap)
        for placed in self._placed(machine, gap):
            world.place(placed)
        return replace(here, gap=gap, **self._finish(world, notes, tick))

    def _world_from_here(self, notes: Notes, seed: int | None = None) -> PlacedWorld:
        plan = self.plan
        course = Course(
            plan.seed if seed is None else seed,
            plan.background,
            holds=plan.move is not None,
            choices=tuple(self.choices()),
        )
        return self.world_here(course, notes)

    def world_here(self, course: Course, notes: Notes) -> PlacedWorld:
        """A World that takes over where the machine stands."""
        ports = ports_of(self.machine.config.guests)
        return PlacedWorld(since(self), course, notes, ports=ports, pause=self._pause)

    def choices(self) -> Sequence[int]:
        """What the Host draws first in a run that leaves here; what comes then depends on the seed."""
        return ()

    def _placed(self, machine: Machine, gap: int) -> list[Placed]:
        """What is placed where `machine` stands."""
        plan = self.plan
        placed = [place(machine, plan.guest, irq) for irq in plan.irqs[: 1 if gap else None]]
        found = [each for each in placed if each is not None]
        if gap:
            found.append(Placed(Tick(machine.tick + gap), plan.guest, plan.irqs[-1], device=FREE))
        return found

    def _reception(self) -> Reception:
        """What would happen to the interrupts here: the worst of it."""
        irqs = self.plan.irqs[:1] if self.plan.pairs else self.plan.irqs
        return max(map(self._reception_of, irqs), key=list(Reception).index)

    def _reception_of(self, irq: int) -> Reception:
        machine, plan = self.machine, self.plan
        its = machine.guests[plan.guest].lguest
        placed = place(machine, plan.guest, irq)
        if placed is None:
            return Reception.UNSET
        if (
            machine.current_guest.number != plan.guest
            or not machine.cpu.cpl
            or not machine.cpu.interruptible(placed.vector)
        ):
            return Reception.DEAF
        blocked = NAMES["blocked"](self.look) >> irq & 1
        gate = its.idt[32 + irq][1] & 0x8000
        if blocked or not gate or not interrupts_on(its):
            return Reception.HELD
        return Reception.HELD if NAMES["in_noirq"](self.look) else Reception.DELIVERED

    # ---- one run --------------------------------------------------------------------------------

    def continuation(self, tick: Tick, seed: int) -> Outcome:
        """What comes of a run from `tick` on in which nothing is placed."""
        self.go(tick)
        self.snapshots.pinned = self.tick
        keep = self.keep_here()
        with self._run_of_its_own(keep):
            return self._undisturbed(seed)

    def _undisturbed(self, seed: int | None = None) -> Outcome:
        """A run from here in which nothing is placed. The machine stands at its end."""
        notes, start = Notes(self._watch), self.tick
        world = self._world_from_here(notes, seed)
        world.release()
        here = Outcome(start, self.machine.cpu.eip, Reception.UNSET, Verdict.PASSED)
        self.machine.enter(world)
        return replace(here, **self._finish(world, notes, start))

    def _finish(self, world: PlacedWorld, notes: Notes, start: Tick) -> dict[str, Any]:
        """Run on in `world` to the end; what an Outcome has to say of it."""
        wrong = self._go_on(world, Tick(start + self.plan.oracle.ticks))
        verdict, text = wrong or self._judged(notes)
        return {
            "verdict": verdict,
            "text": text,
            "end": self.machine.tick,
            "delivered": notes.delivered,
        }

    def _go_on(self, world: PlacedWorld, until: Tick) -> tuple[Verdict, str] | None:
        """Run to `until`, or until there is something to say; answers which expression was met."""
        machine = self.machine
        if not self._wrong:
            machine.run(until)
            return None
        for verdict, text, predicate in self._wrong:
            if predicate.holds(self.look):
                return verdict, text
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
        notes.overdue(self.machine.tick)
        if notes.wrong is not None:
            return notes.wrong[:2]
        if notes.ended is not None:
            verdict, text = VERDICTS[notes.ended.reason], notes.ended.text
            return verdict, text if verdict.failed else notes.ended.reason.name.lower()
        said = None if self._judge is None else self._judge(self.look)
        if said is not None:
            return Verdict.MET, said
        if self.machine.finished:
            return Verdict.STUCK, "nothing can wake it"
        return Verdict.PASSED, ""

    def _compared(self, keep: Snapshot, outcome: Outcome) -> Outcome:
        """The outcome, given what the region would be at its end if the interrupt had not come."""
        with self._run_of_its_own(keep):
            self._outcome(outcome.tick, outcome.gap, None)
            with_it = self._region()
        with self._run_of_its_own(keep):
            self._undisturbed()
            without = self._region()
        return outcome if with_it == without else replace(outcome, verdict=Verdict.DIFFERS)

    def _region(self) -> bytes:
        assert self.plan.oracle.region is not None
        address, count = self.plan.oracle.region
        return self.look.read(address, count, GuestSpace(self.plan.guest))

    # ---- the same as a trace ----------------------------------------------------------------------

    def branch_of(self, outcome: Outcome) -> Branch:
        """The run of an outcome as a branch, up to its end."""
        self.go(outcome.tick if self.plan.move is None else min(outcome.tick, self.plan.move))
        world = self._world_from_here(Notes(self._watch))
        branch = Branch(self, world, self.plan.seed)
        branch.extend(outcome.tick)
        # A piece that ends where it begins tells the World nothing, so the machine asks only from here on.
        for placed in self._placed(branch.frontier.machine, outcome.gap):
            world.place(placed)
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

    def code_here(self) -> str:
        """The instruction at hand, disassembled."""
        eip = self.machine.cpu.eip
        return text_of(self.read(eip, LONGEST), eip)

    def raised_by(self, tick: Tick) -> tuple[int, ...]:
        """The virtual interrupts that the hardware interrupt taken at `tick` raises in the history. Raises BadSweep."""
        if not self.store.interrupt_at(tick):
            raise BadSweep(f"no hardware interrupt is taken at tick {tick}")
        guest = self.plan.guest
        behind = self.store.find_after(tick, lambda _: True, frozenset(Kind))
        turn = next(behind, None)
        if turn is None:
            return ()
        raised = (e for e in self.store.events_at(turn.tick) if isinstance(e, IrqRaised))
        return tuple(sorted({event.irq for event in raised if event.guest == guest}))

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


__all__ = ["MOST_PLACES", "BadSweep", "Judge", "NoFailure", "Plan", "Sweep", "extent_of"]
