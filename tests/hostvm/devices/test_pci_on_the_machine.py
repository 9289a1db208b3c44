"""Devices on PCI driven by Guests that run: recorded, replayed, cut in pieces, and hostile."""

from __future__ import annotations

import copy
import struct
from random import Random

import pytest

from hostvm.devices.device import DeviceState
from hostvm.launcher import GuestConfig
from hostvm.machine import Machine, MachineConfig
from hostvm.observations import EndReason, IrqRaised
from hostvm.units import Nanoseconds, Tick
from hostvm.world import Completion
from replay.checkpoints import checkpoint_of, state_of
from replay.errors import Place, TraceFormatError
from replay.events import Event
from replay.log import Checkpoint
from replay.recording import RecordingWorld
from replay.session import ReplayWorld
from replay.virtual_world import Arrival, VirtualWorld
from replay.wire import Value, pack_map, unpack_map
from tests.hostvm.devices.device_guest import CONFIGS, KEYS, MEMORY, RANDOM, SECTORS, disk_requests
from tests.hostvm.devices.driver import WRITE
from tests.hostvm.devices.pci_driver import CONFIG, STATUS, PciProgram, whole
from tests.hostvm.devices.test_on_the_machine import END, IMAGE, Listening, ends, machine, printed

PIECE = 4000


class Typing(Listening):
    """One in which somebody types on a console on PCI, whose interrupt is 1."""

    def __init__(self, seed: int = 7) -> None:
        typed = Completion(0, len(CONFIGS), 1, b"typed!")
        arrivals = [Arrival(Nanoseconds(2_000_000), typed)]
        VirtualWorld.__init__(self, seed, arrivals=arrivals, disks={(0, 0): IMAGE})
        self.heard = []


def everything() -> GuestConfig:
    """As the older Guest of this name: two sectors, random bytes, keys; all of that printed."""
    program = PciProgram(*CONFIGS)
    disk, rng, console = program.devices
    (requests,), (numbers,) = program.bring_up(disk), program.bring_up(rng)
    keys, screen = program.bring_up(console)
    program.fill(requests, *disk_requests())
    program.await_used(requests, 2)
    program.fill(numbers, [(RANDOM, 8, WRITE)])
    program.await_used(numbers, 1)
    program.fill(keys, [(KEYS, 6, WRITE)])
    program.await_used(keys, 1)
    program.fill(screen, [(SECTORS, 1024, 0), (RANDOM, 8, 0), (KEYS, 6, 0)])
    program.power_off()
    return whole(program)


def test_a_guest_reads_its_disk_its_random_numbers_and_its_keyboard_and_prints_them() -> None:
    world = Typing()
    machine(world, everything()).run(END)
    assert ends(world.heard) == {0: (EndReason.POWEROFF, "Power down")}
    text = printed(world.heard)
    assert text[:1024] == b"C" * 512 + b"J" * 512
    assert text[1024:1032] not in (b"", bytes(8))
    assert text[1032:] == b"typed!"
    assert [e.irq for e in world.heard if isinstance(e, IrqRaised)] == [2, 3, 1, 1]


@pytest.mark.parametrize("seed", range(2))
def test_a_replay_in_pieces_of_any_size_through_checkpoints_is_the_same(seed: int) -> None:
    events: list[Event] = []
    recorder = RecordingWorld(Typing(seed))
    recorder.attach(events.append)
    recorded = machine(recorder, everything())
    recorded.run(END)
    again = ReplayWorld(events, 1)
    replayed = machine(again, everything())
    r = Random(seed)
    while not replayed.finished:
        replayed.run(Tick(replayed.tick + r.randint(1, PIECE)))
        packed = pack_map(checkpoint_of(replayed).fields)
        checkpoint = Checkpoint(replayed.tick, unpack_map(packed, Place("trace", 0)))
        state = state_of(checkpoint, replayed, "trace", 0)
        assert state == replayed.state()
        replayed.restore(state)
    assert (replayed.tick, replayed.digest()) == (recorded.tick, recorded.digest())
    assert again.next_event() is None


def test_what_stands_at_the_address_port_is_part_of_the_state() -> None:
    digests = set()
    for address in (0x80000800, 0x80000804):
        program = PciProgram()
        program.port_out(0xCF8, 4, address)
        program._move("edx", 0)
        program._move("eax", 0)
        top = len(program.code)
        program.power_off()
        it = machine(Typing(), whole(program))
        while it.guests[0].regs.eip < 0x100000 + top - 10 and not it.finished:
            it.run(Tick(it.tick + 1))
        digests.add(it.guests[0].devices.digest_bytes())
    assert len(digests) == 2


@pytest.mark.parametrize("registers", [b"", b"x", bytes(500), None, 7, [1]])
def test_a_checkpoint_with_other_registers_is_refused(registers: Value) -> None:
    it = machine(Typing(), everything())
    fields = dict(checkpoint_of(it).fields)
    devices = copy.deepcopy(fields["guest0.devices"])
    assert isinstance(devices, list)
    for device in devices:
        assert isinstance(device, list)
        wrong = copy.deepcopy(devices)
        wrong[devices.index(device)] = [*device[:5], *([] if registers == b"" else [registers])]
        checkpoint = Checkpoint(it.tick, fields | {"guest0.devices": wrong})
        with pytest.raises(TraceFormatError):
            state_of(checkpoint, it, "trace", 0)


def test_a_restart_finds_the_devices_as_at_first() -> None:
    program = PciProgram(*CONFIGS)
    disk, *_ = program.devices
    program.bring_up(disk)
    program.restart()
    world = Typing()
    it = Machine(MachineConfig((whole(program),), 1 << 14, 2, restarts=True), world)
    first = it.guests[0].devices.state()
    old = it.guests[0]
    while it.guests[0] is old:
        it.run(Tick(it.tick + 1))
    assert [each.registers for each in it.guests[0].devices.state()] == [
        each.registers for each in first
    ]
    assert all(isinstance(each, DeviceState) for each in first)


def condemned(program: PciProgram) -> str:
    world = Typing()
    it = machine(world, whole(program))
    it.run(END)
    ((reason, text),) = ends(world.heard).values()
    assert reason is EndReason.KILLED
    return text


def test_a_bad_driver_is_killed_with_the_launchers_words() -> None:
    program = PciProgram()
    program.write(program.devices[0].address + STATUS, 1, 4)
    assert condemned(program) == ("console: bad driver: unexpected status transition 0x0 -> 0x4")


@pytest.mark.parametrize("where", ["a device", "behind all devices"])
def test_an_instruction_that_the_launcher_does_not_know_is_a_trap_and_without_a_handler_the_end(
    where: str,
) -> None:
    program = PciProgram()
    offset = CONFIG if where == "a device" else 0x100
    at = 0x100000 + len(program.code)
    # movl $1,address is no move from a register.
    program.code += b"\xc7\x05" + struct.pack("<II", program.devices[0].address + offset, 1)
    assert condemned(program) == f"Reinjecting trap 14 for fault at {at:#x}: Invalid argument"


def test_a_port_instruction_that_the_launcher_does_not_know_is_likewise() -> None:
    program = PciProgram()
    at = 0x100000 + len(program.code)
    program.code += b"\xf4"
    assert condemned(program) == f"Reinjecting trap 13 for fault at {at:#x}: Invalid argument"


def test_beyond_the_devices_pages_there_is_nothing_even_to_ask_for() -> None:
    program = PciProgram()
    program.write(MEMORY + (258 << 12), 4, 0)
    assert condemned(program) == "bad page table entry"


def test_code_on_a_devices_page_cannot_even_be_looked_at() -> None:
    program = PciProgram()
    place = program.devices[0].address
    program._move("eax", place)
    program.code += b"\xff\xe0"
    assert condemned(program) == f"bad read address {place:#x} len 7"


def test_notify_is_no_hypercall_any_more() -> None:
    program = PciProgram()
    program._move("eax", 17)
    program.code += b"\xcd\x1f"
    assert condemned(program) == "Bad hypercall 17\n"
