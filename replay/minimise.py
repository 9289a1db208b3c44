"""Minimising: the fewest interrupts with which it still goes wrong.

Each attempt (attempts.py) keeps some of the history's interrupts and goes on in a World in which nothing else comes but
what must (`Background`). It leaves history where the first one is missing; those kept behind that are put where they
were: at the same instruction with the same registers, wherever in the run that is now. It counts only if it ends as
the trace does.

(i) *The critical one.* The shortest beginning of the list that fails: with its last interrupt it does, without it, not.
    That much is exact, since nothing before it is missing.
(ii) *That one alone*, where it was; or, if what came before has only brought the kernel there at the right moment, at
     other places, which a sweep of the quiet run finds.
(iii) *Delta debugging* (Zeller's ddmin) of the others, where it does not go alone.

All this is tried in a silent World, where what is left is all that comes, and in a punctual one, where timers come when
they are due and the question is what must not be punctual. Read next: commands/minimising.py.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import TypeAlias

from hostvm.units import Tick
from replay.attempts import Attempt, Attempts, Step
from replay.inputs import choices_from
from replay.log import TraceReader
from replay.sweep import Sweep
from replay.sweep_places import instructions_met
from replay.sweep_plan import BadSweep, Plan
from replay.sweep_world import Background

BACKGROUNDS = (Background.SILENT, Background.PUNCTUAL)
# In a sweep of the quiet run, whose ticks are limited: visits of the instruction, and other ticks.
VISITS = 24
ELSEWHERE = 24
# In it everything may take longer: so many times.
LONGER = 3
BUDGET = 30_000_000
GOOD_ENOUGH = 3
MOST_ATTEMPTS = 500
Progress: TypeAlias = "Callable[[int, Minimal | None], None]"


@dataclass(frozen=True, slots=True)
class Minimal:
    """`attempt` on `made` fails; without its interrupt number `critical` of the list it does not (None: needs none)."""

    made: Attempts
    attempt: Attempt
    critical: int | None


class Minimiser:
    """Looks for the fewest interrupts of `made`; `best` is what there is so far, also if it was broken off.

    `known` has attempts by their keys, from a journal for instance; each new one is given to `keep`.
    """

    def __init__(
        self,
        made: Attempts,
        progress: Progress = lambda *_: None,
        known: Mapping[str, Attempt] = MappingProxyType({}),
        keep: Callable[[Attempt], None] = lambda _: None,
    ) -> None:
        self._made = made
        self._progress = progress
        self._known = dict(known)
        self._keep = keep
        self.tried = 0
        self.best: Minimal | None = None

    def run(self) -> Minimal:
        """Search. Raises BadSweep where the failure does not come again though nothing is left out."""
        each = [self._critical(background) for background in BACKGROUNDS]
        found = [one for one in each if one is not None]
        if not found:
            raise BadSweep(
                f"it does not fail again with all {len(self._made.inputs):,} interrupts kept: what follows the last "
                "one matters, and that is not among them"
            )
        # What brings it about where timers are punctual, may do so alone; what is missed in silence may be a mere push.
        criticals = sorted({count - 1 for _, count in found if count}, reverse=True)
        for background, _ in found:
            if self._best_count() > 1:
                self._alone(background, criticals)
        for one in sorted(found, key=lambda one: one[1]):
            if self._best_count() > GOOD_ENOUGH:
                self._ddmin(*one)
        assert self.best is not None
        return self.best

    def _best_count(self) -> int:
        return self.best.attempt.count if self.best else 1 << 30

    def _try(self, background: Background, whole: int, steps: Sequence[Step] = ()) -> Attempt:
        name = key(background, whole, steps)
        if name not in self._known:
            self._known[name] = self._made.attempt(background, whole, steps)
            self._keep(self._known[name])
        self.tried += 1
        attempt = self._known[name]
        self._progress(self.tried, self.best)
        return attempt

    def _fails(self, background: Background, whole: int, steps: Sequence[Step] = ()) -> bool:
        """Try it, and remember it if it is the best so far."""
        attempt = self._try(background, whole, steps)
        if not self._made.fails(attempt):
            return False
        if attempt.count < self._best_count():
            kept = attempt.kept
            self.best = Minimal(self._made, attempt, kept[-1] if kept else None)
        return True

    # ---- (i) ------------------------------------------------------------------------------------

    def _critical(self, background: Background) -> tuple[Background, int] | None:
        """With how many of the first interrupts it fails, while with one less it does not; None: it never does."""
        low, high = 0, len(self._made.inputs)
        if not self._fails(background, high):
            return None
        if self._fails(background, 0):
            return background, 0
        while high - low > 1:
            middle = (low + high) // 2
            if self._fails(background, middle):
                high = middle
            else:
                low = middle
        return background, high

    # ---- (ii) -----------------------------------------------------------------------------------

    def _alone(self, background: Background, criticals: Sequence[int]) -> None:
        """A critical one alone: where it was, or at other places."""
        if any(self._fails(background, 0, [Step(critical)]) for critical in criticals):
            return
        with self._quiet_run(background) as quiet:
            for critical in criticals:
                for tick in self._other_places(quiet, background, critical):
                    if self._fails(background, 0, [Step(critical, tick)]):
                        return

    @contextmanager
    def _quiet_run(self, background: Background) -> Iterator[TraceReader]:
        """The run in which none of them comes, as a trace."""
        quiet = self._made.branch_with(self._try(background, 0))
        quiet.extend(LONGER * self._made.failed_at)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "quiet.lgt")
            quiet.save(path)
            with TraceReader(path) as reader:
                yield reader

    def _other_places(
        self, quiet: TraceReader, background: Background, critical: int
    ) -> Iterator[Tick]:
        """Ticks of the quiet run at which a sweep sees the same failure, if the interrupt comes there."""
        made, spent = self._made, 0
        irqs = made.inputs[critical].answers
        span = made.failed_at - made.inputs[critical].tick
        plan = replace(
            made.plan,
            background=background,
            irqs=(irqs[0].irq if irqs else 0,),
            oracle=replace(made.plan.oracle, ticks=LONGER * span),
        )
        swept = _QuietSweep(quiet, plan, made)
        for outcome in swept.outcomes(swept.places(critical)):
            self._progress(self.tried, self.best)
            if outcome.verdict.failed and outcome.kind == made.kind:
                yield outcome.tick
            spent += max(0, outcome.end - outcome.tick)
            if spent > BUDGET:
                return

    # ---- (iii) ----------------------------------------------------------------------------------

    def _ddmin(self, background: Background, count: int) -> None:
        others, parts = list(range(count - 1)), 2
        while others and parts <= 2 * len(others) and self.tried < MOST_ATTEMPTS:
            for left in _without_a_part(others, parts):
                if self._fails(background, *_kept([*left, count - 1])):
                    others, parts = left, max(parts - 1, 2)
                    break
            else:
                parts = len(others) if parts < len(others) < 2 * parts else 2 * parts


def _without_a_part(items: list[int], parts: int) -> Iterator[list[int]]:
    ends = [len(items) * at // parts for at in range(parts + 1)]
    for begin, end in pairwise(ends):
        if begin < end:
            yield items[:begin] + items[end:]


def _kept(numbers: list[int]) -> tuple[int, list[Step]]:
    """What is kept as it was, and what is put there."""
    whole = next((at for at, number in enumerate(numbers) if at != number), len(numbers))
    return whole, [Step(number) for number in numbers[whole:]]


class _QuietSweep(Sweep):
    """A sweep of a run in which nothing came; the Host draws as it did in the history of `made`."""

    def __init__(self, reader: TraceReader, plan: Plan, made: Attempts) -> None:
        super().__init__(reader, plan)
        self._original = made
        self._choices = choices_from(made.store, made.first_tick)

    def choices(self) -> Sequence[int]:
        """Those not drawn yet."""
        left = len(choices_from(self.store, self.tick))
        drawn = len(choices_from(self.store, self.first_tick)) - left
        return self._choices[drawn:]

    def places(self, critical: int) -> list[Tick]:
        """Where the interrupt is tried: at visits of its instruction, and where timers come by themselves, anywhere."""
        wanted = self._original.inputs[critical]
        last = self.end_tick - 1
        visits: list[Tick] = []
        if wanted.eip is not None:
            visits = instructions_met(
                self, (wanted.eip, wanted.eip), lambda _: True, self.tick, last
            )
        places = _spread(visits, VISITS)
        if self.plan.background is Background.PUNCTUAL:
            places += _spread(range(self.first_tick, last), ELSEWHERE)
        # Soon something of everywhere.
        return [places[at] for first in range(8) for at in range(first, len(places), 8)]


def _spread(items: Sequence[int], count: int) -> list[Tick]:
    count = min(count, len(items))
    return [Tick(items[len(items) * at // count]) for at in range(count)]


# ---- the journal of attempts ---------------------------------------------------------------------


def key(background: Background, whole: int, steps: Sequence[Step]) -> str:
    """A name for what an attempt does."""
    return json.dumps([background.value, whole, [[step.input, step.tick] for step in steps]])


__all__ = ["BACKGROUNDS", "Minimal", "Minimiser", "key"]
