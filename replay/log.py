"""The log in a trace file: LogWriter puts events into it, TraceReader takes them out, and both change together.

The writer collects events and appends them as a chunk when there is enough of them or the oldest has waited a second,
so a killed recorder loses at most that second. A flight recorder's checkpoint is taken in `pulse` only, where the
machine stands between two steps. What the disk refuses ends the recording: the file is cut back to its last whole
chunk and TraceWriteError is raised, once.

The reader goes from chunk to chunk and never holds more than one. It believes nothing: chunk headers must agree with
the index, events with their chunk header, and everything with its checksum. A file that ends early - the recorder
was killed, or is still at work - is read up to its last whole chunk; `complete` is False then and `torn_at` says where
that is. Damage is not a tear: it is an error when it is met. With `salvage=True` the first damage counts as a tear.

Read next: trace_file.py for the file's life, opening.py for what a reader demands of it, chunks.py and codec.py for the
bytes, keep.py for flight recording.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from os import PathLike
from pathlib import Path
from typing import Self

from hostvm.units import Tick
from replay import codec
from replay.chunk_writer import ChunkWriter
from replay.chunks import ChunkHeader, ChunkType, Version
from replay.directory import Directory, Entry
from replay.errors import TraceFormatError
from replay.events import Event
from replay.keep import Keep, Segments
from replay.layouts import LAYOUTS
from replay.opening import Head, read_body, read_head
from replay.trace_file import TraceInput, incomplete_path
from replay.trace_header import TraceEnd, TraceHeader
from replay.wire import Value, pack_map, unpack_map

FLUSH_SIZE = 64 << 10
FLUSH_NS = 1_000_000_000
LOOK_EVERY = 1 << 10
NO_IMAGES: Mapping[str, bytes] = {}


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A state of the machine as named plain values; what the names mean is for its maker to define and check."""

    tick: Tick
    fields: dict[str, Value]


class LogWriter:
    """Writes one trace. Used as a context manager, it leaves NAME.incomplete unless `close` was called.

    `now` is any clock that does not go back, in nanoseconds; it decides only when chunks and segments end. With
    `begins_with`, what is before that state has been dropped.

    Raises (all methods): TraceWriteError, once, when the system refuses to write; after that the writer ignores what
        is said to it. ValueError for events and fields that no reader would accept.
    """

    def __init__(
        self,
        path: str | PathLike[str],
        header: TraceHeader,
        images: Mapping[str, bytes] = NO_IMAGES,
        *,
        now: Callable[[], int] = time.monotonic_ns,
        keep_last: Keep | None = None,
        take_checkpoint: Callable[[], Checkpoint] | None = None,
        begins_with: Checkpoint | None = None,
    ) -> None:
        if (keep_last is None) != (take_checkpoint is None):
            raise ValueError("keep_last and take_checkpoint belong together")
        self.path = Path(path)
        self._now = now
        self._flushed_at = now()
        self._take_checkpoint = take_checkpoint
        self._segments = Segments(keep_last, self._flushed_at) if keep_last else None
        self._encoder = codec.EventEncoder()
        self._look_at = LOOK_EVERY
        self._chunks = ChunkWriter(self.path, header, images, whole=begins_with is None)
        if begins_with is not None:
            self.checkpoint(begins_with)

    @property
    def header(self) -> TraceHeader:
        """The header as it stands in the file."""
        return self._chunks.header

    @property
    def trace_id(self) -> bytes:
        """16 bytes that tell this recording from all others."""
        return self._chunks.trace_id

    @property
    def failed(self) -> bool:
        """Whether the system has refused to write."""
        return self._chunks.failed

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.abandon()

    # What the recorder calls.

    def write(self, event: Event) -> None:
        """Add one event; ticks must not go back."""
        if self._encoder.add(event) >= self._look_at:
            self._look()

    def pulse(self) -> None:
        """Write what has waited; let a flight recorder begin a segment.

        To be called several times a second, when the machine stands between two steps.
        """
        if self._chunks.closed:
            return
        now = self._now()
        if self._take_checkpoint and self._is_segment_full(now):
            self.checkpoint(self._take_checkpoint())
        if now - self._flushed_at >= FLUSH_NS:
            self.flush()

    def checkpoint(self, checkpoint: Checkpoint) -> None:
        """Put a checkpoint behind the events written so far; a flight recorder begins a segment with it."""
        self.flush()
        if self._chunks.closed:
            return
        self._encoder.advance(checkpoint.tick)
        position, rank = self._chunks.position, self._chunks.rank
        raw = pack_map(checkpoint.fields)
        self._chunks.add(ChunkType.CHECKPOINT, raw, (checkpoint.tick, checkpoint.tick))
        if self._segments:
            now, size = self._now(), self._chunks.position - position
            self._segments.begin(position, rank, now, size)
            kept = self._segments.drop_spare(self._chunks.position, now)
            if kept is not None:
                self._chunks.drop_before(kept.rank)

    def flush(self) -> None:
        """Write all events to the file, as one chunk."""
        self._flushed_at = self._now()
        self._look_at = LOOK_EVERY
        encoded = self._encoder.take()
        if encoded is not None and not self._chunks.closed:
            ticks = (encoded.first_tick, encoded.last_tick)
            self._chunks.add(ChunkType.EVENTS, encoded.raw, ticks, encoded.kinds)

    def close(self, end: TraceEnd) -> None:
        """Write what is left, index and end record, and give the file its name."""
        self.flush()
        if not self._chunks.closed:
            self._encoder.advance(end.tick)
            self._chunks.finish(end)

    def abandon(self) -> None:
        """Write what is left and leave the trace unclosed, as a killed recorder would; no effect after `close`."""
        try:
            self.flush()
        finally:
            self._chunks.close()

    def _look(self) -> None:
        size = self._encoder.size
        if size >= FLUSH_SIZE or self._now() - self._flushed_at >= FLUSH_NS:
            self.flush()
        else:
            self._look_at = min(size + LOOK_EVERY, FLUSH_SIZE)

    def _is_segment_full(self, now: int) -> bool:
        position = self._chunks.position + self._encoder.size
        return self._segments is not None and self._segments.is_full(position, now)


class TraceReader:
    """Reads one trace, closed or not. When there is no `path` but a `path`.incomplete, it is that which is read.

    Raises: TraceReadError, TraceTruncated, TraceFormatError, TraceVersionError; on opening, or when damage is met.
    """

    def __init__(self, path: str | PathLike[str], *, salvage: bool = False) -> None:
        self.path = existing_path(Path(path))
        self._file = TraceInput(self.path)
        opened = False
        try:
            self._head = read_head(self._file)
            self._body = read_body(self._file, self._head, salvage=salvage)
            opened = True
        finally:
            if not opened:
                self._file.close()
        self._directory = self._body.directory

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    # What the trace says about itself.

    @property
    def header(self) -> TraceHeader:
        """The header."""
        return self._head.header

    @property
    def version(self) -> Version:
        """Version of the trace format."""
        return self._head.version

    @property
    def trace_id(self) -> bytes:
        """16 bytes that tell this recording from all others."""
        return self._head.trace_id

    @property
    def complete(self) -> bool:
        """Whether the trace was closed by its recorder."""
        return self._body.torn_at is None

    @property
    def torn_at(self) -> int | None:
        """Offset behind the last whole chunk of a trace that is not complete."""
        return self._body.torn_at

    @property
    def damage(self) -> TraceFormatError | None:
        """What salvage met at `torn_at`, if that is not simply the end of the file."""
        return self._body.damage

    @property
    def end(self) -> TraceEnd | None:
        """The end record, if the trace got that far."""
        return self._body.end

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return self._file.size

    @property
    def opens_at(self) -> Tick | None:
        """Where the trace wants to be opened, if not at its beginning."""
        end = self._body.end
        return Tick(end.opens_at) if end is not None and end.opens_at else None

    @property
    def first_tick(self) -> Tick | None:
        """First tick that an event or checkpoint speaks of; None in a trace without any."""
        return self._directory.first_tick

    @property
    def last_tick(self) -> Tick | None:
        """Last tick that an event or checkpoint speaks of."""
        return self._directory.last_tick

    @property
    def event_count(self) -> int:
        """Number of events, those of unknown kinds included."""
        return self._directory.event_count

    @property
    def starts_at_power_on(self) -> bool:
        """Whether nothing has been dropped; else the first thing in the body is a checkpoint."""
        return self._directory.sequence == self._head.next_sequence

    @property
    def chunks(self) -> Iterator[Entry]:
        """The chunks of the body in order, as the directory has them."""
        return (self._directory[rank] for rank in range(len(self._directory)))

    def count_kinds(self) -> dict[int, int]:
        """Number of events by kind: from the index, or, where there is none, by decoding everything."""
        known = self._directory.total_kinds()
        if known is not None:
            return known
        return _count(self.events())

    def image(self, name: str) -> bytes:
        """Return an embedded image.

        Raises: KeyError when the header names none such.
        """
        for info, offset in zip(self.header.images, self._head.images, strict=True):
            if info.name == name:
                header = self._file.header_at(offset, self.version)
                data = self._file.payload_at(offset, header)
                if sha256(data).digest() != info.sha256:
                    raise self._file.place(offset).malformed(f"image {name!r} is another one")
                return data
        raise KeyError(name)

    # What is in it.

    def events(
        self, first_tick: Tick | None = None, last_tick: Tick | None = None
    ) -> Iterator[Event]:
        """Yield the events of ticks first_tick..last_tick, both included; all by default."""
        rank = 0 if first_tick is None else self._directory.find(first_tick)
        for event in self._events_from(rank):
            if last_tick is not None and event.tick > last_tick:
                return
            if first_tick is None or event.tick >= first_tick:
                yield event

    def events_after(self, checkpoint: Entry) -> Iterator[Event]:
        """Yield the events behind a checkpoint: all that a replay from there needs."""
        return self._events_from(checkpoint.sequence - self._directory.sequence + 1)

    def chunk_events(self, entry: Entry) -> Iterator[Event]:
        """Yield the events of one chunk."""
        return self._decode(entry)

    def kinds_at(self, rank: int) -> dict[int, int] | None:
        """Events by kind of the chunk at `rank` of the body; None where only decoding it would tell."""
        return self._directory.kinds(rank)

    def checkpoints(self) -> Iterator[Entry]:
        """Yield where checkpoints are, in order."""
        return (entry for entry in self.chunks if entry.type == ChunkType.CHECKPOINT)

    def read_checkpoint(self, entry: Entry) -> Checkpoint:
        """Read one checkpoint. Its fields are plain values, of which nothing else has been checked."""
        raw = self._file.payload_at(entry.offset, self._chunk(entry))
        return Checkpoint(entry.first_tick, unpack_map(raw, self._file.place(entry.offset)))

    @property
    def parts(self) -> tuple[TraceInput, Head, Directory]:
        """File, head and directory, for who makes another trace of this one."""
        return self._file, self._head, self._directory

    def chunks_of(self, kind: ChunkType) -> list[Entry]:
        """Where the chunks of a type are, in order."""
        return [entry for entry in self.chunks if entry.type == kind]

    def payload(self, entry: Entry) -> bytes:
        """What is in a chunk, checked against its checksum and nothing else."""
        return self._file.payload_at(entry.offset, self._chunk(entry))

    def verify(self) -> None:
        """Read everything there is, images and checkpoints and what is unknown included."""
        for info in self.header.images:
            self.image(info.name)
        for rank, entry in enumerate(self.chunks):
            match entry.type:
                case ChunkType.EVENTS:
                    self._verify_events(rank, entry)
                case ChunkType.CHECKPOINT:
                    self.read_checkpoint(entry)
                case _:
                    self._file.check_payload(entry.offset, self._chunk(entry))

    def _verify_events(self, rank: int, entry: Entry) -> None:
        known = self._directory.kinds(rank)
        found = _count(self._decode(entry))
        if known is not None and found != {kind: n for kind, n in known.items() if kind in LAYOUTS}:
            raise self._file.place(entry.offset).malformed("other events than the index says")

    def _events_from(self, rank: int) -> Iterator[Event]:
        for at in range(rank, len(self._directory)):
            entry = self._directory[at]
            if entry.type == ChunkType.EVENTS:
                yield from self._decode(entry)

    def _decode(self, entry: Entry) -> Iterator[Event]:
        raw = self._file.payload_at(entry.offset, self._chunk(entry))
        expected = codec.Expected(
            entry.first_tick, entry.last_tick, entry.count, self.version.newer
        )
        return codec.decode_events(raw, expected, self._file.place(entry.offset))

    def _chunk(self, entry: Entry) -> ChunkHeader:
        header = self._file.header_at(entry.offset, self.version)
        if header.stamp != self._head.stamp or not entry.describes(header):
            raise self._file.place(entry.offset).malformed("another chunk than the index says")
        return header


def _count(events: Iterator[Event]) -> dict[int, int]:
    kinds = {layout.event: int(kind) for kind, layout in LAYOUTS.items()}
    return dict(Counter(kinds[type(event)] for event in events))


def existing_path(path: Path) -> Path:
    """The trace of this name, or, where there is none, the one that is to have it when it is whole."""
    incomplete = incomplete_path(path)
    return incomplete if not path.exists() and incomplete.exists() else path


__all__ = ["Checkpoint", "Keep", "LogWriter", "TraceReader", "existing_path"]
