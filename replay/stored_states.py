"""States that `lgreplay index` stored in a trace: where they are, and how one is believed.

A stored state saves running there; it says nothing that running would not say too. So nothing depends on it, and a
trace without is the same trace. It is in three types of chunk, all behind the events:

    PAGES    contents of pages, PAGES_IN_CHUNK to a chunk (the last one may have fewer), numbered through from 0
    STATE    one state: the fields of a checkpoint (checkpoints.py); for each page its number and that of its content
    STATES   what was asked for; then one row for each STATE: tick, digest of the machine there, and whether the step
             at hand goes on with a REP instruction

Each content is stored once, however many states have it, and only the contents that a state needs are read for it.

(i) *What is checked before.* Checksums, ranges and structure, as for checkpoints. The digest in the row must be the one
that the log has for that tick, in which memory is included in every sixteenth or so; at the end of the trace it
must be the end's.
(ii) *What is checked after.* With the state in it, the machine must have the digest of the row, memory included. The
timeline does that before anybody sees the machine (timeline.py), and drops a state that fails.
(iii) *What is left.* Between two memory digests of the log a forger could store a state with other memory than the
recorder's; the next memory digest on the way shows it.

Read next: index.py, which makes them; snapshots.py, where they go.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass

from hostvm.machine import Machine, MachineState
from hostvm.observations import StateDigest
from hostvm.units import Tick
from hostvm.x86 import PAGE_SIZE
from replay.checkpoints import bare_state_of
from replay.chunks import ChunkType
from replay.codec import MAX_TICK
from replay.directory import Entry
from replay.errors import Place, TraceError, TraceFormatError
from replay.event_store import EventStore, Position
from replay.events import DebuggerWrite, Event
from replay.log import Checkpoint, TraceReader
from replay.trace_header import TraceEnd
from replay.wire import RowPacker, unpack_map, unpack_rows

PAGES_IN_CHUNK = 16
STORED_TYPES = (ChunkType.PAGES, ChunkType.STATE, ChunkType.STATES)
PAGE_REFERENCES = "page_references"
MOST_STATES = 1 << 17
DIGEST_SIZE = 24
REGISTER_DIGEST_SIZE = 8
_CHUNKS_KEPT = 256


@dataclass(frozen=True, slots=True)
class Row:
    """A row of STATES."""

    tick: Tick
    digest: bytes
    continues: bool


@dataclass(frozen=True, slots=True)
class Wish:
    """What an index should be like: a state every so many ticks, or further apart where it exceeds `most` bytes."""

    every: int
    most: int


def pack_states(wish: Wish, rows: Sequence[Row]) -> bytes:
    """Make the payload of STATES."""
    pack = RowPacker().pack
    packed = [pack((row.tick, row.digest, row.continues)) for row in rows]
    return b"".join([pack((wish.every, wish.most)), *packed])


def unpack_states(raw: bytes, place: Place) -> tuple[Wish, list[Row]]:
    """Undo pack_states. Raises TraceFormatError."""
    unpacked = unpack_rows(raw, place)
    match next(unpacked, ()):
        case (int(every), int(most)) if every >= 0 and most >= 0:
            return Wish(every, most), _rows(unpacked, place)
    raise place.malformed("stored states without a head")


def _rows(unpacked: Iterator[object], place: Place) -> list[Row]:
    rows: list[Row] = []
    for row in unpacked:
        match row:
            case (int(tick), bytes(digest), bool(continues)) if (
                len(digest) == DIGEST_SIZE
                and (rows[-1].tick if rows else -1) < tick <= MAX_TICK
                and len(rows) < MOST_STATES
            ):
                rows.append(Row(Tick(tick), digest, continues))
            case _:
                raise place.malformed(f"state {len(rows)} is no tick with a digest")
    return rows


@dataclass(frozen=True, slots=True)
class Loaded:
    """A stored state as it came from the file, checked as far as can be without a machine that is in it."""

    row: Row
    state: MachineState
    position: Position
    pages: Mapping[int, bytes]


def place_in_log(row: Row, store: EventStore, end: TraceEnd | None) -> Position | None:
    """Where in the log the machine is in this state; None if it is not, as far as the log has its digest."""
    if end is not None and row.tick == end.tick:
        return store.position_of(len(store)) if row.digest == end.digest else None
    here = store.position_at(row.tick)
    past = behind_digest(row, store.events_at(row.tick))
    return None if past is None else store.position_of(store.ordinal_of(here) + past)


def behind_digest(row: Row, its_events: Iterable[Event]) -> int | None:
    """How many of the events of its tick are past in this state; None if the digest among them is another one."""
    events = tuple(its_events)
    if any(isinstance(event, DebuggerWrite) for event in events):
        # The log has the digest of before.
        return None
    for past, event in enumerate(events, 1):
        if isinstance(event, StateDigest):
            registers = row.digest[:REGISTER_DIGEST_SIZE]
            memory = row.digest[REGISTER_DIGEST_SIZE:]
            agrees = event.registers == registers and event.memory in (b"", memory)
            return past if agrees else None
    return None


class StoredStates:
    """The stored states of `reader`, whose events are in `store`. `faults` says which were refused, and why.

    Nothing here raises: what cannot be read or believed is a fault, and counts as not stored.
    """

    def __init__(self, reader: TraceReader, store: EventStore) -> None:
        self._reader = reader
        self._store = store
        self._rows: list[Row] = []
        self._entries: dict[Tick, Entry] = {}
        self._contents = _Contents(reader)
        self.faults: list[str] = []
        self.wish: Wish | None = None
        if reader.complete:
            try:
                self._read_table()
            except TraceError as error:
                self._fault(str(error))

    def _read_table(self) -> None:
        states = self._reader.chunks_of(ChunkType.STATE)
        for table in self._reader.chunks_of(ChunkType.STATES)[:1]:
            place = Place(str(self._reader.path), table.offset)
            self.wish, rows = unpack_states(self._reader.payload(table), place)
            if len(rows) != len(states):
                raise place.malformed(f"{len(rows)} rows for {len(states)} stored states")
            self._entries = {row.tick: entry for row, entry in zip(rows, states, strict=True)}
            self._rows = rows

    def _fault(self, text: str) -> None:
        self.faults.append(f"{text}; going on without it")

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def ticks(self) -> tuple[Tick, ...]:
        """Where there are states."""
        return tuple(row.tick for row in self._rows)

    def before(self, tick: int) -> Tick | None:
        """Tick of the last state not after `tick`."""
        index = bisect_right(self._rows, tick, key=lambda row: row.tick)
        return self._rows[index - 1].tick if index else None

    def up_to(self, tick: Tick) -> StoredStates:
        """Those before `tick`, for a history that is the same up to there."""
        same = copy(self)
        same.faults = []
        same.forget_from(tick)
        return same

    def forget_from(self, tick: Tick) -> None:
        """Do without those at `tick` and later."""
        self._rows = [row for row in self._rows if row.tick < tick]

    def refuse(self, tick: Tick, why: str) -> None:
        """Do without the state of a tick from now on."""
        self._rows = [row for row in self._rows if row.tick != tick]
        self._fault(f"{self._reader.path}: stored state of tick {tick}: {why}")

    def load(self, tick: Tick, machine: Machine) -> Loaded | None:
        """The state of a tick that is in `ticks`; None, and a fault, when it is not what the trace demands."""
        row = next(row for row in self._rows if row.tick == tick)
        try:
            position = place_in_log(row, self._store, self._reader.end)
            if position is not None:
                return self._load(row, position, machine)
            self.refuse(tick, "its digest is not that in the log")
        except TraceError as error:
            self.refuse(tick, error.text)
        return None

    def _load(self, row: Row, position: Position, machine: Machine) -> Loaded:
        entry = self._entries[row.tick]
        place = Place(str(self._reader.path), entry.offset)
        fields = unpack_map(self._reader.payload(entry), place)
        checkpoint = Checkpoint(row.tick, fields)
        state, numbers = bare_state_of(checkpoint, machine, place.path, place.offset)
        raw = fields.get(PAGE_REFERENCES)
        if not isinstance(raw, bytes) or len(raw) != 4 * len(numbers):
            raise place.malformed("pages without contents")
        references = struct.unpack(f"<{len(numbers)}I", raw)
        pages = dict(zip(numbers, map(self._contents.__getitem__, references), strict=True))
        return Loaded(row, state, position, pages)


class _Contents:
    """The contents of pages by number; the chunks last used are kept."""

    def __init__(self, reader: TraceReader) -> None:
        self._reader = reader
        self._entries: list[Entry] | None = None
        self._kept: OrderedDict[int, tuple[bytes, ...]] = OrderedDict()

    def __getitem__(self, number: int) -> bytes:
        chunk, at = divmod(number, PAGES_IN_CHUNK)
        contents = self._kept.get(chunk)
        if contents is None:
            contents = self._read(chunk)
            self._kept[chunk] = contents
            if len(self._kept) > _CHUNKS_KEPT:
                self._kept.popitem(last=False)
        else:
            self._kept.move_to_end(chunk)
        if at >= len(contents):
            raise self._nowhere(number)
        return contents[at]

    def _read(self, chunk: int) -> tuple[bytes, ...]:
        if self._entries is None:
            self._entries = self._reader.chunks_of(ChunkType.PAGES)
        if chunk >= len(self._entries):
            raise self._nowhere(chunk * PAGES_IN_CHUNK)
        entry = self._entries[chunk]
        raw = self._reader.payload(entry)
        if len(raw) % PAGE_SIZE or len(raw) > PAGES_IN_CHUNK * PAGE_SIZE:
            raise Place(str(self._reader.path), entry.offset).malformed("not whole pages")
        return tuple(raw[at : at + PAGE_SIZE] for at in range(0, len(raw), PAGE_SIZE))

    def _nowhere(self, number: int) -> TraceFormatError:
        return Place(str(self._reader.path), 0).malformed(
            f"no content of a page has number {number}"
        )


__all__ = [
    "DIGEST_SIZE",
    "MOST_STATES",
    "PAGES_IN_CHUNK",
    "PAGE_REFERENCES",
    "REGISTER_DIGEST_SIZE",
    "STORED_TYPES",
    "Loaded",
    "Row",
    "StoredStates",
    "Wish",
    "behind_digest",
    "pack_states",
    "place_in_log",
    "unpack_states",
]
