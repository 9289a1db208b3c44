"""Devices driven by Guests that run: recorded, replayed without a disk, and carried over in the middle of a request."""

from __future__ import annotations

import copy

import pytest

from hostvm.abi import Call
from hostvm.devices.config import SECTOR, RngConfig
from hostvm.launcher import GuestConfig
from hostvm.machine import Machine, MachineConfig
from hostvm.observations import (
    ConsoleOutput,
    EndReason,
    GuestEnded,
    Hypercall,
    IrqRaised,
    Observation,
)
from hostvm.units import Nanoseconds, Tick
from hostvm.world import Completion, World
from replay.checkpoints import checkpoint_of, state_of
from replay.errors import Place, TraceFormatError
from replay.events import DeviceCompletion, Event
from replay.host_world import HostWorld
from replay.log import Checkpoint
from replay.recording import RecordingWorld
from replay.session import ReplayWorld
from replay.virtual_world import Arrival, VirtualWorld
from replay.wire import Value, pack_map, unpack_map
from tests.hostvm.devices.device_guest import (
    BLOCK,
    CONFIGS,
    CONSOLE,
    GOODBYE,
    KEYS_QUEUE,
    Program,
    disk_requests,
    everything,
)

IMAGE = b"".join(bytes((65 + number,)) * SECTOR for number in range(16))
END = Tick(1_000_000)


class Listening(VirtualWorld):
    """A VirtualWorld that keeps what it is told."""

    def __init__(self, seed: int = 7) -> None:
        typed = Completion(0, CONSOLE.number, KEYS_QUEUE.irq, b"typed!")
        arrivals = [Arrival(Nanoseconds(2_000_000), typed)]
        super().__init__(seed, arrivals=arrivals, disks={(0, 0): IMAGE})
        self.heard: list[Observation] = []

    def observe(self, observation: Observation) -> None:
        self.heard.append(observation)


def printed(observations: list[Observation]) -> bytes:
    return b"".join(each.data for each in observations if isinstance(each, ConsoleOutput))


def ends(observations: list[Observation]) -> dict[int, tuple[EndReason, str]]:
    return {e.guest: (e.reason, e.text) for e in observations if isinstance(e, GuestEnded)}


def machine(world: World, *guests: GuestConfig) -> Machine:
    return Machine(MachineConfig(guests or (everything(),), 1 << 14, 2), world)


def test_a_guest_reads_its_disk_its_random_numbers_and_its_keyboard_and_prints_them() -> None:
    world = Listening()
    machine(world).run(END)
    assert ends(world.heard) == {0: (EndReason.POWEROFF, "Power down")}
    text = printed(world.heard)
    assert text[:1024] == b"C" * 512 + b"J" * 512
    assert text[1024:1032] not in (b"", bytes(8))
    assert text[1032:] == b"typed!"
    assert [e.irq for e in world.heard if isinstance(e, IrqRaised)] == [1, 2, 3, 4]


def test_this_computer_serves_devices_too() -> None:
    world = HostWorld(1, disks={(0, 0): IMAGE})
    program = Program()
    program.start(BLOCK.address)
    program.fill(BLOCK.queues[0].address, *disk_requests())
    program.await_used(BLOCK.queues[0].address, 2)
    program.power_off()
    events: list[Event] = []
    recorder = RecordingWorld(world)
    recorder.attach(events.append)
    machine(recorder, program.guest(*CONFIGS)).run(END)
    got = [event.data for event in events if isinstance(event, DeviceCompletion)]
    assert got == [b"C" * 512, b"J" * 512]
    assert any(isinstance(e, GuestEnded) and e.reason is EndReason.POWEROFF for e in events)


@pytest.mark.parametrize("seed", range(3))
def test_a_replay_needs_no_disk(seed: int) -> None:
    events: list[Event] = []
    recorder = RecordingWorld(Listening(seed))
    recorder.attach(events.append)
    recorded = machine(recorder)
    recorded.run(END)
    again = ReplayWorld(events, 1)
    replayed = machine(again)
    replayed.run(END)
    assert (replayed.tick, replayed.digest()) == (recorded.tick, recorded.digest())
    assert again.next_event() is None
    assert sum(isinstance(event, DeviceCompletion) for event in events) == 4


def in_the_middle() -> tuple[Machine, Listening]:
    """A machine that waits for its disk."""
    world = Listening()
    it = machine(world)
    while it.guests[0].devices.state()[0].queues[0].waiting is None:
        it.run(Tick(it.tick + 100))
    return it, world


def test_a_checkpoint_in_the_middle_of_a_request_goes_on_in_another_machine() -> None:
    it, world = in_the_middle()
    raw = pack_map(checkpoint_of(it).fields)
    its_world = copy.deepcopy(world)
    other = machine(its_world)
    its_world.heard = list(world.heard)
    checkpoint = Checkpoint(it.tick, unpack_map(raw, Place("trace", 0)))
    other.restore(state_of(checkpoint, other, "trace", 0))
    assert other.digest() == it.digest()
    it.run(END)
    other.run(END)
    assert (other.tick, other.digest()) == (it.tick, it.digest())
    assert its_world.heard == world.heard


@pytest.mark.parametrize("piece", [1, 997, 10_007])
def test_a_run_in_pieces_is_the_run_in_one_go(piece: int) -> None:
    world, cut_world = Listening(), Listening()
    whole, cut = machine(world), machine(cut_world)
    end = Tick(12_000 if piece == 1 else END)
    whole.run(end)
    while not cut.finished and cut.tick < end:
        cut.run(Tick(cut.tick + piece))
    if piece != 1:
        assert cut.finished
    assert (cut.tick, cut.digest()) == (whole.tick, whole.digest())
    assert cut_world.heard == world.heard


def test_a_world_that_does_not_know_of_a_request_is_asked_again() -> None:
    it, _ = in_the_middle()
    stranger = Listening(99)
    other = machine(stranger)
    other.restore(it.state())
    other.run(END)
    assert ends(stranger.heard) == {0: (EndReason.POWEROFF, "Power down")}
    assert printed(stranger.heard)[:1024] == b"C" * 512 + b"J" * 512


def test_requests_belong_to_the_digest() -> None:
    it, _ = in_the_middle()
    before = it.register_digest()
    it.guests[0].devices.devices[0].queues[0].waiting = None
    assert it.register_digest() != before


GOOD_QUEUE: list[Value] = [1, 0, 0, 1, 0, 512, 0, 512, 512, 1]


@pytest.mark.parametrize(
    "queue",
    [
        [],
        [1],
        [1 << 16, 0],
        [1, 2],
        [1, -1],
        [1, True],
        [1, "x"],
        None,
        [1, 0, 256, 1, 0, 0],
        [1, 0, 0, 9, 0, 0],
        [1, 0, 0, 1, 0, 1 << 40],
        [1, 0, 0, 1, 0],
        [1, 0, 0, 1, 0, 512, 0],
        [1, 0, 0, 1, 0, 512, 1 << 32, 0],
    ],
)
def test_a_checkpoint_of_impossible_devices_is_refused(queue: Value) -> None:
    it = machine(Listening())
    fields = dict(checkpoint_of(it).fields)
    devices = copy.deepcopy(fields["guest0.devices"])
    assert isinstance(devices, list)
    disk = devices[0]
    assert isinstance(disk, list)
    for good in (GOOD_QUEUE, queue):
        disk[1] = [good]
        checkpoint = Checkpoint(it.tick, fields | {"guest0.devices": devices})
        if good is GOOD_QUEUE:
            state_of(checkpoint, it, "trace", 0)
            continue
        with pytest.raises(TraceFormatError):
            state_of(checkpoint, it, "trace", 0)


@pytest.mark.parametrize(
    "disk",
    [
        None,
        [],
        [True, [[0, 0]], b"", b"", b"x" * 512],
        [True, [[0, 0]], b"", (16).to_bytes(8, "little"), b"x" * 512],
        [True, [[0, 0]], b"", bytes(16), b"x" * 1024],
        [True, [[0, 0]], b"", bytes(7), b""],
        [True, [], b"", b"", b""],
        [1, [[0, 0]], b"", b"", b""],
        [True, [[0, 0]], bytes(5000), b"", b""],
    ],
)
def test_a_checkpoint_of_an_impossible_disk_is_refused(disk: Value) -> None:
    it = machine(Listening())
    fields = dict(checkpoint_of(it).fields)
    devices = fields["guest0.devices"]
    assert isinstance(devices, list)
    for wrong in ([disk, *devices[1:]], devices[1:]):
        checkpoint = Checkpoint(it.tick, fields | {"guest0.devices": wrong})
        with pytest.raises(TraceFormatError):
            state_of(checkpoint, it, "trace", 0)


def test_a_ring_that_turns_out_bad_kills_its_guest_and_not_the_one_that_runs() -> None:
    bad = Program()
    bad.start(BLOCK.address)
    bad.fill(BLOCK.queues[0].address, disk_requests()[0], bad_head=300)
    bad.await_used(BLOCK.queues[0].address, 2)
    good = Program()
    good.spin(50_000)
    good.power_off()
    world = Listening()
    machine(world, bad.guest(*CONFIGS), good.guest(RngConfig())).run(END)
    assert ends(world.heard) == {
        0: (EndReason.KILLED, "Guest says index 300 is available"),
        1: (EndReason.POWEROFF, "Power down"),
    }


def test_when_one_guest_dies_of_its_ring_the_one_that_runs_runs_on() -> None:
    asleep = Program()
    asleep.start(BLOCK.address)
    asleep.await_used(BLOCK.queues[0].address, 1)
    bad = Program()
    bad.start(BLOCK.address)
    bad.fill(BLOCK.queues[0].address, disk_requests()[0], bad_head=300)
    bad.await_used(BLOCK.queues[0].address, 2)
    good = Program()
    good.spin(50_000)
    good.call(Call.NOTIFY, GOODBYE)
    good.power_off()
    world = Listening()
    machine(world, asleep.guest(*CONFIGS), bad.guest(*CONFIGS), good.guest()).run(END)
    assert ends(world.heard) == {
        1: (EndReason.KILLED, "Guest says index 300 is available"),
        2: (EndReason.POWEROFF, "Power down"),
    }
    assert printed(world.heard) == b"Power down"


def test_a_ring_that_turns_out_bad_kills_a_guest_that_waits_alone() -> None:
    bad = Program()
    bad.start(BLOCK.address)
    bad.fill(BLOCK.queues[0].address, disk_requests()[0], bad_head=300)
    bad.await_used(BLOCK.queues[0].address, 2)
    world = Listening()
    machine(world, bad.guest(*CONFIGS)).run(END)
    assert ends(world.heard) == {0: (EndReason.KILLED, "Guest says index 300 is available")}


@pytest.mark.parametrize("abi", ["2.6.24", "2.6.27", "3.2", "3.10"])
def test_every_generation_begins_with_its_memory_mapped(abi: str) -> None:
    program = Program(abi)
    program.call(Call.NOTIFY, 0x200000)
    program.power_off()
    world = Listening()
    machine(world, program.guest()).run(END)
    assert printed(world.heard) == b"Power down"
    assert ends(world.heard) == {0: (EndReason.POWEROFF, "Power down")}


def test_the_hosts_tick_gives_guests_the_cpu_in_turn() -> None:
    busy = Program()
    busy.spin(1_500_000)
    busy.power_off()
    world = Listening()
    machine(world, *(busy.guest() for _ in range(3))).run(Tick(6_000_000))
    ends = [e for e in world.heard if isinstance(e, GuestEnded)]
    begun = {e.guest: e.tick for e in reversed(world.heard) if isinstance(e, Hypercall)}
    assert {e.guest for e in ends} == {0, 1, 2}
    assert max(begun.values()) < 1_000_000
    assert ends[-1].tick - ends[0].tick < 1_000_000
