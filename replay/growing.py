"""A timeline with an open end: who goes forward beyond what is known has more history made.

There are two machines. The timeline's own is moved about in what is recorded, as that of any timeline. A second one
stands at the newest moment, the frontier, and makes history: a World cannot go back, so its machine does not either.
`end_tick` is how far history has been made. A move forwards that comes there makes more, in pieces that grow, and goes
on; it ends at a stop, a limit, a cancel, or when the last Guest ends.

Read next: frontier.py; branch.py and live.py, which are such timelines.
"""

from __future__ import annotations

from replay.event_store import EventCursor
from replay.frontier import Frontier
from replay.moves import Unit
from replay.search import Stops
from replay.stops import Arrival, Cancelled, HistoryEnd
from replay.timeline import Timeline

FIRST_PIECE = 1 << 16
LARGEST_PIECE = 1 << 24
MARGIN = 4096


class GrowingTimeline(Timeline):
    """A timeline whose history `frontier` continues; set before anything is asked of it."""

    frontier: Frontier

    @property
    def open(self) -> bool:
        """Whether history goes on behind `end_tick`, as soon as somebody goes there."""
        return self.frontier.open

    def extend(self, until: int) -> None:
        """Make history up to `until`, if the last Guest does not end before. The cursor stays."""
        try:
            for tick in self.frontier.extend(until):
                self.poll()
                if self.progress is not None:
                    self.progress(tick)
        finally:
            self.end_tick = max(self.end_tick, self.frontier.tick)
            self._cursor = EventCursor(self.store, self._cursor.position)
            self.machine.world = self._world()

    def go(self, tick: int) -> Arrival:
        """Be at a tick; history is made as far as that, if need be."""
        if tick > self.end_tick and self.open:
            with self.moving() as move:
                self.extend(tick)
                move.append(Arrival(self.tick))
            if Cancelled() in move[0].reasons:
                return move[0]
        return super().go(tick)

    def step(self, unit: Unit, *, backwards: bool = False, count: int = 1) -> Arrival:
        """Make `count` steps of a unit; there is history enough for them."""
        wanted = self.tick + count + MARGIN
        if not backwards and self.open and wanted > self.end_tick:
            with self.moving() as move:
                self.extend(max(wanted, self.end_tick + FIRST_PIECE))
                move.append(Arrival(self.tick))
            if Cancelled() in move[0].reasons:
                return move[0]
        return super().step(unit, backwards=backwards, count=count)

    def search(self, stops: Stops, *, backwards: bool, limit: int | None = None) -> Arrival:
        """The work of a resume: forwards, history is made until there is a stop."""
        piece = FIRST_PIECE
        while True:
            arrival = super().search(stops, backwards=backwards, limit=limit)
            if backwards:
                return arrival
            if not self._ends_too_early(arrival, limit):
                return self._ended(arrival, limit)
            goal = self.end_tick + piece
            self.extend(goal if limit is None else min(goal, limit))
            piece = min(2 * piece, LARGEST_PIECE)

    def _ended(self, arrival: Arrival, limit: int | None) -> Arrival:
        """Say so where history ends before a limit."""
        if (
            arrival.reasons
            or limit is None
            or arrival.tick < self.end_tick
            or limit <= arrival.tick
        ):
            return arrival
        return Arrival(arrival.tick, (HistoryEnd(),))

    def _ends_too_early(self, arrival: Arrival, limit: int | None) -> bool:
        if not self.open or arrival.tick < self.end_tick:
            return False
        met = any(not isinstance(reason, HistoryEnd) for reason in arrival.reasons)
        return not met and (limit is None or arrival.tick < limit)


__all__ = ["FIRST_PIECE", "LARGEST_PIECE", "MARGIN", "GrowingTimeline"]
