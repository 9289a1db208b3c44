"""Indexed traces: the same trace, sooner anywhere; and an index that is wrong is noticed and done without."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from random import Random

import pytest

from hostvm.machine import Machine
from hostvm.units import Tick
from replay import chunks, passage
from replay.checkpoints import checkpoint_of
from replay.chunks import ChunkType
from replay.errors import Divergence, Place, TraceError, TraceTruncated, TraceWriteError
from replay.event_store import EventStore
from replay.events import Event, IrqRaised
from replay.index import Indexed, index, remove_index
from replay.keep import Keep
from replay.log import Checkpoint, LogWriter, TraceReader
from replay.machine_header import header_of
from replay.recording import RecordingWorld
from replay.session import Session
from replay.stops import Breakpoint, BreakpointHit
from replay.stored_states import STORED_TYPES, StoredStates, Wish, pack_states, unpack_states
from replay.timeline import Timeline
from replay.trace_file import COPYING, TraceCopy
from replay.trace_header import TraceEnd, TraceEndReason
from replay.virtual_world import VirtualWorld
from replay.wire import pack_map, unpack_map
from tests.end_to_end.commands import complaint, lgreplay
from tests.fuzz.trace import another_value
from tests.replay.histories import forward_digests, record_guest
from tests.replay.recorded import ORIGIN, altered, hello, record_hello, verify
from tests.replay.traces import Piece, closed_without_index, take_apart

INTERVAL = 1 << 16
PLACE = Place("x", 0)


@dataclass(frozen=True)
class Pair:
    """A trace without an index and the same with one."""

    bare: Path
    indexed: Path


def recorded(folder: Path, guest: str, line: str) -> Pair:
    bare = record_guest(folder / "x.lgt", guest, line)
    indexed = Path(shutil.copy(bare, folder / "indexed.lgt"))
    assert index(indexed, every=INTERVAL).fresh
    return Pair(bare, indexed)


@pytest.fixture(scope="module")
def hello_pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return recorded(tmp_path_factory.mktemp("index"), "hello", "loops=2")


@pytest.fixture(scope="module")
def kestrel_pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return recorded(tmp_path_factory.mktemp("index"), "kestrel", "")


@pytest.fixture(scope="module", params=["hello", "kestrel"])
def pair(request: pytest.FixtureRequest) -> Pair:
    found = request.getfixturevalue(f"{request.param}_pair")
    assert isinstance(found, Pair)
    return found


@pytest.fixture
def bare(hello_pair: Pair) -> Path:
    return hello_pair.bare


@pytest.fixture
def indexed(hello_pair: Pair) -> Path:
    return hello_pair.indexed


@pytest.fixture
def own(indexed: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    return Path(shutil.copy(indexed, tmp_path / "own.lgt"))


@pytest.fixture(autouse=True)
def always_worthwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    """Histories of tests are short: use a stored state however little it saves."""
    monkeypatch.setattr(passage, "STORED_PAYS", 1)


@contextmanager
def opened(path: Path) -> Iterator[Timeline]:
    with TraceReader(path) as reader:
        yield Timeline(reader)


def ticks_in(path: Path) -> tuple[Tick, ...]:
    with TraceReader(path) as reader:
        stored = StoredStates(reader, EventStore(reader))
        assert not stored.faults
        return stored.ticks


# ---- the same trace --------------------------------------------------------------------------------


def test_wherever_one_goes_an_index_makes_no_difference(pair: Pair) -> None:
    rng = Random(1)
    bare, indexed = pair.bare, pair.indexed
    stored = ticks_in(indexed)
    assert len(stored) > 3
    goals = [rng.randrange(stored[-1] + 1) for _ in range(25)]
    goals += [t + d for t in rng.sample(stored, 3) for d in (-1, 0, 1) if t + d <= stored[-1]]
    rng.shuffle(goals)
    expected = forward_digests(bare, goals)
    with opened(indexed) as history:
        for goal in goals:
            history.go(goal)
            assert history.machine.digest() == expected[goal], goal
        assert not history.stored.faults
        used = {snapshot.tick for snapshot in history.snapshots} & set(stored)
        assert len(used) > 3


def test_going_on_from_a_stored_state_meets_every_event_to_the_end(pair: Pair) -> None:
    indexed = pair.indexed
    for tick in ticks_in(indexed)[::3]:
        with opened(indexed) as history:
            history.go(tick)
            assert {snapshot.tick for snapshot in history.snapshots} <= {history.first_tick, tick}
            history.machine.run(history.end_tick)
            end = history.reader.end
            assert end is not None
            assert history.machine.digest() == end.digest


def test_a_state_stands_wherever_the_log_has_a_digest_and_at_the_end(indexed: Path) -> None:
    with TraceReader(indexed) as reader:
        assert reader.end is not None
        end = reader.end.tick
    assert list(ticks_in(indexed)) == [*range(INTERVAL, end, INTERVAL), end]


def test_from_the_end_a_search_backwards_goes_from_state_to_state(
    indexed: Path, bare: Path
) -> None:
    def last_hits(path: Path) -> list[object]:
        with opened(path) as history:
            history.go(history.end_tick // 3)
            address = history.machine.cpu.eip
            history.go(history.end_tick)
            number = history.stops.add(Breakpoint(address))
            arrivals = [history.resume(backwards=True) for _ in range(3)]
            assert arrivals[0].reasons == (BreakpointHit(number),)
            return list(arrivals)

    assert last_hits(indexed) == last_hits(bare)


def test_what_was_in_the_trace_is_in_it_still_byte_for_byte(indexed: Path, bare: Path) -> None:
    with TraceReader(bare) as before, TraceReader(indexed) as after:
        body = before.parts[2].end
        old, new = bare.read_bytes(), indexed.read_bytes()
        assert old[chunks.PROLOGUE_SIZE : body] == new[chunks.PROLOGUE_SIZE : body]
        assert list(before.events()) == list(after.events())
        assert (before.end, before.header, before.trace_id) == (
            after.end,
            after.header,
            after.trace_id,
        )
        assert before.count_kinds() == after.count_kinds()
        after.verify()
    verify(indexed)


def test_a_reader_that_has_never_heard_of_stored_states_passes_over_them(
    indexed: Path, bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with TraceReader(bare) as reader:
        expected = list(reader.events())
    monkeypatch.setattr(chunks, "MINOR", 0)
    for kind in STORED_TYPES:
        monkeypatch.delitem(chunks.FLAGS_OF, kind)
    with TraceReader(indexed) as reader:
        assert list(reader.events()) == expected
        reader.verify()
    with TraceReader(indexed) as reader:
        for _ in Session(reader).verify():
            pass


# ---- making it -------------------------------------------------------------------------------------


def test_indexing_again_changes_nothing(own: Path) -> None:
    before, made = own.read_bytes(), own.stat().st_mtime_ns
    again = index(own, every=INTERVAL)
    assert not again.fresh
    assert own.stat().st_mtime_ns == made
    anew = index(own, every=INTERVAL, again=True)
    assert anew == replace(again, fresh=True)
    assert own.read_bytes() == before


def test_another_wish_makes_another_index_and_none_leaves_the_bare_trace(
    own: Path, bare: Path
) -> None:
    one = index(own, every=4 * INTERVAL)
    assert one.fresh
    assert all(tick % (4 * INTERVAL) == 0 for tick in ticks_in(own)[:-1])
    assert remove_index(own)
    assert own.read_bytes() == bare.read_bytes()
    assert not remove_index(own)


def test_a_damaged_index_is_made_anew(own: Path) -> None:
    sound = own.read_bytes()
    with TraceReader(own) as reader:
        at = reader.chunks_of(ChunkType.PAGES)[0].offset + 60
    own.write_bytes(sound[:at] + bytes((sound[at] ^ 1,)) + sound[at + 1 :])
    assert index(own, every=INTERVAL).fresh
    assert own.read_bytes() == sound


@pytest.mark.parametrize("share", [0, 0.7, 0.9])
def test_an_index_has_fewer_states_rather_than_too_many_bytes(own: Path, share: float) -> None:
    full = index(own, every=INTERVAL)
    most = int(full.bytes * share)
    small = index(own, every=INTERVAL, most=most)
    assert 1 <= small.states < full.states
    assert small.bytes < most or small.states == 1
    ticks = ticks_in(own)
    steps = {b - a for a, b in pairwise(ticks[:-1])}
    assert len(steps) <= 1
    with opened(own) as history:
        history.go(history.end_tick)
        assert not history.stored.faults
    assert not index(own, every=INTERVAL, most=most).fresh


def record_flight(path: Path) -> None:
    """A recording of which only the newest part is left."""
    config = hello("loops=1000 hz=10000", digest_interval=INTERVAL)
    recording = RecordingWorld(VirtualWorld(1))
    machine = Machine(config, recording)
    header, images = header_of(config, ORIGIN)

    def take() -> Checkpoint:
        return checkpoint_of(machine)

    with LogWriter(path, header, images, keep_last=Keep(bytes=1), take_checkpoint=take) as log:
        recording.attach(log.write)
        for tick in range(100_000, 1_200_000, 300_000):
            machine.run(Tick(tick))
            log.checkpoint(take())
        machine.run(Tick(1_400_000))
        log.close(TraceEnd(machine.tick, machine.digest(), TraceEndReason.LIMIT))


def test_a_flight_recording_is_indexed_too(tmp_path: Path) -> None:
    path = tmp_path / "flight.lgt"
    record_flight(path)
    with TraceReader(path) as reader:
        assert not reader.starts_at_power_on
        begin = reader.first_tick or 0
    assert index(path, every=INTERVAL).states > 1
    with opened(path) as history:
        for goal in [t for t in history.stored.ticks if t > begin][::-1]:
            history.go(goal)
        assert not history.stored.faults
    verify(path)


# ---- failing to make it ----------------------------------------------------------------------------


def assert_untouched(path: Path, before: bytes) -> None:
    assert path.read_bytes() == before
    assert sorted(p.name for p in path.parent.iterdir()) == [path.name]


def test_an_unfinished_trace_is_refused(tmp_path: Path, bare: Path) -> None:
    path = tmp_path / "torn.lgt"
    torn = bare.read_bytes()[:-100]
    path.write_bytes(torn)
    with pytest.raises(TraceTruncated, match="unfinished"):
        index(path)
    assert_untouched(path, torn)


def test_a_trace_that_diverges_is_refused(tmp_path: Path, bare: Path) -> None:
    def without_the_last_irq(events: list[Event]) -> list[Event]:
        last = max(i for i, e in enumerate(events) if isinstance(e, IrqRaised))
        return [*events[:last], *events[last + 1 :]]

    path = altered(bare, tmp_path / "wrong.lgt", without_the_last_irq)
    before = path.read_bytes()
    with pytest.raises(Divergence):
        index(path, every=INTERVAL)
    assert_untouched(path, before)


def test_when_the_disk_is_full_the_trace_is_as_it_was(
    own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, append = own.read_bytes(), TraceCopy.append

    def full(self: TraceCopy, *parts: bytes) -> None:
        if self.size > len(before) * 3 // 4:
            raise OSError(errno.ENOSPC, "No space left on device")
        append(self, *parts)

    monkeypatch.setattr(TraceCopy, "append", full)
    with pytest.raises(TraceWriteError, match="No space left on device; the trace is as it was"):
        index(own, every=INTERVAL, again=True)
    assert_untouched(own, before)


def test_an_interrupt_leaves_the_trace_as_it_was(own: Path) -> None:
    before = own.read_bytes()

    def interrupt(tick: Tick, end: Tick) -> None:
        if tick > end // 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        index(own, every=INTERVAL, again=True, progress=interrupt)
    assert_untouched(own, before)


def test_what_a_killed_indexer_left_is_written_over(own: Path) -> None:
    before = own.read_bytes()
    own.with_name(own.name + COPYING).write_bytes(b"x" * (len(before) + 1000))
    index(own, every=INTERVAL, again=True)
    assert_untouched(own, before)


def test_a_trace_that_somebody_replaces_meanwhile_stays(own: Path, bare: Path) -> None:
    def meanwhile(_tick: Tick, _end: Tick) -> None:
        own.with_name("new").write_bytes(bare.read_bytes())
        own.with_name("new").replace(own)

    with pytest.raises(TraceWriteError, match="somebody else"):
        index(own, every=INTERVAL, again=True, progress=meanwhile)
    assert_untouched(own, bare.read_bytes())


# ---- wrong ones ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def truth(hello_pair: Pair) -> dict[int, bytes]:
    return forward_digests(hello_pair.bare, ticks_in(hello_pair.indexed))


def assert_no_wrong_state(path: Path, truth: dict[int, bytes], used: Session) -> int:
    """Load three states if they can be loaded; return how many are refused."""
    with TraceReader(path) as reader:
        stored = StoredStates(reader, EventStore(reader))
        for tick in stored.ticks[::4]:
            loaded = stored.load(tick, used.machine)
            if loaded is None:
                continue
            pages = tuple(sorted(loaded.pages.items()))
            used.machine.restore(replace(loaded.state, pages=pages))
            if used.machine.digest() == loaded.row.digest:
                assert used.machine.digest() == truth[tick]
            else:
                stored.refuse(tick, "wrong")
        assert all(fault.isprintable() for fault in stored.faults)
        return len(stored.faults)


def test_a_flipped_bit_in_stored_states_is_noticed_or_harmless(
    own: Path, truth: dict[int, bytes]
) -> None:
    sound = own.read_bytes()
    with TraceReader(own) as reader:
        session = Session(reader)
        places = [(e.offset, e.size) for e in reader.chunks if e.type in STORED_TYPES]
    rng = Random(2)
    refused = 0
    for _ in range(25):
        offset, size = rng.choice(places)
        data = bytearray(sound)
        data[offset + rng.randrange(size)] ^= 1 << rng.randrange(8)
        own.write_bytes(data)
        with pytest.raises(TraceError), TraceReader(own) as reader:
            reader.verify()
        refused += assert_no_wrong_state(own, truth, session)
    assert refused


def test_forged_states_are_refused_or_are_right(own: Path, truth: dict[int, bytes]) -> None:
    sound = own.read_bytes()
    with TraceReader(own) as reader:
        session = Session(reader)
    rng = Random(3)
    refused = 0
    for _ in range(40):
        pieces = take_apart(sound)
        piece = rng.choice([p for p in pieces if p.header.type in STORED_TYPES[1:]])
        piece.raw = another_value(piece.raw, rng) or b"\0"
        own.write_bytes(closed_without_index(pieces))
        refused += assert_no_wrong_state(own, truth, session)
    assert refused > 5


def swap_pages(pieces: list[Piece]) -> None:
    for piece in pieces:
        if piece.header.type == ChunkType.PAGES:
            piece.raw = piece.raw[4096:8192] + piece.raw[:4096] + piece.raw[8192:]


def wrong_register(pieces: list[Piece]) -> None:
    for piece in pieces:
        if piece.header.type == ChunkType.STATE:
            fields = unpack_map(piece.raw, PLACE)
            piece.raw = pack_map({**fields, "cpu.eip": 0xC0100000})


def wrong_digests(pieces: list[Piece]) -> None:
    for piece in pieces:
        if piece.header.type == ChunkType.STATES:
            wish, rows = unpack_states(piece.raw, PLACE)
            piece.raw = pack_states(wish, [replace(r, digest=r.digest[::-1]) for r in rows])


def pages_out_of_range(pieces: list[Piece]) -> None:
    pieces[:] = [
        p
        for i, p in enumerate(pieces)
        if p.header.type != ChunkType.PAGES or pieces[i + 1].header.type == ChunkType.PAGES
    ]
    for number, piece in enumerate(pieces):
        piece.header = replace(piece.header, sequence=number)


@pytest.mark.parametrize("spoil", [swap_pages, wrong_register, wrong_digests, pages_out_of_range])
def test_the_timeline_refuses_wrong_states_one_by_one_and_goes_on_without(
    own: Path, bare: Path, spoil: Callable[[list[Piece]], None]
) -> None:
    pieces = take_apart(own.read_bytes())
    spoil(pieces)
    own.write_bytes(closed_without_index(pieces))
    with opened(own) as history:
        stored = history.stored.ticks
        goals = [*stored[-2:], stored[0] + 5, stored[len(stored) // 2] + 1]
        expected = forward_digests(bare, goals)
        for goal in goals:
            history.go(goal)
            assert history.machine.digest() == expected[goal]
        faults = history.stored.faults
        assert faults
        for fault in faults:
            assert fault.startswith(f"{own}: stored state of tick ")
            assert fault.endswith("; going on without it")
        assert len(history.stored.ticks) == len(stored) - len(faults)


def test_a_table_that_does_not_fit_is_one_fault(own: Path) -> None:
    pieces = take_apart(own.read_bytes())
    for piece in pieces:
        if piece.header.type == ChunkType.STATES:
            piece.raw = pack_states(Wish(1, 1), ())
    own.write_bytes(closed_without_index(pieces))
    with TraceReader(own) as reader:
        stored = StoredStates(reader, EventStore(reader))
        assert not stored.ticks
        assert len(stored.faults) == 1
    assert index(own, every=INTERVAL).fresh


# ---- the command -----------------------------------------------------------------------------------


def test_the_command_says_what_it_has_done_and_info_shows_it(tmp_path: Path) -> None:
    record_hello(tmp_path / "x.lgt")
    first = lgreplay("index", "x.lgt", "--every", "65536", folder=tmp_path)
    assert first.code == 0
    states, size = first.out.split()[0], first.out.split()[2]
    assert first.out == f"{states} states, {size} bytes\n"
    again = lgreplay("index", "x.lgt", "--every", "65536", folder=tmp_path)
    assert again.out == f"{states} states, {size} bytes: indexed already\n"
    info = lgreplay("info", "x.lgt", folder=tmp_path)
    assert f"  index     {states} states, {size} bytes\n" in info.out
    assert lgreplay("replay", "x.lgt", folder=tmp_path).code == 0
    assert lgreplay("index", "x.lgt", "--remove", folder=tmp_path).out == "the index is removed\n"
    (tmp_path / "torn.lgt").write_bytes((tmp_path / "x.lgt").read_bytes()[:-30])
    assert "unfinished" in complaint(lgreplay("index", "torn.lgt", folder=tmp_path))


def test_sizes_are_those_in_the_file(own: Path) -> None:
    done: Indexed = index(own, every=INTERVAL)
    with TraceReader(own) as reader:
        stored = [entry for entry in reader.chunks if entry.type in STORED_TYPES]
    assert done.bytes == sum(entry.size for entry in stored)
    assert done.states == sum(entry.type == ChunkType.STATE for entry in stored)
