"""A trace that was damaged or changed is refused, or diverges where it was changed; it is never replayed wrong."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import pytest

from hostvm.units import Nanoseconds, Tick
from replay.chunks import CHUNK_HEADER_SIZE, MARK, TRAILER_SIZE
from replay.describe import event_to_text
from replay.errors import Divergence, TraceError
from replay.events import (
    ClockReading,
    ConsoleOutput,
    Event,
    HostInterrupt,
    Hypercall,
    IrqDelivered,
    IrqRaised,
    RandomChoice,
    StateDigest,
    TrapReflected,
)
from replay.log import LogWriter, TraceReader
from tests.end_to_end.commands import complaint, lgreplay
from tests.replay.recorded import altered, events_of, hello, record_hello, verify

# What is not noticed when the file is opened costs a replay up to there.
FLIPS_AT_OPENING, FLIPS_IN_EVENTS = 36, 6
EVENTS_PER_CHUNK = 60


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recording with interrupts in the kernel and in both programs."""
    path = tmp_path_factory.mktemp("trace") / "hello.lgt"
    record_hello(path, config=hello("loops=1 hz=20000", digest_interval=1 << 14))
    return path


@pytest.fixture(scope="module")
def chunky(trace: Path) -> Path:
    """The same in several chunks."""
    path = trace.with_name("chunky.lgt")
    with TraceReader(trace) as reader:
        images = {image.name: reader.image(image.name) for image in reader.header.images}
        assert reader.end is not None
        with LogWriter(path, reader.header, images) as writer:
            for rank, event in enumerate(reader.events()):
                writer.write(event)
                if rank % EVENTS_PER_CHUNK == 0:
                    writer.flush()
            writer.close(reader.end)
    verify(path)
    return path


def places(path: Path, random: Random) -> Iterator[int]:
    """Positions in each region: prologue, header and payload of each chunk, trailer."""
    size = path.stat().st_size
    with TraceReader(path) as reader:
        body = [(entry.offset, entry.offset + entry.size) for entry in reader.chunks]
    data = path.read_bytes()
    mark = (at for at in range(size) if data.startswith(MARK, at))
    starts = [0, *mark, size - TRAILER_SIZE, size]
    for start, end in pairwise(starts):
        flips = FLIPS_IN_EVENTS if (start, end) in body else FLIPS_AT_OPENING
        middle = min(start + CHUNK_HEADER_SIZE, end)
        for region in (range(start, middle), range(middle, end)):
            yield from random.sample(region, min(flips, len(region)))


def flipped(data: bytes, position: int, bit: int) -> bytes:
    return data[:position] + bytes((data[position] ^ 1 << bit,)) + data[position + 1 :]


def test_a_flipped_bit_anywhere_is_reported_and_nothing_is_replayed_wrong(
    chunky: Path, tmp_path: Path
) -> None:
    random, data, path = Random(1), chunky.read_bytes(), tmp_path / "t.lgt"
    positions = list(places(chunky, random))
    assert len(positions) >= 300
    for position in positions:
        path.write_bytes(flipped(data, position, random.randrange(8)))
        with pytest.raises(TraceError) as caught:
            verify(path)
        assert "\n" not in str(caught.value)


def test_the_command_says_in_one_line_where_a_trace_is_damaged(
    chunky: Path, tmp_path: Path
) -> None:
    data, path = chunky.read_bytes(), tmp_path / "t.lgt"
    positions = [9, 20, 100, 20_000, len(data) // 2, len(data) - 400, len(data) - 5]
    for position in positions:
        path.write_bytes(flipped(data, position, position % 8))
        outcome = lgreplay("replay", "t.lgt", folder=tmp_path)
        assert "at byte 0x" in complaint(outcome), position
        assert outcome.out == ""


def divergence_with(trace: Path, path: Path, rank: int, event: Event) -> Divergence:
    def change(events: list[Event]) -> list[Event]:
        return [*events[:rank], event, *events[rank + 1 :]]

    with pytest.raises(Divergence) as caught:
        verify(altered(trace, path, change))
    return caught.value


def words(event: Event) -> str:
    return " ".join(event_to_text(event).split())


def ranks(trace: Path, kind: type[Event]) -> list[tuple[int, Any]]:
    return [(n, event) for n, event in enumerate(events_of(trace)) if type(event) is kind]


@pytest.mark.parametrize("step", [-1, 1])
def test_an_interrupt_moved_by_one_tick_is_reported_there_with_both_versions(
    trace: Path, tmp_path: Path, step: int
) -> None:
    interrupts = ranks(trace, HostInterrupt)
    assert len(interrupts) >= 10
    for rank, event in interrupts:
        moved = replace(event, tick=Tick(event.tick + step))
        found = divergence_with(trace, tmp_path / "t.lgt", rank, moved)
        assert found.tick == moved.tick
        assert found.expected == words(moved)
        # The machine was somewhere else at that tick, or in another iteration of the same instruction.
        assert str(found.actual).startswith(f"{moved.tick} guest 0 host_interrupt")
        assert found.actual != found.expected


@pytest.mark.parametrize("field", ["vector", "eip", "check"])
def test_an_interrupt_that_was_otherwise_is_reported_at_its_tick(
    trace: Path, tmp_path: Path, field: str
) -> None:
    for rank, event in ranks(trace, HostInterrupt)[::4]:
        other = replace(event, **{field: getattr(event, field) ^ 1})
        found = divergence_with(trace, tmp_path / "t.lgt", rank, other)
        if field == "vector":
            # Another interrupt is put in: the Host then does something else, in the same step or the next.
            assert event.tick <= found.tick <= event.tick + 100
        else:
            assert found.tick == event.tick
            assert (found.expected, found.actual) == (words(other), words(event))


CHANGED_REPORTS: dict[type[Event], dict[str, Any]] = {
    Hypercall: {"number": 99},
    TrapReflected: {"eip": 1},
    IrqRaised: {"irq": 9},
    IrqDelivered: {"irq": 9},
    StateDigest: {"registers": bytes(8)},
    ConsoleOutput: {"data": b"other\n"},
}


@pytest.mark.parametrize("kind", CHANGED_REPORTS, ids=lambda kind: kind.__name__)
def test_a_changed_report_is_reported_at_its_tick_with_both_versions(
    trace: Path, tmp_path: Path, kind: type[Event]
) -> None:
    found_some = ranks(trace, kind)
    for rank, event in found_some[:: max(1, len(found_some) // 4)]:
        other = replace(event, **CHANGED_REPORTS[kind])
        found = divergence_with(trace, tmp_path / "t.lgt", rank, other)
        assert found.tick == event.tick
        assert (found.expected, found.actual) == (words(other), words(event))


def test_a_changed_argument_of_a_hypercall_is_reported_at_its_tick(
    trace: Path, tmp_path: Path
) -> None:
    with_arguments = [(n, e) for n, e in ranks(trace, Hypercall) if e.args]
    for rank, event in with_arguments[::25]:
        other = replace(event, args=(*event.args[:-1], event.args[-1] ^ 1))
        found = divergence_with(trace, tmp_path / "t.lgt", rank, other)
        assert (found.tick, found.expected) == (event.tick, words(other))
        assert found.actual == words(event)


def test_a_changed_choice_is_noticed(trace: Path, tmp_path: Path) -> None:
    """It is an input: the run goes another way, and the next digest at the latest shows it."""
    for rank, event in ranks(trace, RandomChoice):
        other = replace(event, value=(event.value + 1) % event.bound)
        found = divergence_with(trace, tmp_path / "t.lgt", rank, other)
        assert event.tick <= found.tick <= event.tick + (1 << 14)


def test_a_clock_that_has_not_reached_the_deadline_is_noticed_in_the_same_step(
    trace: Path, tmp_path: Path
) -> None:
    events = list(events_of(trace))
    expiring = [
        n
        for n, (event, then) in enumerate(pairwise(events))
        if isinstance(event, ClockReading)
        and isinstance(then, IrqRaised)
        and then.tick == event.tick
    ]
    assert len(expiring) >= 10
    for rank in expiring[::3]:
        event = events[rank]
        assert isinstance(event, ClockReading)
        early = replace(event, ns=Nanoseconds(event.ns - 1_000_000))
        found = divergence_with(trace, tmp_path / "t.lgt", rank, early)
        assert found.tick == event.tick
        assert found.expected == words(events[rank + 1])
