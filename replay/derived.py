"""A trace made of another one: written, replayed, compared with what it was made of, and only then given its name.

What makes traces of traces - `pack`, `cut`, `salvage`, `redact` - says what is to be in it (`Derived`), and `derive`
does the rest. Until the end the file is called NAME.unverified. Then it is read back: its events must be those that
were wanted, and a machine that replays it must do all of them and end with the digest that it should. What fails is
removed again; neither the original nor what had the name before is touched.

(i) *The header* is copied byte for byte where it can be: the trace's id is its digest, and bookmarks go by that.
(ii) *Chunks* are as large as pays: in larger ones zstd finds more to repeat, but somebody who jumps about in the
trace has to decode one at a time. (iii) *The same bytes* come of the same trace: nothing here asks for the time.

Read next: pack.py, cut.py.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import zip_longest
from os import PathLike
from pathlib import Path
from typing import TypeAlias

from hostvm.units import Tick
from hostvm.x86 import PAGE_SIZE
from replay import chunks, codec
from replay.chunk_writer import NO_TICKS, ChunkStream
from replay.chunks import ChunkType, Version
from replay.directory import Directory
from replay.errors import (
    Divergence,
    ReplayError,
    TraceTruncated,
    TraceVersionError,
    TraceWriteError,
    one_line,
)
from replay.events import Event
from replay.log import Checkpoint, TraceReader
from replay.session import Session
from replay.stored_states import PAGE_REFERENCES, PAGES_IN_CHUNK, Row, Wish, pack_states
from replay.trace_file import TraceDerivate
from replay.trace_header import TraceEnd
from replay.wire import Value, pack_map

CHUNK_SIZE = 256 << 10
# How hard zstd tries: what a recorder can afford for bulk, and as hard as pays.
QUICK, BEST = 6, 19

# What is being done, the tick reached, and the last.
Progress: TypeAlias = Callable[[str, Tick, Tick], None]


def silent(_what: str, _tick: Tick, _end: Tick) -> None:
    """Show no progress."""


class BadOutput(ReplayError):
    """The trace `path` is not to be written, and why."""

    def __init__(self, path: str | PathLike[str], why: str) -> None:
        super().__init__(os.fspath(path), why)
        self.path = os.fspath(path)
        self.why = why

    def __str__(self) -> str:
        return one_line(f"{self.path}: {self.why}")


@dataclass(frozen=True, slots=True)
class KeptState:
    """A state to be stored behind the events: fields of a checkpoint, and the contents of pages by number."""

    row: Row
    fields: dict[str, Value]
    pages: tuple[tuple[int, bytes], ...]


@dataclass(frozen=True, slots=True)
class Derived:
    """What a new trace is to have in it. `header` is the payload of its chunk, `images` are in its order.

    `first`: the state that it begins with; None: power-on. `events` are those from there on, anew at each call.
    `begins_as`: the digest that the machine must have at the beginning.
    """

    header: bytes
    images: tuple[bytes, ...]
    first: Checkpoint | None
    events: Callable[[], Iterable[Event]]
    end: TraceEnd
    state: KeptState | None = None
    begins_as: bytes | None = None


def head_of(reader: TraceReader) -> tuple[bytes, tuple[bytes, ...]]:
    """The header's payload and the images of a trace, as they are. Raises TraceError."""
    file, head, _ = reader.parts
    header = file.header_at(chunks.PROLOGUE_SIZE, reader.version)
    raw = file.payload_at(chunks.PROLOGUE_SIZE, header)
    return raw, tuple(reader.image(image.name) for image in head.header.images)


def first_of(reader: TraceReader) -> Checkpoint | None:
    """The state that a trace begins with, if that is not power-on. Raises TraceError."""
    if reader.starts_at_power_on:
        return None
    return reader.read_checkpoint(next(reader.checkpoints()))


def events_of(reader: TraceReader) -> Iterator[Event]:
    """The events of a trace behind the state that it begins with. Raises TraceError."""
    if reader.starts_at_power_on:
        return reader.events()
    return reader.events_after(next(reader.checkpoints()))


def demand_whole(reader: TraceReader) -> TraceEnd:
    """The end of a trace. Raises TraceError if it has none, or if it is not for this program to write anew."""
    demand_known(reader)
    if reader.end is None or not reader.complete:
        text = "the trace has no end: its recorder was stopped, or still runs; `lgreplay salvage` makes it whole"
        raise TraceTruncated(reader.path, reader.torn_at or 0, text)
    return reader.end


def demand_known(reader: TraceReader) -> None:
    """Raises TraceVersionError for a trace in which something may be that this program does not know."""
    if reader.version.newer:
        raise TraceVersionError(reader.path, 0, "a newer lgreplay wrote it, which has to do this")


def check_output(output: str | PathLike[str], source: str | PathLike[str], *, force: bool) -> Path:
    """The path to write to. Raises BadOutput for that of the original, and for one that exists."""
    path = Path(output)
    if path.exists() and path.samefile(source):
        raise BadOutput(path, "is the trace that it would be made of")
    if os.path.lexists(path) and not force:
        raise BadOutput(path, "is there already; --force replaces it")
    return path


def derive(
    derived: Derived,
    path: Path,
    *,
    level: int = QUICK,
    force: bool = False,
    progress: Progress = silent,
) -> int:
    """Write a trace, verify it, and give it its name; return its size in bytes.

    Raises: Divergence when a replay of it is not what it says; TraceWriteError; as Session does.
    """
    try:
        file = TraceDerivate(path, force=force)
        try:
            file.open()
            _Writer(file, derived, level).write()
            _verify(file.temporary, derived, progress)
            file.finish()
        finally:
            file.remove()
        return file.size
    except OSError as error:
        why = error.strerror or str(error)
        raise TraceWriteError(path, f"not written: {why}") from error


class _Writer(ChunkStream):
    """Writes one trace."""

    _output: TraceDerivate

    def __init__(self, output: TraceDerivate, derived: Derived, level: int) -> None:
        _, stamp = chunks.stamp_of(derived.header)
        super().__init__(stamp, 0, level)
        self._output = output
        self._derived = derived

    def write(self) -> None:
        """Write all of it."""
        derived = self._derived
        self._append_raw(chunks.pack_prologue(Version()))
        self._append(ChunkType.HEADER, derived.header, NO_TICKS)
        for image in derived.images:
            self._append(ChunkType.IMAGE, image, NO_TICKS)
        # A number left out says that something has been dropped.
        self._sequence += derived.first is not None
        self._directory = Directory(self._output.size, self._sequence)
        self._write_body()
        self._append_tail(derived.end)

    def _write_body(self) -> None:
        first = self._derived.first
        if first is not None:
            raw = pack_map(first.fields)
            if len(raw) > chunks.MAX_RAW[ChunkType.CHECKPOINT]:
                why = f"the state at tick {first.tick:,} has {len(raw):,} bytes, more than a trace can hold"
                raise BadOutput(self._output.path, why)
            self._add(ChunkType.CHECKPOINT, raw, first.tick)
        encoder = codec.EventEncoder(Tick(0) if first is None else first.tick)
        for event in self._derived.events():
            if encoder.add(event) >= CHUNK_SIZE:
                self._add_events(encoder)
        self._add_events(encoder)
        if self._derived.state is not None:
            self._write_state(self._derived.state)

    def _add_events(self, encoder: codec.EventEncoder) -> None:
        encoded = encoder.take()
        if encoded is None:
            return
        ticks = (encoded.first_tick, encoded.last_tick)
        header = self._append(ChunkType.EVENTS, encoded.raw, ticks, encoded.count)
        self._directory.add(header, encoded.kinds)

    def _add(self, kind: ChunkType, raw: bytes, tick: Tick) -> None:
        self._directory.add(self._append(kind, raw, (tick, tick)))

    def _write_state(self, state: KeptState) -> None:
        end = self._derived.end.tick
        contents = dict.fromkeys(content for _, content in state.pages)
        numbers = {content: number for number, content in enumerate(contents)}
        group = PAGES_IN_CHUNK * PAGE_SIZE
        raw = b"".join(numbers)
        for at in range(0, len(raw), group):
            self._add(ChunkType.PAGES, raw[at : at + group], end)
        pages = [page for page, _ in state.pages]
        references = [numbers[content] for _, content in state.pages]
        fields: dict[str, Value] = {
            **state.fields,
            "page_numbers": struct.pack(f"<{len(pages)}I", *pages),
            PAGE_REFERENCES: struct.pack(f"<{len(pages)}I", *references),
        }
        self._add(ChunkType.STATE, pack_map(fields), end)
        self._add(ChunkType.STATES, pack_states(Wish(0, 0), [state.row]), end)


def _verify(path: Path, derived: Derived, progress: Progress) -> None:
    """Read back what was written, and replay it."""
    with TraceReader(path) as reader:
        reader.verify()
        for wanted, found in zip_longest(derived.events(), reader.events()):
            assert wanted == found, (wanted, found)
        assert reader.end == derived.end
        session = Session(reader)
        digest = session.machine.digest()
        if derived.begins_as not in (None, digest):
            raise Divergence(
                session.first_tick, derived.begins_as.hex(), digest.hex(), "first state"
            )
        for tick in session.verify():
            progress("verifying", tick, session.end_tick)


__all__ = [
    "BEST",
    "QUICK",
    "BadOutput",
    "Derived",
    "KeptState",
    "Progress",
    "check_output",
    "demand_known",
    "demand_whole",
    "derive",
    "events_of",
    "first_of",
    "head_of",
    "silent",
]
