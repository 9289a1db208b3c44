"""The CPU delivers interrupts, faults and traps as the Intel SDM says, and counts each step once."""

from __future__ import annotations

import pytest

from hostvm.cpu import ExitKind
from tests.hostvm.bare_machine import (
    CODE,
    CODE_SELECTOR,
    DATA,
    DATA_SELECTOR,
    HANDLERS,
    PRESENT,
    STACK0,
    STACKS,
    BareMachine,
)

pytestmark = pytest.mark.usefixtures("each_way")

NOP = b"\x90"
EAX, ECX, EDX, EBX, ESP, EBP, ESI, EDI = range(8)
HANDLER_STEPS = 4


def machine(program: bytes, ring: int, **regs: int) -> BareMachine:
    """A machine about to run `program` in `ring`; registers by name."""
    index = {"eax": EAX, "ecx": ECX, "edx": EDX, "esi": ESI, "edi": EDI, "esp": ESP}
    bare = BareMachine(program)
    bare.start(ring, {index[name]: value for name, value in regs.items()})
    return bare


@pytest.mark.parametrize("ring", [0, 1, 3])
def test_a_software_interrupt_enters_its_handler_with_the_address_behind_it(ring: int) -> None:
    bare = machine(b"\x40\x40\xcd\x80", ring)
    done, frame = bare.run_to_handler()
    assert done.kind is ExitKind.HALT
    assert done.steps == 3 + HANDLER_STEPS
    assert frame[:5] == (0x80, 0, CODE + 4, CODE_SELECTOR[ring], 0x202)
    if ring:
        assert frame[5:] == (STACKS[ring], DATA_SELECTOR[ring])
    assert not bare.cpu.eflags() & 0x200


def test_a_software_interrupt_through_a_forbidden_gate_is_a_protection_fault_at_itself() -> None:
    _, frame = machine(NOP + b"\xcd\x30", 3).run_to_handler()
    assert frame[:3] == (13, 0x30 * 8 + 2, CODE + 1)


def test_a_page_fault_reports_address_and_access() -> None:
    bare = machine(b"\x89\x0d" + (DATA + 0x10).to_bytes(4, "little"), 3)
    bare.map(DATA >> 12, 0)
    done, frame = bare.run_to_handler()
    assert frame[:3] == (14, 6, CODE)
    assert bare.cpu.state().cr[1] == DATA + 0x10
    assert done.steps == 1 + 5


def test_a_second_page_fault_is_not_taken_for_a_double_fault() -> None:
    bare = machine(
        b"\xa1" + DATA.to_bytes(4, "little") + b"\xa1" + (DATA + 4096).to_bytes(4, "little"), 3
    )
    for page in (0x20, 0x21):
        bare.map(page, 0)
    _, first = bare.run_to_handler()
    bare.map(0x20)
    bare.cpu.flush_tlb()
    _, second = bare.run_to_handler()
    assert (first[0], second[0]) == (14, 14)
    assert bare.cpu.state().cr[1] == DATA + 4096


def test_a_fetch_fault_comes_at_the_instruction_that_crosses_and_costs_a_step() -> None:
    program = b"\x40" * 14 + b"\xb8\x01"
    bare = BareMachine()
    start = CODE + 0x1000 - len(program)
    bare.memory.write(start, program)
    bare.map(0x11, 0)
    bare.start(3)
    bare.cpu.call_host(start, 0, 0)
    done, frame = bare.run_to_handler()
    assert frame[:3] == (14, 4, CODE + 0x1000 - 2)
    assert bare.cpu.state().regs[EAX] == 14
    assert done.steps == 14 + 1 + 5
    assert bare.cpu.state().cr[1] == CODE + 0x1000


def test_a_second_fetch_fault_on_the_same_page_is_not_early_where_the_first_was_not() -> None:
    """What was prepared at an instruction further on does not serve for one before it."""
    program = b"\x40" * 14 + b"\xb8\x01"
    crossing = CODE + 0x1000 - 2
    bare = BareMachine()
    bare.memory.write(crossing - 14, program)
    bare.map(0x11, 0)
    bare.start(3)
    bare.cpu.call_host(crossing, 0, 0)
    _, frame = bare.run_to_handler()
    assert frame[:3] == (14, 4, crossing)
    # Behind the handler's hlt: drop vector and error code, go back by six, iret.
    bare.memory.write(bare.cpu.state().eip, b"\x83\xc4\x08\x83\x2c\x24\x06\xcf")
    done, frame = bare.run_to_handler()
    assert frame[:3] == (14, 4, crossing)
    assert bare.cpu.state().regs[EAX] == 6
    assert done.steps == 3 + 6 + 1 + 5


def test_a_jump_to_an_unmapped_page_faults_at_the_target_in_the_next_step() -> None:
    bare = machine(b"\xe9" + (0x2000 - 5).to_bytes(4, "little"), 3)
    bare.map(0x12, 0)
    assert bare.cpu.run(1).steps == 1
    state = bare.cpu.state()
    assert state.eip == CODE + 0x2000
    assert state.cr[1] == 0
    _, frame = bare.run_to_handler()
    assert frame[:3] == (14, 4, CODE + 0x2000)


@pytest.mark.parametrize("dpl", [0, 3])
def test_int_14_after_a_fetch_fault_is_a_software_interrupt(dpl: int) -> None:
    bare = machine(b"\xe9" + (0x2000 - 5).to_bytes(4, "little"), 3)
    there = CODE + 0x2000
    bare.memory.write(there, NOP + b"\xcd\x0e")
    bare.set_gate(14, HANDLERS + 16 * 14, dpl=dpl)
    bare.map(there >> 12, 0)
    _, frame = bare.run_to_handler()
    assert frame[:3] == (14, 4, there)
    bare.map(there >> 12)
    bare.cpu.flush_tlb()
    done, frame = bare.run_to_handler()
    # Through an open gate it brings no error code, so one word less than a page fault.
    assert frame[:3] == ((13, 14 * 8 + 2, there + 1) if dpl == 0 else (14, there + 3, 0x2B))
    assert done.steps == 2 + 2 + HANDLER_STEPS + 1


def test_flags_in_a_fault_frame_are_those_before_the_instruction() -> None:
    # xor eax,eax; add eax,0x80000000; mov eax,[unmapped]: SF and PF from the add must survive the fault.
    program = b"\x31\xc0\x05\x00\x00\x00\x80\xa1" + (0x900000).to_bytes(4, "little")
    _, frame = machine(program, 3).run_to_handler()
    assert frame[0] == 14
    assert frame[4] == 0x202 | 0x80 | 0x04


def test_a_fault_while_pushing_the_inner_frame_is_the_page_fault_itself() -> None:
    bare = machine(b"\xcd\x80", 3)
    bare.set_gate(0x80, 0xC800, dpl=3, cs=0x18 | 1)
    bare.map(0x9, 0)
    _, frame = bare.run_to_handler()
    assert frame[:2] == (14, 2)
    assert bare.cpu.state().cr[1] == 0xA000 - 20


def test_a_page_fault_that_cannot_be_pushed_becomes_a_double_fault_and_then_a_shutdown() -> None:
    bare = machine(b"\xa1" + DATA.to_bytes(4, "little"), 3)
    bare.map(0x20, 0)
    bare.map(STACK0 - 1 >> 12, 0)
    assert bare.cpu.run(100).kind is ExitKind.SHUTDOWN


def test_a_fault_in_the_delivery_of_a_protection_fault_is_a_double_fault() -> None:
    bare = machine(b"\xf4", 3)
    bare.memory.write(0x2000 + 13 * 8, bytes(8))
    _, frame = bare.run_to_handler()
    assert frame[:2] == (8, 0)


def test_a_trap_gate_leaves_the_interrupt_flag_alone_and_an_interrupt_gate_clears_it() -> None:
    for kind, expected in ((0xF, 0x200), (0xE, 0)):
        bare = machine(b"\xcd\x80", 3)
        bare.set_gate(0x80, 0xC800, kind=kind, dpl=3)
        bare.run_to_handler()
        assert bare.cpu.eflags() & 0x200 == expected


def test_a_hardware_interrupt_ends_up_in_its_handler_with_no_error_code() -> None:
    bare = machine(NOP * 4, 3)
    bare.cpu.run(2)
    assert bare.cpu.interruptible(0x20)
    bare.cpu.take_interrupt(0x20)
    _, frame = bare.run_to_handler()
    assert frame[:4] == (0x20, 0, CODE + 2, 0x2B)


def test_interrupts_wait_behind_sti_and_mov_ss_for_one_instruction() -> None:
    for program in (b"\xfa\xfb", b"\x90\x8e\xd0"):
        bare = machine(program + NOP * 3, 0, eax=0x10)
        steps = []
        for _ in range(4):
            bare.cpu.run(1)
            steps.append(bare.cpu.interruptible(0x20))
        assert steps[1:] == [False, True, True]


def test_an_nmi_is_taken_with_interrupts_off_and_blocks_the_next_until_iret() -> None:
    bare = machine(b"\xfa" + NOP * 8, 0)
    bare.cpu.run(1)
    assert not bare.cpu.interruptible(0x20)
    assert bare.cpu.interruptible(2)
    bare.cpu.take_interrupt(2)
    _, frame = bare.run_to_handler()
    assert frame[0] == 2
    assert not bare.cpu.interruptible(2)
    bare.cpu.run(2)
    assert bare.cpu.interruptible(2)


def test_single_stepping_traps_behind_each_instruction_in_the_same_step() -> None:
    bare = BareMachine(b"\x40\x40")
    bare.start(3, eflags=0x302)
    done = bare.cpu.run(1)
    assert done.steps == 1
    assert bare.cpu.eip == 0xC000 + 16
    _, frame = bare.run_to_handler()
    assert frame[:3] == (1, 0, CODE + 1)


def test_code_that_delivery_itself_overwrites_is_not_executed_in_its_old_form() -> None:
    # The handler lies where its own frame is pushed: eip, cs, eflags... become code.
    bare = machine(b"\xcd\x80" + NOP * 4, 0)
    handler = STACK0 - 12
    bare.memory.write(handler, b"\x40" * 12 + b"\xf4")
    bare.set_gate(0x81, handler)
    bare.cpu.call_host(handler, 0, 0)
    bare.cpu.run(3)
    bare.cpu.call_host(CODE, 0, 0)
    bare.set_gate(0x80, handler, dpl=3)
    bare.cpu.run(1)
    assert bare.cpu.eip == handler
    before = bare.cpu.state().regs[EAX]
    bare.cpu.run(1)
    # The first byte is now the low byte of the pushed address (0x02): add [edx], al.
    assert bare.cpu.state().regs[EAX] == before
    assert bare.cpu.eip != handler + 1


def test_rdtsc_is_answered_from_outside_and_cpuid_from_the_configuration() -> None:
    bare = machine(b"\x31\xc0\x0f\xa2\x0f\x31", 3)
    bare.cpu.read_tsc = lambda: 0x1122334455667788
    bare.cpu.run(2)
    assert (
        b"".join(bare.cpu.state().regs[r].to_bytes(4, "little") for r in (EBX, EDX, ECX))
        == b"GenuineIntel"
    )
    bare.cpu.run(1)
    assert (bare.cpu.state().regs[EAX], bare.cpu.state().regs[EDX]) == (0x55667788, 0x11223344)


def test_a_page_is_writable_for_the_supervisor_only_where_its_entry_says_so() -> None:
    bare = machine(b"\xa3" + DATA.to_bytes(4, "little"), 1)
    bare.map(0x20, PRESENT & ~2)
    _, frame = bare.run_to_handler()
    assert frame[:2] == (14, 3)
