"""All events of a trace by kind and number, for strips of density and for questions such as "when next".

An event takes eleven bytes here: its tick, its kind, its Guest and a number (IRQ, vector or hypercall). The index grows
a chunk at a time, on the engine's thread while that has nothing else to do; until it is whole, answers are for the part
that is known, and `known_to` says how far that goes. A store may grow itself (a recording that is being made), and lose
its newest part again; then the index begins anew.

Read next: events_view.py, snapshot.py.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hostvm.observations import ConsoleOutput
from hostvm.units import Tick
from replay.event_store import EventStore, kind_of
from replay.events import DeviceCompletion, Event, Kind
from replay.frontier import BranchStore
from tui.values import Filter

CONSOLE_KEPT = 4 << 20
_NONE = 255
_DENSITIES_KEPT = 64
_INTERRUPTS = frozenset({Kind.HOST_INTERRUPT, Kind.HOST_WOKEN, Kind.HOST_TURN_INTERRUPT})


@dataclass(frozen=True, slots=True)
class Lane:
    """A row of the timeline: a name and the kinds that belong to it."""

    name: str
    kinds: frozenset[Kind]


LANES = (
    Lane("host int", _INTERRUPTS),
    Lane("raised", frozenset({Kind.IRQ_RAISED})),
    Lane("delivered", frozenset({Kind.IRQ_DELIVERED})),
    Lane("traps", frozenset({Kind.TRAP_REFLECTED, Kind.DIRECT_TRAPS})),
    Lane("hypercalls", frozenset({Kind.HYPERCALL})),
    Lane("console", frozenset({Kind.CONSOLE_OUTPUT, Kind.CONSOLE_INPUT})),
    Lane("guests", frozenset({Kind.GUEST_ENDED, Kind.GUEST_RESTARTED})),
)
# A switch into the Guest follows each of these; the log has no event of its own for it.
SWITCHES = Lane(
    "switches",
    _INTERRUPTS | {Kind.TRAP_REFLECTED, Kind.IRQ_DELIVERED, Kind.HYPERCALL},
)


def number_of(event: Event) -> int:
    """IRQ, vector or number of a hypercall; 255 where there is none."""
    if isinstance(event, DeviceCompletion):
        return _NONE
    for name in ("irq", "vector", "number"):
        value = getattr(event, name, None)
        if value is not None:
            return int(value) if value < _NONE else _NONE
    return _NONE


def guest_of(event: Event) -> int:
    """The Guest that an event is of; 0 where it is of none."""
    guest = getattr(event, "guest", 0)
    return int(guest) if guest < _NONE else _NONE


class _Console:
    """What one Guest has written, as far as there is room."""

    def __init__(self) -> None:
        self._ticks: list[int] = []
        self._ends: list[int] = []
        self._data = bytearray()

    def add(self, event: ConsoleOutput) -> None:
        if len(self._data) < CONSOLE_KEPT:
            self._data += event.data
            self._ticks.append(event.tick)
            self._ends.append(len(self._data))

    def until(self, tick: int) -> _Console:
        """What had been written when `tick` came."""
        new = _Console()
        at = bisect_left(self._ticks, tick)
        new._ticks, new._ends = self._ticks[:at], self._ends[:at]
        new._data = self._data[: self._ends[at - 1] if at else 0]
        return new

    def before(self, tick: int, count: int) -> bytes:
        at = bisect_left(self._ticks, tick)
        end = self._ends[at - 1] if at else 0
        return bytes(self._data[max(0, end - count) : end])


class EventIndex:
    """Grows over the events of a store. Everything here is for the engine's thread."""

    def __init__(self, store: EventStore) -> None:
        self.store = store
        """May be exchanged for one that goes on behind the same events."""
        self.ends_here = False
        """Set where damage is met: the index does not grow any more."""
        self._begin()

    def branched(self, store: BranchStore, tick: int) -> EventIndex:
        """An index of the events of a branch that begins at `tick`, with all in it already that is known here."""
        new = EventIndex(store)
        count = min(len(self), store.branched_at)
        new._ticks = self._ticks[:count]
        new._kinds, new._numbers = self._kinds[:count], self._numbers[:count]
        new._guests = self._guests[:count]
        until = min(tick, new.known_to + 1)
        new._by_number = {
            key: ticks[: bisect_left(ticks, until)] for key, ticks in self._by_number.items()
        }
        new._consoles = {guest: each.until(until) for guest, each in self._consoles.items()}
        return new

    def _begin(self) -> None:
        self._ticks = array("Q")
        self._kinds = bytearray()
        self._numbers = bytearray()
        self._guests = bytearray()
        self._by_number: dict[tuple[Kind, int, int], array[int]] = {}
        self._consoles: dict[int, _Console] = {}
        self._densities: dict[tuple[Lane, int, int, int], tuple[int, ...]] = {}
        self._matching: tuple[Filter, int, npt.NDArray[np.int64]] | None = None

    def __len__(self) -> int:
        return len(self._ticks)

    @property
    def whole(self) -> bool:
        """Whether all events are in it."""
        return self.ends_here or (len(self) == len(self.store) and self._agrees())

    def _agrees(self) -> bool:
        """Whether the newest event here is the store's still."""
        last = self.store.event(len(self) - 1) if len(self) else None
        return last is None or last.tick == self._ticks[-1]

    @property
    def known_to(self) -> int:
        """The tick up to which all events are known."""
        return self._ticks[-1] if self._ticks else 0

    def grow(self) -> None:
        """Take in one more chunk."""
        if self.ends_here:
            return
        if len(self) > len(self.store) or not self._agrees():
            self._begin()
        if self.whole:
            return
        chunk, at = self.store.position_of(len(self))
        for event in self.store.chunk(chunk).events[at:]:
            self._add(event)
        self._densities.clear()

    def _add(self, event: Event) -> None:
        kind, number, guest = kind_of(event), number_of(event), guest_of(event)
        if kind in (Kind.IRQ_RAISED, Kind.IRQ_DELIVERED):
            self._by_number.setdefault((kind, number, guest), array("Q")).append(event.tick)
        self._ticks.append(event.tick)
        self._kinds.append(kind)
        self._numbers.append(number)
        self._guests.append(guest)
        if isinstance(event, ConsoleOutput):
            self._consoles.setdefault(guest, _Console()).add(event)

    # ---- questions --------------------------------------------------------------------------------

    def around(
        self, kind: Kind, number: int, tick: int, guest: int = 0
    ) -> tuple[int | None, int | None]:
        """Ticks of a Guest's last such event before `tick`, and of the first from it on."""
        ticks = self._by_number.get((kind, number, guest))
        if not ticks:
            return None, None
        at = bisect_left(ticks, tick)
        return ticks[at - 1] if at else None, ticks[at] if at < len(ticks) else None

    def console_before(self, tick: int, count: int, guest: int = 0) -> bytes:
        """The last `count` bytes of what a Guest had written to its console when `tick` came."""
        console = self._consoles.get(guest)
        return b"" if console is None else console.before(tick, count)

    def ordinal_at(self, tick: int) -> int:
        """How many known events lie before `tick`."""
        return bisect_left(self._ticks, tick)

    def density(self, lane: Lane, first: int, last: int, columns: int) -> tuple[int, ...]:
        """Events of a lane in each of `columns` equal parts of the ticks first..last."""
        wanted = lane, first, last, columns
        if len(self._densities) > _DENSITIES_KEPT:
            self._densities.clear()
        if wanted not in self._densities:
            self._densities[wanted] = self._density(lane, first, last, columns)
        return self._densities[wanted]

    def _density(self, lane: Lane, first: int, last: int, columns: int) -> tuple[int, ...]:
        if not self._ticks or columns < 1:
            return (0,) * max(columns, 0)
        ticks = np.frombuffer(self._ticks, dtype=np.uint64)
        begin, end = bisect_left(self._ticks, first), bisect_left(self._ticks, last + 1)
        kinds = np.frombuffer(self._kinds, dtype=np.uint8)[begin:end]
        wanted = ticks[begin:end][_is_any(kinds, lane.kinds)]
        span = max(1, last + 1 - first)
        places = (wanted - np.uint64(first)).astype(np.int64) * columns // span
        return tuple(np.bincount(places, minlength=columns)[:columns].tolist())

    def matching(self, wanted: Filter) -> npt.NDArray[np.int64]:
        """Ordinals of the known events that a filter lets through."""
        known = self._matching
        if known is not None and known[:2] == (wanted, len(self)):
            return known[2]
        found = _is_any(np.frombuffer(bytes(self._kinds), dtype=np.uint8), wanted.kinds)
        for column, value in ((self._numbers, wanted.number), (self._guests, wanted.guest)):
            if value is not None:
                found &= np.frombuffer(bytes(column), dtype=np.uint8) == value
        ordinals = np.flatnonzero(found).astype(np.int64)
        self._matching = wanted, len(self), ordinals
        return ordinals

    def tick_of(self, ordinal: int) -> Tick:
        """Tick of a known event."""
        return Tick(self._ticks[ordinal])


def _is_any(kinds: npt.NDArray[np.uint8], wanted: Iterable[Kind]) -> npt.NDArray[np.bool_]:
    table = np.zeros(256, dtype=np.bool_)
    table[[int(kind) for kind in wanted]] = True
    found: npt.NDArray[np.bool_] = table[kinds]
    return found


__all__ = ["LANES", "SWITCHES", "EventIndex", "Lane", "guest_of", "number_of"]
