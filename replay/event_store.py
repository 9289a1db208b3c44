"""The events of a trace for somebody who jumps about in them: any place at once, forwards and backwards.

Events are decoded a chunk at a time; the chunks last used are kept, together with where their hardware interrupts are,
which is what a machine asks for long before it gets there. A place between two events is a `Position`: the chunk, and
how many of its events lie before. Positions of one store are in order of time.

Read next: session.py (ReplayWorld, which answers from a cursor), timeline.py.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from hostvm.units import Tick
from replay.chunks import ChunkType
from replay.directory import Entry
from replay.events import DebuggerWrite, Event, HostInterrupt, Kind
from replay.layouts import LAYOUTS
from replay.log import TraceReader
from replay.world_time import FAR

CHUNKS_KEPT = 12
# What comes to the machine without its asking: it has to know of their ticks beforehand.
Unasked: TypeAlias = HostInterrupt | DebuggerWrite
UNASKED = (HostInterrupt, DebuggerWrite)
_KIND_OF = {layout.event: kind for kind, layout in LAYOUTS.items()}


class Position(NamedTuple):
    """Between two events: number of the chunk in the store, and how many events of it are past."""

    chunk: int
    at: int


@dataclass(frozen=True, slots=True)
class Decoded:
    """One chunk's events, and the indices of those among them for which nobody asks (UNASKED)."""

    events: tuple[Event, ...]
    interrupts: tuple[int, ...]


class EventStore:
    """The events of `reader`, from behind the checkpoint `start` if one is given.

    Raises (all methods): TraceError when damage is met.
    """

    def __init__(self, reader: TraceReader, start: Entry | None = None) -> None:
        self._reader = reader
        first = 0 if start is None else start.sequence
        chunks = [
            (rank, entry)
            for rank, entry in enumerate(reader.chunks)
            if entry.type == ChunkType.EVENTS and entry.sequence >= first
        ]
        self._ranks = [rank for rank, _ in chunks]
        self._entries = [entry for _, entry in chunks]
        self._lasts = [entry.last_tick for entry in self._entries]
        # Events are numbered from 0 in the whole trace, also where a checkpoint stands before this store.
        self.first_number = sum(
            entry.count
            for entry in reader.chunks
            if entry.type == ChunkType.EVENTS and entry.sequence < first
        )
        self._decoded: OrderedDict[int, Decoded] = OrderedDict()
        self._before = [0]
        for entry in self._entries:
            self._before.append(self._before[-1] + entry.count)

    def __len__(self) -> int:
        """Number of events."""
        return self._before[-1]

    @property
    def chunk_count(self) -> int:
        """Number of chunks."""
        return len(self._lasts)

    def chunk(self, number: int) -> Decoded:
        """The events of a chunk."""
        found = self._decoded.get(number)
        if found is not None:
            self._decoded.move_to_end(number)
            return found
        events = self._read(number)
        interrupts = tuple(i for i, event in enumerate(events) if type(event) in UNASKED)
        found = self._decoded[number] = Decoded(events, interrupts)
        if len(self._decoded) > CHUNKS_KEPT:
            self._decoded.popitem(last=False)
        return found

    def _read(self, number: int) -> tuple[Event, ...]:
        return tuple(self._reader.chunk_events(self._entries[number]))

    def last_tick_of(self, number: int) -> Tick:
        """Tick of a chunk's last event."""
        return self._lasts[number]

    def may_hold(self, number: int, kinds: frozenset[Kind]) -> bool:
        """Whether a chunk may hold events of these kinds; asks the index, which may not know."""
        known = self._reader.kinds_at(self._ranks[number])
        return known is None or any(kind in known for kind in kinds)

    # ---- places ---------------------------------------------------------------------------------

    def position_at(self, tick: Tick) -> Position:
        """The place before the first event of `tick` or later."""
        number = bisect_left(self._lasts, tick)
        if number == len(self._lasts):
            return Position(number, 0)
        events = self.chunk(number).events
        return Position(number, bisect_left(events, tick, key=lambda event: event.tick))

    def ordinal_of(self, position: Position) -> int:
        """How many events lie before a place."""
        return self._before[position.chunk] + position.at

    def position_of(self, ordinal: int) -> Position:
        """The place before event number `ordinal`; the first event is number 0."""
        number = max(0, bisect_left(self._before, ordinal + 1) - 1)
        return Position(number, ordinal - self._before[number])

    def event(self, ordinal: int) -> Event | None:
        """Event number `ordinal`, if there is one."""
        position = self.position_of(ordinal)
        if not ordinal >= 0 or position.chunk >= self.chunk_count:
            return None
        events = self.chunk(position.chunk).events
        return events[position.at] if position.at < len(events) else None

    # ---- searching ------------------------------------------------------------------------------

    def find_after(
        self, tick: Tick, wanted: Callable[[Event], bool], kinds: frozenset[Kind]
    ) -> Iterator[Event]:
        """Yield wanted events of ticks above `tick`, first one first. `kinds` are all those that can be wanted."""
        number, index = self.position_at(Tick(tick + 1))
        while number < self.chunk_count:
            if self.may_hold(number, kinds):
                yield from filter(wanted, self.chunk(number).events[index:])
            number, index = number + 1, 0

    def find_before(
        self, tick: Tick, wanted: Callable[[Event], bool], kinds: frozenset[Kind]
    ) -> Iterator[Event]:
        """Yield wanted events of ticks below `tick`, last one first."""
        number, index = self.position_at(tick)
        while number >= 0:
            if number < self.chunk_count and index and self.may_hold(number, kinds):
                yield from filter(wanted, reversed(self.chunk(number).events[:index]))
            number -= 1
            index = 1 << 62

    def interrupt_at(self, tick: Tick) -> bool:
        """Whether the step at `tick` is the delivery of a hardware interrupt."""
        return any(type(event) is HostInterrupt for event in self.events_at(tick))

    def events_at(self, tick: Tick) -> Iterator[Event]:
        """Yield the events of one tick, in order."""
        number, index = self.position_at(tick)
        while number < self.chunk_count:
            for event in self.chunk(number).events[index:]:
                if event.tick != tick:
                    return
                yield event
            number, index = number + 1, 0


_START = Position(0, 0)


class EventCursor:
    """Goes through a store from `start` on; `taken` events lie before the cursor, counted from `start`."""

    def __init__(self, store: EventStore, start: Position = _START) -> None:
        self._store = store
        self._chunk, self._at = start
        self._load()

    def _load(self) -> None:
        self._events: tuple[Event, ...] = ()
        self._interrupts: tuple[int, ...] = ()
        if self._chunk < self._store.chunk_count:
            decoded = self._store.chunk(self._chunk)
            self._events, self._interrupts = decoded.events, decoded.interrupts
        self._next = bisect_left(self._interrupts, self._at)
        self._behind: Unasked | None = None

    @property
    def position(self) -> Position:
        """Where the cursor stands."""
        return Position(self._chunk, self._at)

    @property
    def taken(self) -> int:
        """How many events of the store lie before the cursor."""
        return self._store.ordinal_of(self.position)

    def next(self) -> Event | None:
        """The next event, which stays where it is; None at the end."""
        while self._at >= len(self._events):
            if self._chunk >= self._store.chunk_count:
                return None
            self._chunk, self._at = self._chunk + 1, 0
            self._load()
        return self._events[self._at]

    def take(self) -> None:
        """Pass over the next event."""
        if self._next < len(self._interrupts) and self._interrupts[self._next] == self._at:
            self._next += 1
        self._at += 1

    def next_unasked(self) -> Unasked | None:
        """The next event for which nobody asks, if `free_until` came as far."""
        if self._next < len(self._interrupts):
            event = self._events[self._interrupts[self._next]]
            assert isinstance(event, UNASKED)
            return event
        return self._behind

    def free_until(self, tick: Tick) -> Tick:
        """A tick before which nothing comes unasked, and which is after `tick` unless something is there."""
        if self._next < len(self._interrupts):
            return self._events[self._interrupts[self._next]].tick
        if self._events and self._events[-1].tick > tick:
            return self._events[-1].tick
        return self._behind.tick if self._behind else self._look_behind(tick)

    def _look_behind(self, tick: Tick) -> Tick:
        """Look for an interrupt in the chunks to come, but not beyond one whose last tick is above `tick`."""
        store = self._store
        for number in range(self._chunk + 1, store.chunk_count):
            decoded = store.chunk(number)
            if decoded.interrupts:
                event = decoded.events[decoded.interrupts[0]]
                assert isinstance(event, UNASKED)
                self._behind = event
                return event.tick
            if store.last_tick_of(number) > tick:
                return store.last_tick_of(number)
        return FAR


def kind_of(event: Event) -> Kind:
    """The number under which an event stands in a file."""
    return Kind(_KIND_OF[type(event)])


__all__ = ["UNASKED", "Decoded", "EventCursor", "EventStore", "Position", "Unasked", "kind_of"]
