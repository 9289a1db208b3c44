"""VMI: a kernel that was written for a PC runs in ring 1, because it says where its privileged instructions are.

lguest's Guests know that they are Guests, and store where a processor's kernel would say `cli`. A kernel with VMI hooks
does not: its entry code, its spinlocks and what it asks of the processor are the native instructions, with room
behind and a list of the places. When the Launcher loads it, the Host reads the list (vmi_sites.py), makes machine code
for each place (vmi_shims.py), writes it over the instructions, and shows the Guest the pages with the rest
(vmi_pages.py). IRET is a matter of its own (vmi_iret.py). All else - tables, timer, console - such a kernel asks of
lguest by hypercalls, as every Guest does.

Here is what the Host does when a shim calls: (i) model-specific registers, of which it has those of SYSENTER; any other
is a protection fault at the hook, as on a processor; (ii) CPUID, with the features that the Host adds; (iii) the IRET
that it refuses. And (iv) SYSENTER, which is no hook, since programs execute it: it faults, and the Host does what the
processor would have.

Source: the VMI patch for Linux 2.6.16; Intel SDM 2B, SYSENTER and SYSEXIT, and 4, model-specific registers.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from hostvm.cpuid import cpuid
from hostvm.errors import GuestKilled
from hostvm.interrupts_and_traps import deliver_trap
from hostvm.switcher import GUEST_RING
from hostvm.vmi_iret import USER_RING
from hostvm.vmi_shims import Word
from hostvm.vmi_sites import Kind
from hostvm.x86 import WORD_MASK, Vector

if TYPE_CHECKING:
    from hostvm.lguest import Lguest

_MSRS: Mapping[int, Word] = MappingProxyType(
    {0x174: Word.SYSENTER_CS, 0x175: Word.SYSENTER_ESP, 0x176: Word.SYSENTER_EIP}
)
_FEATURES_ADDED = 1 << 5 | 1 << 11
_SYSENTER = b"\x0f\x34"
_NO_RING = 0xFFFC
_SS_IN_FRAME = 20


def initialize(guest: Lguest, address: int) -> None:
    """The Guest has named its shared page: the shims must have the same one, and the region counts from now on."""
    assert guest.vmi is not None
    shims = guest.vmi.shims
    if address != shims.shared_physical:
        raise GuestKilled(
            f"VMI: lguest_data is at {address:#x}, but at {shims.shared_physical:#x} for the hooks"
        )
    guest.noirq_start, guest.noirq_end = shims.region


# What shims ask for.


def rdmsr(guest: Lguest, args: tuple[int, ...]) -> None:
    """Answer in EDX:EAX what the register ECX holds."""
    assert guest.vmi is not None
    word = _MSRS.get(args[2])
    if word is None:
        _fault_at_hook(guest)
        return
    guest.regs.eax, guest.regs.edx = guest.vmi[word], 0


def wrmsr(guest: Lguest, args: tuple[int, ...]) -> None:
    """Set the register ECX to what was in EDX:EAX; EAX has come in EBX, which lies on the stack meanwhile."""
    assert guest.vmi is not None
    word = _MSRS.get(args[2])
    if word is None:
        regs = guest.regs
        regs.eax = args[1]
        regs.ebx = guest.memory.read_u32(guest.tables.guest_pa(regs.esp))
        regs.esp = regs.esp + 4 & WORD_MASK
        _fault_at_hook(guest)
        return
    guest.vmi[word] = args[1]
    if word is Word.SYSENTER_CS:
        segment = args[1] & _NO_RING
        guest.vmi[Word.SYSEXIT_CS] = segment + 16 | USER_RING
        guest.vmi[Word.SYSEXIT_SS] = segment + 24 | USER_RING


def _fault_at_hook(guest: Lguest) -> None:
    """There is no such register: a protection fault, which the kernel may expect at its instruction."""
    assert guest.vmi is not None
    regs = guest.regs
    site = guest.vmi.shims.callers.get(regs.eip)
    if site is None or site.kind not in (Kind.RDMSR, Kind.WRMSR):
        raise GuestKilled(f"VMI: a shim's hypercall before {regs.eip:#x}, where no shim is")
    regs.eip, regs.errcode = site.address, 0
    if not deliver_trap(guest, Vector.GP):
        raise GuestKilled(f"unhandled trap {Vector.GP.value} at {regs.eip:#x} (0x0)")


def identify(guest: Lguest, args: tuple[int, ...]) -> None:
    """Answer CPUID for the leaf in EBX: the processor as it is, with what the Host adds to it."""
    regs, answer = guest.regs, cpuid(args[1])
    regs.eax, regs.ebx, regs.ecx, regs.edx = answer
    if args[1] == 1:
        regs.edx |= _FEATURES_ADDED


def bad_iret(guest: Lguest, args: tuple[int, ...]) -> None:
    """An IRET that would land on a 16-bit stack, of which it would set but half of the pointer."""
    frame = guest.regs.esp + _SS_IN_FRAME & WORD_MASK
    segment = guest.memory.read_u32(guest.tables.guest_pa(frame)) & 0xFFFF
    raise GuestKilled(
        f"VMI: IRET at {args[1]:#x} to a 16-bit stack (segment {segment:#x}) is not supported"
    )


# SYSENTER.


def enter_by_sysenter(guest: Lguest) -> bool:
    """If a program faulted at SYSENTER, enter its kernel as the processor would; whether it did.

    Without a segment in the register for it SYSENTER is a fault for the kernel.
    """
    vmi, regs = guest.vmi, guest.regs
    if vmi is None or regs.cs & 3 != USER_RING:
        return False
    segment = vmi[Word.SYSENTER_CS] & _NO_RING
    if not segment or _opcode(guest, regs.eip) != _SYSENTER:
        return False
    guest.data.put(guest.data.layout.irq_enabled, 0)
    regs.cs, regs.ss = segment | GUEST_RING, segment + 8 | GUEST_RING
    regs.eip, regs.esp = vmi[Word.SYSENTER_EIP], vmi[Word.SYSENTER_ESP]
    return True


def _opcode(guest: Lguest, eip: int) -> bytes:
    addresses = (eip, eip + 1 & WORD_MASK)
    return b"".join(guest.memory.read(guest.tables.guest_pa(at), 1) for at in addresses)


__all__ = ["bad_iret", "enter_by_sysenter", "identify", "initialize", "rdmsr", "wrmsr"]
