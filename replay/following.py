"""A recording that another process is making, as a timeline in this one.

Its events are in the file as far as they have been written; up to which tick nothing else has happened the other
process says (shared_position.py). With what it says, `catch_up` takes in what the file has got since. What was seen at
the old end may have been changed since then, by a debugger's write there, and so is gone to anew.

Read next: live.py, which makes it.
"""

from __future__ import annotations

from pathlib import Path

from hostvm.units import Tick
from replay.bookmarks import Bookmarks
from replay.event_store import EventCursor, EventStore
from replay.log import TraceReader
from replay.passage import ROOM
from replay.session import start_of
from replay.stored_states import StoredStates
from replay.timeline import Timeline
from replay.trace_file import final_path


class FollowingTimeline(Timeline):
    """The history in `reader`, whose file grows. Raises as Timeline does."""

    def __init__(self, reader: TraceReader, room: int = ROOM) -> None:
        super().__init__(reader, room)
        self.bookmarks = Bookmarks(final_path(Path(reader.path)), reader.trace_id)
        self._known = (int(self.end_tick), len(self.store))

    def knows(self, end: int, events: int) -> bool:
        """Whether history is known up to there."""
        return (end, events) == self._known

    def catch_up(self, end: int, events: int) -> None:
        """Know history up to tick `end`, with so many events. Raises as TraceReader does."""
        path = Path(self.reader.path)
        reader = TraceReader(path if path.exists() else final_path(path))
        self.reader.close()
        self.reader = reader
        self.store = EventStore(reader, start_of(reader).entry)
        self.stored = StoredStates(reader, self.store)
        edge, self.end_tick = self.end_tick, Tick(max(end, self.first_tick))
        self._known = end, events
        self._go_anew(edge)

    def _go_anew(self, edge: Tick) -> None:
        """Forget what was at the old end."""
        self.generation += 1
        here, edge = self.tick, Tick(max(edge, self.first_tick + 1))
        if here >= edge:
            before = self.snapshots.at_or_before(Tick(edge - 1))
            assert before is not None
            self.snapshots.pinned = before.tick
            self._restore(before)
        else:
            self._cursor = EventCursor(self.store, self._cursor.position)
            self.machine.world = self._world()
        for snapshot in [each for each in self.snapshots if each.tick >= edge]:
            self.snapshots.drop(snapshot)
        self.run_to(Tick(min(here, self.end_tick)))


__all__ = ["FollowingTimeline"]
