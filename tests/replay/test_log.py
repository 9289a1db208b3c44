from __future__ import annotations

import errno
import os
import random
import signal
import stat
import subprocess
import sys
import textwrap
import tracemalloc
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgpack  # type: ignore[import-untyped]
import pytest

from hostvm.units import Nanoseconds, Tick
from replay import chunks
from replay.chunks import MAJOR, MINOR, ChunkFlag, ChunkType, Version
from replay.errors import (
    TraceFormatError,
    TraceReadError,
    TraceTruncated,
    TraceVersionError,
    TraceWriteError,
)
from replay.events import ClockReading, ConsoleOutput, Event, HostInterrupt, Kind, StateDigest
from replay.keep import Keep
from replay.log import Checkpoint, LogWriter, TraceReader
from replay.trace_header import GuestSetup
from replay.wire import Value, pack_map
from tests.patience import PATIENCE
from tests.replay.traces import (
    END,
    HEADER,
    IMAGES,
    ONE_OF_EACH,
    FakeClock,
    Piece,
    put_together,
    read_events,
    read_everything,
    rebuilt,
    take_apart,
    write_trace,
)

ROOT = Path(__file__).parents[2]
SECOND = 1_000_000_000


def interrupts(count: int, start: int = 0) -> list[Event]:
    return [HostInterrupt(Tick(n * 10), 0, 0x20, n, n % 128) for n in range(start, start + count)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "some.lgt"


@pytest.fixture
def incomplete(path: Path) -> Path:
    return path.with_name("some.lgt.incomplete")


# A closed trace.


def test_a_closed_trace_gives_back_header_images_events_and_end(path: Path) -> None:
    write_trace(path, [ONE_OF_EACH])
    with TraceReader(path) as reader:
        assert replace(reader.header, images=()) == HEADER
        assert {image.name: reader.image(image.name) for image in reader.header.images} == IMAGES
        assert tuple(reader.events()) == ONE_OF_EACH
        assert reader.complete
        assert reader.torn_at is None
        assert reader.end == END
        assert reader.event_count == len(ONE_OF_EACH)
        assert reader.starts_at_power_on
        assert (reader.first_tick, reader.last_tick) == (0, 1 << 40)
        assert reader.version == Version()
        assert len(reader.trace_id) == 16
        reader.verify()


def test_a_trace_without_events_is_a_trace(path: Path) -> None:
    write_trace(path, [])
    with TraceReader(path) as reader:
        assert list(reader.events()) == []
        assert (reader.first_tick, reader.last_tick) == (None, None)
        assert reader.count_kinds() == {}
        assert reader.complete


def test_the_header_keeps_text_that_is_not_text_and_many_guests(path: Path) -> None:
    guests = tuple(GuestSetup(n, "3.2", "", devices=("console", "block")) for n in range(16))
    header = replace(HEADER, guests=guests, command_line=("\udcff", "ä"), quirks=("a", "b"))
    with LogWriter(path, header) as writer:
        writer.close(END)
    with TraceReader(path) as reader:
        assert reader.header == replace(header, command_line=("\\udcff", "ä"))


def test_equal_headers_have_equal_ids_and_others_have_not(tmp_path: Path) -> None:
    ids = []
    for seed in (1, 1, 2):
        with LogWriter(tmp_path / "t", replace(HEADER, seed=seed), IMAGES) as writer:
            ids.append(writer.trace_id)
    assert ids[0] == ids[1] != ids[2]


def test_there_is_no_image_that_the_header_does_not_name(path: Path) -> None:
    with TraceReader(write_trace(path)) as reader, pytest.raises(KeyError):
        reader.image("other")


@pytest.mark.parametrize(
    "header",
    [
        replace(HEADER, guests=()),
        replace(HEADER, guests=HEADER.guests * 17),
        replace(HEADER, guests=(GuestSetup(1, "3.2", "no such image"),)),
        replace(HEADER, seed=-1),
        replace(HEADER, maths=bytes(65)),
        replace(HEADER, engine="e" * 256),
        replace(HEADER, command_line=("word",) * 257),
    ],
)
def test_a_header_that_no_reader_would_accept_is_refused_and_leaves_no_file(
    tmp_path: Path, header: Any
) -> None:
    with pytest.raises(ValueError, match=r"field|image"):
        LogWriter(tmp_path / "t.lgt", header, IMAGES)
    assert list(tmp_path.iterdir()) == []


def test_an_empty_image_is_refused_and_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="IMAGE"):
        LogWriter(tmp_path / "t.lgt", HEADER, {"hello": b""})
    assert list(tmp_path.iterdir()) == []


# Finding one's way.


def test_events_between_two_ticks_include_both(path: Path) -> None:
    batches = [interrupts(10, start) for start in range(0, 100, 10)]
    write_trace(path, batches)
    every = [event for batch in batches for event in batch]
    generator = random.Random(1)
    with TraceReader(path) as reader:
        for _ in range(50):
            first, last = sorted(generator.choices(range(-5, 1010), k=2))
            expected = [event for event in every if first <= event.tick <= last]
            assert list(reader.events(Tick(first), Tick(last))) == expected
        assert list(reader.events(first_tick=Tick(2000))) == []


def test_events_of_one_tick_may_lie_in_several_chunks(path: Path) -> None:
    same: list[Event] = [HostInterrupt(Tick(7), 0, 0x20, n, 0) for n in range(6)]
    write_trace(path, [same[:2], same[2:4], same[4:]])
    with TraceReader(path) as reader:
        assert list(reader.events(Tick(7), Tick(7))) == same


def test_kinds_are_counted_with_and_without_an_index(path: Path) -> None:
    write_trace(path, [ONE_OF_EACH, interrupts(0)])
    with TraceReader(path) as reader:
        counted = reader.count_kinds()
    assert counted[Kind.HOST_INTERRUPT] == 2
    path.write_bytes(path.read_bytes()[:-1])
    with TraceReader(path) as reader:
        assert reader.count_kinds() == counted


def test_a_reader_without_index_finds_the_same(path: Path) -> None:
    batches = [interrupts(10, start) for start in range(0, 50, 10)]
    write_trace(path, batches)
    with TraceReader(path) as reader:
        indexed = list(reader.chunks)
    path.write_bytes(path.read_bytes()[: -chunks.TRAILER_SIZE])
    with TraceReader(path) as reader:
        assert list(reader.chunks) == indexed
        assert list(reader.events(Tick(200), Tick(220))) == interrupts(3, 20)


def test_a_closed_trace_without_index_is_complete(path: Path) -> None:
    write_trace(path, [ONE_OF_EACH])
    pieces = take_apart(path.read_bytes())
    end = pieces.pop()
    pieces.pop()
    end.header = replace(end.header, sequence=end.header.sequence - 1)
    end.raw = pack_map({"end": {"tick": 1 << 40, "digest": b"", "reason": 1}, "index": 0})
    data = put_together(pieces)
    path.write_bytes(data + end.pack() + chunks.pack_trailer(len(data)))
    with TraceReader(path) as reader:
        assert reader.complete
        assert tuple(reader.events()) == ONE_OF_EACH


# Checkpoints.

FIELDS: dict[str, Value] = {
    "tick": 5,
    "pages": [[0, b"\0" * 4096], [7, b"x" * 4096]],
    "nothing": None,
    "yes": True,
    "deep": {"name": "é", "negative": -(1 << 63), "large": (1 << 64) - 1},
}


def test_a_checkpoint_comes_back_and_parts_past_from_future(path: Path) -> None:
    past, future = interrupts(3), [HostInterrupt(Tick(20), 0, 0x21, 9, 9), *interrupts(3, 3)]
    with LogWriter(path, HEADER, IMAGES) as writer:
        for event in past:
            writer.write(event)
        writer.checkpoint(Checkpoint(Tick(20), FIELDS))
        for event in future:
            writer.write(event)
        writer.close(END)
    with TraceReader(path) as reader:
        (entry,) = reader.checkpoints()
        assert reader.read_checkpoint(entry) == Checkpoint(Tick(20), FIELDS)
        assert list(reader.events_after(entry)) == future
        assert list(reader.events()) == past + future
        reader.verify()


@pytest.mark.parametrize(
    "value",
    [0.5, {5: 6}, 1 << 64, object(), "\udc80", [[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]],
    ids=["float", "name", "large", "object", "surrogate", "deep"],
)
def test_a_checkpoint_holds_plain_values_only(path: Path, value: Any) -> None:
    with LogWriter(path, HEADER, IMAGES) as writer:
        with pytest.raises((ValueError, OverflowError)):
            writer.checkpoint(Checkpoint(Tick(0), {"value": value}))
        writer.write(ONE_OF_EACH[0])
        writer.close(replace(END, tick=Tick(0)))
    assert read_everything(path) == [ONE_OF_EACH[0]]


def test_nothing_lies_before_the_checkpoint_it_follows(path: Path) -> None:
    with LogWriter(path, HEADER, IMAGES) as writer:
        writer.checkpoint(Checkpoint(Tick(50), {}))
        with pytest.raises(ValueError, match="after tick 50"):
            writer.write(HostInterrupt(Tick(49), 0, 0x20, 0, 0))
        with pytest.raises(ValueError, match="after tick 50"):
            writer.checkpoint(Checkpoint(Tick(49), {}))
        with pytest.raises(ValueError, match="after tick 50"):
            writer.close(replace(END, tick=Tick(49)))


# The life of the file.


def test_a_trace_gets_its_name_when_it_is_closed(path: Path, incomplete: Path) -> None:
    path.write_bytes(b"an older trace")
    with LogWriter(path, HEADER, IMAGES) as writer:
        assert incomplete.exists()
        assert path.read_bytes() == b"an older trace"
        writer.close(END)
        assert not incomplete.exists()
    with TraceReader(path) as reader:
        assert reader.complete


def test_an_abandoned_trace_is_read_to_its_end_and_says_so(path: Path, incomplete: Path) -> None:
    write_trace(path, [ONE_OF_EACH], closed=False)
    assert not path.exists()
    with TraceReader(incomplete) as reader:
        assert tuple(reader.events()) == ONE_OF_EACH
        assert not reader.complete
        assert reader.torn_at == incomplete.stat().st_size
        assert reader.end is None


def test_the_final_name_finds_an_incomplete_trace(path: Path, incomplete: Path) -> None:
    write_trace(path, [ONE_OF_EACH], closed=False)
    with TraceReader(path) as reader:
        assert reader.path == incomplete


def test_a_trace_can_be_read_while_it_is_recorded(path: Path) -> None:
    with LogWriter(path, HEADER, IMAGES) as writer:
        for batch in (interrupts(5), interrupts(5, 5)):
            for event in batch:
                writer.write(event)
            writer.flush()
            assert read_events(path)[-5:] == batch


def test_an_unclosed_trace_of_before_is_put_aside(path: Path, incomplete: Path) -> None:
    write_trace(path, [ONE_OF_EACH], closed=False)
    write_trace(path, [interrupts(3)])
    assert read_events(path) == interrupts(3)
    aside = incomplete.with_name(incomplete.name + "~")
    assert tuple(read_events(aside)) == ONE_OF_EACH


def test_a_second_recorder_of_the_same_name_is_refused(path: Path) -> None:
    with LogWriter(path, HEADER, IMAGES) as writer:
        with pytest.raises(TraceWriteError, match="another recorder is writing it"):
            LogWriter(path, HEADER, IMAGES)
        writer.write(ONE_OF_EACH[0])
        writer.close(END)
    assert read_events(path) == [ONE_OF_EACH[0]]


def test_a_place_where_nothing_can_be_written_is_a_write_error(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "no" / "t.lgt", tmp_path / "zero\0", Path("/dev/null/t.lgt")):
        with pytest.raises(TraceWriteError, match="cannot record here"):
            LogWriter(path, HEADER, IMAGES)


@pytest.mark.parametrize("number", range(3))
def test_what_is_not_a_file_is_a_read_error_and_no_hang(tmp_path: Path, number: int) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    path = (tmp_path / "nothing", tmp_path, fifo)[number]
    with pytest.raises(TraceReadError) as caught:
        TraceReader(path)
    assert "at byte" not in str(caught.value)


def test_events_reach_the_file_within_a_second(path: Path) -> None:
    clock = FakeClock()
    with LogWriter(path, HEADER, IMAGES, now=clock) as writer:
        writer.write(ONE_OF_EACH[0])
        clock.ns = SECOND - 1
        writer.pulse()
        assert read_events(path) == []
        clock.ns = SECOND
        writer.pulse()
        assert read_events(path) == [ONE_OF_EACH[0]]


def test_a_busy_recorder_needs_no_pulse(path: Path) -> None:
    clock = FakeClock()
    with LogWriter(path, HEADER, IMAGES, now=clock) as writer:
        for rank, event in enumerate(interrupts(1000)):
            clock.ns = rank * SECOND // 100
            writer.write(event)
        assert 800 <= len(read_events(path)) < 1000


def test_a_chunk_holds_64_kib_or_one_event_that_is_longer(path: Path) -> None:
    with LogWriter(path, HEADER, IMAGES, now=FakeClock()) as writer:
        for tick in range(40):
            writer.write(ConsoleOutput(Tick(tick), 0, bytes(100_000)))
        writer.write(ConsoleOutput(Tick(40), 0, bytes(2 << 20)))
        writer.close(END)
    with TraceReader(path) as reader:
        raw = [piece.raw for piece in take_apart(path.read_bytes())][3:-2]
        assert len(raw) == 41
        assert max(map(len, raw)) < 4 << 20
        assert reader.event_count == 41
        reader.verify()


def test_a_context_left_by_an_error_keeps_what_was_written(path: Path) -> None:
    def fail(writer: LogWriter) -> None:
        with writer:
            writer.write(ONE_OF_EACH[0])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail(LogWriter(path, HEADER, IMAGES))
    assert read_events(path) == [ONE_OF_EACH[0]]


CHILD = """
import sys
from replay.log import LogWriter, Checkpoint
from replay.keep import Keep
from replay.trace_header import TraceEnd, TraceEndReason
from replay.errors import TraceWriteError
from tests.replay.test_log import interrupts
from tests.replay.traces import HEADER, IMAGES
"""


def child(code: str, *args: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", CHILD + textwrap.dedent(code), *args],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_killed_recorder_leaves_all_that_it_had_flushed(path: Path) -> None:
    recorder = child(
        """
        writer = LogWriter(sys.argv[1], HEADER, IMAGES)
        for event in interrupts(1000):
            writer.write(event)
        writer.flush()
        writer.write(interrupts(1, 1000)[0])
        print("ready", flush=True)
        __import__("signal").pause()
        """,
        str(path),
    )
    assert recorder.stdout is not None
    assert recorder.stdout.readline() == "ready\n"
    recorder.send_signal(signal.SIGKILL)
    recorder.communicate()
    with TraceReader(path) as reader:
        assert list(reader.events()) == interrupts(1000)
        assert not reader.complete
    write_trace(path)
    assert tuple(read_events(path)) == ONE_OF_EACH


@pytest.mark.parametrize("keep", ["None", "Keep(bytes=20_000)"])
def test_a_recorder_killed_at_any_moment_leaves_a_readable_trace(path: Path, keep: str) -> None:
    for attempt in range(4):
        recorder = child(
            """
            keep = eval(sys.argv[2])
            tick = 0
            def take():
                return Checkpoint(tick, {"memory": bytes(1000)})
            writer = LogWriter(
                sys.argv[1], HEADER, IMAGES, keep_last=keep, take_checkpoint=keep and take
            )
            print("ready", flush=True)
            for event in interrupts(10_000_000):
                tick = event.tick
                writer.write(event)
                if tick % 640 == 0:
                    writer.flush()
                    writer.pulse()
            """,
            str(path),
            keep,
        )
        assert recorder.stdout is not None
        assert recorder.stdout.readline() == "ready\n"
        with pytest.raises(subprocess.TimeoutExpired):
            recorder.wait(0.05 + attempt * 0.11)
        recorder.send_signal(signal.SIGKILL)
        recorder.communicate()
        with TraceReader(path) as reader:
            reader.verify()
            events = list(reader.events())
            assert not reader.complete
            start = 0 if reader.starts_at_power_on else int(events[0].tick) // 10
            assert events == interrupts(len(events), start)


# A disk that does not want to.


def refuse(monkeypatch: pytest.MonkeyPatch, after: int, number: int = errno.ENOSPC) -> None:
    """Let the disk take `after` bytes more, then refuse."""
    left = after
    pwrite = os.pwrite

    def write(descriptor: int, data: memoryview, offset: int) -> int:
        nonlocal left
        if not left:
            raise OSError(number, os.strerror(number))
        written = pwrite(descriptor, data[:left], offset)
        left -= written
        return written

    monkeypatch.setattr(os, "pwrite", write)


def test_a_full_disk_at_any_byte_leaves_whole_chunks_and_is_said_once(
    path: Path, incomplete: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches = [interrupts(3, start) for start in range(0, 12, 3)]
    whole = len(write_trace(path, batches).read_bytes())
    starts = [piece.header.sequence for piece in take_apart(path.read_bytes())]
    assert starts == list(range(len(starts)))
    path.unlink()
    for room in range(0, whole, 7):
        with monkeypatch.context() as patched:
            refuse(patched, room)
            with pytest.raises(TraceWriteError, match="No space left on device") as caught:
                write_trace(path, batches)
        assert str(path) in str(caught.value)
        assert not path.exists()
        if incomplete.exists():
            with TraceReader(incomplete) as reader:
                events = list(reader.events())
                assert events == interrupts(len(events))
                assert reader.torn_at == incomplete.stat().st_size
        else:
            assert "nothing was written" in str(caught.value)


def test_after_a_write_error_the_writer_is_silent(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with LogWriter(path, HEADER, IMAGES) as writer:
        writer.write(ONE_OF_EACH[0])
        writer.flush()
        refuse(monkeypatch, 10, errno.EIO)
        writer.write(ONE_OF_EACH[1])
        with pytest.raises(TraceWriteError, match="Input/output error"):
            writer.flush()
        assert writer.failed
        for event in interrupts(2000, 3000):
            writer.write(event)
        writer.pulse()
        writer.flush()
        writer.checkpoint(Checkpoint(Tick(1 << 40), {}))
        writer.close(END)
    assert read_events(path) == [ONE_OF_EACH[0]]


def test_a_disk_that_fails_at_closing_leaves_the_trace_unnamed(
    path: Path, incomplete: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fsync(descriptor: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(TraceWriteError, match="Input/output error"):
        write_trace(path)
    assert not path.exists()
    assert tuple(read_events(incomplete)) == ONE_OF_EACH


def test_a_limit_on_the_size_of_files_is_a_write_error(path: Path) -> None:
    recorder = child(
        """
        import resource
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
        writer = LogWriter(sys.argv[1], HEADER, IMAGES)
        try:
            for event in interrupts(1_000_000):
                writer.write(event)
                if event.tick % 1000 == 0:
                    writer.flush()
        except TraceWriteError as error:
            print(error)
        """,
        str(path),
    )
    said, errors = recorder.communicate(timeout=PATIENCE)
    assert errors == ""
    assert said.startswith(f"{path}.incomplete: recording stopped: File too large")
    with TraceReader(path) as reader:
        events = list(reader.events())
        assert events == interrupts(len(events))
        assert len(events) > 1000
        assert reader.torn_at == reader.path.stat().st_size <= 20_000


# A file that ends early.


def test_a_tear_in_the_head_is_truncation(path: Path) -> None:
    data = write_trace(path).read_bytes()
    head = chunks.PROLOGUE_SIZE
    head += sum(len(piece.pack()) for piece in take_apart(data)[:3])
    for size in range(head):
        path.write_bytes(data[:size])
        with pytest.raises(TraceTruncated):
            TraceReader(path)
    path.write_bytes(data[:head])
    with TraceReader(path) as reader:
        assert not reader.complete
        assert list(reader.events()) == []


def test_zeros_behind_the_last_chunk_are_a_tear(path: Path) -> None:
    whole = write_trace(path, closed=False)
    size = whole.stat().st_size
    for zeros in (1, 51, 52, 53, 5000):
        whole.write_bytes(whole.read_bytes()[:size] + bytes(zeros))
        with TraceReader(whole) as reader:
            assert tuple(reader.events()) == ONE_OF_EACH
            assert reader.torn_at == size


def test_bytes_behind_the_trailer_are_damage(path: Path) -> None:
    data = write_trace(path).read_bytes()
    for more in (b"x", b"x" * 100, bytes(100) + b"x", data[-20:]):
        path.write_bytes(data + more)
        with pytest.raises(TraceFormatError):
            TraceReader(path)


# Damage, and what salvage makes of it.


def test_salvage_reads_what_lies_before_damage(path: Path) -> None:
    batches = [interrupts(3, start) for start in range(0, 12, 3)]
    write_trace(path, batches)
    with TraceReader(path) as reader:
        third = list(reader.chunks)[2]
    data = bytearray(path.read_bytes())
    data[third.offset + third.size - 1] ^= 1
    path.write_bytes(data)
    with TraceReader(path) as reader, pytest.raises(TraceFormatError) as caught:
        list(reader.events())
    assert caught.value.offset == third.offset
    with TraceReader(path, salvage=True) as reader:
        assert list(reader.events()) == interrupts(6)
        assert not reader.complete
        assert reader.torn_at == third.offset
        assert reader.damage is not None
        assert reader.damage.offset == third.offset


def test_salvage_of_a_sound_trace_finds_it_complete(path: Path) -> None:
    write_trace(path)
    with TraceReader(path, salvage=True) as reader:
        assert tuple(reader.events()) == ONE_OF_EACH
        assert reader.complete
        assert reader.damage is None


def orders(pieces: list[Piece]) -> dict[str, list[Piece]]:
    head, first, second, third = pieces[:3], *pieces[3:6]
    return {
        "repeated": [*head, first, first, second],
        "exchanged": [*head, second, first, third],
        "lost": [*head, first, third],
        "beginning lost": [*head, second, third],
        "image lost": [*head[:2], first],
        "images exchanged": [head[0], head[2], head[1], first],
        "header repeated": [*head, pieces[0], first],
        "image among events": [*head, first, pieces[1]],
        "events before images": [head[0], first, *head[1:]],
        "no header": [*pieces[1:]],
    }


@pytest.mark.parametrize("what", orders([None] * 6).keys())  # type: ignore[list-item]
def test_chunks_in_wrong_order_are_damage(path: Path, what: str) -> None:
    write_trace(path, [interrupts(3, start) for start in range(0, 9, 3)])
    rebuilt(path, lambda pieces: orders(pieces)[what])
    with pytest.raises(TraceFormatError):
        read_everything(path)


@pytest.mark.parametrize(
    "change",
    [
        {"stamp": 5},
        {"first_tick": 29},
        {"last_tick": 1000},
        {"count": 4},
        {"count": 0},
        {"count": 1 << 31},
        {"sequence": 0},
        {"type": ChunkType.CHECKPOINT},
        {"type": ChunkType.INDEX, "flags": 1},
        {"type": ChunkType.END},
        {"type": 99},
        {"flags": 1},
        {"flags": 2},
        {"first_tick": 1 << 63, "last_tick": 1 << 63},
    ],
)
def test_a_chunk_header_that_does_not_fit_is_damage(path: Path, change: dict[str, int]) -> None:
    write_trace(path, [interrupts(3, start) for start in range(0, 9, 3)])

    def changed(pieces: list[Piece]) -> list[Piece]:
        pieces[4].header = replace(pieces[4].header, **change)  # type: ignore[arg-type]
        return pieces

    rebuilt(path, changed)
    with pytest.raises(TraceFormatError):
        read_everything(path)


def test_a_chunk_of_another_trace_is_noticed(tmp_path: Path) -> None:
    one, two = tmp_path / "one.lgt", tmp_path / "two.lgt"
    write_trace(one, [interrupts(3), interrupts(3, 3)])
    with LogWriter(two, replace(HEADER, seed=8), IMAGES) as writer:
        for event in interrupts(3):
            writer.write(event)
        writer.close(END)
    foreign = take_apart(two.read_bytes())[3]
    rebuilt(one, lambda pieces: [*pieces[:3], foreign, pieces[4]])
    with pytest.raises(TraceFormatError, match="stamp of another trace"):
        read_everything(one)


def test_a_lost_chunk_is_noticed_on_opening(path: Path) -> None:
    write_trace(path, [interrupts(3, start) for start in range(0, 9, 3)])
    rebuilt(path, lambda pieces: [*pieces[:4], pieces[5]])
    with pytest.raises(TraceFormatError, match="chunk number 5 where 4 belongs"):
        TraceReader(path)


def test_time_that_goes_back_is_noticed_on_opening(path: Path) -> None:
    write_trace(path, [interrupts(3, start) for start in range(0, 9, 3)])

    def exchanged(pieces: list[Piece]) -> list[Piece]:
        pieces[3:6] = pieces[5], pieces[4], pieces[3]
        for rank, piece in enumerate(pieces):
            piece.header = replace(piece.header, sequence=rank)
        return pieces

    rebuilt(path, exchanged)
    with pytest.raises(TraceFormatError, match="tick 30 after tick 80"):
        TraceReader(path)


def test_a_header_with_the_stamp_of_another_trace_is_noticed(path: Path) -> None:
    write_trace(path)

    def stamped(pieces: list[Piece]) -> list[Piece]:
        for piece in pieces:
            piece.header = replace(piece.header, stamp=5)
        return pieces

    rebuilt(path, stamped)
    with pytest.raises(TraceFormatError, match="stamp of another trace"):
        TraceReader(path)


def test_an_image_of_another_size_or_content_is_noticed(path: Path) -> None:
    write_trace(path)
    sound = path.read_bytes()

    def with_image(raw: bytes) -> None:
        path.write_bytes(sound)
        rebuilt(path, lambda pieces: [pieces[0], Piece(pieces[1].header, raw), *pieces[2:]])

    with_image(IMAGES["hello"] + b"!")
    with pytest.raises(TraceFormatError, match="image 'hello' of 65 bytes, not 64"):
        TraceReader(path)
    with_image(IMAGES["hello"][:-1] + b"!")
    with TraceReader(path) as reader:
        assert reader.image("disk") == IMAGES["disk"]
        with pytest.raises(TraceFormatError, match="image 'hello' is another one"):
            reader.image("hello")


ENDS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "an end with another number": ({"sequence": 9}, {}),
    "an end at another tick than it says": ({"first_tick": 1 << 41, "last_tick": 1 << 41}, {}),
    "an end before the last event": ({"first_tick": 5, "last_tick": 5}, {"tick": 5}),
    "an end with an unknown reason": ({}, {"reason": 77}),
    "an index somewhere else": ({}, {"index": 100}),
    "an index that is not told": ({}, {"index": 0}),
}


@pytest.mark.parametrize("closed", [True, False])
@pytest.mark.parametrize("what", ENDS.keys())
def test_an_end_that_does_not_fit_is_damage(path: Path, what: str, closed: bool) -> None:
    in_header, in_payload = ENDS[what]
    write_trace(path)
    pieces = take_apart(path.read_bytes())
    end = pieces.pop()
    start = len(put_together(pieces))
    index_at = start - len(pieces[-1].pack())
    fields: dict[str, Value] = {"tick": 1 << 40, "digest": b"", "reason": 1, **in_payload}
    index = fields.pop("index", index_at)
    end.header = replace(end.header, **in_header)
    end.raw = pack_map({"end": fields, "index": index})
    trailer = chunks.pack_trailer(start) if closed else b""
    path.write_bytes(put_together(pieces) + end.pack() + trailer)
    with pytest.raises(TraceFormatError):
        TraceReader(path)


def test_zeros_where_the_trailer_should_be_are_a_tear(path: Path) -> None:
    data = write_trace(path).read_bytes()[: -chunks.TRAILER_SIZE]
    path.write_bytes(data + bytes(4000))
    with TraceReader(path) as reader:
        assert tuple(reader.events()) == ONE_OF_EACH
        assert reader.torn_at == len(data)
        assert reader.end == END


def test_an_index_that_does_not_tell_the_truth_is_noticed(path: Path) -> None:
    with LogWriter(path, HEADER, IMAGES) as writer:
        writer.write(interrupts(1)[0])
        writer.checkpoint(Checkpoint(Tick(1), {}))
        writer.write(interrupts(1, 1)[0])
        writer.close(END)
    data = path.read_bytes()
    pieces = take_apart(data)
    index, end = pieces[-2:]
    start = len(put_together(pieces[:-2]))
    for position in range(len(index.raw)):
        for bit in range(8):
            raw = bytearray(index.raw)
            raw[position] ^= 1 << bit
            lying = Piece(index.header, bytes(raw)).pack()
            tail = lying + end.pack() + chunks.pack_trailer(start + len(lying))
            path.write_bytes(data[:start] + tail)
            with pytest.raises(TraceFormatError):
                read_everything(path)


# Sizes that a stranger made up.


@pytest.mark.parametrize("raw_size", [1, 5000, 4 << 20, (4 << 20) + 1, 1 << 30, (1 << 32) - 1])
def test_a_chunk_that_inflates_to_more_than_it_says_is_damage(path: Path, raw_size: int) -> None:
    write_trace(path, [interrupts(3)])
    bomb = Piece(take_apart(path.read_bytes())[3].header, bytes(200 << 20))
    payload_of = bomb.pack(level=1)[chunks.CHUNK_HEADER_SIZE :]
    rebuilt(path, lambda pieces: [*pieces[:3], bomb.pack_payload(payload_of, raw_size)])
    tracemalloc.start()
    with pytest.raises(TraceFormatError):
        read_everything(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 << 20


@pytest.mark.parametrize("excess", [0, 1])
def test_a_chunk_may_be_as_large_as_its_type_allows(path: Path, excess: int) -> None:
    write_trace(path, [interrupts(3)])
    largest = chunks.MAX_RAW[ChunkType.EVENTS]
    rows = (b"\x93\x7f\x00\x00" * (largest // 4))[: largest - 4]

    def filled(pieces: list[Piece]) -> list[Piece]:
        # The last row has a filler of up to three bytes.
        pieces[3].raw = rows + b"\x93\x7f\x00" + (b"\x00" if not excess else b"\xcc\x00")
        first = Tick(0)
        count = largest // 4
        pieces[3].header = replace(pieces[3].header, first_tick=first, last_tick=first, count=count)
        return pieces

    rebuilt(path, filled)
    if excess:
        with pytest.raises(TraceFormatError, match=f"{largest + 1} bytes, its type allows"):
            TraceReader(path)
    else:
        with TraceReader(path) as reader:
            assert reader.event_count == largest // 4
            assert list(reader.events()) == []


@pytest.mark.parametrize(
    "frame",
    [
        b"x",
        b"\x28\xb5\x2f\xfd",
        # A frame that announces 2**63 bytes.
        b"\x28\xb5\x2f\xfd\xe0" + (1 << 63).to_bytes(8, "little"),
        # A frame without content size.
        b"\x28\xb5\x2f\xfd\x00\x58\x01\x00\x00",
        # A skippable frame.
        b"\x50\x2a\x4d\x18\x04\x00\x00\x00abcd",
    ],
)
def test_what_is_not_one_zstd_frame_is_damage(path: Path, frame: bytes) -> None:
    write_trace(path, [interrupts(3)])
    rebuilt(path, lambda pieces: [*pieces[:3], pieces[3].pack_payload(frame, 30)])
    with pytest.raises(TraceFormatError, match=r"compressed data|zstd"):
        read_everything(path)


def test_two_frames_in_one_chunk_are_damage(path: Path) -> None:
    write_trace(path, [interrupts(3)])

    def doubled(pieces: list[Piece]) -> list[Piece | bytes]:
        frame = pieces[3].pack()[chunks.CHUNK_HEADER_SIZE :]
        return [*pieces[:3], pieces[3].pack_payload(frame * 2, len(pieces[3].raw))]

    rebuilt(path, doubled)
    with pytest.raises(TraceFormatError):
        read_everything(path)


BOMBS = {
    "lists in lists": b"\x81\xa1a" + b"\x91" * 5000 + b"\x00",
    "many lists": b"\x81\xa1a\xdd\x00\x20\x00\x00" + b"\x90" * (1 << 21),
    "lists of many lists": b"\x81\xa1a\x9f" + (b"\xdd\x00\x02\x00\x00" + b"\x90" * (1 << 17)) * 15,
    "a list that announces 4 billion": b"\x81\xa1a\xdd\xff\xff\xff\xff",
    "a map that announces 4 billion": b"\xdf\xff\xff\xff\xff",
    "text that announces 4 billion": b"\x81\xa1a\xdb\xff\xff\xff\xff",
    "a name twice": b"\x82\xa1a\x00\xa1a\x01",
    "a number for a name": b"\x81\x05\x00",
    "bytes for a name": b"\x81\xc4\x01a\x00",
    "a float": b"\x81\xa1a\xcb" + bytes(8),
    "an extension": b"\x81\xa1a\xd4\x05\x00",
    "a time stamp": b"\x81\xa1a\xd6\xff" + bytes(4),
    "text that is not UTF-8": b"\x81\xa1a\xa1\xff",
    "something behind": b"\x80\x80",
    "a list": b"\x90",
    "half a map": b"\x82\xa1a\x00",
}


@pytest.mark.parametrize("raw", BOMBS.values(), ids=BOMBS.keys())
def test_a_checkpoint_that_is_not_plain_is_damage_within_bounded_memory(
    path: Path, raw: bytes
) -> None:
    with LogWriter(path, HEADER, IMAGES) as writer:
        writer.checkpoint(Checkpoint(Tick(0), {}))
        writer.close(END)

    def with_bomb(pieces: list[Piece]) -> list[Piece]:
        pieces[3].raw = raw
        return pieces

    rebuilt(path, with_bomb)
    with pytest.raises(TraceFormatError, match=r"msgpack|nested|value"):
        read_everything(path)


@pytest.mark.parametrize("raw", BOMBS.values(), ids=BOMBS.keys())
def test_a_header_that_is_not_plain_is_damage(path: Path, raw: bytes) -> None:
    write_trace(path)
    head = take_apart(path.read_bytes())[0]
    _, stamp = chunks.stamp_of(raw)
    path.write_bytes(put_together([Piece(replace(head.header, stamp=stamp), raw)]))
    with pytest.raises(TraceFormatError):
        TraceReader(path)


@pytest.mark.parametrize("name", ["guests", "engine", "maths", "seed"])
@pytest.mark.parametrize("value", [None, "wrong", b"wrong", -1, [], [5], {}, True])
def test_a_header_field_of_a_wrong_type_is_damage(path: Path, name: str, value: Any) -> None:
    if (name, value) in (("engine", "wrong"), ("maths", b"wrong")):
        return
    fields: dict[str, Any] = {
        "lgreplay_version": "",
        "engine": "",
        "engine_version": "",
        "cpu_model": "",
        "maths": b"",
        "guests": [{"memory": 0, "abi": "", "kernel": ""}],
        "clock": "",
        "seed": 0,
        "digest_interval": 0,
    }
    read_everything(header_only(path, fields))
    with pytest.raises(TraceFormatError, match=name):
        TraceReader(header_only(path, {**fields, name: value}))
    del fields[name]
    with pytest.raises(TraceFormatError, match=name):
        TraceReader(header_only(path, fields))


def header_only(path: Path, fields: Any, version: Version | None = None) -> Path:
    raw = msgpack.packb(fields)
    write_trace(path)
    head = take_apart(path.read_bytes())[0]
    _, stamp = chunks.stamp_of(raw)
    path.write_bytes(put_together([Piece(replace(head.header, stamp=stamp), raw)], version))
    return path


# Versions.


def test_a_newer_major_version_is_refused_with_a_helpful_line(path: Path) -> None:
    data = write_trace(path).read_bytes()
    path.write_bytes(chunks.pack_prologue(Version(2, 0)) + data[chunks.PROLOGUE_SIZE :])
    with pytest.raises(TraceVersionError, match=r"trace format 2\.0, .* reads 1\.x; a newer"):
        TraceReader(path)


def test_what_is_no_trace_is_said_to_be_none(path: Path) -> None:
    for data in (b"MZ", b"\x7fELF" * 100, b"\x89LGT\n\x1a\n" + bytes(100)):
        path.write_bytes(data)
        with pytest.raises(TraceFormatError, match="not an lgreplay trace"):
            TraceReader(path)


def newer(path: Path, kind: int, flags: int, version: Version) -> Path:
    """Insert a chunk of an unknown type between two chunks of events."""
    write_trace(path, [interrupts(3), interrupts(3, 3)])
    *head, first, second, _, _ = take_apart(path.read_bytes())
    unknown = Piece(
        replace(
            first.header,
            type=kind,
            flags=flags,
            count=0,
            first_tick=Tick(20),
            last_tick=Tick(20),
        ),
        b"what",
    )
    body = [first, unknown, second]
    for rank, piece in enumerate(body):
        piece.header = replace(piece.header, sequence=3 + rank)
    path.write_bytes(put_together([*head, *body], version))
    return path


NEWER = Version(MAJOR, MINOR + 1)


@pytest.mark.parametrize("minor", [0, MINOR, 9])
def test_a_skippable_chunk_of_unknown_type_is_passed_over(path: Path, minor: int) -> None:
    newer(path, 200, ChunkFlag.SKIPPABLE, Version(1, minor))
    assert read_everything(path) == interrupts(6)


def test_an_unknown_chunk_that_may_not_be_skipped_is_too_new_or_damage(path: Path) -> None:
    with pytest.raises(TraceVersionError, match="unknown type of chunk 200; a newer lgreplay"):
        TraceReader(newer(path, 200, 0, NEWER))
    with pytest.raises(TraceFormatError, match="unknown type of chunk 200"):
        TraceReader(newer(path, 200, 0, Version(1, 0)))
    with pytest.raises(TraceVersionError, match="unknown flags"):
        TraceReader(newer(path, 200, 3, NEWER))


def test_salvage_does_not_take_a_newer_trace_for_a_damaged_one(path: Path) -> None:
    with pytest.raises(TraceVersionError):
        TraceReader(newer(path, 200, 0, NEWER), salvage=True)


def test_a_trace_that_needs_what_this_reader_does_not_know_is_refused(path: Path) -> None:
    with LogWriter(path, replace(HEADER, needs=("time machine",)), IMAGES) as writer:
        writer.close(END)
    with pytest.raises(TraceVersionError, match="needs time machine; a newer lgreplay"):
        TraceReader(path)


def test_a_header_may_have_names_that_this_reader_does_not_know(path: Path) -> None:
    guest = {"memory": 1, "abi": "3.2", "kernel": "", "colour": "blue"}
    fields = {
        **dict.fromkeys(("lgreplay_version", "engine", "engine_version", "cpu_model"), ""),
        "clock": "",
        "maths": b"",
        "guests": [guest],
        "seed": 1,
        "digest_interval": 0,
        "weather": ["fine"],
    }
    with TraceReader(header_only(path, fields, Version(1, 3))) as reader:
        assert reader.header.guests == (GuestSetup(1, "3.2", ""),)


# Flight recording.


class Flight:
    """A recorder that keeps the newest part; its checkpoints say which event comes next."""

    def __init__(self, path: Path, keep: Keep, checkpoint_size: int = 100) -> None:
        self.clock = FakeClock()
        self.next = 0
        self.largest = 0
        self._random = random.Random(5)
        self._checkpoint_size = checkpoint_size
        self._directory = path.parent
        self.writer = LogWriter(
            path, HEADER, IMAGES, now=self.clock, keep_last=keep, take_checkpoint=self._take
        )

    def _take(self) -> Checkpoint:
        memory = self._random.randbytes(self._checkpoint_size)
        return Checkpoint(Tick(self.next * 10), {"next": self.next, "memory": memory})

    def run(self, count: int, ns_each: int = 1_000_000) -> None:
        for _ in range(count):
            self.writer.write(StateDigest(Tick(self.next * 10), 0, self._random.randbytes(16)))
            self.next += 1
            self.clock.ns += ns_each
            if self.next % 50 == 0:
                self.writer.pulse()
                used = sum(file.stat().st_size for file in self._directory.iterdir())
                self.largest = max(self.largest, used)


def check_flight(path: Path) -> list[Event]:
    with TraceReader(path) as reader:
        reader.verify()
        events = list(reader.events())
        first = next(reader.chunks)
        if not reader.starts_at_power_on:
            assert first.type == ChunkType.CHECKPOINT
        for entry in reader.checkpoints():
            following = list(reader.events_after(entry))
            number = reader.read_checkpoint(entry).fields["next"]
            assert isinstance(number, int)
            assert not following or following[0].tick == number * 10
    assert all(b.tick - a.tick == 10 for a, b in pairwise(events))
    return events


def test_a_flight_recorder_keeps_at_least_the_newest_bytes(path: Path) -> None:
    flight = Flight(path, Keep(bytes=50_000))
    flight.run(20_000)
    flight.writer.close(replace(END, tick=Tick(1 << 40)))
    events = check_flight(path)
    assert events[-1].tick == (flight.next - 1) * 10
    # An event takes 18 bytes of the file or so.
    assert 50_000 // 25 < len(events) < 90_000 // 17
    assert 50_000 < path.stat().st_size < 75_000
    assert flight.largest < 2.4 * 50_000


def test_a_flight_recorder_keeps_at_least_the_newest_time(path: Path) -> None:
    flight = Flight(path, Keep(ns=Nanoseconds(10 * SECOND)))
    flight.run(60_000)
    flight.writer.close(END)
    events = check_flight(path)
    assert 10_000 <= len(events) <= 13_000


def test_a_flight_recorder_that_has_less_keeps_all(path: Path) -> None:
    flight = Flight(path, Keep(bytes=10 << 20, ns=Nanoseconds(1000 * SECOND)))
    flight.run(1000)
    flight.writer.close(END)
    assert len(check_flight(path)) == 1000
    with TraceReader(path) as reader:
        assert reader.starts_at_power_on


def test_large_checkpoints_make_long_segments(path: Path) -> None:
    flight = Flight(path, Keep(bytes=1000), checkpoint_size=20_000)
    flight.run(20_000)
    flight.writer.close(END)
    assert len(check_flight(path)) > 50
    assert path.stat().st_size < 110_000


def test_a_flight_recorder_is_readable_at_any_moment(path: Path) -> None:
    flight = Flight(path, Keep(bytes=5_000))
    for _ in range(40):
        flight.run(100)
        flight.writer.flush()
        assert check_flight(path)[-1].tick == (flight.next - 1) * 10
    flight.writer.abandon()
    check_flight(path)


def test_a_disk_too_full_for_dropping_keeps_the_old_part(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flight = Flight(path, Keep(bytes=5_000))
    replace_path = Path.replace

    def refuse_once(self: Path, target: Path) -> Path:
        if self.suffix == ".cut":
            raise OSError(errno.ENOSPC, "full")
        return replace_path(self, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", refuse_once)
        flight.run(1000)
        flight.writer.flush()
        assert len(check_flight(path)) == 1000
    flight.run(1000)
    flight.writer.close(END)
    assert len(check_flight(path)) < 1000
    assert [file.name for file in path.parent.iterdir()] == ["some.lgt"]


def test_what_to_keep_must_be_said(path: Path) -> None:
    for size, ns in ((None, None), (0, None), (None, -5), (5, 0)):
        with pytest.raises(ValueError, match="positive"):
            Keep(size, None if ns is None else Nanoseconds(ns))
    with pytest.raises(ValueError, match="belong together"):
        LogWriter(path, HEADER, IMAGES, keep_last=Keep(bytes=5))


def test_a_beginning_that_is_not_a_checkpoint_may_not_be_missing(path: Path) -> None:
    flight = Flight(path, Keep(bytes=5_000))
    flight.run(1000)
    flight.writer.close(END)
    rebuilt(path, lambda pieces: [*pieces[:3], *pieces[4:]])
    with pytest.raises(TraceFormatError, match="the events begin with chunk"):
        TraceReader(path)


# Size and mode.


def test_a_regular_workload_takes_four_bytes_for_an_interrupt(path: Path) -> None:
    generator = random.Random(1)
    tick = 0
    clock = FakeClock()
    with LogWriter(path, HEADER, IMAGES, now=clock) as writer:
        for _ in range(10_000):
            tick += 10_000 + generator.randint(-10, 10)
            eip = 0xC0101000 + 4 * generator.randrange(16)
            writer.write(HostInterrupt(Tick(tick), 0, 0x20, eip, generator.randrange(128)))
            clock.ns += 1_000_000
            writer.pulse()
        writer.close(END)
    with TraceReader(path) as reader:
        assert sum(entry.size for entry in reader.chunks) / reader.event_count < 4


def test_a_trace_is_made_with_the_users_mode(path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_trace(path)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_clock_readings_survive_the_border_between_chunks(path: Path) -> None:
    readings: list[Event] = [ClockReading(Tick(n), 0, Nanoseconds(10**18 + n)) for n in range(10)]
    write_trace(path, [readings[:5], readings[5:]])
    assert read_events(path) == readings
