"""What a run is watched for while it goes on, and what has been noted.

Everything here comes from what the machine reports, so it costs next to nothing: how the Guest ends, what it prints,
how long its virtual interrupts wait, how often it calls the Host, and what the state is when lguest interrupts it.

Read next: outcomes.py, sweep_world.py.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Self

from hostvm.observations import (
    ConsoleOutput,
    EndReason,
    GuestEnded,
    Hypercall,
    IrqDelivered,
    IrqRaised,
    Observation,
)
from hostvm.units import Tick
from replay.outcomes import Verdict

_TAIL = 4096
VERDICTS = {
    EndReason.KILLED: Verdict.KILLED,
    EndReason.CRASHED: Verdict.CRASHED,
    EndReason.POWEROFF: Verdict.ENDED,
    EndReason.RESTART: Verdict.ENDED,
}


@dataclass(frozen=True, slots=True)
class Allowed:
    """How often a hypercall may be made, and what it is called."""

    name: str
    times: int


@dataclass(frozen=True, slots=True)
class Watch:
    """What to look for in a run of `guest`, besides its end; `irqs` are those whose delivery is to be noted.

    `late`: ticks that a virtual interrupt may wait. `calls`: hypercalls that may not be made more often. `delivered`:
    what must be so, in words and as a question, whenever an interrupt is delivered.
    """

    guest: int
    irqs: frozenset[int]
    panic: re.Pattern[str] | None = None
    late: int | None = None
    calls: Mapping[int, Allowed] = field(default_factory=dict)
    delivered: tuple[tuple[str, Callable[[], bool]], ...] = ()


@dataclass(slots=True)
class Notes:
    """What a run has shown so far. `wrong`: the verdict, if the run need not go on because of it, and when."""

    watch: Watch
    ended: GuestEnded | None = None
    delivered: Tick | None = None
    wrong: tuple[Verdict, str, Tick] | None = None
    _waiting: dict[int, Tick] = field(default_factory=dict)
    _calls: Counter[int] = field(default_factory=Counter)
    _console: str = field(default="", repr=False)

    def copy(self) -> Self:
        """The same, for a run that goes on from here."""
        return replace(self, _waiting=dict(self._waiting), _calls=Counter(self._calls))

    def take(self, observation: Observation) -> bool:
        """Note an observation at the moment when it is made; answers whether the run need not go on."""
        over = self.note(observation)
        if isinstance(observation, IrqDelivered) and observation.guest == self.watch.guest:
            self._check_state(observation)
        return over or self.wrong is not None

    def note(self, observation: Observation) -> bool:
        """The same for one of long ago, when nobody can ask any more what the state was."""
        if observation.guest != self.watch.guest:
            return False
        match observation:
            case GuestEnded():
                self.ended = observation
                return True
            case IrqRaised():
                self._waiting.setdefault(observation.irq, observation.tick)
            case IrqDelivered():
                self._delivered(observation)
            case Hypercall() if self.watch.calls:
                self._called(observation)
            case ConsoleOutput() if self.watch.panic is not None:
                self._heard(observation, self.watch.panic)
        return self.wrong is not None

    def _delivered(self, event: IrqDelivered) -> None:
        if self.delivered is None and event.irq in self.watch.irqs:
            self.delivered = event.tick
        raised = self._waiting.pop(event.irq, event.tick)
        self._check_wait(event.irq, raised, event.tick)

    def _check_state(self, event: IrqDelivered) -> None:
        for text, holds in self.watch.delivered:
            if not holds():
                words = f"irq {event.irq} delivered, and not {text}"
                self.wrong = self.wrong or (Verdict.ASSERTION, words, event.tick)

    def _check_wait(self, irq: int, raised: Tick, now: Tick) -> None:
        if self.watch.late is not None and now - raised > self.watch.late:
            words = f"irq {irq} waits for more than {self.watch.late:,} ticks"
            self.wrong = self.wrong or (Verdict.LATE, words, now)

    def overdue(self, now: Tick) -> None:
        """Note what still waits at the end of a run."""
        for irq, raised in self._waiting.items():
            self._check_wait(irq, raised, now)

    def judged(
        self, now: Tick, *, stuck: bool, said: Callable[[], str | None] = lambda: None
    ) -> tuple[Verdict, str]:
        """The verdict on a run that ends here, and the words for it.

        `stuck`: nothing can happen any more. `said` is asked where there is nothing else to say.
        """
        self.overdue(now)
        if self.wrong is not None:
            return self.wrong[:2]
        if self.ended is not None:
            verdict, text = VERDICTS[self.ended.reason], self.ended.text
            return verdict, text if verdict.failed else self.ended.reason.name.lower()
        met = said()
        if met is not None:
            return Verdict.MET, met
        return (Verdict.STUCK, "nothing can wake it") if stuck else (Verdict.PASSED, "")

    def _called(self, event: Hypercall) -> None:
        allowed = self.watch.calls.get(event.number)
        if allowed is None:
            return
        self._calls[event.number] += 1
        if self._calls[event.number] > allowed.times:
            words = f"more than {allowed.times:,} times {allowed.name}"
            self.wrong = self.wrong or (Verdict.CALLS, words, event.tick)

    def _heard(self, output: ConsoleOutput, panic: re.Pattern[str]) -> None:
        self._console = (self._console + output.data.decode("latin-1"))[-_TAIL:]
        found = panic.search(self._console)
        if found is not None:
            line = self._console[self._console.rfind("\n", 0, found.end()) + 1 :]
            self.wrong = self.wrong or (Verdict.PANIC, line.partition("\n")[0], output.tick)


__all__ = ["VERDICTS", "Allowed", "Notes", "Watch"]
