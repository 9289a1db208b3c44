"""heron under our Host: a kernel for a PC in ring 1, and above all its IRET."""

from __future__ import annotations

import struct
from copy import deepcopy
from random import Random

import pytest

from hostvm.cpuid import cpuid
from hostvm.elf_image import parse_elf
from hostvm.errors import ConfigurationError
from hostvm.hypercalls import do_hypercalls
from hostvm.launcher import GuestConfig
from hostvm.lguest import Lguest
from hostvm.lguest_data import IRQ_ON
from hostvm.machine import Machine, MachineState
from hostvm.memory_map import SWITCHER_BASE, VMI_DATA, VMI_TEXT
from hostvm.observations import EndReason, Hypercall, IrqDelivered, TrapReflected
from hostvm.probes import NO_PROBES, Probes
from hostvm.switcher import shipped_image
from hostvm.units import HostPhysical, Nanoseconds, Tick
from hostvm.vmi_iret import finish_iret, report_at_hook
from hostvm.vmi_pages import VmiPages
from hostvm.vmi_shims import IRET_COPY, IRET_OFFSET, Word, make_shims
from hostvm.vmi_sites import Kind, read_annotations
from hostvm.x86 import PAGE_SIZE
from replay.symbols import Symbols
from tests.hostvm.heron import (
    CONSOLE,
    heron,
    heron_hooks,
    heron_image,
    sites_of,
    with_bytes,
    with_header,
)
from tests.hostvm.lguest_kit import DATA, Bench, kills
from tests.hostvm.quiet_world import (
    END_OF_TIME,
    EPOCH_NS,
    NS_PER_TICK,
    QuietWorld,
    hello,
    machine_of,
)

STACK = 0x6000
USER_CS, USER_DS, KERNEL_CS = 0x73, 0x7B, 0x61
USER_EIP, USER_ESP, USER_FLAGS = 0x08048123, 0xBFFFFF00, 0x246
GP, RDMSR, WRMSR, CPUID = 13, 64, 65, 66
SYMBOLS = {symbol.name: symbol.address for symbol in heron_image().symbols}
FIRST_ENTRY = VMI_TEXT - SWITCHER_BASE >> 12
# Of a run of 3.5 million ticks.
LATE = 3_100_000
MOV_EAX, MOV_EDX = b"\xb8", b"\xba"


def run(kernel: bytes | None = None, line: str = "") -> tuple[Machine, QuietWorld]:
    machine, world = machine_of(heron(line, kernel))
    machine.run(END_OF_TIME)
    return machine, world


def end_of(world: QuietWorld) -> tuple[EndReason, str]:
    (end,) = world.ends
    return end.reason, end.text


def shown_to(guest: Lguest) -> VmiPages:
    assert guest.vmi is not None
    return guest.vmi


def word(value: int) -> bytes:
    return struct.pack("<I", value)


# The whole kernel.


def test_heron_does_in_ring_1_what_it_does_on_a_pc() -> None:
    _, world = run()
    assert world.console == CONSOLE
    assert end_of(world) == (EndReason.POWEROFF, "Power down")


def test_interrupts_come_while_its_programs_and_its_kernel_run() -> None:
    _, world = run()
    ticks = [o for o in world.observations if isinstance(o, IrqDelivered)]
    assert len(ticks) > 20
    places = {eip >> 24 for _, _, eip, _ in world.taken}
    assert {0x08, 0xC0} <= places


def test_heron_runs_the_same_in_pieces_and_in_a_fresh_machine() -> None:
    whole, world = run()
    r = Random(8)
    machine, other = machine_of(heron())
    while not machine.finished:
        machine.run(Tick(machine.tick + r.randint(1, 400_000)))
        match r.randrange(3):
            case 0:
                machine.cpu.flush()
            case 1:
                state = machine.state()
                other = deepcopy(other)
                machine, _ = machine_of(heron(), world=other)
                machine.restore(state)
    assert machine.digest() == whole.digest()
    assert other.observations == world.observations


def test_two_herons_share_a_machine() -> None:
    machine, world = machine_of(heron(), heron())
    machine.run(END_OF_TIME)
    assert [world.console_of(guest) for guest in range(2)] == [CONSOLE, CONSOLE]


def test_only_a_guest_with_hooks_sees_the_pages_of_shims() -> None:
    machine, _ = machine_of(heron())
    (guest,) = machine.guests
    pages = shown_to(guest.lguest).pages
    entries = machine.memory.read(guest.switcher_page_table + 4 * FIRST_ENTRY, 8)
    assert struct.unpack("<II", entries) == (
        pages | 0x21,
        pages + PAGE_SIZE | 0x21,
    )


def test_a_bad_return_is_reported_where_the_kernel_expects_it() -> None:
    """`wild` makes the IRET fault: in the region, but the kernel is told of its own hook."""
    _, world = run()
    (iret,) = sites_of(Kind.IRET)
    faults = [o for o in world.observations if isinstance(o, TrapReflected) and o.vector == GP]
    assert [(o.eip, o.error_code) for o in faults] == [(iret.address, 0x18)]


def test_a_16_bit_stack_is_refused_by_name() -> None:
    _, world = run(line="crash=stack16")
    (iret,) = sites_of(Kind.IRET)
    text = f"VMI: IRET at {iret.address:#x} to a 16-bit stack (segment 0x33) is not supported"
    assert end_of(world) == (EndReason.KILLED, text)


@pytest.mark.parametrize("instruction", [MOV_EAX + word(0x174), MOV_EAX + word(0x176)])
def test_a_register_that_does_not_exist_is_a_fault_that_the_kernel_can_expect(
    instruction: bytes,
) -> None:
    """heron does without `sysenter` then, and says so in one line."""
    image = heron_image().image
    assert image.count(instruction) in (1, 2)
    kernel = image.replace(instruction, MOV_EAX + word(0x999))
    _, world = run(kernel)
    assert b"heron: sysenter leads nowhere\n" in world.console
    assert b"calls: entered by sysenter" not in world.console
    assert world.console.endswith(b"heron: all programs have ended\n")
    kinds = {Kind.RDMSR, Kind.WRMSR}
    sites = {site.address for kind in kinds for site in sites_of(kind)}
    faults = [o for o in world.observations if isinstance(o, TrapReflected) and o.vector == GP]
    assert faults[0].eip in sites


def test_sysenter_without_a_segment_for_it_is_a_fault_of_the_program() -> None:
    _, world = run(with_bytes(MOV_EDX + word(0x60), MOV_EDX + word(0)))
    assert b"heron: calls is killed: trap 0000000d\n" in world.console


def test_a_shared_page_at_another_place_than_the_hooks_think_kills() -> None:
    data, other = heron_hooks().shared_physical, heron_hooks().shared_data + 8
    _, world = run(with_header(shared=other).image)
    assert end_of(world) == (
        EndReason.KILLED,
        f"VMI: lguest_data is at {data:#x}, but at {data + 8:#x} for the hooks",
    )


def test_hooks_are_for_elf_files() -> None:
    with pytest.raises(
        ConfigurationError, match=r"heron: hooks for VMI are found in ELF files only"
    ):
        machine_of(heron(kernel=_bzimage()))


def _bzimage() -> bytes:
    image = bytearray(2048)
    image[0x202:0x206] = b"HdrS"
    image[0x214:0x218] = word(0x100000)
    return bytes(image)


def test_what_stands_for_a_hook_has_a_name() -> None:
    machine, _ = machine_of(heron(), hello())
    symbols = Symbols(machine)
    (iret,) = sites_of(Kind.IRET)
    name = f"vmi_iret_{iret.address:x}"
    region = shown_to(machine.guests[0].lguest).shims.region[0]
    at = symbols.address_of(name)
    assert at is not None
    places = {at, at + IRET_OFFSET}
    assert {str(symbols.name_of(place, in_guest=True)) for place in places} <= {
        name,
        f"{name}+{IRET_OFFSET:#x}",
    }
    assert region <= min(places) < region + 2 * IRET_COPY
    assert symbols.name_of(region, in_guest=True, guest=1) is None


def test_a_guest_of_the_first_lguest_is_no_hindrance() -> None:
    machine, world = machine_of(heron(), kestrel_2_6_23())
    machine.run(END_OF_TIME)
    assert world.console_of(0) == CONSOLE
    assert {end.reason for end in world.ends} == {EndReason.POWEROFF}


def kestrel_2_6_23() -> GuestConfig:
    kernel = shipped_image("kestrel-2.6.23.elf").image
    return GuestConfig(kernel, "init=crunch quiet -- 1", 8 << 20, abi="2.6.23", name="kestrel")


# An interrupt at every place of the way out.


def before(machine: Machine, address: int) -> MachineState:
    """Somewhere near the end, just before the kernel is at `address` on its way to a program."""
    machine.run(Tick(LATE if address == VMI_TEXT else 0))

    def returns_to_a_program(_address: int) -> bool:
        esp = machine.cpu.env.regs[4]
        return bool(machine.cpu.read_linear(esp + 4, 4) == word(USER_CS))

    machine.cpu.set_probes(Probes(code=((address, address),), on_code=returns_to_a_program))
    machine.run(END_OF_TIME)
    machine.cpu.set_probes(NO_PROBES)
    assert machine.paused
    return machine.state()


def interrupted(state: MachineState, world: QuietWorld, offset: int) -> tuple[Machine, QuietWorld]:
    """The same run, with a timer interrupt `offset` ticks behind `state`."""
    again, its = machine_of(heron(), world=deepcopy(world))
    again.restore(state)
    at = state.tick + offset
    deadline = Nanoseconds(EPOCH_NS + its.skipped + at * NS_PER_TICK)
    again.guests[0].lguest.timer = its.deadline = deadline
    again.enter(its)
    its.taken.clear()
    again.run(Tick(at + 3_000))
    return again, its


def frame_of_first_delivery(world: QuietWorld, since: int) -> int:
    """Ticks between an interrupt taken and its delivery to the Guest."""
    delivered = next(
        o for o in world.observations if isinstance(o, IrqDelivered) and o.tick >= since
    )
    return delivered.tick - since


def test_an_interrupt_anywhere_in_the_region_finds_the_program_that_is_returned_to() -> None:
    machine, world = machine_of(heron())
    state = before(machine, VMI_TEXT)
    places = set()
    for offset in range(16):
        again, its = interrupted(state, world, offset)
        tick, _, taken, _ = its.taken[0]
        if not VMI_TEXT <= taken < VMI_TEXT + IRET_COPY:
            continue
        places.add(taken - VMI_TEXT)
        assert frame_of_first_delivery(its, tick) < 100, offset
        again.run(END_OF_TIME)
        assert its.console == CONSOLE, offset
    assert {0, 1, 43, 49, IRET_OFFSET} <= places


def test_an_interrupt_around_sysexit_finds_the_program_or_comes_before_the_hook() -> None:
    """Interrupts are off from the kernel's last look, through the shim, until the program runs."""
    machine, world = machine_of(heron())
    (site,) = sites_of(Kind.STI_SYSEXIT)
    copies = shown_to(machine.guests[0].lguest).shims
    copy = VMI_TEXT + IRET_COPY * copies.iret_sites.index(site)
    state = before(machine, copy)
    frame = machine.cpu.read_linear(machine.cpu.env.regs[4], 20)
    eip, cs, eflags, _, ss = struct.unpack("<5I", frame)
    assert (eip, cs, ss) == (SYMBOLS["sysenter_return"], USER_CS, USER_DS)
    assert eflags & IRQ_ON
    for offset in range(0, 16, 3):
        _, its = interrupted(state, world, offset)
        tick = its.taken[0][0]
        assert frame_of_first_delivery(its, tick) < 100, offset
        assert not [end for end in its.ends if end.reason is not EndReason.POWEROFF]


# The region by itself.


def in_region(offset: int, *frame: int, copy: int = 0) -> Bench:
    """A Guest at `offset` of a copy in the region, with %eax pushed or not as the code there has it."""
    bench = Bench("vmi")
    guest = bench.guest
    bench.tables.linear = True
    guest.data.address = DATA
    guest.gdt[0x60 >> 3] = 0xFFFF, 0xCFBB00
    guest.gdt[USER_CS >> 3] = 0xFFFF, 0xCFFB00
    guest.gdt[USER_DS >> 3] = 0xFFFF, 0xCFF300
    shims = make_shims("heron", heron_hooks(), guest.abi.data)
    guest.vmi = VmiPages(shims, bench.physical, HostPhysical(62 << 20))
    guest.noirq_start, guest.noirq_end = shims.region
    pushed = offset not in (0, IRET_OFFSET)
    words = (0x1111, *frame) if pushed else frame
    for at, value in enumerate(words):
        bench.guest.memory.write_u32(STACK + 4 * at, value)
    bench.regs.eip = VMI_TEXT + copy * IRET_COPY + offset
    bench.regs.esp, bench.regs.eax = STACK, 0x2222 if pushed else 0x1111
    bench.guest.data.put(guest.data.layout.irq_enabled, 0)
    return bench


OFFSETS = (0, 1, 8, 22, 43, 49, IRET_OFFSET, 51, 69)
TO_PROGRAM = (USER_EIP, USER_CS, USER_FLAGS, USER_ESP, USER_DS)


@pytest.mark.parametrize("offset", OFFSETS)
def test_the_host_finishes_an_iret_to_a_program_from_anywhere(offset: int) -> None:
    bench = in_region(offset, *TO_PROGRAM)
    assert finish_iret(bench.guest)
    regs = bench.regs
    assert (regs.eip, regs.cs, regs.esp, regs.ss) == (USER_EIP, USER_CS, USER_ESP, USER_DS)
    assert regs.eax == 0x1111
    assert regs.eflags == USER_FLAGS
    assert bench.guest.data.get(0) == IRQ_ON


@pytest.mark.parametrize("offset", OFFSETS)
def test_the_host_finishes_an_iret_to_the_kernel_from_anywhere(offset: int) -> None:
    bench = in_region(offset, 0xC0100123, KERNEL_CS, 0x46)
    assert finish_iret(bench.guest)
    pushed = 4 * (offset not in (0, IRET_OFFSET))
    assert (bench.regs.eip, bench.regs.cs) == (0xC0100123, KERNEL_CS)
    assert bench.regs.esp == STACK + pushed + 12
    assert bench.regs.eflags == 0x246
    assert bench.guest.data.get(0) == 0


@pytest.mark.parametrize(
    "frame",
    [
        (USER_EIP, 0, USER_FLAGS, USER_ESP, USER_DS),
        (USER_EIP, 0x70, USER_FLAGS, USER_ESP, USER_DS),
        (USER_EIP, USER_DS, USER_FLAGS, USER_ESP, USER_DS),
        (USER_EIP, 0x77, USER_FLAGS, USER_ESP, USER_DS),
        (USER_EIP, USER_CS, USER_FLAGS, USER_ESP, 0),
        (USER_EIP, USER_CS, USER_FLAGS, USER_ESP, USER_CS),
        (USER_EIP, USER_CS, USER_FLAGS, USER_ESP, 0x1B),
        (USER_EIP, USER_CS, USER_FLAGS, USER_ESP, 0xFFFB),
        (USER_EIP, USER_CS, USER_FLAGS, USER_ESP, 0x33),
    ],
)
def test_the_host_leaves_an_iret_that_would_fault_to_the_guest(frame: tuple[int, ...]) -> None:
    bench = in_region(IRET_OFFSET, *frame)
    bench.guest.gdt[6] = 0xFFFF, 0x8FF300
    before = deepcopy(bench.regs)
    assert not finish_iret(bench.guest)
    assert bench.regs == before
    assert bench.guest.data.get(0) == 0


@pytest.mark.parametrize("offset", OFFSETS)
def test_a_fault_in_the_region_is_reported_as_if_nothing_had_been_done(offset: int) -> None:
    bench = in_region(offset, *TO_PROGRAM)
    bench.guest.data.put(0, IRQ_ON)
    report_at_hook(bench.guest)
    site = shown_to(bench.guest).shims.iret_sites[0]
    pushed = 4 * (offset not in (0, IRET_OFFSET))
    assert (bench.regs.eip, bench.regs.eax) == (site.address, 0x1111)
    assert bench.regs.esp == STACK + pushed
    assert bench.guest.data.get(0) == 0


def test_the_frame_that_stands_for_sysexit_is_taken_back_too() -> None:
    sites = shown_to(in_region(0).guest).shims.iret_sites
    copy = next(at for at, site in enumerate(sites) if site.kind is Kind.STI_SYSEXIT)
    bench = in_region(IRET_OFFSET, *TO_PROGRAM, copy=copy)
    report_at_hook(bench.guest)
    assert bench.regs.esp == STACK + 20
    assert bench.regs.eip == sites[copy].address


def test_a_fault_elsewhere_is_left_where_it_is() -> None:
    bench = in_region(0)
    bench.regs.eip = 0xC0100000
    report_at_hook(bench.guest)
    assert bench.regs.eip == 0xC0100000


def test_what_shims_ask_for_must_come_from_shims() -> None:
    bench = in_region(0)
    bench.regs.eip, bench.regs.eax, bench.regs.ecx = 0xC0100000, RDMSR, 0x10
    bench.guest.hcall = True
    with kills("VMI: a shim's hypercall before 0xc0100000, where no shim is"):
        do_hypercalls(bench.guest)


def test_the_registers_of_sysenter_keep_what_they_are_given() -> None:
    bench = in_region(0)
    vmi = shown_to(bench.guest)
    bench.guest.memory.write_u32(STACK, 0xB0B0)
    for number, value, held in (
        (0x174, 0x63, Word.SYSENTER_CS),
        (0x175, 0xC0123000, Word.SYSENTER_ESP),
        (0x176, 0xC0100500, Word.SYSENTER_EIP),
    ):
        bench.regs.eax, bench.regs.ebx, bench.regs.ecx = WRMSR, value, number
        bench.guest.hcall = True
        do_hypercalls(bench.guest)
        assert vmi[held] == value
        bench.regs.eax, bench.regs.ecx, bench.regs.edx = RDMSR, number, 7
        bench.guest.hcall = True
        do_hypercalls(bench.guest)
        assert (bench.regs.eax, bench.regs.edx) == (value, 0)
    assert (vmi[Word.SYSEXIT_CS], vmi[Word.SYSEXIT_SS]) == (0x73, 0x7B)


def test_cpuid_has_what_the_host_adds_and_nothing_else() -> None:
    for leaf in (0, 1, 2, 0x80000002):
        bench = in_region(0)
        bench.regs.eax, bench.regs.ebx = CPUID, leaf
        bench.guest.hcall = True
        do_hypercalls(bench.guest)
        answer = cpuid(leaf)
        extra = 0x820 if leaf == 1 else 0
        regs = bench.regs
        assert (regs.eax, regs.ebx, regs.ecx) == answer[:3]
        assert regs.edx == answer.edx | extra


def test_cr0_shows_task_switched_as_the_kernel_has_it() -> None:
    machine, world = machine_of(heron())
    machine.run(END_OF_TIME)
    assert any(isinstance(o, Hypercall) and o.number == 8 and o.args[0] for o in world.observations)
    vmi = shown_to(machine.guests[0].lguest)
    for on in (True, False):
        vmi.show_cr0(task_switched=on)
        assert vmi[Word.CR0] == 0x80010033 | 8 * on
    assert VMI_DATA == VMI_TEXT + PAGE_SIZE


# The bug.


def test_a_kernel_that_leaves_by_a_raw_iret_loses_a_reschedule() -> None:
    machine, world = machine_of(heron(name="heron-raw-iret.elf"))
    machine.run(END_OF_TIME)
    reason, text = end_of(world)
    assert reason is EndReason.CRASHED
    assert text.endswith("while another program was due")
    assert b"while another program was due\n" in world.console


def test_the_kernel_with_the_bug_has_one_hook_less_for_iret_and_one_more_for_sti() -> None:
    raw = parse_elf("raw", heron_image("heron-raw-iret.elf").image)
    kinds = [site.kind for site in read_annotations(raw).sites]
    assert Kind.IRET not in kinds
    assert kinds.count(Kind.STI) == len(sites_of(Kind.STI)) + 1
