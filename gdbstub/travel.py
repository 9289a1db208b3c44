"""Going to a place in history by its name, and finding the way back: positions visited, checkpoints, catches.

A place is a tick (`1234567`, `1,234,567`, `1.2M`), `event N`, a share of the run (`37%`), `start`, `end`, or `+N` and
`-N` ticks from here. Positions at which the debugger has stopped are kept as in a browser: going somewhere drops what
lay ahead.

Read next: monitor.py, which puts this into commands.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

from gdbstub.errors import Errno, TargetFault
from gdbstub.points import Points
from gdbstub.stepping import Stepper
from gdbstub.target import Stop
from gdbstub.trace_walker import TraceWalker
from hostvm.units import Tick
from replay.describe import event_to_text
from replay.moves import Unit
from replay.stops import Arrival, EventMet, EventStop
from replay.timeline import Timeline

_NUMBER = re.compile(r"([+-]?)(\d[\d,_]*(?:\.\d+)?)([kMG]?)")
_FACTOR = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9}
_KEPT = 1000


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A place that the user wants to come back to."""

    tick: Tick
    note: str


class Travel:
    """Goes about in `timeline` by itself, and remembers where it was."""

    def __init__(
        self, timeline: Timeline, walker: TraceWalker, stepper: Stepper, points: Points
    ) -> None:
        self.timeline = timeline
        self.stepper = stepper
        self.points = points
        self.checkpoints: dict[int, Checkpoint] = {}
        self.catches: dict[int, str] = {}
        self._walker = walker
        self._visited: list[Tick] = [timeline.tick]
        self._at = 0

    # ---- places ---------------------------------------------------------------------------------

    def find(self, place: str) -> int:
        """The tick of a place.

        Raises: TargetFault when there is none of that name.
        """
        words = place.split()
        match words:
            case ["start"]:
                return self.timeline.first_tick
            case ["end"]:
                return self.timeline.end_tick
            case ["event", number] if number.isdecimal():
                return self._event(int(number))
            case [share] if share.endswith("%"):
                return self._share(share[:-1])
            case [number] if _NUMBER.fullmatch(number):
                return self._tick(number)
        raise TargetFault(
            f"{place!a} is no place; say TICK, +TICKS, -TICKS, PERCENT%, event NUMBER, start or end",
            Errno.EINVAL,
        )

    def _tick(self, text: str) -> int:
        found = _NUMBER.fullmatch(text)
        assert found
        sign, digits, unit = found.groups()
        count = round(Fraction(digits.replace(",", "").replace("_", "")) * _FACTOR[unit])
        if not sign:
            return count
        return self.timeline.tick + (count if sign == "+" else -count)

    def _event(self, number: int) -> int:
        event = self.timeline.store.event(number)
        if event is None:
            raise TargetFault(f"there is no event {number}; there are {len(self.timeline.store)}")
        return event.tick

    def _share(self, text: str) -> int:
        try:
            share = float(text)
        except ValueError:
            raise TargetFault(f"{text!a} is no number") from None
        if not 0 <= share <= 100:
            raise TargetFault(f"{text}% is not within the run")
        first, end = self.timeline.first_tick, self.timeline.end_tick
        return round(first + (end - first) * share / 100)

    # ---- going ----------------------------------------------------------------------------------

    def to(self, place: str) -> None:
        """Go to a place. Raises TargetFault, also when it lies outside of history."""
        self._go(self.find(place))
        self.arrived()

    def _go(self, tick: int) -> None:
        first, end = self.timeline.first_tick, self.timeline.end_tick
        if not first <= tick <= end:
            raise TargetFault(
                f"tick {tick:,} is outside of the run, which is from {first:,} to {end:,}"
            )
        self._by_itself(lambda: self.timeline.go(tick))

    def ticks(self, count: int) -> None:
        """Make steps of one tick, forward or, if `count` is negative, backward."""
        self._by_itself(
            lambda: self.timeline.step(Unit.TICK, backwards=count < 0, count=abs(count))
        )
        self.arrived()

    def next_event(self, stop: EventStop, *, backwards: bool) -> Arrival:
        """Go to the next event of a kind."""
        arrival = self._by_itself(
            lambda: self.timeline.resume_with(((0, stop),), backwards=backwards)
        )
        self.arrived()
        return arrival

    def _by_itself(self, go: Callable[[], Arrival]) -> Arrival:
        """Make a move that is no move of the debugger's."""

        def move() -> Stop:
            reasons = self._walker.told(go)
            return Stop(self._walker.current_thread(), reasons)

        self.stepper.forget()
        self._walker.whole(move)
        return self._walker.arrival

    def announce(self) -> None:
        """Let the debugger's next move be answered with where we are."""
        self.stepper.announce(Stop(self._walker.current_thread()))

    # ---- where we were ----------------------------------------------------------------------------

    def arrived(self) -> None:
        """Note a position at which the debugger stops."""
        tick = self.timeline.tick
        if tick != self._visited[self._at]:
            del self._visited[self._at + 1 :]
            self._visited.append(tick)
            del self._visited[:-_KEPT]
            self._at = len(self._visited) - 1

    def back(self, count: int) -> None:
        """Go to where we were `count` stops ago; forward if it is negative."""
        at = self._at - count
        if not 0 <= at < len(self._visited):
            raise TargetFault("nothing earlier was visited" if count > 0 else "nothing lies ahead")
        self._go(self._visited[at])
        self._at = at

    # ---- catches ----------------------------------------------------------------------------------

    def catch(self, stop: EventStop, text: str) -> int:
        """Stop at events of a kind from now on; the number of the catch."""
        number = self.timeline.stops.add(stop)
        self.catches[number] = text
        return number

    def forget_catch(self, number: int) -> None:
        """Take a catch away. Raises TargetFault if there is none such."""
        if self.catches.pop(number, None) is None:
            raise TargetFault(f"there is no catch {number}")
        self.timeline.stops.remove(number)

    def caught(self, arrival: Arrival) -> str:
        """What the catches met, in words."""
        met = dict.fromkeys(
            event_to_text(reason.event)
            for reason in arrival.reasons
            if isinstance(reason, EventMet) and arrival.tick == self.timeline.tick
        )
        return "".join(f"{' '.join(text.split())}\n" for text in met)


__all__ = ["Checkpoint", "Travel"]
