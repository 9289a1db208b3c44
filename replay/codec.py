"""Events to bytes and back, after the table in layouts.py.

An event is one msgpack array

    [kind, tick - tick of the event before, fields in the table's order ...]

in which fields at the end that equal their default are left out; the Guest's number is the last field of every kind,
so a single Guest costs nothing. Clock and TSC readings are differences to the reading before. All such memory begins
anew with each chunk, hence any chunk can be decoded without the ones before it.

Writing is on the recorder's fast path: every kind gets its own closure, made once from the table, and kinds that
consist of small numbers only are checked and fetched without a loop in Python.

Nothing that comes in is believed: types, ranges, lengths, order of ticks and number of events are checked here, and
what does not hold is a TraceFormatError. Read next: packings.py for the fields, chunks.py for what surrounds them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Any, TypeAlias

from hostvm.units import Tick
from replay import events as ev
from replay import packings as p
from replay.errors import Place
from replay.events import Event, Kind
from replay.layouts import LAYOUTS, Layout
from replay.wire import Row, RowPacker, unpack_rows

START = Tick(0)
MASK_64 = (1 << 64) - 1
MAX_TICK = (1 << 63) - 1


# Writing.

Differences: TypeAlias = dict[int, int]
_ToWire: TypeAlias = Callable[[Any, Differences], tuple[object, ...]]


def _misfit_of_ours(layout: Layout, event: object) -> ValueError:
    return ValueError(f"{event!r:.200} does not fit the layout of {layout.kind.name}")


def _names_to_wire(layout: Layout) -> attrgetter[tuple[Any, ...]]:
    return attrgetter(*(field.name for field in layout.fields))


def _numbers_to_wire(layout: Layout, limits: tuple[int, ...]) -> _ToWire:
    get = _names_to_wire(layout)

    def to_wire(event: Any, _: Differences) -> tuple[object, ...]:
        values = get(event)
        for value, limit in zip(values, limits, strict=True):
            if not 0 <= value <= limit:
                raise _misfit_of_ours(layout, event)
        return values if values[-1] else values[:-1]

    return to_wire


def _difference_to_wire(layout: Layout, limits: tuple[int, ...]) -> _ToWire:
    get = _names_to_wire(layout)
    kind = int(layout.kind)
    value_limit, guest_limit = limits

    def to_wire(event: Any, last: Differences) -> tuple[object, ...]:
        value, guest = get(event)
        if not (0 <= value <= value_limit and 0 <= guest <= guest_limit):
            raise _misfit_of_ours(layout, event)
        difference = (value - last.get(kind, 0)) & MASK_64
        last[kind] = value
        return (difference, guest) if guest else (difference,)

    return to_wire


def _any_to_wire(layout: Layout) -> _ToWire:
    get = _names_to_wire(layout)
    packers = tuple(field.packing.to_wire for field in layout.fields)
    defaults = tuple(field.default for field in layout.fields)

    def to_wire(event: Any, _: Differences) -> tuple[object, ...]:
        values = get(event)
        try:
            wire = [pack(value) for pack, value in zip(packers, values, strict=True)]
        except (ValueError, TypeError) as error:
            raise _misfit_of_ours(layout, event) from error
        while wire and values[len(wire) - 1] == defaults[len(wire) - 1]:
            wire.pop()
        return tuple(wire)

    return to_wire


def _agreeing_to_wire(layout: Layout, agrees: Callable[[Any], bool]) -> _ToWire:
    inner = _to_wire(replace(layout, agrees=None))

    def to_wire(event: Any, last: Differences) -> tuple[object, ...]:
        if not agrees(event):
            raise _misfit_of_ours(layout, event)
        return inner(event, last)

    return to_wire


def _to_wire(layout: Layout) -> _ToWire:
    if layout.agrees is not None:
        return _agreeing_to_wire(layout, layout.agrees)
    if layout.limits is None:
        return _any_to_wire(layout)
    if layout.is_difference:
        return _difference_to_wire(layout, layout.limits)
    return _numbers_to_wire(layout, layout.limits)


_TO_WIRE = {layout.event: (int(kind), _to_wire(layout)) for kind, layout in LAYOUTS.items()}


@dataclass(frozen=True, slots=True)
class EncodedEvents:
    """The payload of one chunk and what its header and the index say about it."""

    raw: bytes
    first_tick: Tick
    last_tick: Tick
    kinds: Mapping[int, int]

    @property
    def count(self) -> int:
        """Number of events."""
        return sum(self.kinds.values())


class EventEncoder:
    """Collects the events of one chunk; `size` is the length of its payload so far."""

    def __init__(self, last_tick: Tick = START) -> None:
        self._pack = RowPacker().pack
        self._raw = bytearray()
        self._kinds = bytearray()
        self._differences: Differences = {}
        self._first_tick = self._tick = last_tick

    @property
    def size(self) -> int:
        """Bytes collected."""
        return len(self._raw)

    def add(self, event: Event) -> int:
        """Append one event and return the size reached.

        Raises: ValueError when a field is out of range or time would go back; then nothing was appended.
        """
        kind, to_wire = _TO_WIRE[type(event)]
        tick = event.tick
        step = tick - self._tick
        if step < 0 or tick > MAX_TICK:
            raise ValueError(f"{event!r:.200} after tick {self._tick}")
        if not self._kinds:
            self._first_tick = tick
            step = 0
        row = self._pack((kind, step, *to_wire(event, self._differences)))
        # The call comes last: an interrupt from the keyboard arrives behind calls, and must find all of it or nothing.
        self._raw += row
        self._tick = tick
        self._kinds.append(kind)
        return len(self._raw)

    def advance(self, tick: Tick) -> None:
        """Demand that what follows is not before `tick`.

        Raises: ValueError when something later has been added.
        """
        if not self._tick <= tick <= MAX_TICK:
            raise ValueError(f"tick {tick} after tick {self._tick}")
        assert not self._kinds, "a chunk has been begun"
        self._tick = tick

    def take(self) -> EncodedEvents | None:
        """Hand over what was collected and begin a chunk; None when there is nothing."""
        if not self._kinds:
            return None
        encoded = EncodedEvents(
            bytes(self._raw), self._first_tick, self._tick, Counter(self._kinds)
        )
        self._raw.clear()
        self._kinds.clear()
        self._differences.clear()
        return encoded


# Reading.

_FromWire: TypeAlias = Callable[[Tick, Row, Differences], Event]


def _filled(layout: Layout, wire: Row) -> Row:
    """Put back the fields left out at the end."""
    required, whole = layout.required, len(layout.fields)
    if not required <= len(wire) <= whole:
        raise p.Misfit(f"{len(wire)} fields where {required} to {whole} belong")
    return wire + tuple(field.default for field in layout.fields[len(wire) :])


def _numbers_from_wire(layout: Layout, limits: tuple[int, ...]) -> _FromWire:
    make: Any = layout.event
    whole = len(limits)

    def from_wire(tick: Tick, wire: Any, _: Differences) -> Event:
        if len(wire) == whole - 1:
            wire = (*wire, 0)
        elif len(wire) != whole:
            wire = _filled(layout, wire)
        for value, limit in zip(wire, limits, strict=True):
            if type(value) is not int or not 0 <= value <= limit:
                raise p.Misfit(f"{value!r:.40} is not in 0..{limit}")
        event: Event = make(tick, wire[-1], *wire[:-1])
        return event

    return from_wire


def _difference_from_wire(layout: Layout, limits: tuple[int, ...]) -> _FromWire:
    make: Any = layout.event
    kind = int(layout.kind)
    value_limit, guest_limit = limits

    def from_wire(tick: Tick, wire: Any, last: Differences) -> Event:
        step, guest = (wire[0], 0) if len(wire) == 1 else _filled(layout, wire)
        if type(step) is not int or not 0 <= step <= MASK_64:
            raise p.Misfit(f"difference {step!r:.40} is not in 0..{MASK_64}")
        value = (last.get(kind, 0) + step) & MASK_64
        if value > value_limit or type(guest) is not int or not 0 <= guest <= guest_limit:
            raise p.Misfit(f"reading {value}, guest {guest!r:.40} out of range")
        last[kind] = value
        event: Event = make(tick, guest, value)
        return event

    return from_wire


def _any_from_wire(layout: Layout) -> _FromWire:
    make: Any = layout.event
    required, whole = layout.required, len(layout.fields)
    unpackers = tuple(field.packing.from_wire for field in layout.fields)
    defaults = tuple(field.default for field in layout.fields)

    def from_wire(tick: Tick, wire: Row, _: Differences) -> Event:
        if not required <= len(wire) <= whole:
            raise p.Misfit(f"{len(wire)} fields where {required} to {whole} belong")
        values = [unpack(value) for unpack, value in zip(unpackers, wire, strict=False)]
        values += defaults[len(wire) :]
        event: Event = make(tick, values[-1], *values[:-1])
        return event

    return from_wire


def _agreeing_from_wire(layout: Layout, agrees: Callable[[Any], bool]) -> _FromWire:
    inner = _from_wire(replace(layout, agrees=None))

    def from_wire(tick: Tick, wire: Row, last: Differences) -> Event:
        event = inner(tick, wire, last)
        if not agrees(event):
            raise p.Misfit(f"{event!r:.80} contradicts itself")
        return event

    return from_wire


def _from_wire(layout: Layout) -> _FromWire:
    if layout.agrees is not None:
        return _agreeing_from_wire(layout, layout.agrees)
    if layout.limits is None:
        return _any_from_wire(layout)
    if layout.is_difference:
        return _difference_from_wire(layout, layout.limits)
    return _numbers_from_wire(layout, layout.limits)


_FROM_WIRE = {int(kind): _from_wire(layout) for kind, layout in LAYOUTS.items()}


@dataclass(frozen=True, slots=True)
class Expected:
    """What the header of a chunk says about the events in it; `newer` when the trace's minor version is newer."""

    first_tick: Tick
    last_tick: Tick
    count: int
    newer: bool = False


def decode_events(raw: bytes, expected: Expected, place: Place) -> Iterator[Event]:
    """Yield the events of one chunk in order, without those of unknown observation kinds.

    Raises: TraceFormatError for malformed or inconsistent events; TraceVersionError for an unknown kind of input in a
        trace of a newer minor version. What was yielded before is sound.
    """
    tick = expected.first_tick
    differences: Differences = {}
    count = 0
    for row in unpack_rows(raw, place):
        kind, step = _head(row, count, place)
        tick = Tick(tick + step)
        if tick > expected.last_tick or (count == 0 and step):
            raise place.malformed(f"event {count} at tick {tick} does not agree with its chunk")
        count += 1
        from_wire = _FROM_WIRE.get(kind)
        if from_wire is None:
            if not ev.is_observation(kind):
                raise place.unknown(expected.newer)(f"unknown kind of input {kind}")
            continue
        try:
            event = from_wire(tick, row[2:], differences)
        except p.Misfit as error:
            raise place.malformed(f"event {count - 1} ({Kind(kind).name}): {error}") from error
        yield event
    if count != expected.count or tick != expected.last_tick:
        raise place.malformed(
            f"{count} events up to tick {tick} where {expected.count} up to {expected.last_tick} belong"
        )


def _head(row: Any, number: int, place: Place) -> tuple[int, int]:
    if len(row) >= 2:
        kind, step = row[:2]
        if type(kind) is type(step) is int and 0 < kind <= ev.LAST_KIND and step >= 0:
            return kind, step
    raise place.malformed(f"event {number} does not begin with a kind and a number of ticks")


__all__ = [
    "MAX_TICK",
    "EncodedEvents",
    "EventEncoder",
    "Expected",
    "decode_events",
]
