"""Descriptors on their way from the Guest to the CPU."""

from __future__ import annotations

from struct import pack

import pytest

from hostvm.gates import copy_traps
from hostvm.segments import (
    TLS_ENTRIES,
    boot_gdt,
    copy_gdt,
    copy_gdt_tls,
    load_guest_gdt,
    load_guest_gdt_entry,
    load_tls,
)
from hostvm.switcher import Changed
from hostvm.x86 import pack_descriptor
from tests.hostvm.lguest_kit import GUEST_PAGES, Bench, kills

CPU_GDT = 0x3C00000
TABLE = 0x8000
OURS = (10, 11, 16, 31)
FLAT_DPL0 = pack_descriptor(0, 0xFFFFF, 0x92, 0xC)
FLAT_DPL3 = pack_descriptor(0x1234, 0xFFFFF, 0xF2, 0xC)
ACCESSED = 0x100
DPL1 = 0x2000


def bench() -> Bench:
    made = Bench()
    made.guest.changed = 0
    return made


def cpu_gdt(made: Bench) -> list[tuple[int, int]]:
    words = memoryview(made.physical.read(CPU_GDT, 256)).cast("I").tolist()
    return list(zip(words[::2], words[1::2], strict=True))


def test_a_guest_begins_with_flat_segments_for_its_kernel_and_nothing_else() -> None:
    gdt = boot_gdt()
    assert gdt[12] == (0xFFFF, 0x00CFBB00)
    assert gdt[13] == (0xFFFF, 0x00CFB300)
    assert [index for index, entry in enumerate(gdt) if entry != (0, 0)] == [12, 13]


def test_ring_0_becomes_ring_1_and_other_rings_stay() -> None:
    made = bench()
    load_guest_gdt_entry(made.guest, 14, *FLAT_DPL0)
    load_guest_gdt_entry(made.guest, 15, *FLAT_DPL3)
    assert made.guest.gdt[14] == (FLAT_DPL0[0], FLAT_DPL0[1] | ACCESSED | DPL1)
    assert made.guest.gdt[15] == (FLAT_DPL3[0], FLAT_DPL3[1] | ACCESSED)
    assert made.guest.changed == Changed.GDT


@pytest.mark.parametrize("index", OURS)
def test_the_hosts_entries_never_reach_the_cpu(index: int) -> None:
    made = bench()
    load_guest_gdt_entry(made.guest, index, *FLAT_DPL0)
    copy_gdt(made.guest, made.physical, CPU_GDT)
    assert cpu_gdt(made)[index] == (0, 0)


def test_the_guests_entries_reach_the_cpu() -> None:
    made = bench()
    load_guest_gdt_entry(made.guest, 15, *FLAT_DPL3)
    copy_gdt(made.guest, made.physical, CPU_GDT)
    assert cpu_gdt(made)[15] == made.guest.gdt[15]
    assert cpu_gdt(made)[12] == boot_gdt()[12]


@pytest.mark.parametrize("kind", range(16))
def test_a_system_descriptor_never_reaches_the_cpu(kind: int) -> None:
    made = bench()
    made.physical.write_u32(CPU_GDT + 20 * 8 + 4, 0xFFFFFFFF)
    load_guest_gdt_entry(made.guest, 20, 0x00500000, 0x8000 | kind << 8)
    load_guest_gdt_entry(made.guest, TLS_ENTRIES[0], 0x00500000, 0x8000 | kind << 8)
    copy_gdt(made.guest, made.physical, CPU_GDT)
    assert cpu_gdt(made)[20] == (0, 0)
    copy_gdt_tls(made.guest, made.physical, CPU_GDT)
    assert cpu_gdt(made)[TLS_ENTRIES[0]] == (0, 0)


@pytest.mark.parametrize(("index", "printed"), [(32, "32"), (0xFFFFFFFF, "-1")])
def test_an_entry_beyond_the_table_kills(index: int, printed: str) -> None:
    with kills(f"too many gdt entries {printed}"):
        load_guest_gdt_entry(bench().guest, index, 0, 0)


def test_a_whole_table_is_read_from_guest_memory() -> None:
    made = bench()
    made.memory.write(TABLE, pack("<4I", *FLAT_DPL3, *FLAT_DPL0))
    load_guest_gdt(made.guest, TABLE, 2)
    assert made.guest.gdt[0] == (FLAT_DPL3[0], FLAT_DPL3[1] | ACCESSED)
    assert made.guest.gdt[1] == (FLAT_DPL0[0], FLAT_DPL0[1] | ACCESSED | DPL1)
    assert made.guest.gdt[12] == boot_gdt()[12]
    assert made.guest.changed == Changed.GDT


def test_a_table_with_too_many_entries_kills() -> None:
    with kills("too many gdt entries 33"):
        load_guest_gdt(bench().guest, TABLE, 33)


def test_a_table_outside_memory_kills() -> None:
    outside = GUEST_PAGES * 4096
    with kills(f"bad read address {outside:#x} len 256"):
        load_guest_gdt(bench().guest, outside, 32)
    with kills(f"bad read address {outside:#x} len 24"):
        load_tls(bench().guest, outside)


def test_thread_local_entries_are_loaded_and_copied_by_themselves() -> None:
    made = bench()
    made.memory.write(TABLE, pack("<6I", *FLAT_DPL3, *FLAT_DPL0, *FLAT_DPL3))
    load_tls(made.guest, TABLE)
    assert made.guest.changed == Changed.GDT_TLS
    copy_gdt_tls(made.guest, made.physical, CPU_GDT)
    gdt = cpu_gdt(made)
    assert gdt[6:9] == made.guest.gdt[6:9]
    assert gdt[7] == (FLAT_DPL0[0], FLAT_DPL0[1] | ACCESSED | DPL1)
    assert all(entry == (0, 0) for index, entry in enumerate(gdt) if index not in TLS_ENTRIES)


@pytest.mark.parametrize(("name", "dpl"), [("2.6.24", 0), ("2.6.27", 3)])
def test_a_gate_that_stays_behind_keeps_its_ring_in_later_generations(name: str, dpl: int) -> None:
    made = Bench(name)
    made.guest.idt[3] = 0x00610000, 0xC000EE00
    copy_traps(made.guest, made.physical, CPU_GDT, [0xFFC00000] * 256)
    assert made.physical.read_u32(CPU_GDT + 3 * 8 + 4) == 0xFFC08E00 | dpl << 13


@pytest.mark.parametrize(("name", "direct"), [("2.6.24", True), ("3.2", False)])
def test_invalid_opcodes_go_direct_in_old_generations_only(name: str, direct: bool) -> None:
    made = Bench(name)
    gate = 0x00611000, 0xC0008F00
    made.guest.idt[6] = gate
    copy_traps(made.guest, made.physical, CPU_GDT, [0] * 256)
    assert (made.physical.read_u32(CPU_GDT + 6 * 8) == gate[0]) is direct
