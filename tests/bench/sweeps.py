"""Sweeps: how many interrupts are tried a second, each with a run of 10,000 ticks, and what a second worker adds.

The rate is by CPU time of all processes together, their start included, as if two cores had nothing else to do. What a
second worker adds is on the clock on the wall, and so felt when other programs run.
"""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Callable
from pathlib import Path

from hostvm.units import Tick
from replay.outcomes import Oracle, Verdict
from replay.sweep_crew import sweep
from replay.sweep_plan import Plan
from tests.bench.figures import Aim, Figure, Measured, summary

TRACE = Path(__file__).parents[2] / "traces" / "iret-race" / "passing.lgt"
CORES = 2
PLAN = Plan(oracle=Oracle(ticks=10_000))
# Five seconds for two workers, of which the half second until they have begun is a tenth.
LONGER = Plan(oracle=Oracle(ticks=40_000))
# A program computes there: each tick is a place.
WINDOW = range(317_000, 321_000)


def _cpu() -> float:
    usages = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def _tried(
    workers: int, clock: Callable[[], float] = time.perf_counter, plan: Plan = PLAN
) -> tuple[int, float]:
    begin = clock()
    outcomes = sweep(TRACE, plan, map(Tick, WINDOW), workers=workers)
    tried = sum(outcome.verdict is not Verdict.SKIPPED for outcome in outcomes)
    return tried, clock() - begin


def rate(rounds: int) -> Measured:
    """Alternatives a second on two cores."""
    found = [_tried(CORES, _cpu) for _ in range(rounds)]
    note = f"{found[0][0]:,} tried, load {os.getloadavg()[0]:.1f}"
    return summary([CORES * tried / seconds for tried, seconds in found], note)


def second_worker(rounds: int) -> Measured:
    """Time of one worker by that of two, from start to end."""
    return summary([_tried(1)[1] / _tried(2)[1] for _ in range(rounds)])


def second_worker_longer(rounds: int) -> Measured:
    """The same where each run takes four times as long."""
    return summary([_tried(1, plan=LONGER)[1] / _tried(2, plan=LONGER)[1] for _ in range(rounds)])


FIGURES = (
    Figure("sweep: alternatives of 10,000 ticks", "/s", Aim(1000, at_least=True), rate),
    Figure("sweep: one worker / two workers", "", Aim(1.8, at_least=True), second_worker),
    Figure(
        "sweep: one worker / two workers, runs of 40,000 ticks",
        "",
        Aim(1.8, at_least=True),
        second_worker_longer,
    ),
)
