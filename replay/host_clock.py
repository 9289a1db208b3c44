"""This computer's time for a recording, and how fast the machine runs by it.

The clock shows whole microseconds, because a trace pays for every digit. It never goes back: the monotonic clock
counts, and the time of day is added once, at the beginning. While somebody looks at a recorded moment it rests.

Nobody can interrupt the machine in the middle of a stretch, so whoever wants to be asked again after some time must
say how many ticks that is; `Pace` learns it.

Read next: host_world.py.
"""

from __future__ import annotations

import time
from typing import Final

from hostvm.units import Nanoseconds
from replay.draws import MASK_64

HOST_RESOLUTION_NS: Final = 1_000
SHORTEST_SPAN_NS: Final = 175_000
FIRST_GUESS: Final = 0.02


class HostClock:
    """Time of day and time stamp counter of one World. Between `rest` and `go_on` its time stands still."""

    def __init__(self) -> None:
        self._rests_since: int | None = None
        self._rested = 0
        self._offset = time.time_ns() - time.monotonic_ns()

    def now(self) -> Nanoseconds:
        """Nanoseconds since 1970."""
        now = (self._offset + self._monotonic()) // HOST_RESOLUTION_NS * HOST_RESOLUTION_NS
        return Nanoseconds(now)

    def tsc(self) -> int:
        """A counter of nanoseconds, of 64 bits."""
        return self._monotonic() & MASK_64

    def _monotonic(self) -> int:
        return time.monotonic_ns() - self._rested

    def rest(self) -> None:
        """Let time stand still."""
        if self._rests_since is None:
            self._rests_since = self._monotonic()

    def go_on(self) -> None:
        """Let time go on."""
        if self._rests_since is not None:
            self._rested += self._monotonic() - self._rests_since
            self._rests_since = None


class Pace:
    """How many ticks the machine makes in a nanosecond, learnt from spans long enough to tell."""

    def __init__(self) -> None:
        self._ticks_per_ns = FIRST_GUESS
        self._since: tuple[int, int] | None = None

    def ticks_in(self, ns: int) -> int:
        """How many ticks it makes in that time."""
        return int(ns * self._ticks_per_ns)

    def note(self, tick: int, now: int) -> None:
        """The machine runs, and is at `tick`."""
        if self._since is None:
            self._since = tick, now
            return
        ticks, ns = tick - self._since[0], now - self._since[1]
        if ns >= SHORTEST_SPAN_NS:
            self._ticks_per_ns += (ticks / ns - self._ticks_per_ns) / 4
            self._since = tick, now

    def pause(self) -> None:
        """The machine does not run: this span tells nothing."""
        self._since = None


__all__ = ["HOST_RESOLUTION_NS", "HostClock", "Pace"]
