"""What the vectors cannot say: other generations, upstream's bugs switched off, the clock, and who is told."""

from __future__ import annotations

import pytest

from hostvm.interrupts_and_traps import (
    clock_expired,
    deliver_trap,
    guest_set_clockevent,
    interrupt_pending,
    maybe_do_interrupt,
    set_interrupt,
    write_timestamp,
)
from hostvm.quirks import CORRECTED, UPSTREAM, Quirk
from tests.hostvm.lguest_kit import DATA, Bench, kills

ENABLED, BLOCKED, TIME, PENDING = DATA, DATA + 4, DATA + 12, DATA + 20
IRQ_ON = 0x200
INTERRUPT_GATE = 0x00612000, 0xC0008E00
TRAP_GATE = 0x00612000, 0xC000EF00
HANDLER = 0xC0002000
STACK = 0x6000
EIP = 0x123


def interruptible(name: str = "3.2", quirks: Quirk = UPSTREAM) -> Bench:
    """A linear Guest in its kernel, interrupts on, with gates for IRQs 0 and 1."""
    bench = Bench(name, quirks=quirks)
    bench.tables.linear = True
    bench.guest.data.address = DATA
    bench.memory.write_u32(ENABLED, IRQ_ON)
    bench.guest.idt[32] = bench.guest.idt[33] = INTERRUPT_GATE
    bench.regs.eip, bench.regs.esp = EIP, STACK
    return bench


def delivered(bench: Bench) -> bool:
    return bench.regs.eip == HANDLER


def raise_and_try(bench: Bench, irq: int = 0) -> bool:
    set_interrupt(bench.guest, irq)
    maybe_do_interrupt(bench.guest)
    return delivered(bench)


def test_an_interrupt_enters_its_handler_with_a_frame_that_shows_the_guests_own_flag() -> None:
    bench = interruptible()
    assert raise_and_try(bench)
    assert bench.regs.esp == STACK - 12
    frame = [bench.memory.read_u32(STACK - 12 + at) for at in (0, 4, 8)]
    assert frame == [EIP, 0x61, 0x202]
    assert bench.memory.read_u32(ENABLED) == 0
    assert bench.guest.irqs_pending == 0
    assert bench.notes.told == [("raised", 0), ("delivered", 0)]


def test_one_interrupt_is_delivered_at_each_entry() -> None:
    bench = interruptible()
    set_interrupt(bench.guest, 1)
    assert raise_and_try(bench)
    assert bench.guest.irqs_pending == 2
    maybe_do_interrupt(bench.guest)
    assert bench.guest.irqs_pending == 2


def test_nothing_is_delivered_before_the_shared_page_is_known() -> None:
    bench = interruptible()
    bench.guest.data.address = None
    assert not raise_and_try(bench)
    assert bench.guest.irqs_pending == 1


def test_a_blocked_interrupt_waits() -> None:
    bench = interruptible()
    bench.memory.write_u32(BLOCKED, 1)
    assert not raise_and_try(bench)
    bench.memory.write_u32(BLOCKED, 0xFFFFFFFE)
    maybe_do_interrupt(bench.guest)
    assert delivered(bench)


def test_the_guests_iret_is_never_torn_apart() -> None:
    bench = interruptible()
    bench.guest.noirq_start, bench.guest.noirq_end = EIP, EIP + 8
    assert not raise_and_try(bench)
    assert bench.memory.read_u32(PENDING) == 0
    bench.regs.eip = EIP + 8
    maybe_do_interrupt(bench.guest)
    assert delivered(bench)


def at_the_iret(flags: int) -> Bench:
    """A Guest of 4.1 that is about to IRET to EIP with these flags."""
    bench = interruptible("4.1")
    bench.guest.noirq_start, bench.guest.noirq_end = EIP, EIP + 1
    for at, word in enumerate((0xC0005555, 0x61, flags)):
        bench.memory.write_u32(STACK + 4 * at, word)
    return bench


def test_from_4_1_on_an_interrupt_at_the_iret_uses_the_frame_that_stands_there() -> None:
    bench = at_the_iret(0x246)
    frame = bench.memory.read(STACK, 12)
    assert raise_and_try(bench)
    assert bench.regs.esp == STACK
    assert bench.memory.read(STACK, 12) == frame
    assert bench.regs.eflags == 0x246
    assert bench.memory.read_u32(ENABLED) == 0


def test_the_instructions_before_and_behind_that_iret_are_no_window() -> None:
    for eip in (EIP - 1, EIP + 1):
        bench = at_the_iret(0x246)
        bench.regs.eip = eip
        assert raise_and_try(bench)
        assert bench.regs.esp == STACK - 12
        assert bench.memory.read_u32(STACK - 12) == eip


@pytest.mark.parametrize("flags", [0x3046, 0x2046, 0x20046, 0xFFFFFFFF])
def test_a_frame_cannot_take_the_hosts_interrupts_or_ports(flags: int) -> None:
    bench = at_the_iret(flags)
    assert raise_and_try(bench)
    assert bench.regs.eflags & 0x3200 == 0x200
    assert not bench.regs.eflags & 0x34100 & ~0x200


def test_a_handler_of_4_1_or_a_corrected_one_begins_without_tf_and_nt_which_its_frame_keeps() -> (
    None
):
    corrected = UPSTREAM & ~Quirk.HANDLER_KEEPS_TF
    for name, quirks, flags in (
        ("3.10", UPSTREAM, 0x4302),
        ("3.10", corrected, 0x202),
        ("4.1", UPSTREAM, 0x202),
    ):
        bench = interruptible(name, quirks)
        bench.regs.eflags = 0x4302
        assert raise_and_try(bench)
        assert bench.regs.eflags == flags
        assert bench.memory.read_u32(STACK - 4) == 0x4302


def test_a_guest_with_interrupts_off_is_told_that_one_waits() -> None:
    bench = interruptible()
    bench.memory.write_u32(ENABLED, 0)
    assert not raise_and_try(bench)
    assert bench.memory.read_u32(PENDING) == IRQ_ON


def test_an_old_generation_has_nowhere_to_be_told() -> None:
    bench = interruptible("2.6.24")
    ring = bench.memory.read(PENDING, 4)
    bench.memory.write_u32(ENABLED, 0)
    assert not raise_and_try(bench)
    bench.memory.write_u32(ENABLED, IRQ_ON)
    maybe_do_interrupt(bench.guest)
    assert delivered(bench)
    assert bench.memory.read(PENDING, 4) == ring


def test_a_halted_guest_is_woken_with_interrupts_on() -> None:
    bench = interruptible()
    bench.memory.write_u32(ENABLED, 0)
    bench.guest.halted = True
    assert raise_and_try(bench)
    assert not bench.guest.halted
    assert bench.memory.read_u32(STACK - 4) & IRQ_ON


def test_each_delivery_refreshes_the_time() -> None:
    bench = interruptible()
    bench.notes.now = 0x1_0000_0001 * 10**9 + 5
    raise_and_try(bench)
    assert (bench.memory.read_u32(TIME), bench.memory.read_u32(TIME + 4)) == (1, 5)


def test_time_without_a_shared_page_kills() -> None:
    with kills("Writing timestamp"):
        write_timestamp(Bench().guest)


# Upstream's bugs, and what was meant.


@pytest.mark.parametrize(
    ("quirks", "left"), [(UPSTREAM, IRQ_ON), (UPSTREAM & ~Quirk.MORE_ALWAYS_TRUE, 0)]
)
def test_the_host_never_takes_back_that_an_interrupt_waits(quirks: Quirk, left: int) -> None:
    bench = interruptible(quirks=quirks)
    bench.memory.write_u32(PENDING, IRQ_ON)
    assert raise_and_try(bench)
    assert bench.memory.read_u32(PENDING) == left


def test_more_is_true_only_when_another_can_be_delivered_if_corrected() -> None:
    bench = interruptible(quirks=CORRECTED)
    bench.guest.irqs_pending = 0b1010
    assert interrupt_pending(bench.guest) == (1, True)
    bench.memory.write_u32(BLOCKED, 0b1000)
    assert interrupt_pending(bench.guest) == (1, False)
    bench.memory.write_u32(BLOCKED, 0b1010)
    assert interrupt_pending(bench.guest, more=True) == (32, False)


@pytest.mark.parametrize(("quirks", "open_"), [(UPSTREAM, True), (CORRECTED, False)])
def test_flags_left_by_an_iret_count_as_interrupts_on(quirks: Quirk, open_: bool) -> None:
    bench = interruptible(quirks=quirks)
    bench.memory.write_u32(ENABLED, 0x46)
    assert raise_and_try(bench) is open_
    if open_:
        assert bench.memory.read_u32(STACK - 4) == 0x2
    else:
        assert bench.memory.read_u32(PENDING) == IRQ_ON


@pytest.mark.parametrize(("quirks", "woken"), [(UPSTREAM, True), (CORRECTED, False)])
def test_an_interrupt_without_a_gate_wakes_a_halted_guest(quirks: Quirk, woken: bool) -> None:
    bench = interruptible(quirks=quirks)
    bench.guest.halted = True
    assert not raise_and_try(bench, 7)
    assert bench.guest.halted is not woken
    assert bench.guest.irqs_pending == 1 << 7
    assert bool(bench.memory.read_u32(TIME)) is woken


@pytest.mark.parametrize(("quirks", "page"), [(UPSTREAM, 0x1F000), (CORRECTED, 0x30000)])
def test_a_frame_across_a_page_boundary_goes_to_one_physical_page(quirks: Quirk, page: int) -> None:
    bench = interruptible(quirks=quirks)
    bench.tables.new_pagetable(0x10000)
    for vaddr, frame in ((0x2000, 0x30000), (0x3000, 0x20000)):
        bench.map(0x10000, 0x11000, vaddr, frame | 3)
    bench.regs.esp = 0x3000
    assert raise_and_try(bench)
    assert bench.regs.esp == 0x2FF4
    assert bench.memory.read_u32(page + 0xFF4) == EIP


def test_a_stack_that_is_not_mapped_kills() -> None:
    bench = interruptible()
    bench.tables.new_pagetable(0x10000)
    with kills("Bad address 0x6000"):
        raise_and_try(bench)


# Traps.


def test_a_reflected_trap_is_told_of_with_the_place_where_it_happened() -> None:
    bench = interruptible()
    bench.guest.idt[13] = TRAP_GATE
    bench.regs.errcode = 0x18
    assert deliver_trap(bench.guest, 13)
    assert bench.notes.told == [("trap", 13, 0x18, EIP)]
    assert bench.memory.read_u32(bench.regs.esp) == 0x18
    assert bench.memory.read_u32(ENABLED) == IRQ_ON


def test_a_trap_from_user_mode_uses_the_stack_that_the_guest_named() -> None:
    bench = interruptible()
    bench.guest.idt[3] = TRAP_GATE
    bench.guest.ss1, bench.guest.esp1 = 0x69, 0x7000
    bench.regs.cs, bench.regs.ss, bench.regs.esp = 0x73, 0x7B, 0xBFFFF000
    assert deliver_trap(bench.guest, 3)
    assert (bench.regs.cs, bench.regs.ss, bench.regs.esp) == (0x61, 0x69, 0x7000 - 20)
    assert bench.memory.read_u32(0x7000 - 4) == 0x7B
    assert bench.memory.read_u32(0x7000 - 8) == 0xBFFFF000


# The clock.


def test_the_deadline_is_part_of_the_guest_until_it_passes() -> None:
    bench = interruptible()
    guest_set_clockevent(bench.guest, 1000)
    assert bench.guest.timer == bench.notes.now + 1000
    assert bench.guest.state().timer == bench.notes.now + 1000
    assert clock_expired(bench.guest) is False
    assert bench.guest.timer is None
    assert bench.guest.irqs_pending == 1
