"""Resuming: to the next stop, or back to the last one, whatever finds it.

The log answers for event stops, and so bounds what has to be run through for the others. Forwards a scan (scan.py) ends
at its first hit. Backwards the last hit before the cursor is wanted, and a machine only runs forward: so the stretch
just before the cursor is run through first, then longer and longer ones before it, then those from snapshot to
snapshot; in each all hits are noted, and the last one counts.

Read next: timeline.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeAlias

from hostvm.units import Tick
from replay.event_store import EventStore
from replay.events import Event
from replay.log import TraceReader
from replay.passage import ROOM, Passage
from replay.places import fixed
from replay.scan import Hit, meets
from replay.stops import (
    Arrival,
    Breakpoint,
    BreakpointHit,
    EventMet,
    EventStop,
    HistoryEnd,
    HistoryStart,
    Reason,
    Stop,
    StopTable,
    Watchpoint,
)

Stops: TypeAlias = tuple[tuple[int, Stop], ...]
_WINDOWS = (1_024, 32_768, 1_048_576)


class Search(Passage):
    """A passage that knows stops. Who searches is `moving` already (timeline.py)."""

    def __init__(
        self, reader: TraceReader, room: int = ROOM, store: EventStore | None = None
    ) -> None:
        super().__init__(reader, room, store)
        self.stops = StopTable()

    def search(self, stops: Stops, *, backwards: bool, limit: int | None = None) -> Arrival:
        """Go to the next of these stops, to `limit` or to the edge of history, whichever comes first."""
        seek = self._backward if backwards else self._forward
        return seek(stops, limit)

    # ---- resuming forwards ----------------------------------------------------------------------

    def _forward(self, stops: Stops, limit: int | None) -> Arrival:
        end = self.end_tick if limit is None else Tick(max(self.tick, min(limit, self.end_tick)))
        event = self._first_event(stops, end)
        goal = min(end, event)
        scan = self.scan(stops, backwards=False)
        if scan.needs_running:
            self.run_scan(scan, goal)
        if scan.hits:
            here = min(tick for tick, _ in scan.hits)
            self._stand_at(here)
            reasons = tuple(reason for tick, reason in scan.hits if tick == here)
            return self._arrival(reasons, stops)
        self._quiet()
        self.run_to(goal)
        ended = goal == self.end_tick and event > goal and limit is None
        return self._arrival((HistoryEnd(),) if ended else (), stops)

    def _first_event(self, stops: Iterable[tuple[int, Stop]], end: Tick) -> Tick:
        """Tick of the first event behind the cursor that a stop wants; beyond `end` if there is none up to there."""
        first = Tick(end + 1)
        for _, stop in stops:
            if isinstance(stop, EventStop):
                event = next(self.store.find_after(self.tick, stop.wants, stop.kinds), None)
                first = min(first, event.tick) if event is not None else first
        return first

    def _stand_at(self, tick: Tick) -> None:
        """A probe stopped the machine at `tick`, or just behind it: make it stand there in full knowledge."""
        self._quiet()
        if self.tick == tick and not self._continues_unknown():
            self._continues = False
            return
        self._seek_quietly(Tick(tick - 1))
        self._arrive(tick)

    # ---- resuming backwards ---------------------------------------------------------------------

    def _backward(self, stops: Stops, limit: int | None) -> Arrival:
        begin = self.first_tick if limit is None else Tick(max(self.first_tick, limit))
        event = self._last_event(stops, begin)
        floor = Tick(max(begin, event))
        scan = self.scan(stops, backwards=True)
        found = self._search_back(stops, floor) if scan.needs_running else []
        self._quiet()
        if found:
            here = max(tick for tick, _ in found)
            self.run_to(here)
            return self._arrival([reason for tick, reason in found if tick == here], stops)
        self.run_to(floor)
        ended = limit is None and event < begin
        return self._arrival((HistoryStart(),) if ended else (), stops)

    def _last_event(self, stops: Iterable[tuple[int, Stop]], begin: Tick) -> int:
        last = begin - 1
        for _, stop in stops:
            if isinstance(stop, EventStop):
                event = next(self.store.find_before(self.tick, stop.wants, stop.kinds), None)
                last = max(last, event.tick) if event is not None else last
        return last

    def _search_back(self, stops: Stops, floor: Tick) -> list[Hit]:
        """The hits of the last stretch that has any, down to `floor`."""
        for hits in self.scan_back(stops, floor):
            found = [hit for hit in hits if hit[0] >= floor]
            if found:
                return found
        return []

    def scan_back(self, stops: Stops, floor: Tick | None = None) -> Iterator[list[Hit]]:
        """Scan stretch after stretch, the last before the cursor first; yield the hits of each, in order of time.

        It leaves the machine somewhere in history: whoever uses this goes to a tick with `return_to` or `run_to`.
        """
        stops = self._pinned(stops)
        end = self.tick
        true_at_end = self.scan(stops, backwards=True).predicates_true()
        for begin in self._stretches(self.first_tick if floor is None else floor):
            self._seek_quietly(begin)
            scan = self.scan(stops, backwards=True)
            self.run_scan(scan, end)
            true_at_end = scan.finish(end, true_at_end)
            yield scan.hits
            end = begin

    def return_to(self, tick: Tick) -> None:
        """Go to `tick` after a scan."""
        self._quiet()
        self.run_to(tick)

    def _pinned(self, stops: Iterable[tuple[int, Stop]]) -> Stops:
        """Places in the space of the moment mean the space of the cursor, wherever the scan goes."""
        return tuple((number, self._pin(stop)) for number, stop in stops)

    def _pin(self, stop: Stop) -> Stop:
        if isinstance(stop, Watchpoint):
            return Watchpoint(fixed(stop.place, self.look), stop.touch, stop.condition)
        return stop

    def _stretches(self, floor: Tick) -> Iterator[Tick]:
        """Where the stretches to scan begin, last one first; from then on, from snapshot to snapshot."""
        origin = begin = self.tick
        for window in _WINDOWS:
            if begin > floor:
                begin = Tick(max(floor, origin - window))
                yield begin
        while begin > floor:
            snapshot = self.snapshots.at_or_before(Tick(begin - 1))
            assert snapshot is not None
            begin = max(floor, snapshot.tick, self.stored.before(begin - 1) or floor)
            yield begin

    # ---- arriving -------------------------------------------------------------------------------

    def _arrival(
        self, reasons: Iterable[Reason], stops: Iterable[tuple[int, Stop]] | None = None
    ) -> Arrival:
        """Where we are, with all reasons: those known, and those that show only now."""
        known = tuple(reasons)
        more = self.reasons_here(tuple(self.stops) if stops is None else stops)
        return Arrival(self.tick, known + tuple(r for r in more if r not in known))

    def reasons_here(self, stops: Iterable[tuple[int, Stop]]) -> Iterator[Reason]:
        """Stops that are met by standing here: breakpoints, and events of the step at hand."""
        for number, stop in stops:
            match stop:
                case Breakpoint(address) if address == self.machine.cpu.eip and self.begins:
                    if meets(stop, self.look):
                        yield BreakpointHit(number)
                case EventStop():
                    here = filter(stop.wants, self.events_at(self.tick))
                    yield from (EventMet(number, event) for event in here)

    def events_at(self, tick: Tick) -> Iterator[Event]:
        """What the log says of the step at `tick`."""
        return self.store.events_at(tick)


__all__ = ["Search", "Stops"]
