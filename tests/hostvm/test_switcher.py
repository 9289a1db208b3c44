"""The Switcher, decoded byte by byte and then executed; and the world that the Host lives in."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import capstone
import pytest

from hostvm.cpu import Cpu, Exit, ExitKind
from hostvm.cpu_state import EAX, EBX, ESP, SS
from hostvm.errors import ConfigurationError
from hostvm.host_tables import KERNEL_CS, KERNEL_DS, HostWorld, build_host_world
from hostvm.lguest_regs import REGS_ORDER, TRAP_IN_SWITCHER, LguestRegs
from hostvm.machine_state import power_on
from hostvm.memory import PhysicalMemory
from hostvm.memory_map import (
    CPU_PAGES,
    GUEST_AREA,
    GUEST_SWITCHER_PAGE_TABLES,
    HOST_AREA,
    HOST_AREA_SIZE,
    HOST_BASE,
    HOST_PGDIR,
    LGUEST_PAGES,
    LGUEST_STATE,
    MAX_GUESTS,
    SHADOW_POOL,
    SHADOW_POOL_SIZE,
    SWITCHER_BASE,
    SWITCHER_TEXT,
    guest_bases,
    guest_regs_page,
    guest_shadow_pool,
    guest_slice_size,
    guest_switcher_page_table,
)
from hostvm.switcher import (
    IDT_ENTRIES,
    LGUEST_CS,
    PAGES,
    SWITCHER,
    TSS_SIZE,
    Changed,
    Switcher,
    copy_in_guest_info,
    default_idt_entry,
    load_switcher,
    map_switcher,
    shipped_image,
    switcher_pte_page,
)
from hostvm.units import HostPhysical
from hostvm.x86 import (
    PAGE_SIZE,
    VECTORS_WITH_ERROR_CODE,
    Eflags,
    GateType,
    Pte,
    descriptor_base,
    descriptor_limit,
    gate_dpl,
    gate_offset,
    gate_present,
    gate_selector,
    gate_type,
)

RETURNING = {*range(32), 128} - {2}
NMI = 2


def host_memory() -> PhysicalMemory:
    return PhysicalMemory(HOST_AREA, HOST_AREA_SIZE + (4 << 20))


def instructions(data: bytes, address: int) -> list[tuple[str, str]]:
    decoder = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_32)
    return [(i.mnemonic, i.op_str) for i in decoder.disasm(data, address)]


def switcher_code(address: int, count: int) -> list[tuple[str, str]]:
    start = address - SWITCHER_BASE
    text = load_switcher(shipped_image("switcher.elf")).text
    return instructions(text[start : start + 8 * count], address)[:count]


# ---- the image ----------------------------------------------------------------------------------


def test_the_assembly_and_python_agree_on_the_layout_of_lguest_pages() -> None:
    image = shipped_image("switcher.elf")
    for name in PAGES.__slots__:
        assert image.address_of(f"lguest_pages_{name}") == getattr(PAGES, name), name


def test_entering_a_guest_pops_the_registers_in_the_order_python_believes() -> None:
    image = shipped_image("switcher.elf")
    code = switcher_code(image.address_of("switch_to_guest"), 40)
    pops = [operand for mnemonic, operand in code if mnemonic == "pop"]
    assert tuple(pops) == REGS_ORDER[: REGS_ORDER.index("trapnum")]
    end = code.index(("iretd", ""))
    assert code[end - 1] == ("add", "esp, 8")


def test_leaving_a_guest_pushes_them_in_reverse() -> None:
    image = shipped_image("switcher.elf")
    code = switcher_code(image.address_of("return_to_host"), 11)
    assert [mnemonic for mnemonic, _ in code] == ["push"] * 11
    assert tuple(operand for _, operand in reversed(code)) == REGS_ORDER[:11]


@pytest.mark.parametrize("vector", range(IDT_ENTRIES))
def test_each_entry_point_completes_the_frame_and_goes_to_the_right_place(vector: int) -> None:
    image = shipped_image("switcher.elf")
    entry = load_switcher(image).default_idt_entries[vector]
    code = switcher_code(entry, 3)
    if vector not in VECTORS_WITH_ERROR_CODE:
        assert code.pop(0) == ("push", "0")
    assert code[0] == ("push", f"{vector:#x}" if vector > 9 else str(vector))
    name = "return_to_host" if vector in RETURNING else "deliver_to_host"
    target = image.address_of("ignore_nmi" if vector == NMI else name)
    assert code[1] == ("jmp", f"{target:#x}")


def test_the_switcher_can_be_relocated_and_its_text_does_not_change() -> None:
    image = shipped_image("switcher.elf")
    here, there = load_switcher(image), load_switcher(image, replace(SWITCHER, base=0xFFE00000))
    moved = tuple(entry + 0x200000 for entry in here.default_idt_entries)
    assert there.default_idt_entries == moved
    assert there.switch_to_guest == here.switch_to_guest + 0x200000
    assert there.text == here.text


# ---- tables -------------------------------------------------------------------------------------


def descriptor(memory: PhysicalMemory, table: int, index: int) -> tuple[int, int]:
    return memory.read_u32(table + 8 * index), memory.read_u32(table + 8 * index + 4)


def table_register(memory: PhysicalMemory, offset: int) -> tuple[int, int]:
    limit, address = struct.unpack("<HI", memory.read(CPU_PAGES + offset, 6))
    return address, limit


def test_default_gates_lead_through_the_switcher_and_only_hypercalls_from_ring_1() -> None:
    memory = host_memory()
    switcher = build_host_world(memory).switcher
    for vector, handler in enumerate(switcher.default_idt_entries):
        lo, hi = descriptor(memory, CPU_PAGES + PAGES.guest_idt, vector)
        assert gate_offset(lo, hi) == handler
        assert gate_selector(lo) == LGUEST_CS
        assert gate_present(hi)
        assert gate_type(hi) == GateType.INTERRUPT
        assert gate_dpl(hi) == (1 if vector == 31 else 0)


def test_a_default_gate_keeps_the_privilege_level_that_the_guest_wanted() -> None:
    assert gate_dpl(default_idt_entry(3, 0x1000, (0, 3 << 13))[1]) == 3
    assert gate_dpl(default_idt_entry(31, 0x1000, (0, 3 << 13))[1]) == 1


def test_the_state_page_describes_itself_and_the_hosts_tables() -> None:
    memory = host_memory()
    start = build_host_world(memory).start
    guest_idt, guest_gdt = LGUEST_PAGES + PAGES.guest_idt, LGUEST_PAGES + PAGES.guest_gdt
    assert table_register(memory, PAGES.guest_idt_desc) == (guest_idt, 2047)
    assert table_register(memory, PAGES.guest_gdt_desc) == (guest_gdt, 255)
    gdt, idt = start.tables[2], start.tables[3]
    assert table_register(memory, PAGES.host_gdt_desc) == (gdt.base, gdt.limit)
    assert table_register(memory, PAGES.host_idt_desc) == (idt.base, idt.limit)


def test_the_guests_tss_sends_traps_to_the_regs_page_and_allows_no_port() -> None:
    memory = host_memory()
    build_host_world(memory)
    tss = memory.read(CPU_PAGES + PAGES.guest_tss, TSS_SIZE)
    assert struct.unpack_from("<II", tss, 4) == (LGUEST_STATE, 0x58)
    assert struct.unpack_from("<H", tss, 102) == (TSS_SIZE,)
    lo, hi = descriptor(memory, CPU_PAGES + PAGES.guest_gdt, 16)
    assert descriptor_base(lo, hi) == LGUEST_PAGES + PAGES.guest_tss
    assert descriptor_limit(lo, hi) == TSS_SIZE - 1


def test_a_guest_can_write_its_regs_page_and_nothing_else_of_the_switcher() -> None:
    entries = struct.unpack("<1024I", switcher_pte_page(guest_regs_page(5)))
    text, regs, state = entries[:3]
    assert not any(entries[3:])
    assert regs & ~0xFFF == guest_regs_page(5)
    assert [bool(entry & Pte.RW) for entry in (text, regs, state)] == [False, True, False]
    assert not any(entry & Pte.US for entry in (text, regs, state))
    assert all(entry & Pte.A for entry in (text, regs, state))
    assert regs & Pte.D


def test_nothing_of_the_hosts_world_is_for_the_user_and_the_cpu_need_not_write_its_tables() -> None:
    memory = host_memory()
    build_host_world(memory)
    directory = [memory.read_u32(HOST_PGDIR + 4 * i) for i in range(1024)]
    assert [i for i, entry in enumerate(directory) if entry] == [HOST_BASE >> 22, 1023]
    for table in filter(None, directory):
        pages = struct.unpack("<1024I", memory.read(table & ~0xFFF, PAGE_SIZE))
        for entry in filter(None, pages):
            assert not entry & Pte.US
            assert entry & Pte.A
            assert entry & Pte.D or not entry & Pte.RW


def test_guests_lie_one_after_the_other_behind_the_host_area() -> None:
    mems = [16 << 20, 64 << 20, 1 << 20]
    bases = guest_bases(mems)
    assert bases[0] == GUEST_AREA
    assert bases[1] == bases[0] + (20 << 20)
    assert bases[2] == bases[1] + guest_slice_size(64 << 20)


def test_too_many_or_too_large_guests_are_the_users_mistake() -> None:
    with pytest.raises(ConfigurationError, match="17 Guests"):
        guest_bases([1 << 20] * 17)
    with pytest.raises(ConfigurationError, match="MiB"):
        guest_bases([2 << 30, 2 << 30])


def test_shadow_pools_do_not_overlap_and_end_within_the_host_area() -> None:
    ends = [base + pages * PAGE_SIZE for base, pages in map(guest_shadow_pool, range(MAX_GUESTS))]
    starts = [base for base, _ in map(guest_shadow_pool, range(MAX_GUESTS))]
    assert starts == [SHADOW_POOL, *ends[:-1]]
    assert ends[-1] <= SHADOW_POOL + SHADOW_POOL_SIZE


# ---- registers in memory ------------------------------------------------------------------------

OLD_ORDER = (
    *("ebx", "ecx", "edx", "esi", "edi", "ebp", "gs", "eax", "fs", "ds", "es"),
    *REGS_ORDER[11:],
)


@pytest.mark.parametrize("order", [REGS_ORDER, OLD_ORDER])
def test_registers_lie_at_the_end_of_their_page_in_the_given_order(order: tuple[str, ...]) -> None:
    memory = host_memory()
    regs = LguestRegs(memory, guest_regs_page(0), order)
    for number, name in enumerate(order):
        setattr(regs, name, 0x1000 + number)
    assert regs.pack() == struct.pack("<18I", *range(0x1000, 0x1012))
    assert memory.read(guest_regs_page(0) + PAGE_SIZE - 72, 72) == regs.pack()
    assert regs.eax == 0x1000 + order.index("eax")


def test_a_register_keeps_32_bits() -> None:
    regs = LguestRegs(host_memory(), guest_regs_page(0))
    regs.esp = -4
    assert regs.esp == 0xFFFFFFFC


# ---- before each entry --------------------------------------------------------------------------


@dataclass
class FakeGuest:
    shadow_root: HostPhysical
    esp1: int = 0xC0100000
    ss1: int = 0x69
    changed: int = 0
    switcher_page_table: HostPhysical = GUEST_SWITCHER_PAGE_TABLES
    copied: list[str] = field(default_factory=list)

    def copy_traps(self, idt: HostPhysical, default_idt_entries: Sequence[int]) -> None:
        assert idt == CPU_PAGES + PAGES.guest_idt
        assert len(default_idt_entries) == IDT_ENTRIES
        self.copied.append("traps")

    def copy_gdt(self, gdt: HostPhysical) -> None:
        assert gdt == CPU_PAGES + PAGES.guest_gdt
        self.copied.append("gdt")

    def copy_gdt_tls(self, gdt: HostPhysical) -> None:
        assert gdt == CPU_PAGES + PAGES.guest_gdt
        self.copied.append("tls")


@pytest.mark.parametrize(
    ("changed", "ran_last", "copied"),
    [
        (0, True, []),
        (Changed.IDT, True, ["traps"]),
        (Changed.GDT, True, ["gdt"]),
        (Changed.GDT_TLS, True, ["tls"]),
        (Changed.GDT | Changed.GDT_TLS, True, ["gdt"]),
        (Changed.ALL, True, ["traps", "gdt"]),
        (0, False, ["traps", "gdt"]),
    ],
)
def test_only_what_changed_is_copied_unless_another_guest_ran(
    changed: int, ran_last: bool, copied: list[str]
) -> None:
    memory = host_memory()
    switcher = build_host_world(memory).switcher
    guest = FakeGuest(SHADOW_POOL, changed=changed)
    copy_in_guest_info(memory, guest, switcher, ran_last=ran_last)
    assert guest.copied == copied
    assert guest.changed == 0


def test_every_entry_sets_the_stack_for_direct_traps_and_shows_the_switcher() -> None:
    memory = host_memory()
    switcher = build_host_world(memory).switcher
    guest = FakeGuest(SHADOW_POOL, esp1=0xC0123000, ss1=0x69)
    copy_in_guest_info(memory, guest, switcher, ran_last=True)
    tss = memory.read(CPU_PAGES + PAGES.guest_tss, TSS_SIZE)
    assert struct.unpack_from("<II", tss, 12) == (0xC0123000, 0x69)
    assert memory.read_u32(CPU_PAGES + PAGES.host_cr3) == HOST_PGDIR
    entry = memory.read_u32(SHADOW_POOL + 4 * 1023)
    assert entry & ~0xFFF == guest_switcher_page_table(0)
    assert entry & Pte.P


# ---- the switch itself, executed ----------------------------------------------------------------

GUEST_TEXT = HostPhysical(GUEST_AREA)
GUEST_EIP = 0x1000
VALUES = {
    "eax": 0x11111111,
    "ebx": 0x22222222,
    "ecx": 0x33333333,
    "edx": 0x44444444,
    "esi": 0x55555555,
    "edi": 0x66666666,
    "ebp": 0x77777777,
    "esp": 0x1F00,
    "ds": 0x69,
    "es": 0x69,
    "fs": 0,
    "gs": 0,
    "cs": 0x61,
    "ss": 0x69,
}


@dataclass
class World:
    """A machine with one Guest that has one page of text at GUEST_EIP and nothing else."""

    memory: PhysicalMemory
    cpu: Cpu
    host: HostWorld
    regs: LguestRegs

    def enter(self) -> None:
        self.regs.trapnum = TRAP_IN_SWITCHER
        self.cpu.call_host(self.host.host_turn_done, eax=LGUEST_PAGES, ebx=SHADOW_POOL)

    def run(self, budget: int = 1000) -> Exit:
        return self.cpu.run(budget)


def world(text: bytes) -> World:
    memory = host_memory()
    host = build_host_world(memory)
    memory.write(GUEST_TEXT, text)
    table = HostPhysical(SHADOW_POOL + PAGE_SIZE)
    memory.write_u32(SHADOW_POOL, table | 0x67)
    memory.write_u32(table + 4 * (GUEST_EIP >> 12), GUEST_TEXT | 0x67)
    memory.write(guest_switcher_page_table(0), switcher_pte_page(guest_regs_page(0)))
    map_switcher(memory, SHADOW_POOL, guest_switcher_page_table(0))
    memory.write_u32(CPU_PAGES + PAGES.host_cr3, HOST_PGDIR)
    ring_1_code, ring_1_data = (0xFFFF, 0x00CFBB00), (0xFFFF, 0x00CFB300)
    memory.write(CPU_PAGES + PAGES.guest_gdt + 8 * 12, struct.pack("<II", *ring_1_code))
    memory.write(CPU_PAGES + PAGES.guest_gdt + 8 * 13, struct.pack("<II", *ring_1_data))
    regs = LguestRegs(memory, guest_regs_page(0))
    regs.initialize(GUEST_EIP)
    for name, value in VALUES.items():
        setattr(regs, name, value)
    cpu = Cpu(memory)
    cpu.restore(power_on(host.start))
    made = World(memory, cpu, host, regs)
    assert made.run() == Exit(1, ExitKind.HALT)
    made.enter()
    return made


def test_a_hypercall_goes_all_the_way_round_and_every_register_survives() -> None:
    machine = world(b"\xcd\x1f\xcd\x1f")
    for number in (1, 2):
        assert machine.run().kind is ExitKind.HALT
        assert machine.regs.trapnum == 31
        assert machine.regs.eip == GUEST_EIP + 2 * number
        assert {name: getattr(machine.regs, name) for name in VALUES} == VALUES
        state = machine.cpu.state()
        assert state.cpl == 0
        assert state.regs[ESP] == machine.host.start.esp
        assert state.cr[2] == HOST_PGDIR
        assert state.tables[2] == machine.host.start.tables[2]
        machine.enter()


def test_the_guest_runs_in_ring_1_on_its_own_tables_with_its_registers() -> None:
    machine = world(b"\xeb\xfe")
    machine.run(40)
    state = machine.cpu.state()
    assert state.cpl == 1
    assert state.eip == GUEST_EIP
    assert state.cr[2] == SHADOW_POOL
    assert state.regs[EAX] == VALUES["eax"]
    assert state.regs[EBX] == VALUES["ebx"]
    assert state.tables[3].base == LGUEST_PAGES + PAGES.guest_idt


def test_a_fault_brings_its_error_code_to_the_host() -> None:
    machine = world(b"\xa1\x00\x50\x00\x00")
    assert machine.run().kind is ExitKind.HALT
    assert machine.regs.trapnum == 14
    assert machine.regs.errcode == 0
    assert machine.regs.eip == GUEST_EIP
    assert machine.cpu.state().cr[1] == 0x5000


def test_a_bad_selector_is_told_from_a_trap_of_the_guest_by_the_number_left_in_trapnum() -> None:
    machine = world(b"\xeb\xfe")
    machine.regs.ds = 0xF9
    assert machine.run().kind is ExitKind.HALT
    assert machine.regs.trapnum == TRAP_IN_SWITCHER
    assert machine.cpu.state().regs[ESP] == machine.host.start.esp


def test_a_hardware_interrupt_runs_the_hosts_handler_and_then_the_hosts_loop() -> None:
    machine = world(b"\xeb\xfe")
    machine.run(40)
    machine.cpu.take_interrupt(0x20)
    handler = shipped_image("host.elf").address_of("host_interrupt_handlers") + 4 * 0x20
    for _ in range(100):
        machine.run(1)
        if machine.cpu.eip == handler:
            break
    assert machine.cpu.eip == handler
    assert machine.run().kind is ExitKind.HALT
    assert machine.regs.trapnum == 0x20
    assert machine.cpu.state().regs[ESP] == machine.host.start.esp
    assert not machine.cpu.state().eflags & Eflags.IF


def test_a_non_maskable_interrupt_returns_to_the_guest_at_once() -> None:
    machine = world(b"\xeb\xfe")
    machine.run(40)
    before = machine.cpu.state()
    machine.cpu.take_interrupt(NMI)
    machine.run(5)
    after = machine.cpu.state()
    assert (after.eip, after.cpl, after.regs) == (before.eip, before.cpl, before.regs)


def test_a_non_maskable_interrupt_anywhere_on_the_way_in_or_out_does_no_harm() -> None:
    there_and_back = world(b"\xcd\x1f").run().steps
    assert there_and_back > 60
    for steps in range(1, there_and_back):
        machine = world(b"\xcd\x1f")
        machine.run(steps)
        machine.cpu.take_interrupt(NMI)
        assert machine.run().kind is ExitKind.HALT, steps
        assert machine.regs.trapnum == 31
        assert {name: getattr(machine.regs, name) for name in VALUES} == VALUES
        assert machine.cpu.state().regs[ESP] == machine.host.start.esp


def test_the_guest_kernel_cannot_write_the_state_page() -> None:
    machine = world(b"\xa3" + struct.pack("<I", LGUEST_STATE))
    assert machine.run().kind is ExitKind.HALT
    assert machine.regs.trapnum == 14
    assert machine.regs.errcode == 3


# ---- the Host's world ---------------------------------------------------------------------------


def test_the_cpu_starts_on_the_hlt_of_the_hosts_loop() -> None:
    memory = host_memory()
    host = build_host_world(memory)
    start = host.start
    code = instructions(memory.read(start.eip - HOST_BASE + HOST_AREA, 16), start.eip)
    assert [mnemonic[-4:] for mnemonic, _ in code[:3]] == ["hlt", "shfd", "call"]
    assert host.host_turn_done == start.eip + 1
    assert code[3] == ("jmp", f"{start.eip:#x}")
    selectors = [segment.selector for segment in start.segs]
    assert selectors[1:3] == [KERNEL_CS, KERNEL_DS]
    assert start.tables[1].selector == 0x80


def test_the_loop_calls_the_switcher_through_the_shared_segment() -> None:
    memory = host_memory()
    host = build_host_world(memory)
    entry = shipped_image("host.elf").address_of("lguest_entry") - HOST_BASE + HOST_AREA
    assert struct.unpack("<IH", memory.read(entry, 6)) == (host.switcher.switch_to_guest, LGUEST_CS)
    assert host.switcher.switch_to_guest == SWITCHER_BASE
    assert memory.read(SWITCHER_TEXT, 2) == host.switcher.text[:2]


def test_every_handler_of_the_host_only_returns() -> None:
    memory = host_memory()
    idt = build_host_world(memory).start.tables[3]
    for vector in range(IDT_ENTRIES):
        lo, hi = descriptor(memory, idt.base - HOST_BASE + HOST_AREA, vector)
        handler = gate_offset(lo, hi) - HOST_BASE + HOST_AREA
        assert memory.read(handler, 1) == b"\xcf"
        assert gate_selector(lo) == KERNEL_CS


def test_the_host_goes_on_with_the_switchers_stack_segment_which_is_as_flat() -> None:
    machine = world(b"\xcd\x1f")
    machine.run()
    segment = machine.cpu.state().segs[SS]
    assert segment.selector == 0x58
    assert (segment.base, segment.limit) == (0, 0xFFFFFFFF)


def test_loading_the_switcher_gives_a_value_with_all_entry_points() -> None:
    switcher = load_switcher(shipped_image("switcher.elf"))
    assert isinstance(switcher, Switcher)
    assert len(set(switcher.default_idt_entries)) == IDT_ENTRIES
    ends = SWITCHER_BASE + len(switcher.text)
    assert all(SWITCHER_BASE < entry < ends for entry in switcher.default_idt_entries)
