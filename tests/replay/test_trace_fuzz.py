from __future__ import annotations

import tracemalloc
from collections import deque
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hostvm.units import Tick
from replay.errors import TraceError, TraceFormatError, TraceTruncated
from replay.events import Event, HostInterrupt
from replay.log import LogWriter, TraceReader
from tests.fuzz.trace import Fuzz
from tests.replay.event_strategies import events
from tests.replay.traces import (
    END,
    HEADER,
    Piece,
    read_everything,
    rebuilt,
    take_apart,
    write_trace,
)

TINY: list[Event] = [HostInterrupt(Tick(n), 0, 0x20, n, n) for n in range(4)]


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.lgt"
    return write_trace(path, [TINY[:2], TINY[2:]])


def test_every_flipped_bit_of_a_closed_trace_is_detected(tiny: Path) -> None:
    sound = tiny.read_bytes()
    for position in range(len(sound)):
        for bit in range(8):
            data = bytearray(sound)
            data[position] ^= 1 << bit
            tiny.write_bytes(data)
            with pytest.raises(TraceError):
                read_everything(tiny)


def test_every_flipped_bit_of_an_unclosed_trace_is_detected(tmp_path: Path) -> None:
    whole = write_trace(tmp_path / "tiny.lgt", [TINY], closed=False)
    sound = whole.read_bytes()
    for position in range(len(sound)):
        data = bytearray(sound)
        data[position] ^= 1 << position % 8
        whole.write_bytes(data)
        with pytest.raises(TraceError):
            read_everything(whole)


def test_a_flipped_bit_in_a_torn_chunk_changes_no_event(tmp_path: Path) -> None:
    whole = write_trace(tmp_path / "tiny.lgt", [TINY[:2], TINY[2:]], closed=False)
    with TraceReader(whole) as reader:
        last = list(reader.chunks)[-1].offset
    torn = whole.read_bytes()[:-1]
    for position in range(last, len(torn)):
        data = bytearray(torn)
        data[position] ^= 1 << position % 8
        whole.write_bytes(data)
        with suppress(TraceFormatError), TraceReader(whole) as reader:
            assert list(reader.events()) == TINY[:2]
            assert reader.torn_at == last


def test_a_trace_cut_at_any_byte_has_a_prefix_of_its_events_or_says_why_not(tiny: Path) -> None:
    sound = tiny.read_bytes()
    seen = set()
    for size in range(len(sound)):
        tiny.write_bytes(sound[:size])
        try:
            with TraceReader(tiny) as reader:
                found = list(reader.events())
                assert not reader.complete
                assert reader.torn_at is not None
                assert reader.torn_at <= size
            assert found == TINY[: len(found)]
            seen.add(len(found))
        except TraceTruncated:
            seen.add(-1)
    assert seen == {-1, 0, 2, 4}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(events(6), max_size=4), st.booleans())
def test_any_trace_comes_back_as_it_was_written(
    tmp_path: Path, lists: list[list[Event]], closed: bool
) -> None:
    start = 0
    batches = []
    for batch in lists:
        moved = [replace(event, tick=Tick(event.tick + start)) for event in batch]
        start = moved[-1].tick if moved else start
        batches.append(moved)
    if start > END.tick:
        closed = False
    path = write_trace(tmp_path / "any.lgt", batches, closed=closed)
    assert read_everything(path) == [event for batch in batches for event in batch]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.binary(max_size=200), st.booleans())
def test_any_bytes_are_refused_with_a_documented_error(
    tmp_path: Path, data: bytes, salvage: bool
) -> None:
    path = tmp_path / "any.lgt"
    path.write_bytes(data)
    with pytest.raises(TraceError) as caught:
        TraceReader(path, salvage=salvage)
    assert "\n" not in str(caught.value)


def test_accidents_and_forgeries_lead_to_documented_errors_only(tmp_path: Path) -> None:
    fuzz = Fuzz(tmp_path, seed=0)
    for number in range(400):
        fuzz.attack(number)
    outcomes = " ".join(fuzz.outcomes)
    kinds = ("sample", "packed", "cut", "salvaged", "redacted")
    for expected in (
        *("accident: TraceFormatError", "forgery: TraceFormatError", "forgery: read"),
        *(f"attacks on {kind}" for kind in kinds),
    ):
        assert expected in outcomes


ROWS = {
    "empty lists": b"\x90",
    "lists of one": b"\x91\x00",
    "unknown observations": b"\x93\x7f\x00\x90",
    "unknown observations full of lists": b"\x93\x7f\x00\xdc\x01\x00" + b"\x90" * 256,
    "lists in lists": b"\x91",
}


@pytest.mark.parametrize("unit", ROWS.values(), ids=ROWS.keys())
def test_a_chunk_full_of_the_smallest_values_takes_bounded_memory(tiny: Path, unit: bytes) -> None:
    def fill(pieces: list[Piece]) -> list[Piece]:
        pieces[3].raw = unit * ((4 << 20) // len(unit))
        return pieces

    rebuilt(tiny, fill)
    tracemalloc.start()
    with pytest.raises(TraceFormatError):
        read_everything(tiny)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 64 << 20


def test_a_long_trace_is_read_within_the_memory_of_one_chunk(tmp_path: Path) -> None:
    path = tmp_path / "long.lgt"
    with LogWriter(path, HEADER, {"hello": b"h"}) as writer:
        for number in range(200_000):
            writer.write(HostInterrupt(Tick(number), 0, 0x20, number, number % 128))
        writer.close(END)
    assert len(take_apart(path.read_bytes())) > 5
    tracemalloc.start()
    with TraceReader(path) as reader:
        (last,) = deque(reader.events(), maxlen=1)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert last.tick == 199_999
    assert peak < 8 << 20
