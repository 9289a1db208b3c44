"""Time as Worlds to record in have it: where one takes over, and the Host's own tick.

(i) *Since.* A World begins at power-on, or goes on where another one's time ends: then clock and time stamp counter
must not jump.
(ii) *The tick.* The timer's vector also comes from the Host's own periodic tick, as under any Linux: it throws out a
Guest that would otherwise compute for ever, and so an interrupt that had to wait for it to leave gets in. It is work
for nobody, though, so it wakes no idle machine and keeps no finished one alive. Taking TIMER_VECTOR stops the timer,
whatever it came from: the machine looks at the clock and sets it again.

Read next: virtual_world.py, host_world.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from hostvm.units import Tick

FAR: Final = Tick(1 << 62)
# Virtual time begins on the day lguest was merged into Linux: 19 July 2007, 12:00 UTC.
VIRTUAL_EPOCH: Final = 1_184_846_400 * 1_000_000_000
HOST_HZ: Final = 250
HIGHEST_HOST_HZ: Final = 10_000
SECOND_NS: Final = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Since:
    """Where a World takes over: the tick, and what clock and time stamp counter say there."""

    tick: Tick
    ns: int
    tsc: int


POWER_ON: Final = Since(Tick(0), VIRTUAL_EPOCH, 0)


def earliest(*times: int | None) -> int | None:
    """The first of these times; None stands for never."""
    least = None
    for moment in times:
        if moment is not None and (least is None or moment < least):
            least = moment
    return least


class PeriodicTick:
    """The Host's tick: `hz` times a second after `start`, each `late` nanoseconds late. With 0 there is none."""

    def __init__(self, hz: int, start: int, late: Callable[[], int] = lambda: 0) -> None:
        assert 0 <= hz <= HIGHEST_HOST_HZ, hz
        self._period = SECOND_NS // hz if hz else 0
        self._start = start
        self._late = late
        self.due: int | None = None
        self.pass_by(start)

    def pass_by(self, now: int) -> None:
        """If it is due, it is not any more: those that were missed do not come again."""
        if self._period and (self.due is None or self.due <= now):
            begun = (now - self._start) // self._period
            self.due = self._start + (begun + 1) * self._period + self._late()


__all__ = [
    "FAR",
    "HIGHEST_HOST_HZ",
    "HOST_HZ",
    "POWER_ON",
    "SECOND_NS",
    "VIRTUAL_EPOCH",
    "PeriodicTick",
    "Since",
    "earliest",
]
