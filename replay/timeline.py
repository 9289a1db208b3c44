"""The timeline: a trace as a place to be in. Seek, step, resume, in both directions, exactly.

What it takes to be at a tick stands in passage.py, what it takes to find one in search.py; here is what a user of
history does with them.

A move that is cancelled, or that ends in an error, leaves the cursor where it was.

Read next: moves.py for the units of stepping, provenance.py. Source of the shape: rr's ReplayTimeline.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from os import PathLike
from typing import TYPE_CHECKING, Self

from hostvm.cpu_state import CpuState
from hostvm.edits import Edit
from hostvm.units import Tick
from replay.bookmarks import Bookmarks
from replay.device_answers import NO_DISKS, Disks
from replay.event_store import EventStore
from replay.events import Event
from replay.locations import Location
from replay.log import TraceReader
from replay.look import CURRENT, Space
from replay.moves import Unit, step
from replay.passage import ROOM, Broken
from replay.predicate import evaluate, parse
from replay.provenance import Write, last_write, next_write
from replay.search import Search, Stops
from replay.stops import (
    Arrival,
    Cancelled,
    HistoryEnd,
    HistoryStart,
    Predicate,
    Reason,
    Stepped,
)
from replay.symbols import Symbols
from replay.where import tick_of
from replay.whynot import Obstacle, whynot

if TYPE_CHECKING:
    from replay.branch import Branch


class Interrupted(Exception):
    """A search was cancelled; the position is where it was."""


class Timeline(Search):
    """The history in `reader`, with a cursor. `room` bounds the memory that snapshots take, in bytes.

    `store`: the events, where they are not simply the reader's (branch.py).

    One thread moves it; `cancel` may be called from any. Raises as Session does, and the same from every move:
    Divergence where the replay differs from the trace, TraceError where damage is met.
    """

    def __init__(
        self, reader: TraceReader, room: int = ROOM, store: EventStore | None = None
    ) -> None:
        super().__init__(reader, room, store)
        self.generation = 0
        self.symbols = Symbols(self.machine)
        self.names_of: int | None = None
        """The Guest whose kernel's symbols expressions mean; None: the one that runs."""
        self.bookmarks = Bookmarks(reader.path, reader.trace_id)

    def close(self) -> None:
        """Close the trace."""
        self.reader.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ---- looking --------------------------------------------------------------------------------

    @property
    def cpu(self) -> CpuState:
        """The registers."""
        return self.look.cpu

    def read(self, address: int, count: int, space: Space = CURRENT) -> bytes:
        """Up to `count` bytes at an address of a space; fewer where it is not mapped."""
        return self.look.read(address, count, space)

    # ---- moving ---------------------------------------------------------------------------------

    def seek(self, where: int | str) -> Arrival:
        """Be at a tick, or where words say (where.py). Raises BadPlace."""
        return self.go(where if isinstance(where, int) else tick_of(self, where))

    def go(self, tick: int) -> Arrival:
        """Be at a tick; beyond an edge of history one stays at the edge."""
        goal = Tick(min(max(tick, self.first_tick), self.end_tick))
        with self.moving() as move:
            self.run_to(goal)
            move.append(self._arrival(self._edge(tick)))
        return move[0]

    def resume(self, *, backwards: bool = False, limit: int | None = None) -> Arrival:
        """Go to the next stop, or to the edge of history, or to `limit`, whichever comes first."""
        return self.resume_with(tuple(self.stops), backwards=backwards, limit=limit)

    def resume_with(self, stops: Stops, *, backwards: bool, limit: int | None = None) -> Arrival:
        """As `resume`, for these stops instead of those in the table."""
        with self.moving() as move:
            move.append(self.search(stops, backwards=backwards, limit=limit))
        return move[0]

    def step(self, unit: Unit, *, backwards: bool = False, count: int = 1) -> Arrival:
        """Make `count` steps of a unit (moves.py); ends early at an edge, and where a stop says so."""
        with self.moving() as move:
            for _ in range(count):
                move[:] = [step(self, unit, backwards=backwards)]
                if any(not isinstance(reason, Stepped) for reason in move[0].reasons):
                    break
        return move[0]

    @contextmanager
    def moving(self) -> Iterator[list[Arrival]]:
        """Around each move: undo it if it is cancelled or fails. The body puts the outcome into the list."""
        outcome: list[Arrival] = []
        origin = self.tick
        self.generation += 1
        self.snapshots.pinned = origin
        self.keep_here()
        arrived = False
        try:
            yield outcome
            arrived = True
        except Broken:
            outcome[:] = [Arrival(origin, (Cancelled(),))]
        finally:
            self._cancelled = False
            self._quiet()
            if not arrived:
                self._restore_at(origin)

    @contextmanager
    def excursion(self) -> Iterator[None]:
        """Move about and come back, whatever happens. Raises Interrupted when cancelled."""
        origin = self.tick
        self.snapshots.pinned = origin
        self.keep_here()
        try:
            yield
        except Broken as broken:
            raise Interrupted from broken
        finally:
            self._cancelled = False
            self._quiet()
            self._restore_at(origin)

    def _edge(self, wanted: int) -> tuple[Reason, ...]:
        if wanted > self.end_tick:
            return (HistoryEnd(),)
        return (HistoryStart(),) if wanted < self.first_tick else ()

    def branch(
        self,
        edits: Iterable[Edit] = (),
        *,
        events: Iterable[Event] | None = None,
        seed: int = 0,
        disks: Disks = NO_DISKS,
    ) -> Branch:
        """A child timeline that leaves this history here, with edits (branch.py). Raises BadEdit."""
        # Branches are timelines.
        from replay.branch import branch  # noqa: PLC0415

        return branch(self, edits, events=events, seed=seed, disks=disks)

    # ---- asking -----------------------------------------------------------------------------------

    def last_write(self, location: Location) -> Write | None:
        """Who changed a location last before the cursor (provenance.py). Raises NoSuchLocation, Interrupted."""
        return last_write(self, location)

    def next_write(self, location: Location) -> Write | None:
        """Who changes a location next, from the cursor on. Raises NoSuchLocation, Interrupted."""
        return next_write(self, location)

    def whynot(self, irq: int, guest: int = 0) -> tuple[Obstacle, ...]:
        """Why a virtual interrupt is not being delivered here (whynot.py). Raises ValueError, Interrupted."""
        return whynot(self, irq, guest)

    def predicate(self, text: str) -> Predicate:
        """A stop for when an expression becomes true (predicate.py). Raises BadPredicate."""
        guest = self.look.guest.lguest
        return parse(text, self.address_of, (guest.noirq_start, guest.noirq_end))

    def evaluate(self, text: str) -> int:
        """The value of such an expression here. Raises BadPredicate."""
        return evaluate(text, self.look, self.address_of)

    def address(self, text: str) -> int:
        """A linear address: a number or a symbol. Raises BadPredicate."""
        return self.evaluate(text) & 0xFFFFFFFF

    def address_of(self, name: str) -> int | None:
        """Linear address of a symbol, if there is one."""
        guest = self.look.guest.number if self.names_of is None else self.names_of
        return self.symbols.address_of(name, guest)


def open_timeline(
    path: str | PathLike[str],
    room: int = ROOM,
    *,
    at: int | str | None = None,
    salvage: bool = False,
) -> Timeline:
    """The timeline of the trace at `path`, at a place: where the trace wants to be opened, or at its beginning.

    Raises: TraceError, TraceMismatch, ConfigurationError; BadPlace; Divergence on the way to that place.
    """
    reader = TraceReader(path, salvage=salvage)
    opened = False
    try:
        timeline = Timeline(reader, room)
        where = reader.opens_at if at is None else at
        if where is not None:
            timeline.seek(where)
        opened = True
    finally:
        if not opened:
            reader.close()
    return timeline


__all__ = ["ROOM", "Interrupted", "Timeline", "open_timeline"]
