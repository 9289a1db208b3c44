"""`vmcall` as a hypercall: an instruction that no CPU here has, rewritten by the Host into one that works.

For a year lguest's Guests asked their Host as KVM's do, by an instruction of Intel's virtualisation extension.
Where a CPU lacks it, it is an undefined opcode (#UD); where KVM lies below, a protection fault (#GP). Either way the
Host gets the trap, and has the Guest's code changed on the spot: three bytes for `int $0x1f` and a nop. Then the
instruction runs again, so each `vmcall` is met once at most, and later calls from there cost no more than in other
generations.

The Guest's code need not be writable by the Guest; the Host writes to its memory. In lguest such a write could give the
Launcher a private copy of a page, and so all shadow tables are dropped after it. Here the page stays where it is, but
the tables are dropped all the same: the Guest sees it, by bits A and D and by the faults that follow.

Source: lguest in Linux 2.6.30 to 3.0, drivers/lguest/x86/core.c. Read next: handle_trap.py, hypercalls.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hostvm.hypercalls import clear_all_tables
from hostvm.switcher import GUEST_RING

if TYPE_CHECKING:
    from hostvm.lguest import Lguest

VMCALL = b"\x0f\x01\xc1"
INT_AND_NOP = b"\xcd\x1f\x90"


def rewrite_vmcall(guest: Lguest) -> bool:
    """Turn the instruction at EIP into a hypercall by `int` if it is a kernel's `vmcall`; whether it was.

    Raises GuestKilled when EIP means nothing, or its bytes cannot all be read.
    """
    regs = guest.regs
    if regs.cs & 3 != GUEST_RING:
        return False
    address = guest.tables.guest_pa(regs.eip)
    if guest.memory.read(address, len(VMCALL)) != VMCALL:
        return False
    guest.memory.write(address, INT_AND_NOP)
    clear_all_tables(guest)
    return True


__all__ = ["INT_AND_NOP", "VMCALL", "rewrite_vmcall"]
