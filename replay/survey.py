"""What is sound in a damaged trace: every chunk that proves itself, wherever it stands in the file.

A chunk's header has a checksum of its own and one of the payload, the trace's stamp, and its number. So a chunk is
known for what it is without its neighbours, and behind damage the next one is found by looking for its mark. What
damage has taken is known from what is left: the header of a chunk whose payload is gone, or the index.

Two chunks of the same number, both sound and not the same, prove nothing: neither is taken. Read next: salvage.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from hostvm.units import Tick
from replay import chunks
from replay.chunks import ChunkHeader, ChunkType, Version
from replay.codec import Expected, decode_events
from replay.directory import unpack_index
from replay.errors import Place, TraceError, TraceFormatError, TraceVersionError
from replay.events import Event
from replay.trace_file import COPY_SIZE, TraceInput
from replay.trace_header import EndChunk, TraceHeader, unpack_end, unpack_header


@dataclass(frozen=True, slots=True)
class Found:
    """A chunk in the file; `sound`: its payload is what it was."""

    header: ChunkHeader
    offset: int
    sound: bool


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a chunk that may be gone: type, ticks, and number of events."""

    type: int
    first_tick: Tick
    last_tick: Tick
    count: int


@dataclass(slots=True)
class Survey:
    """The sound chunks of a file by their numbers, what is known of others, and which bytes are in none.

    `torn`: behind that offset the file ends as one does whose recorder was stopped.
    """

    file: TraceInput
    version: Version
    header: TraceHeader
    raw_header: bytes
    stamp: int
    sound: dict[int, Found] = field(default_factory=dict)
    known: dict[int, Known] = field(default_factory=dict)
    damaged: list[tuple[int, int]] = field(default_factory=list)
    torn: int | None = None

    @property
    def path(self) -> Path:
        """The file."""
        return Path(self.file.path)

    def place(self, sequence: int) -> Place:
        """Where a sound chunk is."""
        return self.file.place(self.sound[sequence].offset)

    def payload(self, sequence: int) -> bytes:
        """What is in a sound chunk. Raises TraceError."""
        found = self.sound[sequence]
        return self.file.payload_at(found.offset, found.header)

    def of_type(self, kind: ChunkType) -> list[int]:
        """Numbers of the sound chunks of a type, ascending."""
        return sorted(n for n, found in self.sound.items() if found.header.type == kind)

    def events(self, sequence: int) -> Iterator[Event]:
        """The events of a sound chunk. Raises TraceError."""
        header = self.sound[sequence].header
        expected = Expected(header.first_tick, header.last_tick, header.count)
        return decode_events(self.payload(sequence), expected, self.place(sequence))

    @property
    def first_of_body(self) -> int:
        """Number of the first chunk behind the images, in a trace from power-on."""
        return 1 + len(self.header.images)

    def image_at(self, rank: int) -> bytes | None:
        """An embedded file by its place in the header, if it is what the header says."""
        found = self.sound.get(1 + rank)
        if found is None or found.header.type != ChunkType.IMAGE:
            return None
        data = self.payload(1 + rank)
        return data if sha256(data).digest() == self.header.images[rank].sha256 else None

    def end(self) -> tuple[int, EndChunk] | None:
        """The end record and its number. None where it is gone."""
        for sequence in reversed(self.of_type(ChunkType.END)):
            return sequence, unpack_end(self.payload(sequence), self.place(sequence))
        return None


def survey(file: TraceInput) -> Survey:
    """Look through a whole file. Raises TraceError where there is no trace, or no header that says what it is of."""
    version, fault = _version(file)
    found = list(_chunks(file, version))
    head = _header(file, found)
    if head is None:
        raise fault or file.place(chunks.PROLOGUE_SIZE).malformed(
            "the header is lost, and without it nothing says what was recorded"
        )
    raw, stamp = head
    header = unpack_header(raw, file.place(chunks.PROLOGUE_SIZE))
    its = Survey(file, version, header, raw, stamp)
    _sort(its, [each for each in found if each.header.stamp == stamp])
    _learn_from_index(its)
    _find_damage(its, prologue=fault is None)
    return its


def _version(file: TraceInput) -> tuple[Version, TraceFormatError | None]:
    """The version, and what is wrong with the place where it stands. Raises TraceVersionError."""
    try:
        version = chunks.unpack_prologue(file.read(0, chunks.PROLOGUE_SIZE), file.path)
    except TraceVersionError:
        raise
    except TraceError as fault:
        return Version(), TraceFormatError(fault.path, fault.offset, fault.text)
    if version.newer:
        raise file.place(0).too_new("a newer lgreplay wrote it")
    return version, None


# ---- looking for chunks ----------------------------------------------------------------------------


def _chunks(file: TraceInput, version: Version) -> Iterator[Found]:
    """All chunks whose headers are sound, in the order of the file."""
    offset: int | None = min(chunks.PROLOGUE_SIZE, file.size)
    while offset is not None:
        header = _header_at(file, offset, version)
        if header is None:
            offset = _next_mark(file, offset + 1)
            continue
        sound = offset + header.size <= file.size and _is_sound(file, offset, header)
        yield Found(header, offset, sound)
        offset = offset + header.size if sound else _next_mark(file, offset + 1)


def _header_at(file: TraceInput, offset: int, version: Version) -> ChunkHeader | None:
    try:
        return file.header_at(offset, version)
    except TraceFormatError:
        return None


def _is_sound(file: TraceInput, offset: int, header: ChunkHeader) -> bool:
    try:
        file.check_payload(offset, header)
    except TraceFormatError:
        return False
    return True


def _next_mark(file: TraceInput, offset: int) -> int | None:
    """Where the next bytes are that a chunk begins with."""
    while offset < file.size:
        piece = file.read(offset, COPY_SIZE)
        at = piece.find(chunks.MARK)
        if at >= 0:
            return offset + at
        if offset + len(piece) >= file.size:
            return None
        offset += max(1, len(piece) - len(chunks.MARK) + 1)
    return None


# ---- what they are ---------------------------------------------------------------------------------


def _header(file: TraceInput, found: list[Found]) -> tuple[bytes, int] | None:
    """Payload and stamp of the header: of the first chunk that bears the stamp that its own payload gives."""
    for each in found:
        if each.sound and each.header.type == ChunkType.HEADER and each.header.sequence == 0:
            try:
                raw = file.payload_at(each.offset, each.header)
            except TraceFormatError:
                continue
            _, stamp = chunks.stamp_of(raw)
            if stamp == each.header.stamp:
                return raw, stamp
    return None


def _sort(its: Survey, found: list[Found]) -> None:
    """Take what is sound; of a number that two different chunks claim, none."""
    claimed: dict[int, Found] = {}
    disputed: set[int] = set()
    for each in found:
        number = each.header.sequence
        if not each.sound:
            its.known.setdefault(number, _known(each.header))
        elif number in claimed and claimed[number].header != each.header:
            disputed.add(number)
        else:
            claimed.setdefault(number, each)
    its.sound = {n: each for n, each in claimed.items() if n not in disputed}
    its.known |= {n: _known(each.header) for n, each in its.sound.items()}


def _known(header: ChunkHeader) -> Known:
    return Known(header.type, header.first_tick, header.last_tick, header.count)


def _learn_from_index(its: Survey) -> None:
    """What the index says of chunks of which there is nothing else."""
    for sequence in its.of_type(ChunkType.INDEX):
        try:
            rows = unpack_index(its.payload(sequence), None, None, its.place(sequence))
        except TraceError:
            continue
        for rank in range(len(rows)):
            row = rows[rank]
            known = Known(row.type, row.first_tick, row.last_tick, row.count)
            its.known.setdefault(row.sequence, known)


def _find_damage(its: Survey, *, prologue: bool) -> None:
    """The bytes that belong to no sound chunk, and not to the end of a file that was being written."""
    at = chunks.PROLOGUE_SIZE
    its.damaged = [] if prologue else [(0, at)]
    for each in sorted(its.sound.values(), key=lambda found: found.offset):
        if each.offset > at:
            its.damaged.append((at, each.offset))
        at = each.offset + each.header.size
    size = its.file.size
    rest = its.file.read(at, chunks.CHUNK_HEADER_SIZE)
    if its.of_type(ChunkType.END) and chunks.unpack_trailer(rest) is not None:
        return
    header = _header_at(its.file, at, its.version)
    if (
        len(rest) < chunks.CHUNK_HEADER_SIZE
        or its.file.is_zero_from(at)
        or (header is not None and at + header.size > size)
    ):
        its.torn = at
    else:
        its.damaged.append((at, size))


__all__ = ["Found", "Known", "Survey", "survey"]
