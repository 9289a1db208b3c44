"""Interrupts and traps: how the Guest is made to enter its handlers, and when.

There are three kinds. Real interrupts belong to the Host and are not seen here. *Virtual interrupts* come from the
Guest's devices and timer: they become pending, and before the Guest is entered one may be delivered. *Traps* come from
the Guest's own instructions: some go straight from the CPU into the Guest, the others pass the Host, which reflects
them.

What makes it tricky is that the Guest runs with the real interrupt flag always set. Its own flag is a word in
`lguest_data`: a frame pushed here shows that flag instead of the real one, and an interrupt gate clears it. Only trap
gates can go direct, since the CPU knows nothing of that word. And the Guest's iret has a moment in which the word is
already set and the frame not yet popped; for that window it has named addresses where nothing may be delivered. From
4.1 on the window is the iret alone, and an interrupt there uses the frame that is about to be popped: the Host does
the iret's part, its flags, and the stack is then as it must be for the handler.

(i) entering a handler; (ii) virtual interrupts; (iii) traps; (iv) the stack that direct traps need; (v) the clock.
A kill ends the Guest at once, where upstream goes on to the end of the routine.

Source: lguest, drivers/lguest/interrupts_and_traps.c; Intel SDM 3A 6.12. Read next: gates.py, handle_trap.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hostvm.errors import GuestKilled
from hostvm.gates import FIRST_EXTERNAL_VECTOR
from hostvm.lguest_data import IRQ_ON
from hostvm.lguest_regs import KERNEL_CS
from hostvm.printf import signed
from hostvm.quirks import Quirk
from hostvm.switcher import GUEST_RING
from hostvm.units import Nanoseconds
from hostvm.vmi_iret import finish_iret
from hostvm.x86 import (
    GATE_PRESENT,
    PAGE_SIZE,
    VECTORS_WITH_ERROR_CODE,
    WORD_MASK,
    Eflags,
    GateType,
    gate_offset,
    gate_type,
)

if TYPE_CHECKING:
    from hostvm.lguest import Lguest

LGUEST_IRQS = 32
TIMER_IRQ = 0
MAX_STACK_PAGES = 2
_NOT_IF = WORD_MASK & ~int(Eflags.IF)
_INTERRUPT_GATE = int(GateType.INTERRUPT)
_NOT_CLEARED = WORD_MASK & ~int(Eflags.TF | Eflags.NT | Eflags.RF | Eflags.VM)
_STATUS = Eflags.CF | Eflags.PF | Eflags.AF | Eflags.ZF | Eflags.SF | Eflags.OF
_BY_IRET = int(_STATUS | Eflags.TF | Eflags.DF | Eflags.NT | Eflags.RF | Eflags.AC | Eflags.ID)
_FRAME_EFLAGS = 8

# (i) Entering a handler.


def set_guest_interrupt(guest: Lguest, lo: int, hi: int, has_error_code: bool) -> None:
    """Push what the CPU would push and put the Guest at the beginning of the handler of gate `lo`, `hi`."""
    _push_frame(guest, has_error_code)
    _run_handler(guest, lo, hi)


def _push_frame(guest: Lguest, has_error_code: bool) -> None:
    regs = guest.regs
    from_user = regs.ss & 3 != GUEST_RING
    stack, ss = (guest.esp1, guest.ss1) if from_user else (regs.esp, regs.ss)
    once = Quirk.STACK_TRANSLATED_ONCE in guest.quirks
    displacement = guest.tables.guest_pa(stack) - stack if once else None
    if from_user:
        stack = _push(guest, stack, displacement, (regs.ss, regs.esp))
    eflags = regs.eflags
    # Only now: the words just pushed may lie over lguest_data.
    enabled = guest.data.get(guest.data.layout.irq_enabled)
    if enabled is not None and not enabled & IRQ_ON:
        eflags &= _NOT_IF
    frame = (eflags, regs.cs, regs.eip)
    stack = _push(guest, stack, displacement, (*frame, regs.errcode) if has_error_code else frame)
    regs.ss = ss
    regs.esp = stack


def _run_handler(guest: Lguest, lo: int, hi: int) -> None:
    regs = guest.regs
    regs.cs = KERNEL_CS
    regs.eip = gate_offset(lo, hi)
    if guest.abi.traps_clear_flags or Quirk.HANDLER_KEEPS_TF not in guest.quirks:
        regs.eflags &= _NOT_CLEARED
    if gate_type(hi) == _INTERRUPT_GATE and not guest.data.put(guest.data.layout.irq_enabled, 0):
        raise GuestKilled("Disabling interrupts")


def _redo_iret(guest: Lguest) -> None:
    """What the Guest's iret would do to its flags; it need not pop what an interrupt would push again.

    Upstream takes the whole word, and so a Guest could switch the Host's interrupts off or get at its ports. An iret in
    ring 1 cannot change IF and IOPL, so those stay.
    """
    regs = guest.regs
    frame = guest.tables.guest_pa(regs.esp)
    popped = guest.memory.read_u32(frame + _FRAME_EFLAGS & WORD_MASK)
    regs.eflags = regs.eflags & ~_BY_IRET & WORD_MASK | popped & _BY_IRET
    if regs.ss & 3 != GUEST_RING:
        # A program that stands at this address for whatever reason; upstream's slip is its kernel's end.
        regs.ss = guest.esp1


def _push(guest: Lguest, stack: int, displacement: int | None, words: tuple[int, ...]) -> int:
    # The stack pointer after pushing; displacement is from virtual to guest-physical, None to look each word up.
    write = guest.memory.write_u32
    for word in words:
        stack = stack - 4 & WORD_MASK
        address = guest.tables.guest_pa(stack) if displacement is None else stack + displacement
        write(address & WORD_MASK, word)
    return stack


# (ii) Virtual interrupts.


def interrupt_pending(guest: Lguest, more: bool = False) -> tuple[int, bool]:
    """The lowest pending interrupt that the Guest does not block, or LGUEST_IRQS; and whether more are waiting.

    `more` is handed back if the shared page cannot be read.
    """
    blocked = guest.data.get(guest.data.layout.blocked_interrupts)
    if blocked is None:
        return LGUEST_IRQS, more
    deliverable = guest.irqs_pending & ~blocked
    lowest = deliverable & -deliverable
    more = Quirk.MORE_ALWAYS_TRUE in guest.quirks or deliverable != lowest
    return (lowest.bit_length() - 1 if lowest else LGUEST_IRQS), more


def maybe_do_interrupt(guest: Lguest) -> None:
    """Deliver a virtual interrupt if one can be delivered now; to be called before each entry to the Guest."""
    if guest.irqs_pending:
        irq, more = interrupt_pending(guest)
        if irq < LGUEST_IRQS:
            try_deliver_interrupt(guest, irq, more)


def try_deliver_interrupt(guest: Lguest, irq: int, more: bool) -> None:
    """Divert the Guest into its handler of `irq`, unless it may not be interrupted now."""
    assert 0 <= irq < LGUEST_IRQS, irq
    in_window = guest.noirq_start <= guest.regs.eip < guest.noirq_end
    redone = in_window and guest.abi.iret_is_redone
    if in_window and not redone and (guest.vmi is None or not finish_iret(guest)):
        return
    lo, hi = guest.idt[FIRST_EXTERNAL_VECTOR + irq]
    has_gate = bool(hi & GATE_PRESENT)
    if not has_gate and Quirk.MISSING_GATE_WAKES not in guest.quirks:
        return
    if not _open_for_interrupts(guest):
        return
    if has_gate:
        guest.irqs_pending &= ~(1 << irq)
        guest.services.irq_delivered(irq)
        if redone:
            _redo_iret(guest)
            _run_handler(guest, lo, hi)
        else:
            set_guest_interrupt(guest, lo, hi, has_error_code=False)
    write_timestamp(guest)
    irq_pending = guest.data.layout.irq_pending
    if not more and irq_pending is not None:
        guest.data.put(irq_pending, 0)


def _open_for_interrupts(guest: Lguest) -> bool:
    data, layout = guest.data, guest.data.layout
    if guest.halted:
        if not data.put(layout.irq_enabled, IRQ_ON):
            raise GuestKilled("Re-enabling interrupts")
        guest.halted = False
        return True
    enabled = interrupts_on(guest)
    if not enabled and layout.irq_pending is not None:
        data.put(layout.irq_pending, IRQ_ON)
    return enabled


def interrupts_on(guest: Lguest) -> bool:
    """Whether the Guest's own interrupt flag lets one in."""
    enabled = guest.data.get(guest.data.layout.irq_enabled) or 0
    return bool(enabled if Quirk.IRET_EFLAGS in guest.quirks else enabled & IRQ_ON)


def write_timestamp(guest: Lguest) -> None:
    """Refresh the time in the shared page."""
    if not guest.data.put_time(guest.services.wall_clock()):
        raise GuestKilled("Writing timestamp")


def set_interrupt(guest: Lguest, irq: int) -> None:
    """Make virtual interrupt `irq` pending."""
    assert 0 <= irq < LGUEST_IRQS, irq
    guest.irqs_pending |= 1 << irq
    guest.services.irq_raised(irq)


# (iii) Traps.


def has_error_code(vector: int) -> bool:
    """Whether the CPU pushes an error code with this vector."""
    return vector in VECTORS_WITH_ERROR_CODE


def deliver_trap(guest: Lguest, vector: int) -> bool:
    """Reflect a trap into the Guest; False if the Guest has no handler for it."""
    if vector >= len(guest.idt):
        return False
    lo, hi = guest.idt[vector]
    if not hi & GATE_PRESENT:
        return False
    guest.services.trap_reflected(vector, guest.regs.errcode, guest.regs.eip)
    set_guest_interrupt(guest, lo, hi, has_error_code(vector))
    return True


# (iv) The stack that direct traps need.


def pin_stack_pages(guest: Lguest) -> None:
    """Have the Guest's kernel stack mapped: a direct trap that cannot push is a double fault."""
    for page in range(guest.stack_pages):
        guest.tables.pin_page(guest.esp1 - 1 - page * PAGE_SIZE & WORD_MASK)


def guest_set_stack(guest: Lguest, segment: int, esp: int, pages: int) -> None:
    """SET_STACK: ring 1's stack segment, the virtual address just above the stack, and its size in pages."""
    if segment & 3 != GUEST_RING:
        raise GuestKilled(f"bad stack segment {signed(segment)}")
    if pages > MAX_STACK_PAGES:
        raise GuestKilled(f"bad stack pages {pages}")
    guest.ss1 = segment & 0xFFFF
    guest.esp1 = esp
    guest.stack_pages = pages
    pin_stack_pages(guest)


# (v) The clock.


def guest_set_clockevent(guest: Lguest, delta_ns: int) -> None:
    """SET_CLOCKEVENT: one timer interrupt after `delta_ns` of wall-clock time; 0 switches the clock off."""
    if not delta_ns:
        guest.timer = None
        guest.services.cancel_timer()
        return
    guest.timer = Nanoseconds(guest.services.wall_clock() + delta_ns)
    guest.services.start_timer(guest.timer)


def clock_expired(guest: Lguest) -> bool:
    """The deadline passed: the Guest's timer interrupt becomes pending. False: the timer is not to start again."""
    guest.timer = None
    set_interrupt(guest, TIMER_IRQ)
    return False


__all__ = [
    "LGUEST_IRQS",
    "clock_expired",
    "deliver_trap",
    "guest_set_clockevent",
    "guest_set_stack",
    "has_error_code",
    "interrupt_pending",
    "interrupts_on",
    "maybe_do_interrupt",
    "pin_stack_pages",
    "set_guest_interrupt",
    "set_interrupt",
    "try_deliver_interrupt",
    "write_timestamp",
]
