"""Where the chunks of a trace are and what is in them: kept by the writer, stored as the INDEX, rebuilt by a scan.

The body of a trace is what lies between its images and its index: chunks of events, checkpoints, and whatever a newer
minor version may have put there. They follow each other without gap, their sequence numbers rise by one and their
ticks never go back, so a directory is a handful of columns and a tick is found by bisection.

A body need not begin with the first event: a flight recorder drops its oldest part. Then its first sequence number is
higher than that of a whole trace, and its first chunk is a checkpoint.
"""

from __future__ import annotations

import struct
from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from hostvm.units import Tick
from replay.chunks import CHUNK_HEADER_SIZE, MAX_CHUNKS, ChunkHeader, ChunkType
from replay.codec import MAX_TICK
from replay.errors import Place
from replay.events import LAST_KIND
from replay.packings import Misfit
from replay.shapes import number
from replay.wire import Row, RowPacker, unpack_rows

_KIND_COUNT = struct.Struct("<BI")
_MAX_OFFSET = (1 << 62) - 1
_ROW = tuple(map(number, (255, _MAX_OFFSET, _MAX_OFFSET, MAX_TICK, MAX_TICK, (1 << 32) - 1)))


@dataclass(frozen=True, slots=True)
class Entry:
    """One chunk of the body."""

    type: int
    sequence: int
    offset: int
    size: int
    first_tick: Tick
    last_tick: Tick
    count: int

    def describes(self, header: ChunkHeader) -> bool:
        """Tell whether this is the header that stands at the entry's offset."""
        return (
            self.type == header.type
            and self.sequence == header.sequence
            and self.size == header.size
            and self.first_tick == header.first_tick
            and self.last_tick == header.last_tick
            and self.count == header.count
        )


class Directory:
    """The chunks of a body in order, in columns: a million of them take some 50 MB."""

    def __init__(self, start: int, sequence: int) -> None:
        self.sequence = sequence
        self._types = bytearray()
        self._offsets = array("Q", [start])
        self._firsts = array("Q")
        self._lasts = array("Q")
        self._counts = array("Q")
        self._kinds: list[bytes] = []

    def __len__(self) -> int:
        return len(self._types)

    def __getitem__(self, rank: int) -> Entry:
        return Entry(
            self._types[rank],
            self.sequence + rank,
            self._offsets[rank],
            self._offsets[rank + 1] - self._offsets[rank],
            Tick(self._firsts[rank]),
            Tick(self._lasts[rank]),
            self._counts[rank],
        )

    @property
    def start(self) -> int:
        """Offset of the first chunk."""
        return self._offsets[0]

    @property
    def end(self) -> int:
        """Offset behind the last chunk."""
        return self._offsets[-1]

    @property
    def next_sequence(self) -> int:
        """Sequence number behind the last chunk."""
        return self.sequence + len(self)

    @property
    def first_tick(self) -> Tick | None:
        """First tick that the body speaks of."""
        return Tick(self._firsts[0]) if self else None

    @property
    def last_tick(self) -> Tick | None:
        """Last tick that the body speaks of."""
        return Tick(self._lasts[-1]) if self else None

    @property
    def event_count(self) -> int:
        """Number of events in all chunks."""
        return sum(self._counts)

    def offset(self, rank: int) -> int:
        """Offset of a chunk; that behind the last for a rank of len(self)."""
        return self._offsets[rank]

    def add(self, header: ChunkHeader, kinds: Mapping[int, int] | None = None) -> None:
        """Append the chunk at `end`; `kinds` are the events in it by kind, where known.

        Raises: Misfit when it cannot come next.
        """
        if len(self) >= MAX_CHUNKS:
            raise Misfit(f"more than {MAX_CHUNKS} chunks")
        if header.sequence != self.next_sequence:
            raise Misfit(f"chunk number {header.sequence} where {self.next_sequence} belongs")
        if self and header.first_tick < self._lasts[-1]:
            raise Misfit(f"tick {header.first_tick} after tick {self._lasts[-1]}")
        self._types.append(header.type)
        self._offsets.append(self.end + header.size)
        self._firsts.append(header.first_tick)
        self._lasts.append(header.last_tick)
        self._counts.append(header.count)
        pairs = sorted(kinds.items()) if kinds else ()
        self._kinds.append(b"".join(_KIND_COUNT.pack(*pair) for pair in pairs))

    def up_to(self, rank: int) -> Directory:
        """A directory of the chunks before the one of this rank."""
        part = Directory(self.start, self.sequence)
        part._types = self._types[:rank]
        part._offsets = self._offsets[: rank + 1]
        part._firsts, part._lasts = self._firsts[:rank], self._lasts[:rank]
        part._counts, part._kinds = self._counts[:rank], self._kinds[:rank]
        return part

    def drop(self, ranks: int) -> None:
        """Forget the first chunks, which have been cut out of the file."""
        moved = self._offsets[ranks] - self.start
        self.sequence += ranks
        self._offsets = array("Q", (offset - moved for offset in self._offsets[ranks:]))
        for column in (self._types, self._firsts, self._lasts, self._counts, self._kinds):
            del column[:ranks]

    def kinds(self, rank: int) -> dict[int, int] | None:
        """Events of a chunk by kind; None when only decoding it would tell."""
        known = dict(_KIND_COUNT.iter_unpack(self._kinds[rank]))
        return known if known or not self._counts[rank] else None

    def total_kinds(self) -> dict[int, int] | None:
        """Events of all chunks by kind; None when only decoding them would tell."""
        total: Counter[int] = Counter()
        for rank in range(len(self)):
            kinds = self.kinds(rank)
            if kinds is None:
                return None
            total.update(kinds)
        return dict(total)

    def find(self, tick: Tick) -> int:
        """Rank of the first chunk that reaches `tick`; len(self) when none does."""
        return bisect_left(self._lasts, tick)


# The payload of the INDEX: one row for the whole, then one for each chunk.


def pack_index(directory: Directory) -> bytes:
    """Make the payload of the INDEX chunk."""
    pack = RowPacker().pack
    raw = bytearray(pack((directory.start, directory.sequence, len(directory))))
    for rank in range(len(directory)):
        entry = directory[rank]
        kinds = directory.kinds(rank) or {}
        flat = [number for pair in sorted(kinds.items()) for number in pair]
        raw += pack(
            (
                entry.type,
                entry.offset,
                entry.size,
                entry.first_tick,
                entry.last_tick,
                entry.count,
                *flat,
            )
        )
    return bytes(raw)


def unpack_index(raw: bytes, start: int | None, end: int | None, place: Place) -> Directory:
    """Undo pack_index for a body that lies between two offsets, where these are known.

    Raises: TraceFormatError when the rows are malformed or do not describe such a body.
    """
    rows = unpack_rows(raw, place)
    try:
        directory, chunks = _directory_of(next(rows, ()), start)
        for row in rows:
            header, kinds = _header_of(row, directory)
            directory.add(header, kinds)
        if len(directory) != chunks or directory.end != (directory.end if end is None else end):
            raise Misfit(
                f"{len(directory)} chunks up to {directory.end:#x}, not {chunks} up to {end:#x}"
            )
    except Misfit as error:
        raise place.malformed(f"index: {error}") from error
    return directory


def _directory_of(row: Row, start: int | None) -> tuple[Directory, int]:
    if len(row) != 3:
        raise Misfit("no head")
    offset, sequence, chunks = map(number(_MAX_OFFSET), row)
    if start is not None and offset != start:
        raise Misfit(f"the body begins at {start:#x}, not at {offset:#x}")
    if sequence >= 1 << 32 or chunks > MAX_CHUNKS:
        raise Misfit(f"{chunks} chunks from number {sequence} on")
    return Directory(offset, sequence), chunks


def _header_of(row: Row, directory: Directory) -> tuple[ChunkHeader, dict[int, int]]:
    """Make what the chunk's header must be like; stamp and checksums are not in the index."""
    if len(row) < len(_ROW) or len(row) % 2:
        raise Misfit(f"{len(row)} numbers for a chunk")
    kind, offset, size, first, last, count = (
        check(value) for check, value in zip(_ROW, row, strict=False)
    )
    kinds = _kinds_of(row[len(_ROW) :], count if kind == ChunkType.EVENTS else 0)
    if offset != directory.end or size <= CHUNK_HEADER_SIZE or first > last:
        raise Misfit(f"chunk at {offset:#x} of {size} bytes, ticks {first}..{last}")
    sequence = directory.next_sequence
    compressed = size - CHUNK_HEADER_SIZE
    ticks = (Tick(first), Tick(last))
    return ChunkHeader(kind, 0, 0, sequence, compressed, 0, *ticks, count, 0), kinds


def _kinds_of(flat: Row, count: int) -> dict[int, int]:
    kinds = dict(
        zip(map(number(LAST_KIND), flat[::2]), map(number(count), flat[1::2]), strict=True)
    )
    if list(kinds) != sorted(kinds) or 2 * len(kinds) != len(flat) or sum(kinds.values()) != count:
        raise Misfit(f"kinds of events that do not add up to {count}")
    return kinds


def body_ranks(directory: Directory, kind: ChunkType) -> Iterator[int]:
    """Yield the ranks of all chunks of one type."""
    for rank in range(len(directory)):
        if directory[rank].type == kind:
            yield rank


__all__ = ["Directory", "Entry", "body_ranks", "pack_index", "unpack_index"]
