"""One attempt: a run that keeps some interrupts of a history and leaves the others out.

Read next: minimise.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from hostvm.observations import IrqDelivered, Observation
from hostvm.probes import NO_PROBES
from hostvm.units import Tick
from replay.branch import Branch
from replay.event_store import EventCursor
from replay.inputs import Input, choices_from, inputs_of
from replay.look import Look
from replay.outcomes import Outcome, Reception, Verdict
from replay.run_notes import VERDICTS, Notes, Watch
from replay.session import ReplayWorld
from replay.stops import Instructions, PredicateTrue
from replay.sweep import Sweep
from replay.sweep_plan import NoFailure
from replay.sweep_world import Background, Course, PlacedWorld

_NEVER = Outcome(Tick(0), 0, Reception.UNSET, Verdict.PASSED)


@dataclass(frozen=True, slots=True)
class Step:
    """An interrupt to be put into a run: number `input` of the list; at `tick`, or where it was in the code."""

    input: int
    tick: Tick | None = None


@dataclass(frozen=True, slots=True)
class Attempt:
    """What came of a run that follows history through its first `whole` interrupts, and then has `steps`.

    `ticks` are those of the steps, as far as there was a place for them.
    """

    background: Background
    whole: int
    steps: tuple[Step, ...]
    ticks: tuple[Tick, ...]
    outcome: Outcome

    @property
    def count(self) -> int:
        """How many interrupts it has kept."""
        return self.whole + len(self.steps)

    def to_json(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "background": self.background.value,
            "whole": self.whole,
            "steps": [[step.input, step.tick] for step in self.steps],
            "ticks": list(self.ticks),
            "outcome": self.outcome.to_json(),
        }

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Attempt:
        """The attempt that `to_json` wrote. Raises KeyError, TypeError, ValueError."""
        return cls(
            Background(found["background"]),
            int(found["whole"]),
            tuple(
                Step(int(number), None if tick is None else Tick(int(tick)))
                for number, tick in found["steps"]
            ),
            tuple(Tick(int(tick)) for tick in found["ticks"]),
            Outcome.from_json(found["outcome"]),
        )

    @property
    def kept(self) -> tuple[int, ...]:
        """Their numbers in the list."""
        return (*range(self.whole), *(step.input for step in self.steps))


class _NotingWorld(ReplayWorld):
    """A ReplayWorld in which notes are taken at the moment when something is to be noted."""

    def __init__(self, events: EventCursor, guests: int, notes: Notes) -> None:
        super().__init__(events, guests)
        self.notes = notes

    def observe(self, observation: Observation) -> None:
        super().observe(observation)
        self.notes.take(observation)


class Attempts(Sweep):
    """Makes attempts on the history of a trace that fails; `inputs` are its interrupts up to the failure.

    Raises NoFailure if it ends well, so far as the plan's oracle can tell.
    """

    def find_failure(self) -> None:
        """Look where and how the history fails. Raises NoFailure."""
        found = min(self._failures(), key=lambda each: each[0], default=None)
        if found is None:
            raise NoFailure
        self.failed_at, verdict, text = found
        failed = replace(_NEVER, verdict=verdict, text=text)
        self.kind = failed.kind
        self.verdict, self.text = verdict, text
        self.inputs = inputs_of(self.store, self.failed_at)

    def _failures(self) -> Iterator[tuple[Tick, Verdict, str]]:
        notes = Notes(self._watch)
        for observation in self.observations(self.end_tick):
            if notes.note(observation):
                break
        if notes.wrong is None and notes.ended is None:
            notes.overdue(self.end_tick)
        if notes.wrong is not None:
            yield notes.wrong[2], *notes.wrong[:2]
        ended = notes.ended
        if ended is not None and VERDICTS[ended.reason].failed:
            yield ended.tick, VERDICTS[ended.reason], ended.text
        elif ended is None and self._has_stuck():
            yield self.end_tick, Verdict.STUCK, "nothing can wake it"
        yield from self._expressions_met()
        yield from self._wrong_deliveries()

    def _has_stuck(self) -> bool:
        with self.excursion():
            self.run_to(self.end_tick)
            return self.machine.finished

    def _expressions_met(self) -> Iterator[tuple[Tick, Verdict, str]]:
        if not self._wrong:
            return
        stops = tuple((number, predicate) for number, (_, _, predicate) in enumerate(self._wrong))
        with self.excursion():
            self.run_to(self.first_tick)
            arrival = self.search(stops, backwards=False)
            for reason in arrival.reasons:
                if isinstance(reason, PredicateTrue):
                    verdict, text, _ = self._wrong[reason.number]
                    yield arrival.tick, verdict, text

    def _wrong_deliveries(self) -> Iterator[tuple[Tick, Verdict, str]]:
        if not self._watch.delivered:
            return
        watch = Watch(self.plan.guest, frozenset(), delivered=self._watch.delivered)
        with self.excursion():
            self.run_to(self.first_tick)
            # Until the way back, which comes with a World of its own.
            world = _NotingWorld(self._cursor, self._guests, Notes(watch))
            self.machine.world = world
            for observation in self.observations(self.end_tick):
                if isinstance(observation, IrqDelivered) and world.notes.wrong is None:
                    self._arrive(Tick(observation.tick + 1))
        if world.notes.wrong is not None:
            yield world.notes.wrong[2], *world.notes.wrong[:2]

    # ---- one attempt ----------------------------------------------------------------------------

    def attempt(self, background: Background, whole: int, steps: Sequence[Step] = ()) -> Attempt:
        """Run it."""
        self.go(self._start(whole))
        notes = self.notes_here()
        self.snapshots.pinned = self.tick
        keep = self.keep_here()
        with self._run_of_its_own(keep):
            world = self._quiet_world(background, notes)
            self.machine.enter(world)
            ticks = tuple(self._take_steps(world, steps))
            outcome = _NEVER
            if len(ticks) == len(steps):
                last = max((self.failed_at, *ticks))
                outcome = replace(_NEVER, **self._finish(world, notes, last))
        return Attempt(background, whole, tuple(steps), ticks, outcome)

    def fails(self, attempt: Attempt) -> bool:
        """Whether it ends as the trace does."""
        return attempt.outcome.verdict.failed and attempt.outcome.kind == self.kind

    def _start(self, whole: int) -> Tick:
        """Where history is left: behind the last interrupt that is kept as it was."""
        return Tick(self.inputs[whole - 1].tick + 1) if whole else self.first_tick

    def _quiet_world(self, background: Background, notes: Notes) -> PlacedWorld:
        choices = tuple(choices_from(self.store, self.tick))
        return self.world_here(Course(self.plan.seed, background, choices=choices), notes)

    def _take_steps(self, world: PlacedWorld, steps: Sequence[Step]) -> Iterator[Tick]:
        """Run to the place of each, and put it there; ends early where there is none."""
        machine = self.machine
        limit = Tick(self.failed_at + self.plan.oracle.ticks)
        for step in steps:
            wanted = self.inputs[step.input]
            if step.tick is not None or wanted.eip is None:
                tick = wanted.tick if step.tick is None else step.tick
                machine.run(tick)
                found = machine.tick == tick
            else:
                found = self._run_to_place(world, wanted, limit)
            if not found or world.done or machine.finished:
                return
            world.place(wanted.placed(machine))
            yield machine.tick

    def _run_to_place(self, world: PlacedWorld, wanted: Input, limit: Tick) -> bool:
        """Run to the instruction at which an interrupt came, with the registers that it found."""
        machine, eip = self.machine, wanted.eip
        assert eip is not None

        def is_it(look: Look) -> bool:
            return look.guest.number == wanted.guest and look.machine.cpu.check() == wanted.check

        scan = self.scan([(0, Instructions(is_it, (eip, eip)))], backwards=False)
        machine.cpu.set_probes(scan.probes())
        scan.begin(machine.tick)
        while machine.tick < limit and not (machine.finished or world.done or scan.hits):
            machine.run(limit)
        machine.cpu.set_probes(NO_PROBES)
        return bool(scan.hits)

    # ---- the same as a trace --------------------------------------------------------------------

    def branch_with(self, attempt: Attempt) -> Branch:
        """The run of an attempt as a branch, up to its end."""
        self.go(self._start(attempt.whole))
        world = self._quiet_world(attempt.background, self.notes_here())
        branch = Branch(self, world, self.plan.seed)
        for step, tick in zip(attempt.steps, attempt.ticks, strict=True):
            branch.extend(tick)
            world.place(self.inputs[step.input].placed(branch.frontier.machine))
        branch.extend(attempt.outcome.end)
        return branch


__all__ = ["Attempt", "Attempts", "Step"]
