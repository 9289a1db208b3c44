from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import fields
from typing import Any, get_args

import msgpack  # type: ignore[import-untyped]
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostvm.units import Nanoseconds, Tick
from replay.codec import EncodedEvents, EventEncoder, Expected, decode_events
from replay.errors import Place, TraceFormatError, TraceVersionError
from replay.events import (
    FIRST_OBSERVATION,
    ClockReading,
    ConsoleOutput,
    DeviceCompletion,
    DirectTraps,
    Event,
    HostInterrupt,
    Hypercall,
    Kind,
    RandomChoice,
    TscReading,
    is_observation,
)
from replay.layouts import LAYOUTS
from replay.packings import MAX_DATA
from tests.replay.event_strategies import events
from tests.replay.traces import ONE_OF_EACH

PLACE = Place("some.lgt", 0x40)


def encode(items: list[Event]) -> EncodedEvents:
    encoder = EventEncoder()
    for event in items:
        encoder.add(event)
    encoded = encoder.take()
    assert encoded is not None
    return encoded


def decode(encoded: EncodedEvents) -> list[Event]:
    expected = Expected(encoded.first_tick, encoded.last_tick, encoded.count)
    return list(decode_events(encoded.raw, expected, PLACE))


def decode_rows(*rows: object, newer: bool = False, last: int = 0) -> list[Event]:
    """Decode rows that no encoder has made."""
    raw = b"".join(row if isinstance(row, bytes) else msgpack.packb(row) for row in rows)
    return list(decode_events(raw, Expected(Tick(0), Tick(last), len(rows), newer), PLACE))


# The table.


def test_every_event_has_a_layout_and_a_kind_of_its_own() -> None:
    assert {layout.event for layout in LAYOUTS.values()} == set(get_args(Event))
    assert sorted(LAYOUTS) == sorted(Kind)


def test_layouts_name_the_fields_of_the_class_in_its_order_with_the_guest_last() -> None:
    for layout in LAYOUTS.values():
        names = [field.name for field in fields(layout.event)]
        assert [field.name for field in layout.fields] == [*names[2:], "guest"], layout.event


def test_only_observations_may_be_skipped() -> None:
    for kind in Kind:
        assert is_observation(kind) == (LAYOUTS[kind].event.__module__ == "hostvm.observations")


# There and back.


def test_one_of_each_kind_comes_back_equal() -> None:
    assert decode(encode(list(ONE_OF_EACH))) == list(ONE_OF_EACH)
    assert {type(event) for event in ONE_OF_EACH} == set(get_args(Event))


@given(events().filter(bool))
def test_any_events_come_back_equal(items: list[Event]) -> None:
    assert decode(encode(items)) == items


@given(st.lists(events(8).filter(bool), min_size=2, max_size=4), st.randoms())
def test_chunks_decode_alone_and_in_any_order(batches: list[list[Event]], random: Any) -> None:
    encoded = [encode(batch) for batch in batches]
    order = list(range(len(encoded)))
    random.shuffle(order)
    for rank in order:
        assert decode(encoded[rank]) == batches[rank]


def test_a_second_chunk_of_one_encoder_does_not_depend_on_the_first() -> None:
    encoder = EventEncoder()
    for event in ONE_OF_EACH:
        encoder.add(event)
    encoder.take()
    later: list[Event] = [
        ClockReading(Tick(1 << 41), 0, Nanoseconds(5)),
        TscReading(Tick(1 << 41), 0, 6),
    ]
    for event in later:
        encoder.add(event)
    second = encoder.take()
    assert second is not None
    assert decode(second) == later


def test_what_was_collected_is_counted_by_kind() -> None:
    encoded = encode(list(ONE_OF_EACH))
    assert encoded.count == len(ONE_OF_EACH)
    assert encoded.kinds[Kind.HOST_INTERRUPT] == 2
    assert EventEncoder().take() is None


# Size.


def test_a_host_interrupt_takes_at_most_twelve_bytes() -> None:
    one = HostInterrupt(Tick(1000), 0, 0x20, 0xC0101234, 0x7F)
    two = HostInterrupt(Tick(66_000), 0, 0x20, 0xC0101234, 0x7F)
    assert len(encode([one, two]).raw) <= 10 + 12


def test_clock_readings_a_millisecond_apart_take_at_most_ten_bytes() -> None:
    now = 1_700_000_000_000_000_000
    readings: list[Event] = [
        ClockReading(Tick(10_000 * n), 0, Nanoseconds(now + 1_000_000 * n)) for n in range(100)
    ]
    assert len(encode(readings).raw) <= 15 + 99 * 10


def test_the_only_guest_costs_nothing() -> None:
    first, second = (len(encode([Hypercall(Tick(0), guest, 10, ())]).raw) for guest in (0, 1))
    assert (first, second) == (4, 7)


# What does not fit, of ours.


@pytest.mark.parametrize(
    "event",
    [
        HostInterrupt(Tick(5), 16, 0x20, 0, 0),
        HostInterrupt(Tick(5), 0, 256, 0, 0),
        HostInterrupt(Tick(5), 0, 0x20, 1 << 32, 0),
        HostInterrupt(Tick(5), 0, 0x20, 0, -1),
        HostInterrupt(Tick(1 << 63), 0, 0x20, 0, 0),
        ClockReading(Tick(5), 0, Nanoseconds(-1)),
        TscReading(Tick(5), 0, 1 << 64),
        RandomChoice(Tick(5), 0, 4, 4),
        Hypercall(Tick(5), 0, 1, (1 << 32,)),
        Hypercall(Tick(5), 0, 1, (0,) * 9),
        DirectTraps(Tick(5), 0, ((4, 1), (3, 1))),
        ConsoleOutput(Tick(5), 0, bytes(MAX_DATA + 1)),
        ConsoleOutput(Tick(5), 0, "text"),  # type: ignore[arg-type]
        DeviceCompletion(Tick(5), 0, 1 << 16, 0, b""),
    ],
)
def test_an_event_out_of_range_is_refused_and_leaves_no_trace(event: Event) -> None:
    encoder = EventEncoder()
    before, after = HostInterrupt(Tick(5), 0, 1, 2, 3), HostInterrupt(Tick(6), 0, 1, 2, 3)
    encoder.add(before)
    with pytest.raises(ValueError, match=r"fit the layout|after tick"):
        encoder.add(event)
    encoder.add(after)
    encoded = encoder.take()
    assert encoded is not None
    assert decode(encoded) == [before, after]


def test_time_does_not_go_back() -> None:
    encoder = EventEncoder()
    encoder.add(HostInterrupt(Tick(5), 0, 1, 2, 3))
    with pytest.raises(ValueError, match="after tick 5"):
        encoder.add(HostInterrupt(Tick(4), 0, 1, 2, 3))


# What does not fit, of a stranger's.

INTERRUPT = (1, 0, 0x20, 0xC0101234, 5)
NESTED = b"\x91" * 300
BAD_ROWS: dict[str, object] = {
    "nothing": (),
    "only a kind": (1,),
    "kind 0": (0, 0, 1, 1, 1),
    "a kind beyond all": (128, 0),
    "a kind that is true": (True, 0, 0x20, 0, 0),
    "a kind that is a float": (1.0, 0, 0x20, 0, 0),
    "a kind that is bytes": (b"\x01", 0, 0x20, 0, 0),
    "a negative step": (1, -1, 0x20, 0, 0),
    "a step that is a float": (1, 0.0, 0x20, 0, 0),
    "a step for the first event": (1, 1, 0x20, 0, 0),
    "too few fields": (1, 0, 0x20, 0),
    "too many fields": (1, 0, 0x20, 0, 0, 0, 0),
    "a vector of 256": (1, 0, 256, 0, 0),
    "a negative eip": (1, 0, 0x20, -1, 0),
    "an eip of 33 bits": (1, 0, 0x20, 1 << 32, 0),
    "a bool for a number": (1, 0, True, 0, 0),
    "nil for a number": (1, 0, None, 0, 0),
    "a float for a number": (1, 0, 32.0, 0, 0),
    "not a number": (1, 0, math.nan, 0, 0),
    "a list for a number": (1, 0, [32], 0, 0),
    "guest 16": (1, 0, 0x20, 0, 0, 16),
    "a clock beyond 63 bits": (3, 0, 1 << 63),
    "a negative difference": (3, 0, -1),
    "a difference that is a bool": (3, 0, True),
    "a guest that is a bool": (3, 0, 1, True),
    "a choice out of range": (5, 0, 4, 4),
    "a choice of nothing": (5, 0, 0, 0),
    "text for a device": (6, 0, "disk", 1, b""),
    "a number for data": (7, 0, 5),
    "nil for data": (7, 0, None),
    "an argument of 33 bits": (64, 0, 1, [1 << 32]),
    "nine arguments": (64, 0, 1, [0] * 9),
    "a list in the arguments": (64, 0, 1, [[1]]),
    "a number for the arguments": (64, 0, 1, 5),
    "a flag that is 2": (64, 0, 1, [], 2),
    "a flag that is 1": (64, 0, 1, [], 1),
    "vectors that do not ascend": (68, 0, [4, 1, 4, 1]),
    "a vector without count": (68, 0, [4]),
    "a digest of 65 bytes": (70, 0, bytes(65)),
    "reason 0": (71, 0, 0),
    "reason 99": (71, 0, 99),
    "text that is not UTF-8": (71, 0, 1, b"\xff"),
    "a number instead of a row": 5,
    "nil instead of a row": None,
    "a map instead of a row": {},
    "a map with something": {1: 2},
    "a map in a row": (1, 0, {}, 0, 0),
    "an extension type": msgpack.ExtType(5, b"abc"),
    "an empty extension type": b"\x93\x01\x00\xc7\x00\x05",
    "a time stamp": b"\xd6\xff\x00\x00\x00\x00",
    "a byte that msgpack never uses": b"\xc1",
    "lists in lists": NESTED,
    "lists in lists in lists": b"\x91" * 100_000,
    "an array that announces 4 billion": b"\xdd\xff\xff\xff\xff",
    "an array that announces 513": b"\xdc\x02\x01" + bytes(513),
    "bytes that announce 4 billion": b"\x93\x07\x00\xc6\xff\xff\xff\xff",
    "half a row": b"\x95\x01\x00",
    "a row and a half": msgpack.packb(INTERRUPT) + b"\x95",
    "a row that lacks one value": msgpack.packb((*INTERRUPT, 0))[:-1],
    "an unknown observation that lacks one value": b"\x93\x7f\x00",
    "a row and nil": msgpack.packb(INTERRUPT) + b"\xc0",
}


@pytest.mark.parametrize("row", BAD_ROWS.values(), ids=BAD_ROWS.keys())
def test_a_malformed_row_is_a_format_error_that_names_the_place(row: object) -> None:
    with pytest.raises(TraceFormatError) as caught:
        decode_rows(row)
    assert (caught.value.path, caught.value.offset) == ("some.lgt", 0x40)
    assert str(caught.value).startswith("some.lgt: at byte 0x40: ")
    assert str(caught.value).isprintable()


@given(st.binary(max_size=60), st.integers(0, 3))
def test_any_bytes_decode_or_are_a_format_error(raw: bytes, count: int) -> None:
    with suppress(TraceFormatError):
        list(decode_events(raw, Expected(Tick(0), Tick(9), count), PLACE))


def test_what_precedes_a_malformed_row_is_still_yielded() -> None:
    raw = msgpack.packb(INTERRUPT) + b"\xc1"
    decoded = decode_events(raw, Expected(Tick(0), Tick(0), 2), PLACE)
    assert next(decoded) == HostInterrupt(Tick(0), 0, 0x20, 0xC0101234, 5)
    with pytest.raises(TraceFormatError):
        next(decoded)


@pytest.mark.parametrize(("count", "last"), [(0, 0), (2, 0), (1, 1)])
def test_events_must_agree_with_their_chunk(count: int, last: int) -> None:
    raw = msgpack.packb(INTERRUPT)
    with pytest.raises(TraceFormatError):
        list(decode_events(raw, Expected(Tick(0), Tick(last), count), PLACE))


def test_ticks_do_not_pass_the_end_of_the_chunk() -> None:
    with pytest.raises(TraceFormatError, match="does not agree"):
        decode_rows(INTERRUPT, (1, (1 << 64) - 1, 0x20, 0, 0), last=5)


# Versions.


def test_an_unknown_observation_is_skipped_and_counts() -> None:
    known = HostInterrupt(Tick(4), 0, 0x20, 0xC0101234, 5)
    assert decode_rows((127, 0, "what", [1]), (1, 4, *INTERRUPT[2:]), last=4) == [known]
    assert FIRST_OBSERVATION <= 127


def test_an_unknown_input_is_damage_or_in_a_newer_trace_too_new() -> None:
    with pytest.raises(TraceFormatError, match="unknown kind of input 63"):
        decode_rows((63, 0))
    with pytest.raises(TraceVersionError, match="newer lgreplay"):
        decode_rows((63, 0), newer=True)
