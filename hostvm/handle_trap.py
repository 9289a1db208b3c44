"""Why the Guest stopped running, and what the Host does about it.

The Switcher leaves the vector in `trapnum`: a trap of the Guest, a hypercall, or a real interrupt for the Host, whose
handler has run by now. Most traps are either the Host's own doing and repaired here in silence (pages not yet mapped,
port instructions, the FPU) or the Guest's affair and handed to its handler. A vector of 256 means that the Switcher
itself faulted while it loaded the Guest's registers; nobody can have a handler for that.

Vectors of 32 and above are taken for real interrupts, whatever raised them. So a system call whose gate may not go
straight into the Guest, an interrupt gate say, does nothing at all: upstream's behaviour up to 4.5.

From 4.1 on port instructions are the Launcher's affair, and so are instructions that touch a device's page: it gets the
instruction's first bytes and does the rest (emulate_io.py).

For some generations an undefined opcode, or a protection fault that no port instruction caused, may be a hypercall by
`vmcall` (vmcall.py). A program's protection fault may be SYSENTER, if the kernel has VMI hooks (vmi.py).

Source: lguest, drivers/lguest/x86/core.c (lguest_arch_handle_trap). Read next: interrupts_and_traps.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hostvm.emulate_insn import emulate_insn
from hostvm.errors import GuestKilled
from hostvm.gates import FIRST_EXTERNAL_VECTOR, could_be_syscall
from hostvm.interrupts_and_traps import deliver_trap
from hostvm.lguest import PendingTrap
from hostvm.printf import signed
from hostvm.switcher import LGUEST_TRAP_ENTRY
from hostvm.vmcall import rewrite_vmcall
from hostvm.vmi import enter_by_sysenter
from hostvm.vmi_iret import report_at_hook
from hostvm.x86 import PAGE_SIZE, WORD_MASK, Vector

if TYPE_CHECKING:
    from hostvm.lguest import Lguest

VECTORS = 256
INSN_BYTES = 7

# Plain integers: this is compared on every exit.
_PF, _GP, _NM, _UD = int(Vector.PF), int(Vector.GP), int(Vector.NM), int(Vector.UD)
# Traps that belong to an instruction even in the middle of a shim: debuggers step.
_WHERE_THEY_ARE = (int(Vector.DB), int(Vector.BP))


def handle_trap(guest: Lguest, cr2: int) -> int:
    """Deal with `trapnum` and return it; `cr2` is the CPU's, which counts for a page fault only.

    A hypercall is only marked as pending. Raises GuestKilled.
    """
    regs = guest.regs
    vector = regs.trapnum
    if vector == LGUEST_TRAP_ENTRY:
        guest.hcall = True
        return vector
    if FIRST_EXTERNAL_VECTOR <= vector < VECTORS and not _is_syscall(guest, vector):
        return vector
    if vector == _GP:
        report_at_hook(guest)
    if _repaired(guest, vector, cr2):
        return vector
    if vector not in _WHERE_THEY_ARE:
        report_at_hook(guest)
    if not deliver_trap(guest, vector):
        detail = guest.cr2 if vector == _PF else regs.errcode
        raise GuestKilled(f"unhandled trap {signed(vector)} at {regs.eip:#x} ({detail:#x})")
    return vector


def _is_syscall(guest: Lguest, vector: int) -> bool:
    return guest.abi.reflects_syscalls and could_be_syscall(guest, vector)


def _repaired(guest: Lguest, vector: int, cr2: int) -> bool:
    if vector == _PF:
        guest.cr2 = cr2
        if guest.tables.demand_page(cr2, guest.regs.errcode):
            return True
        if guest.tables.iomem is not None:
            _ask_launcher(guest, vector, guest.tables.iomem)
            return True
        if guest.data.address is not None and not guest.data.put(guest.data.layout.cr2, cr2):
            raise GuestKilled("Writing cr2")
    elif vector == _GP:
        if guest.abi.launcher_emulates:
            if not guest.regs.errcode:
                _ask_launcher(guest, vector)
            return guest.pending_trap is not None
        skipped = not guest.regs.errcode and emulate_insn(guest)
        if skipped or (guest.abi.vmcall and rewrite_vmcall(guest)):
            return True
        return not guest.regs.errcode and enter_by_sysenter(guest)
    elif vector == _UD:
        return guest.abi.vmcall and rewrite_vmcall(guest)
    elif vector == _NM:
        return not guest.ts
    return False


def _ask_launcher(guest: Lguest, vector: int, address: int = 0) -> None:
    """Have the Launcher carry out the instruction at EIP, whoever's it is; what is not there of it is zero."""
    eip = guest.regs.eip
    first = min(INSN_BYTES, PAGE_SIZE - eip % PAGE_SIZE)
    insn = b""
    if first < INSN_BYTES:
        rest = guest.tables.find_guest_pa(eip + first & WORD_MASK)
        if rest is not None:
            insn = guest.memory.read(rest, INSN_BYTES - first)
    insn = guest.memory.read(guest.tables.guest_pa(eip), first) + insn
    guest.pending_trap = PendingTrap(vector, insn.ljust(INSN_BYTES, b"\0"), address)


__all__ = ["handle_trap"]
