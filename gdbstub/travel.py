"""Going to a place in history by its name, and finding the way back: positions visited, checkpoints, catches.

What places are called says replay/where.py. Positions at which the debugger has stopped are kept as in a browser: going
somewhere drops what lay ahead. A catch is a stop that the debugger's own protocol has no word for.

Read next: monitor.py, which puts this into commands.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from gdbstub.errors import TargetFault
from gdbstub.stepping import Stepper
from gdbstub.target import Reason, ReasonKind, Stop
from gdbstub.trace_walker import TraceWalker
from hostvm.units import Tick
from replay import stops as s
from replay.describe import event_to_text
from replay.moves import Unit
from replay.timeline import Timeline
from replay.where import BadPlace, tick_of

_KEPT = 1000


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A place that the user wants to come back to."""

    tick: Tick
    note: str


class Travel:
    """Goes about in `timeline` by itself, and remembers where it was."""

    def __init__(self, timeline: Timeline, walker: TraceWalker, stepper: Stepper) -> None:
        self.timeline = timeline
        self.stepper = stepper
        self.checkpoints: dict[int, Checkpoint] = {}
        self.catches: dict[int, str] = {}
        self._walker = walker
        self._visited: list[Tick] = [timeline.tick]
        self._at = 0

    # ---- going ----------------------------------------------------------------------------------

    def to(self, place: str) -> None:
        """Go to a place. Raises TargetFault, also when it lies outside of history."""
        try:
            tick = tick_of(self.timeline, place)
        except BadPlace as error:
            raise TargetFault(str(error)) from error
        self._go(tick)
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

    def to_stop(self, stop: s.Stop, *, backwards: bool) -> None:
        """Go to where `stop` is met next, or last before. Raises TargetFault if that is nowhere."""
        origin = self.timeline.tick
        arrival = self._by_itself(
            lambda: self.timeline.resume_with(((s.OWN_STOP, stop),), backwards=backwards)
        )
        if any(isinstance(reason, s.HistoryStart | s.HistoryEnd) for reason in arrival.reasons):
            self._go(origin)
            raise TargetFault(f"there is none {'before' if backwards else 'after'} tick {origin:,}")
        self.arrived()

    def _by_itself(self, go: Callable[[], s.Arrival]) -> s.Arrival:
        """Make a move that is no move of the debugger's. Raises TargetFault when interrupted."""

        def move() -> Stop:
            reasons = self._walker.told(go)
            return Stop(self._walker.current_thread(), reasons)

        self.stepper.forget()
        stop = self._walker.whole(move)
        if any(reason.kind is ReasonKind.INTERRUPTED for reason in stop.reasons):
            raise TargetFault("interrupted; we are where we were")
        return self._walker.arrival

    def announce(self) -> None:
        """Let the debugger's next move be answered with where we are."""
        self.stepper.announce(Stop(self._walker.current_thread(), (Reason(ReasonKind.ARRIVED),)))

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

    def catch(self, stop: s.Stop, text: str) -> int:
        """Stop there from now on; the number of the catch."""
        number = self.timeline.stops.add(stop)
        self.catches[number] = text
        return number

    def forget_catch(self, number: int) -> None:
        """Take a catch away. Raises TargetFault if there is none such."""
        if self.catches.pop(number, None) is None:
            raise TargetFault(f"there is no catch {number}")
        self.timeline.stops.remove(number)

    def forget_catches(self) -> None:
        """Take all of them away."""
        for number in list(self.catches):
            self.forget_catch(number)

    def caught(self) -> str:
        """What catches were met here, in words."""
        arrival = self._walker.arrival
        if arrival.tick != self.timeline.tick:
            return ""
        lines = dict.fromkeys(self._words(reason) for reason in arrival.reasons)
        return "".join(f"{line}\n" for line in lines if line)

    def _words(self, reason: s.Reason) -> str:
        match reason:
            case s.EventMet(number, event) if number in self.catches:
                return " ".join(f"catch {number}: {event_to_text(event)}".split())
            case s.PredicateTrue(number) | s.BreakpointHit(number) | s.WatchHit(number) if (
                number in self.catches
            ):
                return f"catch {number}: {self.catches[number]}"
        return ""


__all__ = ["Checkpoint", "Travel"]
