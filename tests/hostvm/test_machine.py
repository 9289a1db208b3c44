"""The whole machine: hello boots, computes and switches itself off, whatever comes from outside and when.

The checksums of hello's programs are what the same programs compute on a real processor (guest/README.md), so they
tell whether Host, Switcher, shadow tables and CPU kept their promises under every interrupt that is thrown in here.
"""

from __future__ import annotations

import itertools
import re
from copy import deepcopy
from random import Random

import pytest

from hostvm.elf_image import parse_elf
from hostvm.errors import ConfigurationError
from hostvm.launcher import GuestConfig
from hostvm.machine import Machine, MachineState
from hostvm.memory_map import SWITCHER_BASE
from hostvm.observations import (
    ConsoleOutput,
    EndReason,
    GuestEnded,
    IrqDelivered,
    IrqRaised,
    StateDigest,
)
from hostvm.units import Tick
from hostvm.world import DEVICE_VECTOR, NMI_VECTOR, TIMER_VECTOR, Completion
from hostvm.x86 import PAGE_SIZE
from tests.hostvm.quiet_world import (
    CRUNCH_OF_1,
    CRUNCH_OF_8,
    END_OF_TIME,
    MIX_OF_1,
    MIX_OF_8,
    QuietWorld,
    hello,
    hello_kernel,
    machine_of,
)

UD2 = b"\x0f\x0b"
HLT_AND_JUMP_BACK = b"\xf4\xeb\xfd"


def boot(*guests: GuestConfig, world: QuietWorld | None = None) -> tuple[Machine, QuietWorld]:
    """Run to the end."""
    machine, world = machine_of(*guests, world=world)
    machine.run(END_OF_TIME)
    assert machine.finished
    return machine, world


def resumed(state: MachineState, world: QuietWorld, *guests: GuestConfig) -> Machine:
    """Another machine that goes on from `state` in `world`."""
    machine, _ = machine_of(*guests, world=world)
    machine.restore(state)
    return machine


def assert_computed_right(world: QuietWorld, guest: int = 0) -> None:
    """hello with loops=1 ran to its end and computed what it should."""
    console = world.console_of(guest)
    assert MIX_OF_1 in console
    assert CRUNCH_OF_1 in console
    end = next(end for end in world.ends if end.guest == guest)
    assert (end.reason, end.text) == (EndReason.POWEROFF, "Power down")


def with_code(code: bytes, offset: int = 0) -> GuestConfig:
    """hello, but with other bytes at (an offset behind) its first instruction."""
    kernel = bytearray(hello_kernel())
    image = parse_elf("hello.elf", hello_kernel())
    whole = next(s for s in image.segments if s.paddr <= image.entry < s.paddr + len(s.data))
    start = kernel.index(whole.data) + image.entry - whole.paddr + offset
    kernel[start : start + len(code)] = code
    return GuestConfig(bytes(kernel), memory=4 << 20, name="broken")


# Booting.


def test_hello_boots_computes_and_switches_itself_off() -> None:
    machine, world = boot(hello())
    *lines, last = world.console.decode().splitlines()
    assert lines[:2] == [
        "hello: in ring 1 under lguest, 4096 KiB of memory",
        'hello: command line is "loops=1"',
    ]
    assert sorted(lines[2:]) == [
        "crunch[1]: round 1 of 1, checksum 72bd5618",
        "hello: crunch is done, status 72bd5618",
        "hello: mix is done, status e17f81b1",
        "mix[2]: round 1 of 1, checksum e17f81b1",
    ]
    assert re.fullmatch(
        r"hello: \d+ ticks in \d+ ms, 6 system calls, 9 page faults, \d+ FPU switches", last
    )
    assert world.ends == [GuestEnded(Tick(machine.tick - 1), 0, EndReason.POWEROFF, "Power down")]


@pytest.mark.parametrize("hz", [1, 1000, 20_000, 100_000])
def test_the_programs_compute_the_same_however_often_they_are_interrupted(hz: int) -> None:
    _, world = boot(hello(f"loops=8 hz={hz}"))
    assert MIX_OF_8 in world.console
    assert CRUNCH_OF_8 in world.console


def test_more_timer_interrupts_a_second_are_more_interrupts() -> None:
    raised = []
    for hz in (100, 1000, 10_000):
        _, world = boot(hello(f"loops=8 hz={hz}"))
        raised.append(sum(isinstance(o, IrqRaised) for o in world.observations))
        assert sum(isinstance(o, IrqDelivered) for o in world.observations) == raised[-1]
    assert 0 < raised[0] < raised[1] < raised[2]


@pytest.mark.parametrize("memory", [4 << 20, (4 << 20) + PAGE_SIZE, 64 << 20, 256 << 20])
def test_hello_sees_the_memory_that_it_was_given(memory: int) -> None:
    _, world = boot(hello(memory=memory))
    assert f"under lguest, {memory >> 10} KiB of memory".encode() in world.console
    assert_computed_right(world)


def test_equal_runs_give_equal_observations_and_digests() -> None:
    (one, first), (other, second) = boot(hello()), boot(hello())
    assert first == second
    assert (one.tick, one.digest(), one.state()) == (other.tick, other.digest(), other.state())
    digests = [o for o in first.observations if isinstance(o, StateDigest)]
    assert [d.tick for d in digests] == [Tick(n << 16) for n in range(1, len(digests) + 1)]
    assert [bool(d.memory) for d in digests] == [n % 2 == 0 for n in range(1, len(digests) + 1)]
    assert len({d.registers for d in digests}) == len(digests)


def test_a_different_command_line_gives_different_digests() -> None:
    machines = [machine_of(hello(line))[0] for line in ("loops=1", "loops=2")]
    assert machines[0].digest() != machines[1].digest()


def test_observations_come_in_the_order_of_their_ticks() -> None:
    _, world = boot(hello("loops=1 hz=5000"))
    ticks = [o.tick for o in world.observations]
    assert ticks == sorted(ticks)


# Moving forward.


def test_run_stops_at_the_tick_that_it_is_given() -> None:
    machine, _ = machine_of(hello())
    r = Random(1)
    for _ in range(300):
        until = Tick(machine.tick + r.choice((1, 2, 3, 50, 700)))
        machine.run(until)
        assert machine.tick == until


def test_running_to_where_it_is_already_changes_nothing() -> None:
    machine, world = machine_of(hello())
    machine.run(Tick(50_000))
    before, known = machine.state(), len(world.observations)
    machine.run(Tick(50_000))
    machine.run(Tick(49_000))
    assert (machine.state(), len(world.observations)) == (before, known)


def test_a_machine_that_has_finished_stays_as_it_is() -> None:
    machine, world = boot(hello())
    before, known = machine.state(), len(world.observations)
    machine.run(END_OF_TIME)
    assert (machine.state(), len(world.observations)) == (before, known)


def test_looking_changes_nothing() -> None:
    def look(machine: Machine) -> None:
        machine.digest()
        machine.state()
        machine.cpu.state()
        machine.cpu.read_linear(machine.cpu.eip, 15)
        machine.cpu.read_linear(0, 4)
        machine.cpu.read_linear(0xFFFFFFF0, 16)
        machine.memory.used_pages()

    machine, world = machine_of(hello("loops=1 hz=10000"))
    watched, watched_world = machine_of(hello("loops=1 hz=10000"))
    r = Random(2)
    while not machine.finished:
        until = Tick(machine.tick + r.randint(1, 12_000))
        machine.run(until)
        watched.run(until)
        look(watched)
        assert watched.register_digest() == machine.register_digest()
    assert (watched.digest(), watched.state()) == (machine.digest(), machine.state())
    assert watched_world == world


# Several Guests.


def test_two_guests_on_one_machine_do_not_disturb_each_other() -> None:
    _, world = boot(hello("loops=1 hz=10000"), hello("loops=2 hz=300", memory=16 << 20))
    assert_computed_right(world, 0)
    _, alone = boot(hello("loops=2 hz=300", memory=16 << 20))
    computed = [
        {line for line in its.console_of(guest).splitlines() if b" ticks in " not in line}
        for its, guest in ((world, 1), (alone, 0))
    ]
    assert computed[0] == computed[1]
    assert {end.guest: end.reason for end in world.ends} == dict.fromkeys(
        (0, 1), EndReason.POWEROFF
    )


def test_while_one_guest_sleeps_the_other_runs() -> None:
    # With loops=4 a program sleeps two ticks at its end: half a second each time.
    _, world = boot(hello("loops=4 hz=2"), hello("loops=4 hz=2"))
    guests = [o.guest for o in world.observations if isinstance(o, ConsoleOutput)]
    changes = sum(a != b for a, b in itertools.pairwise(guests))
    assert changes > 1


def test_a_guest_that_dies_leaves_the_other_one_running() -> None:
    for guests in ((with_code(UD2), hello()), (hello(), with_code(UD2))):
        _, world = boot(*guests)
        number = guests.index(hello())
        assert_computed_right(world, number)
        assert {end.guest: end.reason for end in world.ends}[1 - number] is EndReason.KILLED


# Ends.


def test_a_kernel_that_traps_before_it_has_handlers_is_killed_with_its_address() -> None:
    machine, world = boot(with_code(UD2))
    entry = parse_elf("hello.elf", hello_kernel()).entry
    assert [end.reason for end in world.ends] == [EndReason.KILLED]
    assert world.ends[0].text == f"unhandled trap 6 at {entry:#x} (0x0)"
    again, _ = boot(with_code(UD2))
    assert again.digest() == machine.digest()


def test_a_kernel_that_reads_memory_it_does_not_have_is_killed() -> None:
    read_at_2_gib = b"\xa1\0\0\0\x80"
    _, world = boot(with_code(read_at_2_gib))
    assert [end.reason for end in world.ends] == [EndReason.KILLED]


def test_a_kernel_that_halts_the_processor_itself_ends_in_a_defined_state() -> None:
    machine, world = machine_of(with_code(HLT_AND_JUMP_BACK))
    machine.run(Tick(100_000))
    assert machine.finished
    assert [end.reason for end in world.ends] == [EndReason.KILLED]


def test_an_endless_loop_is_left_at_the_tick_asked_for() -> None:
    machine, world = machine_of(with_code(b"\xeb\xfe"))
    machine.run(Tick(1_000_003))
    assert (machine.tick, machine.finished, world.ends) == (1_000_003, False, [])
    assert machine.cpu.cpl == 1


@pytest.mark.parametrize("seed", range(12))
def test_a_kernel_with_a_wrong_byte_never_hurts_more_than_itself(seed: int) -> None:
    r = Random(seed)
    text = parse_elf("hello.elf", hello_kernel()).segments[0]
    start = hello_kernel().index(text.data)
    outcomes = []
    kernel = bytearray(hello_kernel())
    for _ in range(1 + seed % 3):
        kernel[start + r.randrange(len(text.data))] = r.randrange(256)
    for _ in range(2):
        machine, world = machine_of(GuestConfig(bytes(kernel), "loops=1", 4 << 20, name="odd"))
        machine.run(Tick(500_000))
        assert machine.finished == bool(world.ends) or not world.deadline
        outcomes.append((machine.tick, machine.digest(), world))
    assert outcomes[0] == outcomes[1]


@pytest.mark.parametrize(
    ("guest", "complaint"),
    [
        (hello(memory=1 << 20), "too little"),
        (hello(memory=(4 << 20) + 1), "whole pages"),
        (hello(memory=0), "whole pages"),
        (hello("x" * 5000), "command line"),
        (GuestConfig(b"#!/bin/sh\n", name="run.sh"), "run.sh: neither an ELF file nor a bzImage"),
        (GuestConfig(hello_kernel()[:100], name="cut"), "cut: "),
    ],
)
def test_a_machine_that_cannot_be_built_is_refused_in_one_line(
    guest: GuestConfig, complaint: str
) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(complaint)) as refused:
        machine_of(guest)
    assert "\n" not in str(refused.value)


def test_more_memory_than_there_is_is_refused() -> None:
    with pytest.raises(ConfigurationError):
        machine_of(hello(memory=2 << 30), hello(memory=2 << 30))


# Interrupts of the hardware, from a World that raises them wherever it likes.


def switcher_addresses_passed(machine: Machine, ticks: int) -> set[int]:
    """Addresses in the Switcher where the next ticks begin."""
    passed = set()
    for _ in range(ticks):
        machine.run(Tick(machine.tick + 1))
        if SWITCHER_BASE <= machine.cpu.eip < SWITCHER_BASE + PAGE_SIZE:
            passed.add(machine.cpu.eip)
    return passed


def test_a_non_maskable_interrupt_may_come_at_every_instruction_of_the_switcher() -> None:
    often = "loops=1 hz=100000"
    machine, _ = machine_of(hello(often))
    passed = switcher_addresses_passed(machine, 5000)
    ticks = sorted(Random(1).sample(range(300_000), 20_000))
    world = QuietWorld(lines=[(tick, NMI_VECTOR) for tick in ticks])
    boot(hello(often), world=world)
    assert_computed_right(world)
    hit = {eip for _, vector, eip, _ in world.taken if vector == NMI_VECTOR}
    assert len(passed) > 40
    assert passed <= hit


def test_non_maskable_interrupts_in_a_row_do_not_nest() -> None:
    world = QuietWorld(lines=[(tick, NMI_VECTOR) for tick in range(1000, 3000)])
    boot(hello(), world=world)
    assert_computed_right(world)
    ticks = [tick for tick, vector, _, _ in world.taken if vector == NMI_VECTOR]
    assert len(ticks) == 2000
    assert min(b - a for a, b in itertools.pairwise(ticks)) > 1


@pytest.mark.parametrize("seed", range(4))
def test_interrupts_at_random_moments_change_nothing_that_the_guest_computes(seed: int) -> None:
    r = Random(seed)
    vectors = (NMI_VECTOR, TIMER_VECTOR, DEVICE_VECTOR)
    lines = [(r.randrange(350_000), r.choice(vectors)) for _ in range(1500)]
    _, world = boot(hello("loops=1 hz=3000"), world=QuietWorld(lines=sorted(lines)))
    assert_computed_right(world)
    assert {vector for _, vector, _, _ in world.taken} == set(vectors)


def test_a_timer_that_rings_too_early_is_set_again() -> None:
    """The Guest's own timer interrupts stay as many as its clock says."""
    _, calm = boot(hello("loops=1"))
    world = QuietWorld(lines=[(tick, TIMER_VECTOR) for tick in range(20_000, 340_000, 1111)])
    _, world = boot(hello("loops=1"), world=world)
    raised = [sum(isinstance(o, IrqRaised) for o in its.observations) for its in (calm, world)]
    # More work for the machine takes more ticks, and so more time.
    assert raised[0] <= raised[1] <= raised[0] + 3


def test_a_finished_device_raises_its_interrupt_in_its_guest() -> None:
    world = QuietWorld(lines=[(60_000, DEVICE_VECTOR)])
    world.to_deliver = [Completion(guest=1, device=0, irq=5, data=b"")]
    boot(hello(), hello(), world=world)
    raised = [o for o in world.observations if isinstance(o, IrqRaised) and o.irq == 5]
    assert [o.guest for o in raised] == [1]
    assert world.taken[0][:2] == (60_000, DEVICE_VECTOR)
    assert_computed_right(world, 0)
    assert_computed_right(world, 1)


@pytest.mark.parametrize("vector", [TIMER_VECTOR, NMI_VECTOR])
def test_an_interrupt_is_taken_at_the_first_tick_at_which_the_cpu_accepts_it(vector: int) -> None:
    """Over a whole way from a Guest to the Host and back, most of which runs with interrupts off."""
    _, calm = boot(hello())
    start, stop = calm.host_turns[30] - 70, calm.host_turns[30] + 70
    machine, world = machine_of(hello())
    machine.run(Tick(start))
    accepting, moments = [], []
    for tick in range(start, stop):
        if tick % 4 == 0:
            moments.append((tick, machine.state(), deepcopy(world)))
        if machine.cpu.interruptible(vector):
            accepting.append(tick)
        machine.run(Tick(tick + 1))
    assert world.taken == []
    for tick, state, world_then in moments:
        world_then.lines = [(tick, vector)]
        resumed(state, world_then, hello()).run(Tick(stop + 1))
        by_cpu = min((at for at in accepting if at >= tick), default=stop)
        by_host = min((at for at in world.host_turns if at >= tick), default=stop)
        assert [at for at, *_ in world_then.taken] == [by_cpu] * (by_cpu <= by_host)
        assert world_then.taken_by_host == [(by_host, vector)] * (by_host < by_cpu)


def test_a_taken_interrupt_is_reported_with_the_position_at_which_it_was_taken() -> None:
    machine, world = machine_of(hello())
    machine.run(Tick(100_000))
    world.lines = [(100_000, NMI_VECTOR)]
    eip = machine.cpu.eip
    machine.run(Tick(100_001))
    assert world.taken[-1] == (100_000, NMI_VECTOR, eip, 0)
    assert machine.cpu.cpl == 0
