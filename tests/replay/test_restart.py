"""A Guest that is launched again is one history: cut, handed on, dropped at the front or travelled in."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from hostvm.launcher import GuestConfig
from hostvm.machine import Machine, MachineConfig
from hostvm.observations import GuestRestarted
from hostvm.units import Tick
from replay.catalogue import find_kernel
from replay.checkpoints import checkpoint_of, state_of
from replay.log import TraceReader
from replay.session import Session
from replay.timeline import Timeline
from replay.virtual_world import VirtualWorld
from tests.hostvm.user_programs import program
from tests.replay.recorded import events_of, record_hello, verify

END = Tick(1_100_000)

# reboot(…, …, RESTART), and between the page faults of a few writes.
WRITES = b"".join(b"\xc6\x05" + (0x08048200 + at).to_bytes(4, "little") + b"\x07" for at in (0, 64))
REBOOT = WRITES + b"\xb8\x58\0\0\0\xba\x67\x45\x23\x01\xcd\x80"


def restarting(guest: str = "kestrel") -> MachineConfig:
    kernel = find_kernel(guest)
    image = program(REBOOT, bytes(0x400))
    config = GuestConfig(kernel.content, "hz=10000", 8 << 20, image, kernel.abi, kernel.name)
    return MachineConfig((config,), 1 << 15, 4, restarts=True)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("restart") / "x.lgt"
    record_hello(path, config=restarting(), max_ticks=END)
    return path


def restarts(path: Path) -> list[int]:
    return [event.tick for event in events_of(path) if isinstance(event, GuestRestarted)]


def digests(path: Path, ticks: list[int]) -> dict[int, bytes]:
    """What somebody finds who goes forward."""
    with TraceReader(path) as reader:
        machine = Session(reader).machine
        found = {}
        for tick in sorted(ticks):
            machine.run(Tick(tick))
            found[tick] = machine.digest()
        return found


@pytest.mark.parametrize("guest", ["kestrel", "kestrel-2.6.27"])
def test_it_replays(guest: str, tmp_path: Path) -> None:
    record_hello(tmp_path / "x.lgt", config=restarting(guest), max_ticks=END)
    assert len(restarts(tmp_path / "x.lgt")) >= 2
    assert verify(tmp_path / "x.lgt").last_tick == END


def test_each_launch_begins_like_the_first(path: Path) -> None:
    """But for the time and the Host's draws: the Guest's memory before its first instruction is as at power-on."""
    at = restarts(path)[0]
    with TraceReader(path) as reader:
        machine = Session(reader).machine
        guest = machine.guests[0]
        size = guest.loaded.pfn_limit * 4096
        first = machine.memory.read(guest.base, size)
        machine.run(Tick(at + 1))
        assert machine.guests[0] is not guest
        assert machine.memory.read(guest.base, size) == first
        assert machine.guests[0].lguest.data.address is None


def test_the_same_in_pieces_and_handed_on_to_other_machines(path: Path) -> None:
    whole = Machine(restarting(), VirtualWorld(1))
    whole.run(END)
    world = VirtualWorld(1)
    machine = Machine(restarting(), world)
    for tick in sorted(random.Random(3).sample(range(END), 5)):
        machine.run(Tick(tick))
        state = machine.state()
        machine = Machine(restarting(), VirtualWorld(9))
        machine.restore(state)
        machine.world = world
    machine.run(END)
    assert (machine.tick, machine.digest()) == (whole.tick, whole.digest())


def test_a_checkpoint_after_a_restart_is_one_to_start_from(path: Path) -> None:
    after = Tick(restarts(path)[0] + 1000)
    machine = Machine(restarting(), VirtualWorld(1))
    machine.run(after)
    checkpoint = checkpoint_of(machine)
    other = Machine(restarting(), VirtualWorld(5))
    other.restore(state_of(checkpoint, other, "x.lgt", 0))
    assert other.digest() == machine.digest()


def test_somebody_who_travels_finds_what_somebody_found_who_went_forward(path: Path) -> None:
    draw = random.Random(7)
    near = [at + step for at in restarts(path) for step in (-1, 0, 1, 2)]
    ticks = [*near, *(draw.randrange(END) for _ in range(8))]
    expected = digests(path, ticks)
    draw.shuffle(ticks)
    with Timeline(TraceReader(path), 64 << 20) as timeline:
        for tick in (*ticks, *ticks[::-1]):
            timeline.seek(tick)
            assert timeline.machine.digest() == expected[tick], tick
