"""Hypercalls by vmcall: what is rewritten and when, and what a Guest sees of it."""

from __future__ import annotations

import pytest

from hostvm.abi import GENERATIONS
from hostvm.elf_image import parse_elf
from hostvm.handle_trap import handle_trap
from hostvm.observations import Hypercall, TrapReflected
from hostvm.vmcall import INT_AND_NOP, VMCALL
from hostvm.x86 import PAGE_SIZE, Vector
from tests.hostvm.lguest_kit import Bench, kills
from tests.hostvm.test_kestrel import IMAGES, boot, kernel, usual_run

PGD, TABLE, CODE, STACK = 0x10000, 0x11000, 0x20000, 0x30000
KERNEL, USER = 0x61, 0x73
HANDLER = 0xC0DE0
GATE = (0x60 << 16 | HANDLER & 0xFFFF, HANDLER & 0xFFFF0000 | 0x8F00)
MAPPED = 0x67
WITH_VMCALL = [abi.name for abi in GENERATIONS.values() if abi.vmcall]
LGUEST_INIT = 1

each = pytest.mark.parametrize("name", WITH_VMCALL)


def trapped(name: str, vector: Vector, code: bytes = VMCALL, error_code: int = 0) -> Bench:
    """A Guest kernel that faulted at CODE, with tables of its own that map the first megabytes to themselves."""
    bench = Bench(name, first_pgdir=PGD)
    for page in range(0, 0x40000, PAGE_SIZE):
        bench.map(PGD, TABLE, page, page | MAPPED)
    bench.memory.write(CODE, code)
    for gate in (Vector.UD, Vector.GP):
        bench.guest.idt[gate] = GATE
    regs = bench.regs
    regs.cs, regs.ss, regs.eip, regs.esp = KERNEL, 0x69, CODE, STACK
    regs.trapnum, regs.errcode = vector, error_code
    return bench


def code_after(bench: Bench) -> bytes:
    handle_trap(bench.guest, 0)
    return bench.memory.read(CODE, 3)


def test_it_is_a_matter_of_these_generations() -> None:
    assert WITH_VMCALL == ["2.6.30", "2.6.32", "2.6.37"]


@each
@pytest.mark.parametrize(
    ("vector", "error_code"), [(Vector.UD, 0), (Vector.GP, 0), (Vector.GP, 0xFA)]
)
def test_a_kernels_vmcall_becomes_an_int_and_runs_again(
    name: str, vector: Vector, error_code: int
) -> None:
    bench = trapped(name, vector, error_code=error_code)
    assert code_after(bench) == INT_AND_NOP
    assert (bench.regs.eip, bench.regs.esp) == (CODE, STACK)
    assert not any(note[0] == "trap" for note in bench.notes.told)


@each
@pytest.mark.parametrize("code", [b"\x0f\x0b\x90", b"\x0f\x01\xc2", b"\xf4\x90\x90"])
def test_any_other_instruction_is_the_guests_affair(name: str, code: bytes) -> None:
    bench = trapped(name, Vector.UD, code)
    assert code_after(bench) == code
    assert bench.regs.eip == HANDLER


@each
def test_a_programs_vmcall_is_the_guests_affair(name: str) -> None:
    bench = trapped(name, Vector.UD)
    bench.regs.cs, bench.regs.ss = USER, 0x7B
    bench.guest.ss1, bench.guest.esp1 = 0x69, STACK
    assert code_after(bench) == VMCALL
    assert bench.regs.eip == HANDLER


@pytest.mark.parametrize("name", ["2.6.27", "3.2", "3.10"])
def test_other_generations_leave_it_to_the_guest(name: str) -> None:
    bench = trapped(name, Vector.UD)
    if bench.tables.linear:
        bench.tables.new_pagetable(PGD)
    assert code_after(bench) == VMCALL
    assert bench.regs.eip == HANDLER


@each
def test_all_mappings_are_dropped_but_the_kernel_stack_is_there_again(name: str) -> None:
    bench = trapped(name, Vector.UD)
    bench.guest.esp1, bench.guest.stack_pages = STACK, 1
    assert bench.tables.demand_page(CODE, 0)
    handle_trap(bench.guest, 0)
    assert bench.shadow(CODE)[1] == 0
    assert bench.shadow(STACK - 1)[1] & 3 == 3


@each
def test_an_instruction_pointer_that_means_nothing_kills(name: str) -> None:
    bench = trapped(name, Vector.UD)
    bench.regs.eip = 0x7F000000
    with kills("Bad address 0x7f000000"):
        handle_trap(bench.guest, 0)


@each
def test_an_instruction_that_ends_outside_of_memory_kills(name: str) -> None:
    bench = trapped(name, Vector.UD)
    last = bench.memory.pfn_limit * PAGE_SIZE - 1
    bench.map(PGD, TABLE, CODE, last & ~0xFFF | MAPPED)
    bench.regs.eip = CODE | last & 0xFFF
    with kills(f"bad read address {last:#x} len 3"):
        handle_trap(bench.guest, 0)


# ---- a whole kernel ---------------------------------------------------------------------------------


def vmcalls(name: str) -> set[int]:
    """Addresses in kestrel's text, as the file has it; opcodes that merely contain the bytes are not there."""
    image = parse_elf(IMAGES[name], kernel(name))
    start, end = image.address_of("startup_32"), image.address_of("__parainstructions_start")
    text = image.bytes_at(start, end - start)
    return {start + at for at in range(len(text)) if text[at : at + 3] == VMCALL}


def test_a_kernel_that_asks_by_vmcall_has_each_one_rewritten_that_it_reached() -> None:
    machine, world = boot("2.6.32", "hz=10000 -- 3")
    memory = machine.guests[0].guest_memory
    now = {at: memory.read(at - 0xC0000000, 3) for at in vmcalls("2.6.32")}
    assert len(now) > 20
    assert set(now.values()) == {VMCALL, INT_AND_NOP}
    assert list(now.values()).count(INT_AND_NOP) > 12
    vectors = {o.vector for o in world.observations if isinstance(o, TrapReflected)}
    assert Vector.UD not in vectors
    first = next(o for o in world.observations if isinstance(o, Hypercall))
    assert first.number == LGUEST_INIT


def test_the_later_kernel_has_only_one_left_and_reaches_it() -> None:
    (site,) = vmcalls("2.6.37")
    machine, world = boot("2.6.37", "hz=10000 -- 3")
    assert machine.guests[0].guest_memory.read(site - 0xC0000000, 3) == INT_AND_NOP
    assert any(o.number == 19 for o in world.observations if isinstance(o, Hypercall))
    assert not vmcalls("3.2")
    assert usual_run("3.2").ends
