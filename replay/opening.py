"""How a trace is opened: what must be there, where it ends, and whether it was closed.

(i) The head: prologue, header, images. Without it nothing can be replayed, so a tear in it is an error.
(ii) The body, through the index that a closed trace has, or by a scan from chunk header to chunk header.
(iii) The tail: index, end record, trailer.

A tear is the end of the file where a chunk, or a part of one, should be; zeros up to the end of the file count as such,
because a power failure leaves them. Everything else that does not fit is damage, a TraceFormatError.
"""

from __future__ import annotations

from dataclasses import dataclass

from replay import chunks
from replay.chunks import ChunkHeader, ChunkType, Version
from replay.directory import Directory, unpack_index
from replay.errors import TraceFormatError
from replay.packings import Misfit
from replay.trace_file import TraceInput
from replay.trace_header import EndChunk, TraceEnd, TraceHeader, unpack_end, unpack_header


@dataclass(frozen=True, slots=True)
class Head:
    """What stands in front of the body. `images` are the offsets of the image chunks."""

    version: Version
    header: TraceHeader
    trace_id: bytes
    stamp: int
    images: tuple[int, ...]
    end: int

    @property
    def next_sequence(self) -> int:
        """Sequence number of the body's first chunk, when nothing has been dropped."""
        return 1 + len(self.images)


@dataclass(frozen=True, slots=True)
class Body:
    """The chunks that can be read. `torn_at` is None when the trace was closed; `damage` is set only by salvage."""

    directory: Directory
    torn_at: int | None
    end: TraceEnd | None = None
    damage: TraceFormatError | None = None


# (i) The head.


def read_head(file: TraceInput) -> Head:
    """Read prologue and header, and find the images.

    Raises: TraceTruncated when the file ends before the body begins; TraceFormatError, TraceVersionError.
    """
    version = chunks.unpack_prologue(file.read(0, chunks.PROLOGUE_SIZE), file.path)
    offset = chunks.PROLOGUE_SIZE
    first = _whole_chunk(file, offset, version)
    if first.type != ChunkType.HEADER or first.sequence != 0:
        raise file.place(offset).malformed("the first chunk is not the header of a trace")
    raw = file.payload_at(offset, first)
    trace_id, stamp = chunks.stamp_of(raw)
    if first.stamp != stamp:
        raise file.place(offset).malformed("the header bears the stamp of another trace")
    header = unpack_header(raw, file.place(offset))
    offset += first.size
    images: list[int] = []
    for sequence, info in enumerate(header.images, 1):
        image = _whole_chunk(file, offset, version)
        if (image.type, image.sequence, image.stamp) != (ChunkType.IMAGE, sequence, stamp):
            raise file.place(offset).malformed(f"not the chunk of image {info.name!r}")
        if image.raw_size != info.size:
            raise file.place(offset).malformed(
                f"image {info.name!r} of {image.raw_size} bytes, not {info.size}"
            )
        images.append(offset)
        offset += image.size
    return Head(version, header, trace_id, stamp, tuple(images), offset)


def _whole_chunk(file: TraceInput, offset: int, version: Version) -> ChunkHeader:
    place = file.place(offset)
    if offset + chunks.CHUNK_HEADER_SIZE > file.size:
        raise place.truncated("the file ends within the trace header")
    header = file.header_at(offset, version)
    if offset + header.size > file.size:
        raise place.truncated("the file ends within the trace header")
    return header


# (ii) The body.


def read_body(file: TraceInput, head: Head, *, salvage: bool) -> Body:
    """Find the chunks of the body: by the index if there is one, and else, or to salvage, by a scan."""
    trailer_at = file.size - chunks.TRAILER_SIZE
    end_at = chunks.unpack_trailer(file.read(max(trailer_at, 0), chunks.TRAILER_SIZE))
    if end_at is None or salvage:
        return _Scan(file, head, salvage=salvage).run()
    closing = _read_end(file, end_at, head)
    if end_at + _header_of(file, end_at, head).size != trailer_at:
        raise file.place(trailer_at).malformed("the trailer does not follow the end of the trace")
    if not closing.index:
        return _Scan(file, head, salvage=False).run()
    directory = _read_index(file, head, closing.index, end_at)
    _check_end(file, head, directory, end_at)
    return Body(directory, None, closing.end)


def _header_of(file: TraceInput, offset: int, head: Head) -> ChunkHeader:
    header = file.header_at(offset, head.version)
    if header.stamp != head.stamp:
        raise file.place(offset).malformed("a chunk with the stamp of another trace")
    return header


def _read_end(file: TraceInput, offset: int, head: Head) -> EndChunk:
    if not head.end <= offset < file.size:
        raise file.place(offset).malformed("the end of the trace lies outside of it")
    header = _header_of(file, offset, head)
    if header.type != ChunkType.END:
        raise file.place(offset).malformed("not the end of the trace")
    closing = unpack_end(file.payload_at(offset, header), file.place(offset))
    if not closing.end.tick == header.first_tick == header.last_tick:
        raise file.place(offset).malformed(
            f"the end at tick {closing.end.tick} in a chunk of {header.last_tick}"
        )
    return closing


def _read_index(file: TraceInput, head: Head, offset: int, end: int) -> Directory:
    place = file.place(offset)
    if not head.end <= offset < end:
        raise place.malformed("the index lies outside of the trace")
    header = _header_of(file, offset, head)
    if header.type != ChunkType.INDEX or offset + header.size != end:
        raise place.malformed("no index in front of the end of the trace")
    directory = unpack_index(file.payload_at(offset, header), head.end, offset, place)
    if header.sequence != directory.next_sequence:
        raise place.malformed(
            f"chunk number {header.sequence} instead of {directory.next_sequence}"
        )
    _check_beginning(file, head, directory)
    return directory


def _check_beginning(file: TraceInput, head: Head, directory: Directory) -> None:
    """Only what begins at a checkpoint may lack what was before."""
    gap = directory.sequence - head.next_sequence
    if gap < 0 or (gap and (not directory or directory[0].type != ChunkType.CHECKPOINT)):
        raise file.place(head.end).malformed(
            f"the events begin with chunk {directory.sequence} instead of {head.next_sequence}"
        )


def _check_end(file: TraceInput, head: Head, directory: Directory, offset: int) -> None:
    """Check the END chunk's place in the row; the chunk itself has been read."""
    header = _header_of(file, offset, head)
    index = offset - directory.end > 0
    if header.sequence != directory.next_sequence + index:
        raise file.place(offset).malformed(
            f"chunk number {header.sequence} at the end of the trace"
        )
    if directory.last_tick is not None and header.first_tick < directory.last_tick:
        raise file.place(offset).malformed("the end of the trace lies before its last event")


class _Scan:
    """Goes from chunk header to chunk header, up to a tear, the end, or (to salvage) the first damage."""

    def __init__(self, file: TraceInput, head: Head, *, salvage: bool) -> None:
        self._file, self._head, self._salvage = file, head, salvage
        self._directory = Directory(head.end, head.next_sequence)

    def run(self) -> Body:
        try:
            while True:
                header = self._next(self._directory.end)
                if header is None:
                    return Body(self._directory, self._directory.end)
                if header.type in (ChunkType.INDEX, ChunkType.END):
                    return self._tail(header)
                self._add(header)
        except TraceFormatError as damage:
            if not self._salvage:
                raise
            return Body(self._directory, self._directory.end, damage=damage)

    def _next(self, offset: int) -> ChunkHeader | None:
        """Read the header of the chunk at `offset`; None when there is no whole chunk."""
        file = self._file
        if offset + chunks.CHUNK_HEADER_SIZE > file.size or file.is_zero_from(offset):
            return None
        header = _header_of(file, offset, self._head)
        return header if offset + header.size <= file.size else None

    def _add(self, header: ChunkHeader) -> None:
        directory, offset = self._directory, self._directory.end
        if header.type in (ChunkType.HEADER, ChunkType.IMAGE):
            raise self._file.place(offset).malformed(
                f"a chunk of type {ChunkType(header.type).name} among the events"
            )
        if self._salvage:
            self._file.check_payload(offset, header)
        if not directory:
            directory.sequence = max(directory.sequence, header.sequence)
        try:
            directory.add(header)
        except Misfit as error:
            raise self._file.place(offset).malformed(str(error)) from error
        if len(directory) == 1:
            _check_beginning(self._file, self._head, directory)

    # (iii) The tail.

    def _tail(self, header: ChunkHeader) -> Body:
        offset = self._directory.end
        index_at = 0
        if header.type == ChunkType.INDEX:
            index_at, offset = offset, offset + header.size
            following = self._next(offset)
            if following is None:
                return Body(self._directory, offset)
            if header.sequence != self._directory.next_sequence:
                raise self._file.place(index_at).malformed(f"chunk number {header.sequence}")
            header = following
        closing = _read_end(self._file, offset, self._head)
        _check_end(self._file, self._head, self._directory, offset)
        if closing.index != index_at:
            raise self._file.place(offset).malformed("the end of the trace names another index")
        if index_at:
            _read_index(self._file, self._head, index_at, offset)
        return self._after_end(closing, offset, offset + header.size)

    def _after_end(self, closing: EndChunk, end_at: int, offset: int) -> Body:
        trailer = chunks.pack_trailer(end_at)
        rest = self._file.read(offset, chunks.TRAILER_SIZE)
        if rest == trailer and self._file.size == offset + len(trailer):
            return Body(self._directory, None, closing.end)
        torn = trailer.startswith(rest) and len(rest) < len(trailer)
        if torn or self._file.is_zero_from(offset):
            return Body(self._directory, offset, closing.end)
        raise self._file.place(offset).malformed("something else than the trailer at the end")


__all__ = ["Body", "Head", "read_body", "read_head"]
