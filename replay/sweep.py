"""The sweep: an interrupt at every place of a window, and what becomes of each.

From the history of a trace one run leaves at each place, with an interrupt there (sweep_world.py), and goes on until
its Guest ends, an oracle (outcomes.py) has its answer, or its ticks are used up. Then the machine is put back, by the
pages that changed, and moved to the next place.

(i) *Places* are ticks. By default an interrupt is placed where the CPU would take it and lguest would deliver it at
once; with `force` everywhere: its line goes up there, and whoever has to take it does so as soon as he can.
(ii) *The same again.* The run at a place depends on the trace, the plan and the tick alone: not on who makes it, nor on
what was run before. So the work can be divided, taken up again (sweep_crew.py), and each run be had as a trace.

Read next: sweep_plan.py, sweep_places.py; sweep_crew.py.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, TypeAlias

from hostvm.interrupts_and_traps import LGUEST_IRQS
from hostvm.machine import Machine
from hostvm.observations import Observation
from hostvm.units import Tick
from replay.branch import Branch, since
from replay.ethernet import ports_of
from replay.events import Event, Kind
from replay.instructions import LONGEST, text_of
from replay.log import TraceReader
from replay.look import GuestSpace, Look
from replay.outcomes import Outcome, Reception, Verdict
from replay.predicate import BadPredicate
from replay.run_notes import Allowed, Notes, Watch
from replay.snapshots import Snapshot
from replay.stops import Predicate
from replay.sweep_places import reception
from replay.sweep_plan import BadSweep, Plan
from replay.sweep_world import FREE, Course, Placed, PlacedWorld, place
from replay.timeline import Timeline

# The user's own: a class for the end of a run, or None if there is nothing to say of it.
Judge: TypeAlias = Callable[[Look], str | None]
_NEAR = 4096


class Sweep(Timeline):
    """A timeline that makes the runs of `plan`. Raises BadSweep for a plan that does not fit the trace."""

    def __init__(self, reader: TraceReader, plan: Plan, judge: Judge | None = None) -> None:
        super().__init__(reader)
        self.plan = plan
        self._judge = judge
        self._noted: tuple[Tick, Notes] | None = None
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
        found = (reception(self.look, self.plan.guest, irq) for irq in irqs)
        return max(found, key=list(Reception).index)

    # ---- one run --------------------------------------------------------------------------------

    def continuation(self, tick: Tick, seed: int) -> Outcome:
        """What comes of a run from `tick` on in which nothing is placed; what history has shown by then counts too."""
        self.go(tick)
        self.snapshots.pinned = self.tick
        keep = self.keep_here()
        with self._run_of_its_own(keep):
            return self._undisturbed(self.notes_here(), seed)

    def notes_here(self) -> Notes:
        """What has been shown by history up to here."""
        if self._noted is None or self._noted[0] != self.tick:
            notes = Notes(self._watch)
            for observation in self.observations(self.tick):
                notes.note(observation)
            self._noted = self.tick, notes
        return self._noted[1].copy()

    def observations(self, until: Tick) -> Iterator[Observation]:
        """Those of history before a tick."""
        for event in self.store.find_after(Tick(-1), _is_observation, frozenset(Kind)):
            if event.tick >= until:
                return
            assert isinstance(event, Observation)
            yield event

    def _undisturbed(self, notes: Notes, seed: int | None = None) -> Outcome:
        """A run from here in which nothing is placed. The machine stands at its end."""
        start = self.tick
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
        def said() -> str | None:
            return None if self._judge is None else self._judge(self.look)

        return notes.judged(self.machine.tick, stuck=self.machine.finished, said=said)

    def _compared(self, keep: Snapshot, outcome: Outcome) -> Outcome:
        """The outcome, given what the region would be at its end if the interrupt had not come."""
        with self._run_of_its_own(keep):
            self._outcome(outcome.tick, outcome.gap, None)
            with_it = self._region()
        with self._run_of_its_own(keep):
            self._undisturbed(Notes(self._watch))
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

    def code_here(self) -> str:
        """The instruction at hand, disassembled."""
        eip = self.machine.cpu.eip
        return text_of(self.read(eip, LONGEST), eip)


def _is_observation(event: Event) -> bool:
    return isinstance(event, Observation)


__all__ = ["Judge", "Sweep"]
