"""The parts of a damaged trace that can be replayed: runs of chunks without a gap, and a state in each to start from.

A chunk that is missing makes a gap if events may have been in it. Which states there are in a run depends on what is
sound: power-on if the run is the beginning; checkpoints in it; stored states, whose pages must be sound too. A stored
state must have the digest that the run has for its tick, and the machine that digest when it is in the state.

Read next: salvage.py.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from itertools import chain, islice, takewhile

from hostvm.machine import Machine, MachineConfig
from hostvm.units import Tick
from hostvm.x86 import PAGE_SIZE
from replay.checkpoints import state_of
from replay.chunks import ChunkType
from replay.errors import TraceError
from replay.events import Event
from replay.log import Checkpoint
from replay.stored_states import (
    PAGE_REFERENCES,
    PAGES_IN_CHUNK,
    STORED_TYPES,
    Row,
    behind_digest,
    unpack_states,
)
from replay.survey import Survey
from replay.trace_header import TraceEnd
from replay.virtual_world import VirtualWorld
from replay.wire import unpack_map

# Of these nothing is lost that cannot be had again.
NO_EVENTS = frozenset({ChunkType.CHECKPOINT, ChunkType.INDEX, *STORED_TYPES})


class Origin(Enum):
    """What a part starts from."""

    POWER_ON = "power-on"
    CHECKPOINT = "a checkpoint"
    STORED = "a stored state"


@dataclass(frozen=True, slots=True)
class SoundPart:
    """Events without a gap: those in `chunks` but for the first `skip`, from the state `first` on.

    `last_tick` is that of the last event, or of the `end` that follows at once.
    """

    its: Survey
    origin: Origin
    first_tick: Tick
    last_tick: Tick
    first: Checkpoint | None
    chunks: tuple[int, ...]
    skip: int
    end: TraceEnd | None

    def events(self) -> Iterator[Event]:
        """The events, as far as they are well-formed."""
        return islice(_events(self.its, self.chunks), self.skip, None)


@dataclass(frozen=True, slots=True)
class Stray:
    """Events that are sound, and of no use without a state to start from."""

    first_tick: Tick
    last_tick: Tick
    events: int


def sound_parts(its: Survey, config: MachineConfig) -> list[SoundPart | Stray]:
    """The parts of a trace of this machine, in order."""
    return [_part(its, config, run) or _stray(its, run) for run in _runs(its)]


def _stray(its: Survey, run: _Run) -> Stray:
    headers = [its.sound[number].header for number in _event_chunks(its, run.numbers)]
    count = sum(header.count for header in headers)
    return Stray(headers[0].first_tick, headers[-1].last_tick, count)


def _events(its: Survey, numbers: tuple[int, ...]) -> Iterator[Event]:
    try:
        yield from chain.from_iterable(map(its.events, numbers))
    except TraceError:
        # Sound to look at, and yet not what a recorder writes: there the part ends.
        return


# ---- runs ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Run:
    """Numbers of sound chunks of the body with no events missing between them; `end`: what follows at once."""

    numbers: tuple[int, ...]
    end: TraceEnd | None


def _runs(its: Survey) -> list[_Run]:
    runs: list[list[int]] = []
    ends: dict[int, TraceEnd | None] = {}
    before = its.first_of_body - 1
    for number in sorted(n for n in its.sound if n > before):
        if not runs or not all(_is_harmless(its, n) for n in range(before + 1, number)):
            runs.append([])
        if _is(its, number, ChunkType.END):
            ends[len(runs) - 1] = _end(its)
        else:
            runs[-1].append(number)
        before = number
    made = [_Run(tuple(run), ends.get(rank)) for rank, run in enumerate(runs)]
    return [run for run in made if _event_chunks(its, run.numbers)]


def _is_harmless(its: Survey, number: int) -> bool:
    known = its.known.get(number)
    return known is not None and known.type in NO_EVENTS


def _end(its: Survey) -> TraceEnd | None:
    found = its.end()
    return None if found is None else found[1].end


def _event_chunks(its: Survey, numbers: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(n for n in numbers if its.sound[n].header.type == ChunkType.EVENTS)


def _part(its: Survey, config: MachineConfig, run: _Run) -> SoundPart | None:
    chunks = _event_chunks(its, run.numbers)
    last_tick = its.sound[chunks[-1]].header.last_tick if run.end is None else run.end.tick
    for origin, first, number, skip in _beginnings(its, config, run):
        mine = tuple(n for n in chunks if n >= number)
        if mine or origin is Origin.POWER_ON:
            tick = Tick(0) if first is None else first.tick
            return SoundPart(its, origin, tick, last_tick, first, mine, skip, run.end)
    return None


# ---- states to start from --------------------------------------------------------------------------

_Beginning = tuple[Origin, Checkpoint | None, int, int]


def _beginnings(its: Survey, config: MachineConfig, run: _Run) -> Iterator[_Beginning]:
    """States in a run, earliest first: what it is, the state, and where in the run it stands."""
    if run.numbers[0] == its.first_of_body and not _is(its, run.numbers[0], ChunkType.CHECKPOINT):
        yield Origin.POWER_ON, None, its.first_of_body, 0
        return
    machine = Machine(config, VirtualWorld())
    stored = _stored(its, machine, run)
    pending = next(stored, None)
    for number in run.numbers:
        if not _is(its, number, ChunkType.CHECKPOINT):
            continue
        checkpoint = _checkpoint(its, machine, number)
        while pending is not None and pending[2] < number:
            yield pending
            pending = next(stored, None)
        if checkpoint is not None:
            yield Origin.CHECKPOINT, checkpoint, number, 0
    while pending is not None:
        yield pending
        pending = next(stored, None)


def _is(its: Survey, number: int, kind: ChunkType) -> bool:
    return its.sound[number].header.type == kind


def _checkpoint(its: Survey, machine: Machine, number: int) -> Checkpoint | None:
    """The checkpoint in a chunk, if a machine can be in it."""
    place = its.place(number)
    try:
        fields = unpack_map(its.payload(number), place)
        checkpoint = Checkpoint(its.sound[number].header.first_tick, fields)
        state_of(checkpoint, machine, place.path, place.offset)
    except TraceError:
        return None
    return checkpoint


def _stored(its: Survey, machine: Machine, run: _Run) -> Iterator[_Beginning]:
    """The stored states that a run vouches for."""
    chunks = _event_chunks(its, run.numbers)
    for row, number in _rows(its):
        at = next((n for n in chunks if its.sound[n].header.last_tick >= row.tick), None)
        if at is None or its.sound[chunks[0]].header.first_tick > row.tick:
            continue
        skip = _skip(its, row, tuple(n for n in chunks if n >= at))
        first = None if skip is None else _state(its, machine, row, number)
        if skip is not None and first is not None:
            yield Origin.STORED, first, at, skip


def _rows(its: Survey) -> list[tuple[Row, int]]:
    """The rows of the table of stored states, with the number of the chunk of each."""
    for table in its.of_type(ChunkType.STATES):
        try:
            _, rows = unpack_states(its.payload(table), its.place(table))
        except TraceError:
            continue
        # The table follows the last state at once.
        numbers = range(table - len(rows), table)
        return [(row, n) for row, n in zip(rows, numbers, strict=True) if n in its.sound]
    return []


def _skip(its: Survey, row: Row, chunks: tuple[int, ...]) -> int | None:
    """How many events of these chunks are past in a stored state; None if they do not vouch for it."""
    before = 0
    here: list[Event] = []
    for event in takewhile(lambda each: each.tick <= row.tick, _events(its, chunks)):
        if event.tick < row.tick:
            before += 1
        else:
            here.append(event)
    past = behind_digest(row, here)
    return None if past is None else before + past


def _state(its: Survey, machine: Machine, row: Row, number: int) -> Checkpoint | None:
    """A stored state as a checkpoint, if all of it is there and it is what the table says."""
    place = its.place(number)
    try:
        fields = unpack_map(its.payload(number), place)
        references = fields.pop(PAGE_REFERENCES)
        contents = _contents(its, references if isinstance(references, bytes) else b"")
        checkpoint = Checkpoint(row.tick, {**fields, "page_contents": contents})
        machine.restore(state_of(checkpoint, machine, place.path, place.offset))
    except (TraceError, KeyError, struct.error):
        return None
    return checkpoint if machine.digest() == row.digest else None


def _contents(its: Survey, references: bytes) -> bytes:
    """The contents of pages, one behind the other. Raises KeyError when one is lost."""
    first = min(n for n, known in its.known.items() if known.type == ChunkType.PAGES)
    kept: dict[int, bytes] = {}
    pages: list[bytes] = []
    for (reference,) in struct.iter_unpack("<I", references):
        chunk, at = divmod(reference, PAGES_IN_CHUNK)
        if chunk not in kept:
            kept[chunk] = its.payload(first + chunk)
        pages.append(kept[chunk][at * PAGE_SIZE : (at + 1) * PAGE_SIZE])
    return b"".join(pages)


__all__ = ["NO_EVENTS", "Origin", "SoundPart", "Stray", "sound_parts"]
