"""Sweeps for tests: as many as are wanted, of traces that stay open as long."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TypeAlias

from replay.log import TraceReader
from replay.sweep import Sweep
from replay.sweep_plan import Plan

PASSING = Path(__file__).parents[2] / "traces" / "iret-race" / "passing.lgt"
Made: TypeAlias = Callable[..., Sweep]


@contextmanager
def sweeps() -> Iterator[Made]:
    """Make a sweep of a plan, by default on the recording in which nothing goes wrong."""
    with ExitStack() as readers:

        def make(plan: Plan, path: Path = PASSING) -> Sweep:
            return Sweep(readers.enter_context(TraceReader(path)), plan)

        yield make
