"""A long run in slices: short enough that somebody watching may look and stop, long enough not to be felt.

How a run is cut makes no difference to it; so slices may go by this computer's clock, in a replay too.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from hostvm.machine import Machine
from hostvm.units import Tick

SLICE_NS = 50_000_000
FIRST_SLICE = 100_000


def run_in_slices(
    machine: Machine, until: Tick, now: Callable[[], int] = time.monotonic_ns
) -> Iterator[Tick]:
    """Run to `until` or to the machine's end; yield the tick about twenty times a second and at the end."""
    size = FIRST_SLICE
    while machine.tick < until and not machine.finished:
        start, tick = now(), machine.tick
        machine.run(Tick(min(until, tick + size)))
        size = _next_size(size, machine.tick - tick, now() - start)
        yield machine.tick


def _next_size(size: int, ticks: int, ns: int) -> int:
    """What takes SLICE_NS at the speed just seen, but not much more or less than last time."""
    fitting = ticks * SLICE_NS // max(ns, 1)
    return max(1000, min(max(fitting, size // 2), size * 2))


__all__ = ["SLICE_NS", "run_in_slices"]
