"""Chunks to a file: numbers them, remembers where they are, and closes the trace. opening.py is its counterpart.

The one place where an OSError of a recording becomes a TraceWriteError. It is raised once; from then on the writer is
`closed`, and its owner says no more.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import NoReturn, Protocol, Self

from hostvm.units import Tick
from replay import chunks
from replay.chunks import ChunkHeader, ChunkType, Version
from replay.directory import Directory, pack_index
from replay.errors import TraceWriteError
from replay.opening import Head
from replay.trace_file import TraceCopy, TraceInput, TraceOutput
from replay.trace_header import ImageInfo, TraceEnd, TraceHeader, pack_end, pack_header
from replay.wire import Compressor

EVENT_LEVEL = 6
BULK_LEVEL = 3
NO_TICKS = (Tick(0), Tick(0))
NO_KINDS: Mapping[int, int] = {}


class _Output(Protocol):
    """What the files of trace_file.py have in common."""

    size: int

    def append(self, *parts: bytes) -> None: ...


class ChunkStream:
    """What all writers of chunks do. `level`: how hard to compress, where that is not the recorder's affair."""

    _output: _Output
    _directory: Directory

    def __init__(self, stamp: int, sequence: int, level: int | None = None) -> None:
        self._stamp = stamp
        self._sequence = sequence
        self._events = Compressor(EVENT_LEVEL if level is None else level)
        self._bulk = Compressor(BULK_LEVEL if level is None else level)

    def _append(
        self, kind: ChunkType, raw: bytes, ticks: tuple[Tick, Tick], count: int = 0
    ) -> ChunkHeader:
        if not 0 < len(raw) <= chunks.MAX_RAW[kind]:
            raise ValueError(f"{len(raw)} bytes for a chunk of type {kind.name}")
        payload = (self._events if kind == ChunkType.EVENTS else self._bulk).compress(raw)
        return self._append_payload(kind, payload, len(raw), ticks, count)

    def _append_payload(
        self,
        kind: ChunkType,
        payload: bytes,
        raw_size: int,
        ticks: tuple[Tick, Tick],
        count: int = 0,
    ) -> ChunkHeader:
        header = ChunkHeader(
            kind,
            chunks.FLAGS_OF[kind],
            self._stamp,
            self._sequence,
            len(payload),
            raw_size,
            *ticks,
            count,
            chunks.crc(payload),
        )
        self._append_raw(chunks.pack_chunk_header(header), payload)
        self._sequence += 1
        return header

    def _append_raw(self, *parts: bytes) -> None:
        self._output.append(*parts)

    def _append_tail(self, end: TraceEnd, *, indexed: bool = True) -> None:
        """Write index, end record and trailer."""
        pack_end(end, 0)
        ticks = (end.tick, end.tick)
        index, index_at = pack_index(self._directory) if indexed else b"", 0
        if 0 < len(index) <= chunks.MAX_RAW[ChunkType.INDEX]:
            index_at = self._output.size
            self._append(ChunkType.INDEX, index, ticks)
        end_at = self._output.size
        self._append(ChunkType.END, pack_end(end, index_at), ticks)
        self._append_raw(chunks.pack_trailer(end_at))


class ChunkWriter(ChunkStream):
    """Writes the head at once, then chunks of the body, then, with `finish`, the tail."""

    _output: TraceOutput

    def __init__(
        self,
        path: Path,
        header: TraceHeader,
        images: Mapping[str, bytes],
        *,
        whole: bool = True,
    ) -> None:
        self.header = replace(header, images=tuple(image_info(*image) for image in images.items()))
        self.closed = False
        self.failed = False
        self._begun = False
        payload = pack_header(self.header)
        self.trace_id, stamp = chunks.stamp_of(payload)
        super().__init__(stamp, 0)
        self._output = TraceOutput(path)
        self._write_head(payload, images)
        # A number left out says that something has been dropped.
        self._sequence += not whole
        self._directory = Directory(self._output.size, self._sequence)
        self._dropped = 0

    def _write_head(self, payload: bytes, images: Mapping[str, bytes]) -> None:
        try:
            self._open()
            self._append_raw(chunks.pack_prologue(Version()))
            self._append(ChunkType.HEADER, payload, NO_TICKS)
            for data in images.values():
                self._append(ChunkType.IMAGE, data, NO_TICKS)
            self._begun = True
        finally:
            if not self._begun:
                self._output.remove()

    def _open(self) -> None:
        try:
            self._output.open()
        except (OSError, ValueError) as error:
            why = f"cannot record here: {_reason(error)}"
            raise TraceWriteError(self._output.path, why) from error

    @property
    def position(self) -> int:
        """Bytes of the body written so far, those included that have been dropped since."""
        return self._dropped + self._directory.end - self._directory.start

    @property
    def rank(self) -> int:
        """Sequence number of the next chunk."""
        return self._sequence

    def add(
        self,
        kind: ChunkType,
        raw: bytes,
        ticks: tuple[Tick, Tick],
        kinds: Mapping[int, int] = NO_KINDS,
    ) -> None:
        """Append a chunk to the body. `kinds` counts the events in it."""
        if len(self._directory) >= chunks.MAX_CHUNKS:
            self._fail("the trace has as many chunks as a trace may have")
        header = self._append(kind, raw, ticks, sum(kinds.values()))
        self._directory.add(header, kinds)

    def drop_before(self, sequence: int) -> None:
        """Take the chunks before the one of this number out of the file."""
        rank = sequence - self._directory.sequence
        offset = self._directory.offset(rank)
        # On a full disk the file stays as long as it is; whoever calls this next time tries again.
        with suppress(OSError):
            self._output.drop(self._directory.start, offset)
            self._dropped += offset - self._directory.start
            self._directory.drop(rank)

    def finish(self, end: TraceEnd) -> None:
        """Write index, end record and trailer, and give the file its name."""
        self._append_tail(end)
        try:
            self._output.finish()
        except OSError as error:
            self._fail(_reason(error), error)
        self.closed = True

    def close(self) -> None:
        """Leave the file as it is, under the name it has."""
        self.closed = True
        self._output.close()

    def _append_raw(self, *parts: bytes) -> None:
        try:
            super()._append_raw(*parts)
        except OSError as error:
            self._fail(_reason(error), error)

    def _fail(self, reason: str, error: OSError | None = None) -> NoReturn:
        self.failed = True
        self.close()
        written = (
            "what was written before remains readable" if self._begun else "nothing was written"
        )
        text = f"recording stopped: {reason}; {written}"
        raise TraceWriteError(self._output.incomplete, text) from error


class ChunkCopy(ChunkStream):
    """Copies the head of a trace and the first chunks of its body, then appends others, then, with `finish`, the tail.

    It begins when it is entered as a context manager, and leaves no file when it is left without `finish`.
    Raises (all methods): TraceReadError, OSError.
    """

    _output: TraceCopy

    def __init__(self, source: TraceInput, head: Head, body: Directory) -> None:
        super().__init__(head.stamp, body.next_sequence)
        self._source = source
        self._directory = body
        self._output = TraceCopy(source)
        self._indexed = body.total_kinds() is not None

    def __enter__(self) -> Self:
        copied = False
        try:
            self._output.open()
            self._append_raw(chunks.pack_prologue(Version()))
            for piece in self._source.pieces(chunks.PROLOGUE_SIZE, self._directory.end):
                self._append_raw(piece)
            copied = True
        finally:
            if not copied:
                self._output.remove()
        return self

    def __exit__(self, *_: object) -> None:
        self._output.remove()

    def add(self, kind: ChunkType, raw: bytes, tick: Tick) -> None:
        """Append a chunk that has no events."""
        self._directory.add(self._append(kind, raw, (tick, tick)))

    @property
    def size(self) -> int:
        """Bytes written so far."""
        return self._output.size

    def add_frame(self, kind: ChunkType, frame: bytes, raw_size: int, tick: Tick) -> None:
        """As `add`, for what is compressed already."""
        self._directory.add(self._append_payload(kind, frame, raw_size, (tick, tick)))

    def finish(self, end: TraceEnd) -> None:
        """Write the tail, and put the copy in the place of the original."""
        self._append_tail(end, indexed=self._indexed)
        self._output.finish()


def image_info(name: str, data: bytes) -> ImageInfo:
    """What a header says of an embedded file."""
    return ImageInfo(name, len(data), sha256(data).digest())


def _reason(error: OSError | ValueError) -> str:
    return getattr(error, "strerror", None) or str(error)


__all__ = ["NO_TICKS", "ChunkCopy", "ChunkStream", "ChunkWriter", "image_info"]
