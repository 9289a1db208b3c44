"""The growing end of a history: a log that begins as another's, and the machine that makes more of it.

A World cannot go back, and so the machine in it does not either: it stands at the newest moment, whatever the timeline
that looks at its history does. What it makes comes in pieces; a piece that is broken off in the middle of a step, by ^C
for instance, is forgotten, and no more can be made then.

Read next: growing.py, branch.py.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from itertools import takewhile

from hostvm.machine import Machine
from hostvm.units import Tick
from hostvm.world import World
from replay.edited_world import BadEdit
from replay.event_store import EventStore, Position
from replay.events import Event, Kind
from replay.recording import RecordingWorld
from replay.session import start_of
from replay.timeline import Timeline
from replay.virtual_world import VirtualWorld

CHUNK = 4096
PIECE = 1 << 20


# ---- the log of a branch ---------------------------------------------------------------------------


class BranchStore(EventStore):
    """A parent's events up to a place, and then one's own, which are appended."""

    def __init__(self, parent: EventStore, until: Position) -> None:
        self._parent, self._until = parent, until
        self.first_number = parent.first_number
        shared = until.chunk + (until.at > 0)
        self._shared = shared
        self._lasts = [parent.last_tick_of(number) for number in range(until.chunk)]
        starts = [parent.ordinal_of(Position(number, 0)) for number in range(until.chunk + 1)]
        self._before = starts
        if until.at:
            self._lasts.append(parent.chunk(until.chunk).events[until.at - 1].tick)
            self._before.append(parent.ordinal_of(until))
        self._own: list[list[Event]] = []
        self._decoded = OrderedDict()

    @property
    def branched_at(self) -> int:
        """How many events are the parent's."""
        return self._before[self._shared]

    def append(self, event: Event) -> None:
        """Add an event to the end."""
        if not self._own or len(self._own[-1]) >= CHUNK:
            self.begin_chunk()
        if not self._own[-1]:
            self._lasts.append(event.tick)
            self._before.append(self._before[-1])
        self._own[-1].append(event)
        self._lasts[-1] = event.tick
        self._before[-1] += 1
        self._decoded.pop(self._shared + len(self._own) - 1, None)

    def begin_chunk(self) -> None:
        """What is appended from now on does not come into chunks that somebody has seen."""
        if not self._own or self._own[-1]:
            self._own.append([])

    def cut(self, count: int) -> None:
        """Forget all but the first `count` events; what is appended next must come behind a `begin_chunk`."""
        if self._own and not self._own[-1]:
            self._own.pop()
        while len(self) > count:
            chunk = self._own[-1]
            del chunk[max(0, len(chunk) - (len(self) - count)) :]
            self._decoded.pop(len(self._lasts) - 1, None)
            self._before.pop()
            self._lasts.pop()
            if chunk:
                self._lasts.append(chunk[-1].tick)
                self._before.append(self._before[-1] + len(chunk))
            else:
                self._own.pop()

    def _read(self, number: int) -> tuple[Event, ...]:
        if number >= self._shared:
            return tuple(self._own[number - self._shared])
        events = self._parent.chunk(number).events
        return events[: self._until.at] if number == self._until.chunk else events

    def may_hold(self, number: int, kinds: frozenset[Kind]) -> bool:
        """Whether a chunk may hold events of these kinds."""
        return number >= self._shared or self._parent.may_hold(number, kinds)

    def own_events(self) -> Iterator[Event]:
        """The events that are not the parent's."""
        return (event for chunk in self._own for event in chunk)

    def own_events_since(self, tick: Tick) -> Iterator[Event]:
        """Those of `tick` or later, last one first."""
        events = (event for chunk in reversed(self._own) for event in reversed(chunk))
        return takewhile(lambda event: event.tick >= tick, events)


def events_from(store: EventStore, start: Position) -> Iterator[Event]:
    """All events behind a place."""
    number, at = start
    while number < store.chunk_count:
        yield from store.chunk(number).events[at:]
        number, at = number + 1, 0


# ---- the frontier ----------------------------------------------------------------------------------


class Frontier:
    """`machine`, at the newest moment, and the log into which its World, `world`, is recorded."""

    def __init__(self, machine: Machine, world: World, store: BranchStore) -> None:
        self.machine = machine
        self.world = world
        self.store = store
        self._broken = False

    @property
    def tick(self) -> Tick:
        """How far history is made."""
        return self._tick if self._broken else self.machine.tick

    @property
    def open(self) -> bool:
        """Whether more can be made."""
        return not (self._broken or self.machine.finished)

    def extend(self, until: int) -> Iterator[Tick]:
        """Make history up to `until`; yield the tick after each piece. Raises BadEdit for one of a later tick."""
        while self.open and self.machine.tick < until:
            self.store.begin_chunk()
            self._piece(Tick(min(until, self.machine.tick + PIECE)))
            yield self.machine.tick

    def _piece(self, until: Tick) -> None:
        self._tick, count = self.machine.tick, len(self.store)
        # Whatever breaks it off in the middle of a step, ^C for instance, leaves a machine of no further use.
        self._broken = True
        try:
            self.machine.run(until)
            self._broken = False
        except BadEdit:
            self._broken = False
            raise
        finally:
            if self._broken:
                self.store.cut(count)


def frontier_of(parent: Timeline, world: World) -> Frontier:
    """A machine that goes on from where `parent` stands, in `world`. Raises BadEdit, for an edit of its first tick."""
    store = BranchStore(parent.store, parent.position)
    # What a machine asks at power-on is not in this part of the history.
    machine = Machine(start_of(parent.reader).config, VirtualWorld())
    machine.restore(parent.machine.state())
    recording = RecordingWorld(world)
    recording.attach(store.append)
    machine.world = recording
    machine.make_edits()
    return Frontier(machine, world, store)


__all__ = ["BranchStore", "Frontier", "events_from", "frontier_of"]
