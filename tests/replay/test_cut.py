"""Parts of traces: the same states at the same ticks, from whatever tick to whatever other."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

import replay
from hostvm.edits import Edit
from hostvm.machine import Machine, MachineConfig
from hostvm.units import Tick
from replay import cli
from replay.checkpoints import checkpoint_of
from replay.chunks import MAX_RAW, ChunkType
from replay.cut import cut
from replay.derived import BadOutput
from replay.events import DebuggerWrite, GuestRestarted
from replay.index import index
from replay.keep import Keep
from replay.log import Checkpoint, LogWriter, TraceReader
from replay.machine_header import header_of
from replay.pack import pack
from replay.recording import RecordingWorld
from replay.trace_header import TraceEnd, TraceEndReason
from replay.virtual_world import VirtualWorld
from replay.where import BadPlace
from tests.replay.histories import forward_digests, record_guest, walk
from tests.replay.recorded import ORIGIN, events_of, hello, record_hello, verify
from tests.replay.test_edits import DebuggedWorld, writes  # noqa: F401 - a fixture
from tests.replay.test_restart import restarting

RACE = Path(__file__).parents[2] / "traces" / "iret-race" / "iret-race.lgt"
Edits = list[tuple[int, Edit]]


def flight(path: Path) -> Path:
    """The newest part of a recording."""
    machine_config = hello("loops=2")
    recording = RecordingWorld(VirtualWorld(1))
    machine = Machine(machine_config, recording)
    header, images = header_of(machine_config, ORIGIN)

    def take() -> Checkpoint:
        return checkpoint_of(machine)

    with LogWriter(path, header, images, keep_last=Keep(bytes=1), take_checkpoint=take) as log:
        recording.attach(log.write)
        while not machine.finished:
            machine.run(Tick(machine.tick + 100_001))
            log.pulse()
        log.close(TraceEnd(machine.tick, machine.digest(), TraceEndReason.FINISHED))
    return path


MADE: dict[str, Callable[[Path], object]] = {
    "hello": lambda path: record_hello(path, config=hello("loops=2 hz=20000")),
    "kestrel": lambda path: record_guest(path, "kestrel", ""),
    "restarts": lambda path: record_hello(path, config=restarting(), max_ticks=400_000),
    "several": lambda path: record_hello(
        path, config=MachineConfig(hello(guests=3).guests, 1 << 16)
    ),
    "flight": flight,
}


@pytest.fixture(scope="module", params=MADE)
def trace(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("cut") / "x.lgt"
    MADE[request.param](path)
    return path


def test_all_states_are_those_of_the_whole(trace: Path, tmp_path: Path) -> None:
    random = Random(1)
    with replay.open(trace) as t:
        first, last = t.first_tick, t.end_tick
    for number in range(3):
        low, high = sorted(random.sample(range(first, last + 1), 2))
        out = tmp_path / f"{number}.lgt"
        part = cut(trace, out, start=str(low), stop=str(high))
        assert part.first <= low
        assert part.last == high
        ticks = [*random.sample(range(part.first, high + 1), 4), part.first, high]
        assert forward_digests(out, ticks) == forward_digests(trace, ticks)
        wanted = [e for e in events_of(trace) if part.first < e.tick < high]
        assert [e for e in events_of(out) if part.first < e.tick < high] == wanted


def test_up_to_the_end_it_has_the_end_of_the_whole(trace: Path, tmp_path: Path) -> None:
    out = tmp_path / "tail.lgt"
    cut(trace, out, start="-50k")
    with TraceReader(out) as reader, TraceReader(trace) as whole:
        assert reader.end == whole.end
        assert reader.trace_id == whole.trace_id
    assert verify(out).last_tick == verify(trace).last_tick


def test_from_the_start_it_needs_no_state(tmp_path: Path) -> None:
    path, out = tmp_path / "x.lgt", tmp_path / "head.lgt"
    record_hello(path)
    cut(path, out, stop="300k")
    with TraceReader(out) as reader:
        assert reader.starts_at_power_on
        assert not list(reader.checkpoints())
    assert verify(out).last_tick == 300_000


def test_a_restart_in_a_part_launches_the_guest_again(tmp_path: Path) -> None:
    path, out = tmp_path / "x.lgt", tmp_path / "part.lgt"
    record_hello(path, config=restarting(), max_ticks=400_000)
    again = next(e.tick for e in events_of(path) if isinstance(e, GuestRestarted))
    cut(path, out, start=str(again - 1000), stop=str(again + 1000))
    assert any(isinstance(e, GuestRestarted) for e in events_of(out))


def test_what_a_debugger_wrote_at_the_edge_is_in_the_state_or_in_the_log(
    writes: Edits,  # noqa: F811
    tmp_path: Path,
) -> None:
    path = tmp_path / "x.lgt"
    record_hello(path, DebuggedWorld(writes))
    ticks = sorted({tick for tick, _ in writes if tick})
    for tick in ticks:
        for start, stop in ((tick - 1, tick + 1), (tick, tick + 5), (tick - 5, tick)):
            out = tmp_path / f"{start}-{stop}.lgt"
            cut(path, out, start=str(start), stop=str(stop))
            here = range(start, stop + 1)
            assert forward_digests(out, here) == forward_digests(path, here)
    assert any(isinstance(e, DebuggerWrite) for e in events_of(path))


def test_a_part_begins_before_a_rep_and_not_amid_it(tmp_path: Path) -> None:
    path = tmp_path / "x.lgt"
    record_hello(path)
    amid = [i.tick for i in walk(path, 1, 30_000) if not i.begins]
    run = next(tick for tick in amid if tick + 1 in amid)
    part = cut(path, tmp_path / "y.lgt", start=str(run + 1), stop="+100")
    assert part.first < run
    assert part.first not in amid


def test_a_part_of_a_part_is_a_part(tmp_path: Path) -> None:
    one, two, direct = (tmp_path / name for name in ("1.lgt", "2.lgt", "3.lgt"))
    cut(RACE, one, start="failure-200k")
    cut(one, two, start="failure-100k", stop="-50k")
    cut(RACE, direct, start="failure-100k", stop="-50k")
    assert two.read_bytes() == direct.read_bytes()


def test_an_index_makes_no_difference(tmp_path: Path) -> None:
    bare, indexed = tmp_path / "x.lgt", tmp_path / "y.lgt"
    record_hello(bare)
    indexed.write_bytes(bare.read_bytes())
    index(indexed, every=1 << 16)
    for path in (bare, indexed):
        cut(path, path.with_suffix(".part"), start="300k", stop="+50k")
    assert bare.with_suffix(".part").read_bytes() == indexed.with_suffix(".part").read_bytes()


def test_a_part_can_be_indexed_packed_and_travelled(tmp_path: Path) -> None:
    part, packed = tmp_path / "x.lgt", tmp_path / "y.lgt"
    cut(RACE, part, start="failure-300k")
    assert pack(part, packed).opens_at == 1_467_686
    assert packed.stat().st_size < part.stat().st_size
    assert index(packed, every=1 << 16).fresh
    with replay.open(packed) as t, replay.open(RACE, at="failure") as whole:
        assert t.machine.digest() == whole.machine.digest()
        assert t.step(replay.Unit.INSTRUCTION, backwards=True).tick == (
            whole.step(replay.Unit.INSTRUCTION, backwards=True).tick
        )
        assert t.seek(0).tick == 1_167_686


def test_an_opening_inside_is_kept_and_one_outside_is_not(tmp_path: Path) -> None:
    packed = tmp_path / "x.lgt"
    pack(RACE, packed)
    for stop, opens in (("end", 1_467_686), ("1M", None)):
        out = tmp_path / f"{stop}.lgt"
        cut(packed, out, start="900k", stop=stop)
        with TraceReader(out) as reader:
            assert reader.opens_at == opens


def test_a_torn_trace_is_cut_as_far_as_it_goes(tmp_path: Path) -> None:
    torn, out = tmp_path / "x.lgt", tmp_path / "y.lgt"
    torn.write_bytes(RACE.read_bytes()[:-100])
    part = cut(torn, out, start="1M")
    assert 1_400_000 < part.last <= 1_467_687
    assert verify(out).torn is None


@pytest.mark.parametrize(
    ("start", "stop"),
    [("end", None), ("2M", None), ("500k", "500k"), ("500k", "+0"), ("500k", "300k"), ("x", None)],
)
def test_nothing_is_no_part(tmp_path: Path, start: str, stop: str | None) -> None:
    with pytest.raises(BadPlace):
        cut(RACE, tmp_path / "x.lgt", start=start, stop=stop)
    assert not list(tmp_path.iterdir())


def test_a_state_that_no_trace_can_hold_is_said_to_be_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = {**MAX_RAW, ChunkType.CHECKPOINT: 1000}
    monkeypatch.setattr("replay.chunks.MAX_RAW", limits)
    with pytest.raises(BadOutput, match="more than a trace can hold"):
        cut(RACE, tmp_path / "x.lgt", start="500k")
    assert not list(tmp_path.iterdir())


def test_the_command_says_what_came_of_it(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.lgt"
    arguments = ["cut", str(RACE), "-o", str(out), "--from", "-300k", "--to", "+1000"]
    assert cli.run(arguments) == 0
    assert "ticks 1,167,687 to 1,168,687" in capfd.readouterr().out
    assert cli.run(arguments) == 2
    assert cli.run([*arguments, "--force"]) == 0
    assert cli.run([*arguments[:-1], "nowhere", "--force"]) == 2
    assert "no place" in capfd.readouterr().err
