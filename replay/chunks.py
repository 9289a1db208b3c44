"""What surrounds the payloads in a trace file: prologue, chunk headers, trailer; their layouts, limits and checksums.

A trace is a prologue, then chunks, then (once it is closed) a trailer. Every chunk is a fixed header and one zstd
frame. The header carries the checksum of the payload and, last, its own; the prologue and the trailer carry theirs: no
byte of the file is unprotected. The `stamp` in each header is taken from the digest of the trace's first chunk, so that
a chunk of another trace is noticed, and the sequence number notices one that is lost, repeated or out of order.

Sizes are bounded per type before anything is allocated. All integers are little-endian. Nothing here reads or writes
a file. docs/trace-format.md has the same in prose and tables; read trace_header.py and log.py next.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from hashlib import sha256

from hostvm.units import Tick
from replay.codec import MAX_TICK
from replay.errors import Place

KIB = 1 << 10
MIB = 1 << 20

MAGIC = b"\x89LGT\r\n\x1a\n"
MAJOR = 1
MINOR = 2
MAX_CHUNKS = 1 << 20
STAMP_SIZE = 4


class ChunkType(IntEnum):
    """What the payload of a chunk is."""

    HEADER = 1
    IMAGE = 2
    EVENTS = 3
    CHECKPOINT = 4
    INDEX = 5
    END = 6
    PAGES = 7
    STATE = 8
    STATES = 9


class ChunkFlag(IntFlag):
    """A reader that does not know the type of a SKIPPABLE chunk may pass over it."""

    SKIPPABLE = 1


FLAGS_OF = {
    ChunkType.HEADER: ChunkFlag(0),
    ChunkType.IMAGE: ChunkFlag(0),
    ChunkType.EVENTS: ChunkFlag(0),
    ChunkType.CHECKPOINT: ChunkFlag.SKIPPABLE,
    ChunkType.INDEX: ChunkFlag.SKIPPABLE,
    ChunkType.END: ChunkFlag(0),
    ChunkType.PAGES: ChunkFlag.SKIPPABLE,
    ChunkType.STATE: ChunkFlag.SKIPPABLE,
    ChunkType.STATES: ChunkFlag.SKIPPABLE,
}
MAX_RAW = {
    ChunkType.HEADER: 1 * MIB,
    ChunkType.IMAGE: 128 * MIB,
    ChunkType.EVENTS: 4 * MIB,
    ChunkType.CHECKPOINT: 128 * MIB,
    ChunkType.INDEX: 64 * MIB,
    ChunkType.END: 64 * KIB,
    ChunkType.PAGES: 64 * KIB,
    ChunkType.STATE: 32 * MIB,
    ChunkType.STATES: 16 * MIB,
}
MAX_RAW_UNKNOWN = 128 * MIB
# What zstd may add to data that it cannot compress: less than one part in 128, and a frame header.
COMPRESSED_SLACK = 1 * KIB


@dataclass(frozen=True, slots=True)
class Version:
    """Of the trace format. A reader takes any minor version of its own major one."""

    major: int = MAJOR
    minor: int = MINOR

    @property
    def newer(self) -> bool:
        """Whether this trace may contain what this reader does not know."""
        return self.minor > MINOR


# The prologue.

_PROLOGUE = struct.Struct("<8sHH")
_CRC = struct.Struct("<I")
PROLOGUE_SIZE = _PROLOGUE.size + _CRC.size


def _sealed(data: bytes) -> bytes:
    return data + _CRC.pack(zlib.crc32(data))


def _is_sealed(data: bytes) -> bool:
    return data[-_CRC.size :] == _CRC.pack(zlib.crc32(data[: -_CRC.size]))


def pack_prologue(version: Version) -> bytes:
    """Make the first bytes of a trace."""
    return _sealed(_PROLOGUE.pack(MAGIC, version.major, version.minor))


def unpack_prologue(data: bytes, path: str) -> Version:
    """Read the first PROLOGUE_SIZE bytes of a file, or all that there are.

    Raises: TraceFormatError when this is no trace, TraceTruncated when it is the beginning of one,
        TraceVersionError when its major version is another one.
    """
    place = Place(path, 0)
    if data[: len(MAGIC)] != MAGIC[: len(data)]:
        raise place.malformed("not an lgreplay trace")
    if len(data) < PROLOGUE_SIZE:
        raise place.truncated("the file ends before the trace has begun")
    if not _is_sealed(data):
        raise place.malformed("damaged prologue (checksum)")
    _, major, minor = _PROLOGUE.unpack_from(data)
    if major > MAJOR:
        raise place.too_new(f"trace format {major}.{minor}, this lgreplay reads {MAJOR}.x")
    if major < MAJOR:
        raise place.malformed(f"trace format {major}.{minor} never existed")
    return Version(major, minor)


# Chunks.

MARK = b"LGCK"
_HEADER = struct.Struct("<4sBBHIIIIQQII")
CHUNK_HEADER_SIZE = _HEADER.size + _CRC.size


@dataclass(frozen=True, slots=True)
class ChunkHeader:
    """The fixed part of a chunk. `type` is a plain number: it may be one that this reader does not know."""

    type: int
    flags: int
    stamp: int
    sequence: int
    compressed_size: int
    raw_size: int
    first_tick: Tick
    last_tick: Tick
    count: int
    payload_crc: int

    @property
    def size(self) -> int:
        """Bytes of the whole chunk."""
        return CHUNK_HEADER_SIZE + self.compressed_size

    @property
    def is_known(self) -> bool:
        """Whether this reader knows the type."""
        return self.type in FLAGS_OF


def stamp_of(header_payload: bytes) -> tuple[bytes, int]:
    """Return the trace's id (16 bytes, from the uncompressed payload of its first chunk) and the stamp made of it."""
    trace_id = sha256(header_payload).digest()[:16]
    return trace_id, int.from_bytes(trace_id[:STAMP_SIZE], "little")


def crc(payload: bytes, before: int = 0) -> int:
    """Checksum of a compressed payload; `before` is that of the pieces before this one."""
    return zlib.crc32(payload, before)


def pack_chunk_header(header: ChunkHeader) -> bytes:
    """Make the CHUNK_HEADER_SIZE bytes in front of a payload."""
    return _sealed(
        _HEADER.pack(
            MARK,
            header.type,
            header.flags,
            0,
            header.stamp,
            header.sequence,
            header.compressed_size,
            header.raw_size,
            header.first_tick,
            header.last_tick,
            header.count,
            header.payload_crc,
        )
    )


def unpack_chunk_header(data: bytes, version: Version, place: Place) -> ChunkHeader:
    """Read CHUNK_HEADER_SIZE bytes and check all that can be checked without the payload.

    Raises: TraceFormatError; TraceVersionError for a type or flag that a newer minor version has brought.
    """
    if data[: len(MARK)] != MARK or not _is_sealed(data):
        raise place.malformed("no chunk here, or a damaged one (checksum of its header)")
    _, kind, flags, reserved, *rest = _HEADER.unpack_from(data)
    header = ChunkHeader(kind, flags, *rest)
    unknown = place.unknown(version.newer)
    if reserved or flags not in (0, ChunkFlag.SKIPPABLE):
        raise unknown(f"unknown flags {flags:#x} {reserved:#x} of a chunk")
    if not header.is_known:
        if not flags & ChunkFlag.SKIPPABLE:
            raise unknown(f"unknown type of chunk {kind}")
    elif flags != FLAGS_OF[ChunkType(kind)]:
        raise place.malformed(f"flags {flags:#x} on a chunk of type {ChunkType(kind).name}")
    _check_sizes(header, place)
    return header


def _check_sizes(header: ChunkHeader, place: Place) -> None:
    limit = MAX_RAW[ChunkType(header.type)] if header.is_known else MAX_RAW_UNKNOWN
    if not 0 < header.raw_size <= limit:
        raise place.malformed(f"a chunk of {header.raw_size} bytes, its type allows 1..{limit}")
    if (
        not 0
        < header.compressed_size
        <= header.raw_size + header.raw_size // 128 + COMPRESSED_SLACK
    ):
        raise place.malformed(
            f"{header.compressed_size} compressed bytes for {header.raw_size} of content"
        )
    if not header.first_tick <= header.last_tick <= MAX_TICK:
        raise place.malformed(f"ticks {header.first_tick}..{header.last_tick} of a chunk")
    if header.count and header.type != ChunkType.EVENTS:
        raise place.malformed(f"{header.count} events in a chunk that has none")
    if header.type == ChunkType.EVENTS and not 0 < header.count <= header.raw_size:
        raise place.malformed(f"{header.count} events in {header.raw_size} bytes")


# The trailer.

TRAILER_MARK = b"LGTEND\r\n"
_TRAILER = struct.Struct("<8sQ")
TRAILER_SIZE = _TRAILER.size + _CRC.size


def pack_trailer(end_offset: int) -> bytes:
    """Make the last bytes of a closed trace; `end_offset` is where its END chunk begins."""
    return _sealed(_TRAILER.pack(TRAILER_MARK, end_offset))


def unpack_trailer(data: bytes) -> int | None:
    """Return the offset of the END chunk, or None when these are not the last bytes of a closed trace."""
    if len(data) != TRAILER_SIZE or data[:8] != TRAILER_MARK or not _is_sealed(data):
        return None
    return int(_TRAILER.unpack_from(data)[1])


__all__ = [
    "CHUNK_HEADER_SIZE",
    "FLAGS_OF",
    "KIB",
    "MAGIC",
    "MAJOR",
    "MARK",
    "MAX_CHUNKS",
    "MAX_RAW",
    "MAX_RAW_UNKNOWN",
    "MIB",
    "MINOR",
    "PROLOGUE_SIZE",
    "TRAILER_MARK",
    "TRAILER_SIZE",
    "ChunkFlag",
    "ChunkHeader",
    "ChunkType",
    "Version",
    "crc",
    "pack_chunk_header",
    "pack_prologue",
    "pack_trailer",
    "stamp_of",
    "unpack_chunk_header",
    "unpack_prologue",
    "unpack_trailer",
]
