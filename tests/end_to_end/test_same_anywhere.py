"""One recording, replayed in every way and in all surroundings that once made programs differ: the same digests."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hostvm.machine import Machine
from hostvm.units import Tick
from replay.host_world import HostWorld
from replay.log import TraceReader
from replay.session import Session
from replay.virtual_world import VirtualWorld
from tests.end_to_end.commands import ROOT, environment, lgreplay
from tests.end_to_end.final_digest import final_digest
from tests.patience import PATIENCE
from tests.replay.recorded import hello, record_hello, verify
from tests.replay.traces import take_apart

REPLAYS = 20
NO_FMA = "glibc.cpu.hwcaps=-AVX2_Usable,-FMA_Usable,-AVX2,-FMA,-FMA4"
SURROUNDINGS = {
    "hash seed 1": {"PYTHONHASHSEED": "1"},
    "hash seed 4294967295": {"PYTHONHASHSEED": "4294967295"},
    "no FMA": {"GLIBC_TUNABLES": NO_FMA},
    "another locale and zone": {"LC_ALL": "tr_TR.UTF-8", "TZ": "Asia/Kathmandu"},
    "another allocator": {"PYTHONMALLOC": "malloc", "MALLOC_PERTURB_": "165"},
}


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recording by this computer's clock, with many digests."""
    path = tmp_path_factory.mktemp("trace") / "host.lgt"
    record_hello(path, HostWorld(1), config=hello("loops=1 hz=5000", digest_interval=1 << 13))
    return path


def recorded_end(path: Path) -> str:
    with TraceReader(path) as reader:
        assert reader.end is not None
        return f"{reader.end.tick} {reader.end.digest.hex()}"


def sizes(random: Random) -> Iterator[int]:
    """How far to run at a time: mostly far, at times step by step."""
    while True:
        if random.random() < 0.1:
            yield from [1] * random.randrange(1, 50)
        yield random.randrange(1, random.choice((10, 1000, 50_000)))


def replayed_in_pieces(path: Path, random: Random) -> str:
    """Run to the end in pieces, and at times go on in another machine."""
    with TraceReader(path) as reader:
        session = Session(reader)
        machine = session.machine
        moves = {random.randrange(session.end_tick) for _ in range(2)}
        for size in sizes(random):
            machine.run(Tick(min(session.end_tick, machine.tick + size)))
            if any(tick <= machine.tick for tick in moves):
                moves = {tick for tick in moves if tick > machine.tick}
                machine = moved(machine)
            if machine.tick == session.end_tick:
                break
        assert session.world.next_event() is None
        return f"{machine.tick} {machine.digest().hex()}"


def moved(machine: Machine) -> Machine:
    """Another machine, which goes on where this one is."""
    other = Machine(machine.config, VirtualWorld())
    other.restore(machine.state())
    other.world = machine.world
    return other


@pytest.mark.parametrize("number", range(REPLAYS))
def test_a_recording_replayed_on_any_slicing_and_in_fresh_machines_has_the_same_digests(
    trace: Path, number: int
) -> None:
    assert replayed_in_pieces(trace, Random(number)) == recorded_end(trace)


@contextmanager
def load() -> Iterator[None]:
    """Keep the other core busy."""
    with subprocess.Popen([sys.executable, "-c", "while True: sum(range(10000))"]) as busy:
        try:
            yield
        finally:
            busy.kill()


def test_a_recording_made_and_replayed_under_load_is_verified(trace: Path, tmp_path: Path) -> None:
    path = tmp_path / "loaded.lgt"
    with load():
        for _ in range(3):
            assert final_digest(str(trace)) == recorded_end(trace)
        record_hello(path, HostWorld(2), config=hello("loops=1 hz=5000"))
    assert final_digest(str(path)) == recorded_end(path)


def digest_elsewhere(path: Path, changes: dict[str, str], prefix: tuple[str, ...] = ()) -> str:
    return subprocess.run(
        [*prefix, sys.executable, "-m", "tests.end_to_end.final_digest", str(path)],
        cwd=ROOT,
        env=environment(changes),
        capture_output=True,
        text=True,
        check=True,
        timeout=PATIENCE,
    ).stdout.strip()


@pytest.mark.parametrize("changes", SURROUNDINGS.values(), ids=SURROUNDINGS.keys())
def test_other_surroundings_replay_to_the_same_digest(trace: Path, changes: dict[str, str]) -> None:
    assert digest_elsewhere(trace, changes) == recorded_end(trace)


@pytest.mark.skipif(shutil.which("setarch") is None, reason="needs setarch (util-linux)")
def test_a_fixed_address_layout_replays_to_the_same_digest(trace: Path) -> None:
    possible = subprocess.run(["setarch", "-R", "true"], check=False, capture_output=True)
    if possible.returncode:
        pytest.skip("this system does not allow setarch -R")
    assert digest_elsewhere(trace, {}, ("setarch", "-R")) == recorded_end(trace)


def test_equal_seeds_record_equal_bytes_but_for_when_and_how_it_was_asked(tmp_path: Path) -> None:
    heads, bodies, files = [], [], []
    for number, changes in enumerate(({}, *SURROUNDINGS.values())):
        folder = tmp_path / str(number)
        folder.mkdir()
        done = lgreplay(
            *("record", "--guest", "hello", "--append", "loops=1", "--memory", "16M"),
            *("--clock", "virtual", "--seed", "1", "--quiet", "-o", f"{number}.lgt"),
            folder=folder,
            changes=changes,
        )
        assert done.code == 0, done
        path = folder / f"{number}.lgt"
        with TraceReader(path) as reader:
            heads.append(replace(reader.header, created_ns=0, command_line=()))
            files.append(list(reader.events()))
            end = reader.end
        pieces = take_apart(path.read_bytes())
        # The INDEX and END chunks have offsets in them, which a longer HEADER moves.
        bodies.append((end, [(p.header.type, p.raw) for p in pieces[1:-2]]))
    assert all(head == heads[0] for head in heads)
    assert all(events == files[0] for events in files)
    assert all(body == bodies[0] for body in bodies)


def test_equal_calls_of_the_recorder_make_equal_files(tmp_path: Path) -> None:
    config = hello("loops=1 hz=5000")
    first, second = tmp_path / "a.lgt", tmp_path / "b.lgt"
    record_hello(first, VirtualWorld(3), config=config)
    record_hello(second, VirtualWorld(3), config=config)
    assert first.read_bytes() == second.read_bytes()


@given(st.integers(0, (1 << 64) - 1), st.integers(1000, 20_000), st.booleans(), st.integers(1, 2))
@settings(max_examples=12)
def test_whatever_is_recorded_with_any_seed_and_clock_is_verified(
    tmp_path_factory: pytest.TempPathFactory, seed: int, hz: int, by_host: bool, guests: int
) -> None:
    path = tmp_path_factory.mktemp("seeds") / "t.lgt"
    world = HostWorld(seed) if by_host else VirtualWorld(seed)
    made = record_hello(path, world, config=hello(f"loops=1 hz={hz}", guests))
    shown = verify(path)
    assert (shown.last_tick, shown.events) == (made.end.tick, made.events)
