"""IRET in ring 1: the region in which the Host does not interrupt, and what it does there instead.

A processor's IRET switches interrupts on and leaves the kernel in one step. Here it is a few instructions, in a copy of
its own for each site (vmi_shims.py). Whoever looks from outside must never find the Guest in the middle of them:

(i) *An interrupt is due.* lguest would wait, until somebody has another reason to look: too long for a program that
computes. To deliver it in the region would be wrong in another way: the kernel has looked for the last time whether
another program is due, and an interrupt that makes one due would be too late. So the Host does the rest of the IRET
itself, and the interrupt finds the Guest where the frame leads, as it would have on a processor.
(ii) *A fault.* The frame may be one by which nobody can return. The kernel expects such a fault at its own `iret`, and
interrupts still off. So whatever was done in the region is undone, and the fault is reported at the hook.

The Host does not carry out an IRET that would fault, nor one to a 16-bit stack: the Guest may try that by itself, and
learns from the processor or from the copy's own test.

Source: the VMI patch for Linux 2.6.16, which says why the region; Intel SDM 2A, IRET. Read next: vmi.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hostvm.lguest_data import IRQ_ON
from hostvm.memory_map import VMI_TEXT
from hostvm.switcher import GDT_ENTRIES, GUEST_RING
from hostvm.vmi_shims import IRET_COPY, IRET_OFFSET
from hostvm.vmi_sites import Kind
from hostvm.x86 import DESC_PRESENT, WORD_MASK, Eflags

if TYPE_CHECKING:
    from hostvm.lguest import Lguest

USER_RING = 3
_FRAME_WORDS, _FRAME_WORDS_OUTWARDS = 3, 5
_NOT_LOADED = int(Eflags.IF | Eflags.IOPL | Eflags.VM | Eflags.RF)
_LOADED = int(
    Eflags.CF
    | Eflags.PF
    | Eflags.AF
    | Eflags.ZF
    | Eflags.SF
    | Eflags.TF
    | Eflags.DF
    | Eflags.OF
    | Eflags.NT
    | Eflags.AC
    | Eflags.ID
)
_BIG, _IS_SEGMENT, _IS_CODE, _IS_WRITABLE = 1 << 22, 1 << 12, 1 << 11, 1 << 9
_CONFORMING = 1 << 10
_TABLE_INDICATOR = 4


def finish_iret(guest: Lguest) -> bool:
    """The Guest is in the region: bring it behind its IRET, with its interrupt flag as the frame has it.

    False, and nothing is done, if that IRET is not for the Host to carry out. Raises GuestKilled.
    """
    regs = guest.regs
    pushed = _eax_is_pushed(regs.eip)
    frame = _words(guest, regs.esp + 4 * pushed, _FRAME_WORDS)
    eip, cs, eflags = frame
    outwards = cs & 3 == USER_RING
    if not (outwards or cs & 3 == GUEST_RING) or not _loads_as_code(guest, cs):
        return False
    if outwards:
        esp, ss = _words(guest, regs.esp + 4 * pushed + 4 * _FRAME_WORDS, 2)
        if not _loads_as_stack(guest, ss, cs & 3):
            return False
    else:
        esp, ss = regs.esp + 4 * pushed + 4 * _FRAME_WORDS, regs.ss
    if pushed:
        (regs.eax,) = _words(guest, regs.esp, 1)
    regs.eip, regs.cs, regs.esp, regs.ss = eip, cs & 0xFFFF, esp & WORD_MASK, ss & 0xFFFF
    regs.eflags = regs.eflags & _NOT_LOADED | eflags & _LOADED | Eflags.FIXED
    guest.data.put(guest.data.layout.irq_enabled, eflags & IRQ_ON)
    return True


def report_at_hook(guest: Lguest) -> None:
    """If the Guest faulted in the region, make it look as if it had at the hook: undo what came between."""
    vmi, regs = guest.vmi, guest.regs
    if vmi is None:
        return
    start, end = vmi.shims.region
    if not start <= regs.eip < end:
        return
    site = vmi.shims.iret_sites[(regs.eip - start) // IRET_COPY]
    if _eax_is_pushed(regs.eip):
        (regs.eax,) = _words(guest, regs.esp, 1)
        regs.esp = regs.esp + 4 & WORD_MASK
    if site.kind is Kind.STI_SYSEXIT:
        regs.esp = regs.esp + 4 * _FRAME_WORDS_OUTWARDS & WORD_MASK
    regs.eip = site.address
    guest.data.put(guest.data.layout.irq_enabled, 0)


def _eax_is_pushed(eip: int) -> bool:
    return (eip - VMI_TEXT) % IRET_COPY not in (0, IRET_OFFSET)


def _words(guest: Lguest, address: int, count: int) -> tuple[int, ...]:
    read, locate = guest.memory.read_u32, guest.tables.guest_pa
    return tuple(read(locate(address + 4 * at & WORD_MASK)) for at in range(count))


def _descriptor(guest: Lguest, selector: int) -> int:
    """Second word of the descriptor that the Guest's `selector` names; 0 for none."""
    index = selector >> 3 & 0x1FFF
    if selector & _TABLE_INDICATOR or not 0 < index < GDT_ENTRIES:
        return 0
    high = guest.gdt[index][1]
    present = high & DESC_PRESENT and high & _IS_SEGMENT
    return high if present else 0


def _loads_as_code(guest: Lguest, selector: int) -> bool:
    high = _descriptor(guest, selector)
    return bool(high & _IS_CODE) and not high & _CONFORMING and high >> 13 & 3 == selector & 3


def _loads_as_stack(guest: Lguest, selector: int, ring: int) -> bool:
    high = _descriptor(guest, selector)
    is_stack = high & _IS_WRITABLE and high & _BIG and not high & _IS_CODE
    return bool(is_stack) and high >> 13 & 3 == selector & 3 == ring


__all__ = ["USER_RING", "finish_iret", "report_at_hook"]
