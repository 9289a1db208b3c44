"""Feed damaged and malicious traces to the reader: `python -m tests.fuzz.trace --seconds 600 --seed 1`.

Two kinds of attack. *Accidents* change the file's bytes as they are: checksums must catch them all, so a reader may
stop early with a documented error, but never yields other events than were recorded. *Forgeries* change what is
inside - events, index, header, checkpoint - and put correct checksums on it: the reader may then believe what is
possible, and must refuse the rest with a documented error, in bounded memory and time.

What is attacked: a trace with a bit of everything, and what `pack`, `cut`, `salvage` and `redact` make of a recording.
Every attack is a function of the seed and its number: `--only N` repeats one.
"""

from __future__ import annotations

import argparse
import gc
import resource
import struct
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import msgpack  # type: ignore[import-untyped]

from hostvm.machine import Machine
from hostvm.units import Tick
from replay import chunks
from replay.checkpoints import fields_of
from replay.chunk_writer import ChunkCopy
from replay.chunks import ChunkType, Version
from replay.cut import cut as cut_out
from replay.errors import TraceError
from replay.event_store import EventStore
from replay.events import Event
from replay.log import Checkpoint, LogWriter, TraceReader
from replay.pack import pack
from replay.redact import redact
from replay.salvage import Salvage
from replay.stored_states import (
    PAGE_REFERENCES,
    STORED_TYPES,
    Row,
    StoredStates,
    Wish,
    pack_states,
)
from replay.virtual_world import VirtualWorld
from replay.wire import Value, pack_map
from tests.replay.recorded import hello, record_hello
from tests.replay.traces import (
    END,
    HEADER,
    IMAGES,
    ONE_OF_EACH,
    FakeClock,
    Piece,
    closed_without_index,
    put_together,
    read_everything,
    take_apart,
)

SECONDS_FOR_ONE = 20.0
DIGEST_TICK = Tick(20_012)
MEMORY = 4 << 30


def sample(path: Path) -> list[Event]:
    """Write a trace with a bit of everything; return its events."""
    events: list[Event] = []
    with LogWriter(path, HEADER, IMAGES, now=FakeClock()) as writer:
        for lap in range(3):
            if lap:
                fields: dict[str, Value] = {
                    "memory": bytes(100),
                    "list": [1, [2, b"3"]],
                    "deep": {"a": {"b": None}},
                }
                writer.checkpoint(Checkpoint(Tick(lap << 41), fields))
            for event in ONE_OF_EACH:
                events.append(replace(event, tick=Tick(event.tick + (lap << 41))))
                writer.write(events[-1])
        writer.close(replace(END, tick=Tick(1 << 60)))
    return events


def store_states(path: Path, machine: Machine) -> None:
    """Index the sample: one state, of a machine that has nothing to do with it but its digest."""
    state = machine.state()
    pages = [page for page, _ in state.pages[:20]]
    content = bytes(range(256)) * 16
    fields: dict[str, Value] = {
        **fields_of(replace(state, tick=DIGEST_TICK)),
        "page_numbers": struct.pack(f"<{len(pages)}I", *pages),
        PAGE_REFERENCES: struct.pack(f"<{len(pages)}I", *(n % 18 for n in range(len(pages)))),
    }
    rows = [Row(DIGEST_TICK, b"12345678" + bytes(16), continues=False)]
    with TraceReader(path) as reader:
        file, head, body = reader.parts
        assert reader.end is not None
        end = reader.end.tick
        with ChunkCopy(file, head, body) as copy:
            copy.add(ChunkType.PAGES, content * 16, end)
            copy.add(ChunkType.PAGES, content * 2, end)
            copy.add(ChunkType.STATE, pack_map(fields), end)
            copy.add(ChunkType.STATES, pack_states(Wish(1, 1), rows), end)
            copy.finish(reader.end)


def derived(folder: Path) -> dict[str, Path]:
    """What the commands that make traces of traces make of a recording, each in a file of its own."""
    original = folder / "original.lgt"
    record_hello(original)
    made = {name: folder / f"{name}.lgt" for name in ("packed", "cut", "salvaged", "redacted")}
    pack(original, made["packed"], far_away=1)
    cut_out(original, made["cut"], start="50%")
    with closing(Salvage(original)) as found:
        found.save(1, made["salvaged"])
    redact(original, made["redacted"])
    return made


# Accidents.


def flip(data: bytearray, random: Random) -> None:
    """Flip some bits, mostly one."""
    for _ in range(random.choice((1, 1, 1, 2, 8))):
        data[random.randrange(len(data))] ^= 1 << random.randrange(8)


def cut(data: bytearray, random: Random) -> None:
    """Lose the end."""
    del data[random.randrange(len(data)) :]


def overwrite(data: bytearray, random: Random) -> None:
    """Write noise or zeros over a piece."""
    start = random.randrange(len(data))
    size = min(random.randrange(1, 200), len(data) - start)
    data[start : start + size] = random.choice((bytes(size), random.randbytes(size)))


def lose(data: bytearray, random: Random) -> None:
    """Take a piece out of the middle."""
    start = random.randrange(len(data))
    del data[start : start + random.randrange(1, 200)]


def repeat(data: bytearray, random: Random) -> None:
    """Put a piece of the file in somewhere else."""
    start = random.randrange(len(data))
    piece = bytes(data[start : start + random.randrange(1, 500)])
    at = random.randrange(len(data) + 1)
    data[at:at] = piece


ACCIDENTS: Sequence[Callable[[bytearray, Random], None]] = (flip, cut, overwrite, lose, repeat)


# Forgeries.


def noise(raw: bytes, random: Random) -> bytes:
    """Damage the content of a chunk."""
    data = bytearray(raw)
    random.choice(ACCIDENTS)(data, random)
    return bytes(data)


def value(random: Random, depth: int = 0) -> object:
    """Make up something that msgpack can say."""
    kinds: Sequence[Callable[[], object]] = (
        lambda: random.choice((0, 1, 2, 31, 127, 128, 255, 256, 65536, -1, -33)),
        lambda: random.getrandbits(random.choice((8, 16, 32, 63, 64))),
        lambda: -random.getrandbits(63),
        lambda: random.choice((None, True, False, 0.5, float("nan"))),
        lambda: random.randbytes(random.choice((0, 1, 8, 70, 300))),
        lambda: "é" * random.choice((0, 1, 300)),
        lambda: msgpack.ExtType(random.randrange(128), b"x"),
        lambda: [value(random, depth + 1) for _ in range(random.randrange(5))],
        lambda: {
            random.choice("abc"): value(random, depth + 1) for _ in range(random.randrange(4))
        },
    )
    return random.choice(kinds[: 7 if depth > 3 else len(kinds)])()


def replace_one(container: object, random: Random) -> object:
    """Replace one value, somewhere inside."""
    if isinstance(container, list) and container and random.random() < 0.9:
        at = random.randrange(len(container))
        return [*container[:at], replace_one(container[at], random), *container[at + 1 :]]
    if isinstance(container, dict) and container and random.random() < 0.9:
        name = random.choice(list(container))
        return {**container, name: replace_one(container[name], random)}
    return value(random)


def another_value(raw: bytes, random: Random) -> bytes:
    """Replace one value of the msgpack in a chunk."""
    unpacker = msgpack.Unpacker(raw=False, strict_map_key=False, unicode_errors="surrogateescape")
    unpacker.feed(raw)
    try:
        rows = list(unpacker)
    except (ValueError, TypeError):
        # An earlier forgery may have left what even a lenient reader does not take.
        return noise(raw, random)
    if not rows:
        return raw
    at = random.randrange(len(rows))
    rows[at] = replace_one(rows[at], random)
    return b"".join(msgpack.packb(row, unicode_errors="surrogateescape") for row in rows)


def bomb(raw: bytes, random: Random) -> bytes:
    """Make a chunk as large as it may be, of the smallest values there are."""
    size = random.choice((1 << 16, 1 << 22, 1 << 23))
    unit = random.choice(
        (b"\x90", b"\x91\x00", b"\x93\x7f\x00\x00", b"\x91", b"\x00", b"\xdc\x02\x00")
    )
    return raw[: random.randrange(40)] + unit * (size // len(unit))


CONTENTS: Sequence[Callable[[bytes, Random], bytes]] = (
    another_value,
    another_value,
    another_value,
    another_value,
    noise,
    noise,
    bomb,
)


def forge_content(pieces: list[Piece], random: Random) -> None:
    """Change what is in one chunk, and make its header agree if it can."""
    piece = random.choice(pieces)
    weights = (10, 10, 10, 10, 10, 10, 1)
    piece.raw = random.choices(CONTENTS, weights)[0](piece.raw, random) or b"\0"
    if piece.header.type == ChunkType.HEADER:
        _, stamp = chunks.stamp_of(piece.raw)
        for other in pieces:
            other.header = replace(other.header, stamp=stamp)


def forge_header(pieces: list[Piece], random: Random) -> None:
    """Change a field of one chunk header."""
    piece = random.choice(pieces)
    field, bits = random.choice(
        (
            ("type", 8),
            ("flags", 8),
            ("sequence", 32),
            ("first_tick", 64),
            ("last_tick", 64),
            ("count", 32),
        )
    )
    small = random.choice((0, 1, 2, 3, 4, 5, 6, (1 << bits) - 1, random.getrandbits(bits)))
    old = getattr(piece.header, field)
    new = random.choice((small, max(0, old - 1), min(old + 1, (1 << bits) - 1)))
    changed: Any = {field: new}
    piece.header = replace(piece.header, **changed)


def forge_order(pieces: list[Piece], random: Random) -> None:
    """Exchange, lose or repeat chunks, and perhaps number them as if nothing had happened."""
    at = random.randrange(len(pieces))
    match random.randrange(3):
        case 0:
            pieces.insert(random.randrange(len(pieces)), pieces.pop(at))
        case 1:
            del pieces[at]
        case _:
            pieces.insert(at, replace(pieces[at]))
    if random.random() < 0.7:
        for rank, piece in enumerate(pieces):
            piece.header = replace(piece.header, sequence=rank)


FORGERIES: Sequence[Callable[[list[Piece], Random], None]] = (
    forge_content,
    forge_content,
    forge_content,
    forge_header,
    forge_order,
)


def forge(data: bytes, random: Random) -> bytes:
    """Change some things inside a trace and put correct checksums on all of it."""
    pieces = take_apart(data)
    for _ in range(random.choice((1, 1, 2))):
        random.choice(FORGERIES)(pieces, random)
    version = Version(chunks.MAJOR, random.choice((0, 0, 0, 1, 5)))
    whole = put_together(pieces, version)
    if pieces and pieces[-1].header.type == ChunkType.END and random.random() < 0.8:
        whole += chunks.pack_trailer(len(whole) - len(pieces[-1].pack()))
    return whole


def forge_states(data: bytes, random: Random) -> bytes:
    """Change what is in the stored states, in a trace that is sound but for that."""
    pieces = take_apart(data)
    for _ in range(random.choice((1, 1, 2))):
        piece = random.choice([p for p in pieces if p.header.type in STORED_TYPES])
        change = random.choice((another_value, another_value, another_value, noise))
        piece.raw = change(piece.raw, random)[: chunks.MAX_RAW[ChunkType.PAGES]] or b"\0"
    return closed_without_index(pieces)


# Judgement.


class Fuzz:
    """Makes attacks on one trace and judges what the reader does."""

    def __init__(self, folder: Path, seed: int) -> None:
        self._path = folder / "attacked.lgt"
        self._seed = seed
        events = sample(self._path)
        self._machine = Machine(hello(), VirtualWorld())
        store_states(self._path, self._machine)
        self._corpus = [("sample", self._path.read_bytes(), events)]
        for name, path in derived(folder).items():
            self._corpus.append((name, path.read_bytes(), read_everything(path)))
        _, self._sound, self._events = self._corpus[0]
        self.outcomes: Counter[str] = Counter()

    def attack(self, number: int) -> None:
        """Make one attack.

        Raises: AssertionError, or whatever the reader should not have raised.
        """
        random = Random(f"{self._seed}/{number}")
        name, self._sound, self._events = random.choice((self._corpus[0], *self._corpus))
        self.outcomes[f"attacks on {name}"] += 1
        accident = random.random() < 0.4
        if accident:
            data = bytearray(self._sound)
            random.choice(ACCIDENTS)(data, random)
            self._path.write_bytes(data)
        elif name in ("sample", "packed") and random.random() < 0.2:
            self._path.write_bytes(forge_states(self._sound, random))
        else:
            self._path.write_bytes(forge(self._sound, random))
        started = time.monotonic()
        for salvage in (False, True):
            outcome = self._read(salvage=salvage, accident=accident)
            self.outcomes[f"{'accident' if accident else 'forgery'}: {outcome}"] += 1
        took = time.monotonic() - started
        assert took < SECONDS_FOR_ONE, f"{took:.1f} s"

    def _read(self, *, salvage: bool, accident: bool) -> str:
        try:
            events = read_everything(self._path, salvage=salvage)
        except TraceError as error:
            return self._judge(error)
        if accident:
            assert events == self._events[: len(events)], "other events than were recorded"
        self._take_stored_states(salvage=salvage)
        return "read" if events == self._events else "read in part"

    def _take_stored_states(self, *, salvage: bool) -> None:
        """Whatever they hold, they are taken or refused; a machine in what was taken can be asked for its digest."""
        with TraceReader(self._path, salvage=salvage) as reader:
            stored = StoredStates(reader, EventStore(reader))
            for tick in stored.ticks[:3]:
                loaded = stored.load(tick, self._machine)
                self.outcomes["a stored state taken" if loaded else "a stored state refused"] += 1
                if loaded is not None:
                    pages = tuple(sorted(loaded.pages.items()))
                    self._machine.restore(replace(loaded.state, pages=pages))
                    self._machine.digest()
            assert all(fault.isprintable() for fault in stored.faults)

    def _judge(self, error: TraceError) -> str:
        assert str(error).isprintable()
        assert str(error).startswith(f"{self._path}: at byte ")
        return type(error).__name__


def main(arguments: Sequence[str] | None = None) -> int:
    """Fuzz for some time; say what happened."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.trace", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", type=int, default=None, help="repeat the attack of this number")
    chosen = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        fuzz = Fuzz(Path(folder), chosen.seed)
        gc.collect()
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        until = time.monotonic() + chosen.seconds
        number = chosen.only or 0
        try:
            while time.monotonic() < until:
                fuzz.attack(number)
                if chosen.only is not None:
                    break
                number += 1
        except BaseException:
            print(f"attack {number} of seed {chosen.seed}:", file=sys.stderr)
            raise
    for outcome, count in fuzz.outcomes.most_common():
        print(f"{count:8}  {outcome}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
