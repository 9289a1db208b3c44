"""Packed traces: the same history, smaller, which opens where it failed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import replay
from hostvm.units import Tick
from replay import cli
from replay.chunks import ChunkType
from replay.errors import TraceTruncated
from replay.event_store import EventStore
from replay.index import index
from replay.log import TraceReader
from replay.pack import pack
from replay.stored_states import STORED_TYPES, StoredStates
from replay.where import BadPlace
from tests.replay.recorded import events_of, hello, record_hello, verify

ROOT = Path(__file__).parents[2] / "traces"
RACE = ROOT / "iret-race" / "iret-race.lgt"
KILLED_AT = 1_467_686


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pack") / "hello.lgt"
    record_hello(path, config=hello("loops=2"))
    return path


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pack") / "race.lgt"
    assert pack(RACE, path).opens_at == KILLED_AT
    return path


def test_it_is_smaller_and_the_same_history(packed: Path) -> None:
    assert packed.stat().st_size < RACE.stat().st_size
    assert list(events_of(packed)) == list(events_of(RACE))
    with TraceReader(packed) as reader, TraceReader(RACE) as before:
        assert reader.header == before.header
        assert reader.trace_id == before.trace_id
        assert reader.end is not None
        assert before.end is not None
        assert reader.end.digest == before.end.digest
    assert verify(packed).last_tick == KILLED_AT + 1


def test_the_same_trace_gives_the_same_bytes(packed: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.lgt"
    pack(RACE, again)
    assert again.read_bytes() == packed.read_bytes()
    # Of its own output too.
    twice = tmp_path / "twice.lgt"
    pack(again, twice)
    assert twice.read_bytes() == packed.read_bytes()


def test_it_opens_where_the_guest_was_killed_unless_told_otherwise(packed: Path) -> None:
    with replay.open(packed) as t:
        assert t.tick == KILLED_AT
    with replay.open(packed, at="start") as t:
        assert t.tick == 0
    with replay.open(RACE) as t:
        assert t.tick == 0


def test_another_opening_is_kept_when_it_is_packed_again(trace: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "a.lgt", tmp_path / "b.lgt"
    assert pack(trace, first, at="50%").opens_at == pack(first, second).opens_at
    with replay.open(second) as t:
        assert t.tick == t.end_tick // 2


def test_a_place_that_is_none_makes_no_trace(trace: Path, tmp_path: Path) -> None:
    with pytest.raises(BadPlace):
        pack(trace, tmp_path / "x.lgt", at="@nowhere")
    assert cli.run(["pack", str(trace), "-o", str(tmp_path / "x.lgt"), "--at", "@no"]) == 2
    assert not list(tmp_path.iterdir())


def test_an_index_goes_and_one_state_stays_where_the_way_is_long(
    trace: Path, tmp_path: Path
) -> None:
    indexed = Path(shutil.copy(trace, tmp_path / "indexed.lgt"))
    index(indexed, every=1 << 16)
    near, far = tmp_path / "near.lgt", tmp_path / "far.lgt"
    assert pack(indexed, near).state is None
    done = pack(indexed, far, far_away=1)
    with TraceReader(near) as reader:
        assert not [entry for entry in reader.chunks if entry.type in STORED_TYPES]
    with TraceReader(far) as reader:
        stored = StoredStates(reader, EventStore(reader))
        assert stored.ticks == (done.state,)
    assert done.state is not None
    assert done.opens_at - (1 << 16) < done.state <= done.opens_at


def test_the_state_that_stays_is_the_right_one(
    trace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("replay.passage.STORED_PAYS", 1)
    far = tmp_path / "far.lgt"
    done = pack(trace, far, far_away=1)
    with replay.open(far) as quick, replay.open(trace, at=done.opens_at) as slow:
        assert quick.machine.digest() == slow.machine.digest()
        assert not quick.stored.faults
        assert quick.snapshots.at_or_before(Tick(done.opens_at - 1)) is not None
        assert quick.stored.ticks == (done.state,)
    # And `lgreplay index` makes a whole index of it.
    assert index(far, every=1 << 16).states > 1


def test_an_index_made_later_leaves_the_opening_as_it_is(packed: Path, tmp_path: Path) -> None:
    own = Path(shutil.copy(packed, tmp_path / "own.lgt"))
    index(own)
    with TraceReader(own) as reader:
        assert reader.opens_at == KILLED_AT
        assert reader.chunks_of(ChunkType.STATE)


def test_a_trace_without_an_end_is_refused(trace: Path, tmp_path: Path) -> None:
    torn = tmp_path / "torn.lgt"
    torn.write_bytes(trace.read_bytes()[:-100])
    with pytest.raises(TraceTruncated, match="salvage"):
        pack(torn, tmp_path / "x.lgt")


def test_the_command_says_what_came_of_it(
    trace: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.lgt"
    assert cli.run(["pack", str(trace), "-o", str(out)]) == 0
    said = capfd.readouterr().out
    assert f"{out}: {out.stat().st_size:,} bytes" in said
    assert "opens at tick" in said
    assert cli.run(["info", str(out)]) == 0
    assert "  opens     at tick" in capfd.readouterr().out
