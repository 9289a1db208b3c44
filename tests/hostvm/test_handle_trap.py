"""Why a Guest came out, and what becomes of it."""

from __future__ import annotations

import pytest

from hostvm.errors import GuestKilled
from hostvm.handle_trap import handle_trap
from hostvm.observations import EndReason
from hostvm.quirks import CORRECTED, UPSTREAM, Quirk
from tests.hostvm.lguest_kit import DATA, GUEST_PAGES, Bench, kills

CODE = 0x3000
STACK = 0x6000
HANDLER = 0xC0002000
TRAP_GATE = 0x00612000, 0xC000EF00
PF, GP, NM = 14, 13, 7
WRITE = 2


def trapped(vector: int, error_code: int = 0, name: str = "3.2", quirks: Quirk = UPSTREAM) -> Bench:
    """A linear Guest, initialized, that came out at CODE; it has a handler for every trap."""
    bench = Bench(name, quirks=quirks)
    bench.tables.linear = True
    bench.guest.data.address = DATA
    bench.guest.idt[:32] = [TRAP_GATE] * 32
    bench.regs.eip, bench.regs.esp = CODE, STACK
    bench.regs.trapnum, bench.regs.errcode = vector, error_code
    return bench


def handled_by(bench: Bench, cr2: int = 0) -> str:
    handle_trap(bench.guest, cr2)
    return "guest" if bench.regs.eip == HANDLER else "host"


def test_a_hypercall_becomes_pending_and_nothing_else() -> None:
    bench = trapped(31)
    assert handled_by(bench) == "host"
    assert bench.guest.hcall
    assert bench.notes.told == []


@pytest.mark.parametrize("vector", [32, 0x80, 255])
def test_vectors_of_real_interrupts_are_not_the_guests(vector: int) -> None:
    bench = trapped(vector)
    bench.guest.idt[vector] = TRAP_GATE
    assert handled_by(bench) == "host"
    assert bench.regs.eip == CODE


def test_a_page_fault_that_is_the_hosts_own_doing_is_repaired_in_silence() -> None:
    bench = trapped(PF, WRITE)
    assert handled_by(bench, 0x5123) == "host"
    assert bench.shadow(0x5000)[1] & 3 == 3
    assert bench.memory.read_u32(DATA + 8) == 0


def test_a_page_fault_that_is_the_guests_is_reflected_with_its_address() -> None:
    bench = trapped(PF, 4)
    assert handled_by(bench, 0x5123) == "guest"
    assert bench.memory.read_u32(DATA + 8) == 0x5123
    assert bench.memory.read_u32(bench.regs.esp) == 4
    assert bench.guest.cr2 == 0x5123


def test_a_page_fault_without_a_handler_kills_and_names_the_address() -> None:
    bench = trapped(PF, 4)
    bench.guest.data.address = None
    bench.guest.idt[PF] = 0, 0
    with kills("unhandled trap 14 at 0x3000 (0xbad)"):
        handle_trap(bench.guest, 0xBAD)


@pytest.mark.parametrize("vector", [0, 8, 13, 30])
def test_a_trap_without_a_handler_kills_and_names_the_error_code(vector: int) -> None:
    bench = trapped(vector, 0x18)
    bench.guest.idt[vector] = 0, 0
    with kills(f"unhandled trap {vector} at 0x3000 (0x18)"):
        handle_trap(bench.guest, 0xBAD)


def test_a_fault_inside_the_switcher_kills() -> None:
    bench = trapped(256, 0)
    bench.regs.eip = 0
    with kills("unhandled trap 256 at 0x0 (0x0)"):
        handle_trap(bench.guest, 0)


def test_the_fpu_trap_is_reflected_only_if_the_guest_asked_for_it() -> None:
    bench = trapped(NM)
    assert handled_by(bench) == "host"
    bench.guest.ts = 1
    assert handled_by(bench) == "guest"


@pytest.mark.parametrize("vector", [0, 1, 3, 6, 12, 16, 19])
def test_other_traps_are_reflected(vector: int) -> None:
    assert handled_by(trapped(vector)) == "guest"


# Port instructions.

PREFIX = 0x66
ALL_ONES = 0xFFFFFFFF


def skipping(code: bytes, name: str = "3.2", eax: int = 0x12340000) -> tuple[int, int]:
    """Bytes skipped and EAX afterwards."""
    bench = trapped(GP, 0, name)
    bench.memory.write(CODE, code)
    bench.regs.eax = eax
    assert handled_by(bench) == "host"
    return bench.regs.eip - CODE, bench.regs.eax


@pytest.mark.parametrize(
    ("code", "length", "eax"),
    [
        (b"\xe4\x60", 2, 0x123400FF),
        (b"\xec", 1, 0x123400FF),
        (b"\xe5\x60", 2, ALL_ONES),
        (b"\xed", 1, ALL_ONES),
        (b"\x66\xe5\x60", 3, 0x1234FFFF),
        (b"\x66\xed", 2, 0x1234FFFF),
        (b"\x66\xec", 2, 0x123400FF),
        (b"\xe6\x80", 2, 0x12340000),
        (b"\xee", 1, 0x12340000),
        (b"\x66\xef", 2, 0x12340000),
        (b"\xfa", 1, 0x12340000),
    ],
)
def test_a_port_instruction_is_skipped_and_reads_all_ones(
    code: bytes, length: int, eax: int
) -> None:
    assert skipping(code) == (length, eax)


@pytest.mark.parametrize(
    ("code", "length", "eax"),
    [
        (b"\xec", 1, 0x1234FFFF),
        (b"\x66\xec", 2, 0xFFFF0000),
        (b"\x66\xed", 2, ALL_ONES),
    ],
)
def test_old_generations_read_other_widths(code: bytes, length: int, eax: int) -> None:
    assert skipping(code, "2.6.27") == (length, eax)


@pytest.mark.parametrize("code", [b"\xf4", b"\xfb", b"\xf3\x6c", b"\x66\x66\xec", b"\x66\xfa"])
def test_anything_else_is_reflected(code: bytes) -> None:
    bench = trapped(GP)
    bench.memory.write(CODE, code)
    assert handled_by(bench) == "guest"


def test_old_generations_reflect_cli() -> None:
    bench = trapped(GP, 0, "2.6.24")
    bench.memory.write(CODE, b"\xfa")
    assert handled_by(bench) == "guest"


def test_a_fault_with_an_error_code_is_not_looked_into() -> None:
    bench = trapped(GP, 0xFA)
    bench.memory.write(CODE, b"\xec")
    assert handled_by(bench) == "guest"


def test_user_code_may_not_use_ports() -> None:
    bench = trapped(GP)
    bench.memory.write(CODE, b"\xec")
    bench.regs.cs, bench.regs.ss = 0x73, 0x7B
    bench.guest.ss1, bench.guest.esp1 = 0x69, STACK
    assert handled_by(bench) == "guest"


def test_user_code_that_is_not_mapped_kills_as_upstream_wrote_it() -> None:
    bench = trapped(GP)
    bench.tables.new_pagetable(0x10000)
    bench.map(0x10000, 0x11000, STACK, STACK | 3)
    bench.map(0x10000, 0x11000, STACK - 4096, (STACK - 4096) | 3)
    bench.regs.cs, bench.regs.ss = 0x73, 0x7B
    bench.guest.ss1, bench.guest.esp1 = 0x69, STACK
    with kills("Bad address 0x3000"):
        handle_trap(bench.guest, 0)
    bench.guest.quirks = CORRECTED
    assert handled_by(bench) == "guest"


def test_code_beyond_memory_kills() -> None:
    bench = trapped(GP)
    bench.regs.eip = GUEST_PAGES * 4096
    with pytest.raises(GuestKilled, match=r"^bad read address 0x1000000 len 1$"):
        handle_trap(bench.guest, 0)


@pytest.mark.parametrize(
    ("code", "edx", "eax", "resets"),
    [
        (b"\xe6\x64", 0, 0xFE, True),
        (b"\xee", 0x64, 0xFE, True),
        (b"\xee", 0xFFFF0064, 0x123456FE, True),
        (b"\xe6\x60", 0, 0xFE, False),
        (b"\xe6\x64", 0, 0x60, False),
        (b"\xee", 0x60, 0xFE, False),
        (b"\xef", 0x64, 0xFE, False),
        (b"\x66\xee", 0x64, 0xFE, False),
        (b"\xec", 0x64, 0xFE, False),
    ],
)
def test_a_pc_reset_by_its_keyboard_controller_is_a_restart_if_corrected(
    code: bytes, edx: int, eax: int, resets: bool
) -> None:
    for quirks, ended in (
        (UPSTREAM, None),
        (UPSTREAM & ~Quirk.RESET_UNHEARD, (EndReason.RESTART, "") if resets else None),
    ):
        bench = trapped(GP, 0, "2.6.24", quirks=quirks)
        bench.memory.write(CODE, code)
        bench.regs.edx, bench.regs.eax = edx, eax
        assert handled_by(bench) == "host"
        assert bench.regs.eip == CODE + len(code)
        assert bench.guest.ended == ended


def test_a_user_program_cannot_reset_the_machine() -> None:
    bench = trapped(GP, 0, quirks=UPSTREAM & ~Quirk.RESET_UNHEARD)
    bench.memory.write(CODE, b"\xe6\x64")
    bench.regs.cs, bench.regs.ss, bench.regs.eax = 0x73, 0x7B, 0xFE
    bench.guest.ss1, bench.guest.esp1 = 0x69, STACK
    assert handled_by(bench) == "guest"
    assert bench.guest.ended is None


@pytest.mark.parametrize(
    ("code", "eax"),
    [
        (b"\xe4\x64", 0x123400FD),
        (b"\xec", 0x123400FD),
        (b"\xe4\x60", 0x123400FF),
        (b"\xed", ALL_ONES),
        (b"\x66\xec", 0x123400FF),
    ],
)
def test_the_keyboard_controller_seems_to_take_commands_if_corrected(code: bytes, eax: int) -> None:
    bench = trapped(GP, 0, quirks=UPSTREAM & ~Quirk.RESET_UNHEARD)
    bench.memory.write(CODE, code)
    bench.regs.edx, bench.regs.eax = 0x64, 0x12340000
    assert handled_by(bench) == "host"
    assert bench.regs.eax == eax


HEARS_DEBUG = UPSTREAM & ~Quirk.DEBUG_REGISTERS_FAULT
DEBUG_MOVES = {
    "0f21f8": ("eax", 0x400),
    "0f21f3": ("ebx", 0xFFFF4FF0),
    "0f21c6": ("esi", 0),
    "0f21dd": ("ebp", 0),
    "0f23f8": ("eax", 0x12345678),
    "0f23c7": ("edi", 0x12345678),
}


@pytest.mark.parametrize("code", DEBUG_MOVES)
def test_a_kernel_may_touch_debug_registers_if_corrected(code: str) -> None:
    name, value = DEBUG_MOVES[code]
    for quirks, expected in (
        (UPSTREAM, ("guest", 0x12345678, 0)),
        (HEARS_DEBUG, ("host", value, 3)),
    ):
        bench = trapped(GP, 0, quirks=quirks)
        bench.memory.write(CODE, bytes.fromhex(code))
        setattr(bench.regs, name, 0x12345678)
        by, found = handled_by(bench), getattr(bench.regs, name)
        moved = bench.regs.eip - CODE if by == "host" else 0
        assert (by, found, moved) == expected


@pytest.mark.parametrize("code", ["0f20f8", "0f06", "660f21f8", "0f30"])
def test_other_privileged_instructions_are_reflected_all_the_same(code: str) -> None:
    bench = trapped(GP, 0, quirks=HEARS_DEBUG)
    bench.memory.write(CODE, bytes.fromhex(code))
    assert handled_by(bench) == "guest"


def test_a_user_program_may_not_touch_debug_registers() -> None:
    bench = trapped(GP, 0, quirks=HEARS_DEBUG)
    bench.memory.write(CODE, b"\x0f\x21\xf8")
    bench.regs.cs, bench.regs.ss = 0x73, 0x7B
    bench.guest.ss1, bench.guest.esp1 = 0x69, STACK
    assert handled_by(bench) == "guest"
