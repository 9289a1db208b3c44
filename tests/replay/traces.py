"""Small traces for tests: a header, some events, and how to take a trace file apart and put it together again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import zstandard

from hostvm.units import Nanoseconds, Tick
from replay import chunks
from replay.chunks import ChunkHeader, ChunkType, Version
from replay.errors import Place
from replay.events import (
    ClockReading,
    ConsoleInput,
    ConsoleOutput,
    DebuggerWrite,
    DeviceCompletion,
    DirectTraps,
    EndReason,
    Event,
    GuestEnded,
    GuestRestarted,
    HostInterrupt,
    HostTurnInterrupt,
    HostWoken,
    Hypercall,
    IrqDelivered,
    IrqRaised,
    PacketSent,
    RandomChoice,
    StateDigest,
    TrapReflected,
    TscReading,
)
from replay.log import LogWriter, TraceReader
from replay.trace_header import GuestSetup, TraceEnd, TraceEndReason, TraceHeader
from replay.wire import pack_map, unpack_map

IMAGES = {"hello": b"\x7fELF" + bytes(range(60)), "disk": b"d"}
HEADER = TraceHeader(
    lgreplay_version="0.1",
    engine="unicorn",
    engine_version="2.1.4",
    cpu_model="pentium",
    maths=b"\x01\x02",
    guests=(GuestSetup(memory=1 << 20, abi="3.2", kernel="hello"),),
    clock="virtual",
    seed=7,
    digest_interval=1000,
)
END = TraceEnd(Tick(1 << 40), b"digest", TraceEndReason.FINISHED, "bye")

ONE_OF_EACH: tuple[Event, ...] = (
    ClockReading(Tick(0), 0, Nanoseconds(1_184_846_400_000_000_000)),
    HostInterrupt(Tick(10_000), 0, 0x20, 0xC0101234, 0x55),
    HostInterrupt(Tick(20_001), 3, 2, 0xFFFFFFFF, 0xFFFF),
    HostWoken(Tick(20_001), 0, 0x21),
    HostTurnInterrupt(Tick(20_002), 15, 0xFF),
    ClockReading(Tick(20_002), 1, Nanoseconds(1_184_846_399_000_000_000)),
    TscReading(Tick(20_003), 0, (1 << 64) - 1),
    TscReading(Tick(20_004), 0, 5),
    RandomChoice(Tick(20_004), 0, 4, 3),
    DeviceCompletion(Tick(20_005), 1, 0xFFFF, 5, b"sector"),
    DeviceCompletion(Tick(20_005), 0, 0, 0, b""),
    ConsoleInput(Tick(20_005), 0, b"ls\n"),
    DebuggerWrite(Tick(20_006), 1, 1, 8, b"\0\1\2\3"),
    Hypercall(Tick(20_006), 0, 10, ()),
    Hypercall(Tick(20_006), 2, 14, (1, 0xFFFFFFFF, 3), queued=True),
    TrapReflected(Tick(20_007), 0, 14, 2, 0xC0001000),
    IrqRaised(Tick(20_008), 0, 0),
    IrqDelivered(Tick(20_009), 1, 31),
    DirectTraps(Tick(20_010), 0, ((3, 1), (128, 1 << 40))),
    ConsoleOutput(Tick(20_011), 0, b"hello\xff\n"),
    PacketSent(Tick(20_011), 2, 1, bytes(range(60))),
    StateDigest(Tick(20_012), 0, b"12345678"),
    StateDigest(Tick(20_012), 1, b"12345678", b"m" * 16),
    GuestEnded(Tick(20_013), 0, EndReason.KILLED, "unhandled trap 13 at \udc80 0xc0"),
    GuestEnded(Tick(1 << 40), 1, EndReason.POWEROFF, ""),
    GuestRestarted(Tick(1 << 40), 2, "once more"),
)


@dataclass
class FakeClock:
    """A clock that the test sets."""

    ns: int = 0

    def __call__(self) -> int:
        return self.ns


def write_trace(
    path: Path, batches: Iterable[Sequence[Event]] = (ONE_OF_EACH,), *, closed: bool = True
) -> Path:
    """Write a trace with one chunk per batch; return the path of the file."""
    with LogWriter(path, HEADER, IMAGES, now=FakeClock()) as writer:
        for batch in batches:
            for event in batch:
                writer.write(event)
            writer.flush()
        if closed:
            writer.close(END)
    return path if closed else path.with_name(path.name + ".incomplete")


def read_events(path: Path) -> list[Event]:
    """Open, read the events, close."""
    with TraceReader(path) as reader:
        return list(reader.events())


def read_everything(path: Path, *, salvage: bool = False) -> list[Event]:
    """Look at every byte of a trace."""
    with TraceReader(path, salvage=salvage) as reader:
        reader.verify()
        reader.count_kinds()
        return list(reader.events())


@dataclass
class Piece:
    """One chunk of a file, taken apart; `raw` is what it decompresses to."""

    header: ChunkHeader
    raw: bytes

    def pack(self, level: int = 3) -> bytes:
        """Put it together with right sizes and checksums, whatever else has been done to it."""
        payload = zstandard.ZstdCompressor(level=level).compress(self.raw)
        return self.pack_payload(payload, len(self.raw))

    def pack_payload(self, payload: bytes, raw_size: int) -> bytes:
        """The same with a payload that need not be what it says."""
        header = replace(
            self.header,
            compressed_size=len(payload),
            raw_size=raw_size,
            payload_crc=chunks.crc(payload),
        )
        return chunks.pack_chunk_header(header) + payload


def take_apart(data: bytes) -> list[Piece]:
    """Split a closed trace into its chunks."""
    pieces = []
    offset = chunks.PROLOGUE_SIZE
    while data[offset : offset + 4] == chunks.MARK:
        header = chunks.unpack_chunk_header(
            data[offset : offset + chunks.CHUNK_HEADER_SIZE],
            Version(chunks.MAJOR, chunks.MINOR + 1),
            Place("", offset),
        )
        frame = data[offset + chunks.CHUNK_HEADER_SIZE : offset + header.size]
        pieces.append(Piece(header, zstandard.ZstdDecompressor().decompress(frame)))
        offset += header.size
    return pieces


def put_together(pieces: Iterable[Piece | bytes], version: Version | None = None) -> bytes:
    """Make an unclosed trace of chunks."""
    packed = [piece if isinstance(piece, bytes) else piece.pack() for piece in pieces]
    return chunks.pack_prologue(version or Version()) + b"".join(packed)


def closed_without_index(pieces: Iterable[Piece]) -> bytes:
    """Make a closed trace of chunks, the last of them END; there is no INDEX with which they must agree."""
    *body, end = (piece for piece in pieces if piece.header.type != ChunkType.INDEX)
    place = Place("", 0)
    value = {**unpack_map(end.raw, place), "index": 0}
    header = replace(end.header, sequence=body[-1].header.sequence + 1)
    last = Piece(header, pack_map(value))
    whole = put_together([*body, last])
    return whole + chunks.pack_trailer(len(whole) - len(last.pack()))


def rebuilt(path: Path, change: Callable[[list[Piece]], Iterable[Piece | bytes]]) -> Path:
    """Replace a closed trace by an unclosed one whose head and body `change` has made; return its path."""
    pieces = take_apart(path.read_bytes())
    path.write_bytes(put_together(change(pieces[:-2])))
    return path
