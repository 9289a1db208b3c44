"""What a trace says about itself: the header in its first chunk, the end record in its last.

The header has all that a replay needs besides the events: which machine, with which Guests, from which images. The
images stand in chunks of their own behind it, so a trace is complete in one file. `created_ns`, `command_line` and
`lgreplay_version` are for people; nothing in a replay may depend on them.

Versions: a reader passes over names that it does not know. Whatever a reader *must* know to replay correctly is named
in `needs`, and a reader that does not know one of these words refuses the trace.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from hostvm.units import Tick
from replay import shapes
from replay.codec import MAX_TICK
from replay.errors import Place
from replay.events import MAX_GUESTS
from replay.packings import MAX_DIGEST, MAX_TEXT, Misfit
from replay.wire import Value, pack_map, unpack_map

MAX_NAME = 255
MAX_COMMAND_LINE = 4096
MAX_IMAGES = 64
MAX_LIST = 256
MAX_MEMORY = 1 << 32
SHA256_SIZE = 32

# Words of `needs` that this reader understands.
NEEDS_DIGESTS = "memory_digest_every"
NEEDS_RESTARTS = "restarts"
NEEDS_SYSCALL_VECTOR = "syscall_vector"
KNOWN_NEEDS: frozenset[str] = frozenset({NEEDS_DIGESTS, NEEDS_RESTARTS, NEEDS_SYSCALL_VECTOR})

# What a trace says nothing of that was recorded before it could be said.
LINUX_SYSCALL_VECTOR = 0x80
USUAL_MEMORY_DIGEST_EVERY = 16


class TraceEndReason(IntEnum):
    """Why the recording ended."""

    FINISHED = 1
    INTERRUPTED = 2
    LIMIT = 3
    FAILED = 4
    CUT = 5


@dataclass(frozen=True, slots=True)
class GuestSetup:
    """One Guest as it was before its first instruction. `kernel` and `initrd` are names of images, or empty."""

    memory: int
    abi: str
    kernel: str
    initrd: str = ""
    command_line: str = ""
    devices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """One embedded file; its bytes are in the image chunk of the same rank."""

    name: str
    size: int
    sha256: bytes


@dataclass(frozen=True, slots=True)
class TraceHeader:
    """Everything about a recording that is known before it starts. The writer fills in `images`."""

    lgreplay_version: str
    engine: str
    engine_version: str
    cpu_model: str
    maths: bytes
    guests: tuple[GuestSetup, ...]
    clock: str
    seed: int
    digest_interval: int
    memory_digest_every: int = USUAL_MEMORY_DIGEST_EVERY
    restarts: bool = False
    syscall_vector: int = LINUX_SYSCALL_VECTOR
    quirks: tuple[str, ...] = ()
    command_line: tuple[str, ...] = ()
    created_ns: int = 0
    parent: bytes = b""
    branch_tick: int = 0
    edits: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    images: tuple[ImageInfo, ...] = ()


@dataclass(frozen=True, slots=True)
class TraceEnd:
    """How it ended: the tick reached, the digest of the state there, and why.

    `opens_at`: the tick at which whoever opens the trace is to stand; 0: at its beginning.
    """

    tick: Tick
    digest: bytes
    reason: TraceEndReason
    text: str = ""
    opens_at: int = 0


@dataclass(frozen=True, slots=True)
class EndChunk:
    """Payload of the END chunk; `index` is the offset of the INDEX chunk, or 0."""

    end: TraceEnd
    index: int


_name = shapes.text(MAX_NAME)
_names = shapes.listing(_name, MAX_LIST)

_IMAGE = shapes.record(
    ImageInfo,
    {"name": _name, "size": shapes.number(1 << 32), "sha256": shapes.blob(SHA256_SIZE)},
)
_GUEST = shapes.record(
    GuestSetup,
    {
        "memory": shapes.number(MAX_MEMORY),
        "abi": _name,
        "kernel": _name,
        "initrd": _name,
        "command_line": shapes.text(MAX_COMMAND_LINE),
        "devices": _names,
    },
)
_HEADER = shapes.record(
    TraceHeader,
    {
        "lgreplay_version": _name,
        "engine": _name,
        "engine_version": _name,
        "cpu_model": _name,
        "maths": shapes.blob(MAX_DIGEST),
        "guests": shapes.listing(_GUEST, MAX_GUESTS, at_least=1),
        "clock": _name,
        "seed": shapes.number((1 << 64) - 1),
        "digest_interval": shapes.number(MAX_TICK),
        "memory_digest_every": shapes.number(MAX_TICK),
        "restarts": shapes.flag,
        "syscall_vector": shapes.number(255),
        "quirks": _names,
        "command_line": shapes.listing(shapes.text(MAX_COMMAND_LINE), MAX_LIST),
        "created_ns": shapes.number((1 << 63) - 1),
        "parent": shapes.blob(16),
        "branch_tick": shapes.number(MAX_TICK),
        "edits": shapes.listing(shapes.text(MAX_COMMAND_LINE), MAX_LIST),
        "needs": _names,
        "images": shapes.listing(_IMAGE, MAX_IMAGES),
    },
)
_END = shapes.record(
    TraceEnd,
    {
        "tick": shapes.number(MAX_TICK),
        "digest": shapes.blob(MAX_DIGEST),
        "reason": shapes.member(TraceEndReason),
        "text": shapes.text(MAX_TEXT),
        "opens_at": shapes.number(MAX_TICK),
    },
)
_END_CHUNK = shapes.record(EndChunk, {"end": _END, "index": shapes.number((1 << 63) - 1)})


def _checked(value: Value) -> TraceHeader:
    header = _HEADER(value)
    names = [image.name for image in header.images]
    if len(set(names)) != len(names):
        raise Misfit("two images of the same name")
    for guest in header.guests:
        for name in (guest.kernel, guest.initrd):
            if name and name not in names:
                raise Misfit(f"no image {name!r}, which a guest is made of")
    return header


def pack_header(header: TraceHeader) -> bytes:
    """Make the payload of the HEADER chunk.

    Raises: ValueError when a field is longer than a reader would accept, or names an image that is not there.
    """
    value = shapes.to_value(header)
    assert isinstance(value, dict)
    _checked(value)
    return pack_map(value)


def unpack_header(raw: bytes, place: Place) -> TraceHeader:
    """Undo pack_header.

    Raises: TraceFormatError; TraceVersionError when the trace needs something that this reader does not know.
    """
    value = unpack_map(raw, place)
    try:
        # First, because what it names may be the reason why the rest looks wrong.
        unknown = sorted(set(_names(value.get("needs", []))) - KNOWN_NEEDS)
        if unknown:
            raise place.too_new(f"the trace needs {', '.join(unknown)}")
        return _checked(value)
    except Misfit as error:
        raise place.malformed(f"trace header: {error}") from error


def pack_end(end: TraceEnd, index: int) -> bytes:
    """Make the payload of the END chunk.

    Raises: ValueError when a field is out of range.
    """
    value = shapes.to_value(EndChunk(end, index))
    assert isinstance(value, dict)
    _END_CHUNK(value)
    return pack_map(value)


def unpack_end(raw: bytes, place: Place) -> EndChunk:
    """Undo pack_end.

    Raises: TraceFormatError.
    """
    try:
        return _END_CHUNK(unpack_map(raw, place))
    except Misfit as error:
        raise place.malformed(f"end of trace: {error}") from error


__all__ = [
    "KNOWN_NEEDS",
    "LINUX_SYSCALL_VECTOR",
    "MAX_COMMAND_LINE",
    "MAX_IMAGES",
    "MAX_LIST",
    "MAX_MEMORY",
    "MAX_NAME",
    "NEEDS_DIGESTS",
    "NEEDS_RESTARTS",
    "NEEDS_SYSCALL_VECTOR",
    "SHA256_SIZE",
    "USUAL_MEMORY_DIGEST_EVERY",
    "EndChunk",
    "GuestSetup",
    "ImageInfo",
    "TraceEnd",
    "TraceEndReason",
    "TraceHeader",
    "pack_end",
    "pack_header",
    "unpack_end",
    "unpack_header",
]
