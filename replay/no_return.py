"""The tick of no return: before it a run may end well, behind it none does.

From a tick of the history several runs go on, each in a computed World of its own seed. If all of them fail, the
harm is done by then. Between a tick where that is so and one where it is not, bisection finds two ticks next to each
other. So the step between them did it: an interrupt that came there, an answer, an instruction. That harm which is done
stays done is taken for granted.

Read next: sweep.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from hostvm.units import Tick
from replay.events import Event
from replay.outcomes import Outcome
from replay.sweep import Sweep
from replay.sweep_plan import BadSweep, NoFailure


@dataclass(frozen=True, slots=True)
class NoReturn:
    """Runs from `tick` on do not all fail (`before`), those from a tick later do (`behind`).

    `events` are those of the step between.
    """

    tick: Tick
    before: tuple[Outcome, ...]
    behind: tuple[Outcome, ...]
    events: tuple[Event, ...]


def find_no_return(
    made: Sweep,
    runs: int,
    first: int = 0,
    last: int | None = None,
    progress: Callable[[Tick, Tick], None] | None = None,
) -> NoReturn:
    """Search from tick `first` to `last`, by default the whole history. Raises BadSweep if it does not lie there.

    A run goes on from what history has shown by then: a console line begun, an interrupt that waits, calls counted.
    """
    low = Tick(max(first, made.first_tick))
    high = Tick(made.end_tick - 1 if last is None else min(last, made.end_tick - 1))
    if not _all_fail(made, high, runs):
        if last is None:
            raise NoFailure
        raise BadSweep(f"not all runs from tick {high} on fail")
    if _all_fail(made, low, runs):
        raise BadSweep(f"all runs from tick {low} on fail")
    while high - low > 1:
        if progress is not None:
            progress(low, high)
        middle = Tick((low + high) // 2)
        if _all_fail(made, middle, runs):
            high = middle
        else:
            low = middle
    before, behind = (
        tuple(made.continuation(tick, made.plan.seed + run) for run in range(runs))
        for tick in (low, high)
    )
    made.go(low)
    return NoReturn(low, before, behind, tuple(made.events_at(low)))


def _all_fail(made: Sweep, tick: Tick, runs: int) -> bool:
    seeds = range(made.plan.seed, made.plan.seed + runs)
    return all(made.continuation(tick, seed).verdict.failed for seed in seeds)


__all__ = ["NoReturn", "find_no_return"]
