"""`lgreplay index`: a replay that stores states in the trace, so that the next person need not run to them.

States are stored at ticks for which the log has a digest, and at the end, because only those can be compared with
something the recorder said (stored_states.py). The whole trace is verified on the way, as by `lgreplay replay`; a
trace that diverges gets no index.

What a state costs in the file is what is new in its pages. So the spacing is chosen for the time it takes to run to the
next state, and only where that makes the index larger than wished, every second state is given up, again and again.

The file is written anew under another name, which takes the place of the old one at the very end; until then the
old one is as it was. What was in it stays as it is, byte for byte, with its digest of contents and its end behind the
stored states. An index that is there and is what was asked for stays; another one is replaced.

Read next: page_spool.py, chunk_writer.py (ChunkCopy).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Self

import numpy as np

from hostvm.dirty_pages import DirtyPages
from hostvm.machine import Machine
from hostvm.units import Tick
from hostvm.x86 import PAGE_SHIFT, PAGE_SIZE
from replay.checkpoints import fields_of
from replay.chunk_writer import ChunkCopy
from replay.chunks import MAX_CHUNKS, ChunkType
from replay.directory import Directory
from replay.errors import TraceError, TraceTruncated, TraceVersionError, TraceWriteError
from replay.event_store import EventStore
from replay.instructions import goes_on_with_rep
from replay.log import TraceReader
from replay.page_spool import Numbers, PageSpool
from replay.session import Session, start_of
from replay.slices import run_in_slices
from replay.stored_states import (
    MOST_STATES,
    PAGE_REFERENCES,
    PAGES_IN_CHUNK,
    STORED_TYPES,
    Row,
    StoredStates,
    Wish,
    pack_states,
    place_in_log,
)
from replay.wire import Value, pack_map

EVERY = 4_000_000
MOST = 256 << 20
_ZEROES = bytes(PAGE_SIZE)

Progress = Callable[[Tick, Tick], None]


@dataclass(frozen=True, slots=True)
class Indexed:
    """What there is now: number of states, bytes they take in the file; `fresh`: they were not there before."""

    states: int
    bytes: int
    fresh: bool


def index(
    path: str | PathLike[str],
    *,
    every: int = EVERY,
    most: int = MOST,
    again: bool = False,
    progress: Progress = lambda _tick, _end: None,
) -> Indexed:
    """Store states in the trace at `path`, about every `every` ticks, in at most about `most` bytes.

    Raises: TraceError, TraceMismatch, ConfigurationError where it cannot be replayed; Divergence where it is not what
    happens; TraceWriteError. The file is then as it was.
    """
    with TraceReader(path) as reader:
        _demand_whole(reader)
        wish = Wish(every, most)
        known = None if again else _sound_index(reader, wish)
        if known is not None:
            return known
        try:
            with _Collector(reader, wish) as collector:
                collector.run(progress)
                return collector.write()
        except OSError as error:
            text = f"not indexed: {error.strerror or error}; the trace is as it was"
            raise TraceWriteError(reader.path, text) from error


def remove_index(path: str | PathLike[str]) -> bool:
    """Take the stored states out of the trace at `path`; False when there are none. Raises as `index` does."""
    with TraceReader(path) as reader:
        _demand_whole(reader)
        file, head, directory = reader.parts
        body = _without_states(reader, directory)
        if len(body) == len(directory):
            return False
        try:
            with ChunkCopy(file, head, body) as copy:
                assert reader.end is not None
                copy.finish(reader.end)
        except OSError as error:
            text = f"not changed: {error.strerror or error}"
            raise TraceWriteError(reader.path, text) from error
        return True


def stored_size(reader: TraceReader) -> int:
    """Bytes that stored states take in the file."""
    return sum(entry.size for entry in reader.chunks if entry.type in STORED_TYPES)


def _demand_whole(reader: TraceReader) -> None:
    if reader.end is None or not reader.complete:
        text = "the trace is unfinished: its recorder was stopped, or still runs; only a whole one can be indexed"
        raise TraceTruncated(reader.path, reader.torn_at or 0, text)
    if reader.version.newer:
        raise TraceVersionError(reader.path, 0, "a newer lgreplay wrote it, which has to index it")


def _without_states(reader: TraceReader, directory: Directory) -> Directory:
    """The body up to the stored states, which must be its end."""
    stored = [rank for rank, entry in enumerate(reader.chunks) if entry.type in STORED_TYPES]
    first = stored[0] if stored else len(directory)
    if first + len(stored) != len(directory):
        raise TraceError(reader.path, directory.offset(first), "stored states among the events")
    return directory.up_to(first)


def _sound_index(reader: TraceReader, wish: Wish) -> Indexed | None:
    """The index that is there, if it is what is wished and nothing in it is damaged."""
    states = StoredStates(reader, EventStore(reader, start_of(reader).entry))
    if states.wish != wish or not states.ticks:
        return None
    try:
        for entry in reader.chunks:
            if entry.type in STORED_TYPES:
                reader.payload(entry)
    except TraceError:
        return None
    return Indexed(len(states), stored_size(reader), fresh=False)


@dataclass(slots=True)
class _Kept:
    """A state without pages; numbers of its pages, and of their contents in the spool."""

    row: Row
    fields: dict[str, Value]
    pages: Numbers
    contents: Numbers

    @property
    def size(self) -> int:
        """About as much as it takes in the file."""
        return 1024 + 4 * len(self.pages)


class _Collector:
    """Replays a trace and keeps states on the way."""

    def __init__(self, reader: TraceReader, wish: Wish) -> None:
        self._reader = reader
        self._wish = wish
        self._session = Session(reader)
        self._machine: Machine = self._session.machine
        self._store = EventStore(reader, self._session.start.entry)
        self._every = self._whole_intervals(wish.every)
        self._dirty = DirtyPages(self._machine.memory, lambda: self._machine.guests)
        self._spool = PageSpool(Path(reader.path).resolve().parent)
        self._here: dict[int, int] = {}
        self._states: list[_Kept] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._spool.close()

    def _whole_intervals(self, every: int) -> int:
        interval = self._machine.config.digest_interval
        return max(1, -(-every // interval)) * interval

    # ---- running --------------------------------------------------------------------------------

    def run(self, progress: Progress) -> None:
        """Replay everything, keeping states."""
        end = self._session.end_tick
        self._begin()
        while (goal := self._next_goal()) < end:
            self._run_to(goal, progress)
        self._run_to(end, progress)

    def _begin(self) -> None:
        self._dirty.collect()
        self._machine.cpu.flush_tlb()
        for page, content in self._machine.memory.used_pages():
            self._here[page] = self._spool.number_of(content)

    def _next_goal(self) -> Tick:
        return Tick((self._machine.tick // self._every + 1) * self._every)

    def _run_to(self, goal: Tick, progress: Progress) -> None:
        machine, end = self._machine, self._session.end_tick
        for tick in run_in_slices(machine, Tick(goal - 1)):
            progress(tick, end)
        before = machine.cpu.eip
        if goal == end:
            for tick in self._session.verify():
                progress(tick, end)
        else:
            machine.run(goal)
        again = goes_on_with_rep(machine.cpu, before)
        self._keep(Row(machine.tick, machine.digest(), again))

    # ---- keeping --------------------------------------------------------------------------------

    def _keep(self, row: Row) -> None:
        """Keep the machine as it stands, if the log vouches for it; else its changes go to the next state."""
        self._take_changes()
        if place_in_log(row, self._store, self._reader.end) is None:
            return
        pages = np.array(sorted(self._here), np.uint32)
        contents = np.array([self._here[page] for page in pages.tolist()], np.uint32)
        fields = fields_of(self._machine.state(with_pages=False))
        self._states.append(_Kept(row, fields, pages, contents))
        while len(self._states) > 1 and self._is_too_large():
            self._thin()

    def _is_too_large(self) -> bool:
        chunks = len(self._spool) // PAGES_IN_CHUNK + len(self._states)
        return (
            self._size() > self._wish.most
            or len(self._states) > MOST_STATES // 2
            or chunks > MAX_CHUNKS // 4
        )

    def _take_changes(self) -> None:
        for page in self._dirty.collect():
            content = self._machine.memory.read(page << PAGE_SHIFT, PAGE_SIZE)
            if content == _ZEROES:
                self._here.pop(page, None)
            else:
                self._here[page] = self._spool.number_of(content)
        self._machine.cpu.flush_tlb()

    def _size(self) -> int:
        return self._spool.size + sum(state.size for state in self._states)

    def _thin(self) -> None:
        """Double the spacing; of the states kept so far, those that do not fit it go, but never all."""
        self._every *= 2
        last = self._states[-1]
        self._states = [s for s in self._states if s.row.tick % self._every == 0] or [last]
        here = np.array(list(self._here.values()), np.uint32)
        used = np.unique(np.concatenate([here, *(state.contents for state in self._states)]))
        renumbered = self._spool.keep_only(used)
        for state in self._states:
            state.contents = renumbered[state.contents]
        self._here = {page: int(renumbered[number]) for page, number in self._here.items()}

    # ---- writing --------------------------------------------------------------------------------

    def write(self) -> Indexed:
        """Write the trace anew, with what was kept."""
        file, head, directory = self._reader.parts
        end = self._reader.end
        assert end is not None
        with ChunkCopy(file, head, _without_states(self._reader, directory)) as copy:
            begin = copy.size
            for frame, size in self._spool.frames():
                copy.add_frame(ChunkType.PAGES, frame, size, end.tick)
            for raw in self._payloads():
                copy.add(ChunkType.STATE, raw, end.tick)
            rows = [state.row for state in self._states]
            copy.add(ChunkType.STATES, pack_states(self._wish, rows), end.tick)
            taken = copy.size - begin
            copy.finish(end)
        return Indexed(len(rows), taken, fresh=True)

    def _payloads(self) -> Iterator[bytes]:
        for state in self._states:
            count = len(state.pages)
            numbers = struct.pack(f"<{count}I", *state.pages.tolist())
            references = struct.pack(f"<{count}I", *state.contents.tolist())
            yield pack_map({**state.fields, "page_numbers": numbers, PAGE_REFERENCES: references})


__all__ = ["EVERY", "MOST", "Indexed", "Progress", "index", "remove_index", "stored_size"]
