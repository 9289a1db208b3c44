"""Whole boots of kestrel with a disk, from power-on to its last instruction: all that is promised of a recording.

Three generations, in each kind of World. The disk makes the World answer, and leaves something in the devices' state.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from random import Random

import pytest

from hostvm.devices.config import BlockConfig
from hostvm.launcher import GuestConfig
from hostvm.machine import Machine, MachineConfig
from hostvm.observations import EndReason, GuestEnded
from hostvm.units import Tick
from hostvm.world import World
from replay.catalogue import find_kernel
from replay.checkpoints import checkpoint_of, state_of
from replay.events import DeviceCompletion, Event, StateDigest
from replay.host_world import HostWorld
from replay.log import TraceReader
from replay.recording import RecordingWorld
from replay.session import ReplayWorld, Session
from replay.virtual_world import VirtualWorld
from tests.replay.recorded import events_of, record_hello, verify

KERNELS = ("kestrel", "kestrel-2.6.23", "kestrel-2.6.27", "kestrel-2.6.32")
LINE = "hz=5000 -- 1"
# By a clock on the wall a short period may pass before the FPU has been given to a program: then nobody gets on.
CALM = "hz=500 -- 1"
SECTORS = 8
INTERVAL = 1 << 14
LONGEST = Tick(4_000_000)
DISKS = {(0, 0): bytes(range(256)) * 2 * SECTORS}

both = pytest.mark.parametrize("kernel", KERNELS)


def config(name: str, line: str = LINE) -> MachineConfig:
    """With a digest of all registers and memory at every few thousand instructions."""
    kernel = find_kernel(name)
    devices = (BlockConfig(SECTORS),)
    guest = GuestConfig(kernel.content, line, 4 << 20, b"", kernel.abi, name, devices)
    return MachineConfig((guest,), INTERVAL, memory_digest_every=4)


def world(seed: int) -> VirtualWorld:
    return VirtualWorld(seed, disks=DISKS)


def recording(name: str, inner: World) -> tuple[Machine, list[Event]]:
    """A machine at power-on, and what is recorded from now on."""
    events: list[Event] = []
    recorder = RecordingWorld(inner)
    machine = Machine(config(name), recorder)
    recorder.attach(events.append)
    return machine, events


@cache
def straight(name: str) -> tuple[tuple[Event, ...], Tick, bytes]:
    """A boot in one go: its events, its length, and its last digest."""
    machine, events = recording(name, world(1))
    machine.run(LONGEST)
    assert machine.finished
    return tuple(events), machine.tick, machine.digest()


def pieces(r: Random, widest: int) -> Iterator[int]:
    """How far to go at a time; at times step by step."""
    while True:
        if r.random() < 0.05:
            yield from [1] * r.randrange(1, 30)
        yield r.randrange(1, r.choice((10, 1000, widest)))


@both
def test_the_boot_is_what_it_should_be(kernel: str) -> None:
    events, _, _ = straight(kernel)
    ends = [event for event in events if isinstance(event, GuestEnded)]
    assert [end.reason for end in ends] == [EndReason.POWEROFF]
    digests = [event for event in events if isinstance(event, StateDigest)]
    assert len(digests) > 50
    assert sum(bool(digest.memory) for digest in digests) > 12
    assert sum(isinstance(event, DeviceCompletion) for event in events) >= 4


@both
@pytest.mark.parametrize("seed", range(2))
def test_a_boot_recorded_in_any_pieces_with_caches_dropped_is_the_boot_in_one_go(
    kernel: str, seed: int
) -> None:
    r = Random(seed)
    machine, events = recording(kernel, world(1))
    for piece in pieces(r, 40_000):
        machine.run(Tick(machine.tick + piece))
        match r.randrange(20):
            case 0 | 1:
                machine.cpu.flush()
            case 2 | 3:
                machine.cpu.flush_tlb()
            case 4:
                machine.digest()
        if machine.finished:
            break
    expected, tick, digest = straight(kernel)
    assert tuple(events) == expected
    assert (machine.tick, machine.digest()) == (tick, digest)


@both
@pytest.mark.parametrize("seed", range(2))
def test_a_replay_meets_every_digest_in_any_pieces_and_on_ever_new_machines(
    kernel: str, seed: int
) -> None:
    """The state goes over as a trace would hold it: as a checkpoint."""
    expected, tick, digest = straight(kernel)
    r = Random(seed)
    answers = ReplayWorld(expected, 1)
    machine = Machine(config(kernel), answers)
    moves = sorted(r.sample(range(tick), 4))
    for piece in pieces(r, 60_000):
        machine.run(Tick(min(tick, machine.tick + piece)))
        if moves and machine.tick > moves[0]:
            moves = [move for move in moves if move >= machine.tick]
            machine = moved(machine, answers)
        if machine.tick == tick:
            break
    assert answers.next_event() is None
    assert (machine.finished, machine.digest()) == (True, digest)


def moved(machine: Machine, answers: ReplayWorld) -> Machine:
    """A new machine that stands where the old one does."""
    new = Machine(machine.config, VirtualWorld())
    new.restore(state_of(checkpoint_of(machine), new, "here", 0))
    new.world = answers
    assert new.digest() == machine.digest()
    return new


@both
def test_going_on_from_any_tick_of_a_boot_leads_to_its_end(kernel: str) -> None:
    expected, tick, digest = straight(kernel)
    for cut in Random(3).sample(range(tick), 4):
        answers = ReplayWorld(expected, 1)
        machine = Machine(config(kernel), answers)
        machine.run(Tick(cut))
        state, rest = machine.state(), expected[answers.events_taken :]
        machine.run(tick)
        machine.restore(state)
        machine.world = ReplayWorld(rest, 1)
        machine.run(tick)
        assert machine.digest() == digest


@both
def test_the_same_seed_makes_the_same_trace_and_another_seed_another(
    kernel: str, tmp_path: Path
) -> None:
    files = [tmp_path / name for name in ("a.lgt", "b.lgt", "c.lgt")]
    for path, seed in zip(files, (5, 5, 6), strict=True):
        record_hello(path, world(seed), config=config(kernel))
    # Not byte for byte: a slow computer closes a chunk each second.
    assert list(events_of(files[0])) == list(events_of(files[1]))
    assert list(events_of(files[0])) != list(events_of(files[2]))
    verify(files[2])


@both
def test_a_boot_recorded_by_this_computers_clock_is_verified_whole_and_in_pieces(
    kernel: str, tmp_path: Path
) -> None:
    path = tmp_path / "host.lgt"
    made = record_hello(path, HostWorld(7, disks=DISKS), config=config(kernel, CALM))
    shown = verify(path)
    assert (shown.last_tick, shown.events) == (made.end.tick, made.events)
    with TraceReader(path) as reader:
        machine = Session(reader).machine
        for piece in pieces(Random(7), 50_000):
            machine.run(Tick(min(made.end.tick, machine.tick + piece)))
            if machine.tick == made.end.tick:
                break
        assert machine.digest() == made.end.digest
