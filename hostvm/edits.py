"""What a debugger writes into the machine: registers, and a Guest's memory.

An edit enters the machine as everything else that it cannot compute by itself: through its World, at a tick. It is made
when the machine gets to that tick, before the step; so who sees the machine at the tick sees the edit made. Several of
one tick are made in their order, each in the state that those before it have left.

A debugger may do what the Guest could do to itself, and no more: (i) registers only while the Guest is in, so that
nothing changes under the feet of the Switcher, and of EFLAGS only what a program may change; (ii) memory only of a
Guest. Page tables are ordinary memory: the Host's shadow of one changes when the Guest says that it has changed it.
`refusal` says what is not possible; nothing else looks at an edit.

Read next: world.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import TYPE_CHECKING

from hostvm.cpu_state import CpuState
from hostvm.errors import GuestKilled
from hostvm.x86 import PAGE_MASK, PAGE_SIZE, WORD_MASK, Eflags, Pte

if TYPE_CHECKING:
    from hostvm.launched_guest import LaunchedGuest
    from hostvm.machine import Machine

LONGEST_EDIT = 1 << 20
_ARITHMETIC = Eflags.CF | Eflags.PF | Eflags.AF | Eflags.ZF | Eflags.SF | Eflags.OF
# RF is not part of the state (cpu_state.py).
_PROGRAMS_FLAGS = int(
    _ARITHMETIC | Eflags.TF | Eflags.DF | Eflags.NT | Eflags.AC | Eflags.ID | Eflags.RF
)
_MXCSR_BITS = 0xFFFF
_P = int(Pte.P)


class Target(IntEnum):
    """What an edit's address means. The numbers stand in traces."""

    REGISTER = 1
    PHYSICAL = 2
    LINEAR = 3


class Register(IntEnum):
    """Registers by number, as in traces. ST0 to ST7 have 10 bytes, XMM0 to XMM7 16, all others 4."""

    EAX = 0
    ECX = 1
    EDX = 2
    EBX = 3
    ESP = 4
    EBP = 5
    ESI = 6
    EDI = 7
    EIP = 8
    EFLAGS = 9
    MXCSR = 10
    ST0 = 16
    ST1 = 17
    ST2 = 18
    ST3 = 19
    ST4 = 20
    ST5 = 21
    ST6 = 22
    ST7 = 23
    XMM0 = 32
    XMM1 = 33
    XMM2 = 34
    XMM3 = 35
    XMM4 = 36
    XMM5 = 37
    XMM6 = 38
    XMM7 = 39

    @property
    def size(self) -> int:
        """Bytes."""
        if self >= Register.XMM0:
            return 16
        return 10 if self >= Register.ST0 else 4


@dataclass(frozen=True, slots=True)
class Edit:
    """Bytes for a register (`address` is its number), or for a guest-physical or linear address of a Guest."""

    guest: int
    target: int
    address: int
    data: bytes


def refusal(machine: Machine, edit: Edit) -> str | None:
    """What is asked for and does not exist, in a few words; None when the edit can be made now."""
    if edit.guest >= len(machine.guests):
        return f"no guest {edit.guest}"
    match edit.target:
        case Target.REGISTER:
            return _register_refusal(machine, edit)
        case Target.PHYSICAL | Target.LINEAR:
            if not 0 < len(edit.data) <= LONGEST_EDIT:
                return f"no edit of {len(edit.data)} bytes"
            return None if places(machine, edit) is not None else _nowhere(edit)
        case _:
            return f"no kind of edit {edit.target}"


def make(machine: Machine, edit: Edit) -> None:
    """Make an edit that is possible."""
    if edit.target == Target.REGISTER:
        machine.cpu.revert(_with_register(machine.cpu.state(), edit))
        return
    at = 0
    for address, count in places(machine, edit) or ():
        machine.memory.write(address, edit.data[at : at + count])
        at += count


# ---- registers -------------------------------------------------------------------------------------


def _register_refusal(machine: Machine, edit: Edit) -> str | None:
    if edit.address not in set(Register):
        return f"no register {edit.address}"
    register = Register(edit.address)
    if len(edit.data) != register.size:
        return f"no {len(edit.data)} bytes in {register.name}"
    if machine.finished or machine.cpu.cpl == 0 or machine.current_guest.number != edit.guest:
        return f"no guest {edit.guest} on the processor"
    value = int.from_bytes(edit.data, "little")
    if register is Register.EFLAGS:
        changed = value ^ machine.cpu.state().eflags
        if changed & ~_PROGRAMS_FLAGS:
            return f"no way to make EFLAGS {value:#x}"
    if register is Register.MXCSR and value > _MXCSR_BITS:
        return f"no MXCSR {value:#x}"
    return None


def _with_register(state: CpuState, edit: Edit) -> CpuState:
    register, value = Register(edit.address), int.from_bytes(edit.data, "little")
    match register:
        case Register.EIP:
            return replace(state, eip=value)
        case Register.EFLAGS:
            return replace(state, eflags=value & ~int(Eflags.RF))
        case Register.MXCSR:
            return replace(state, mxcsr=value)
        case _ if register >= Register.XMM0:
            at = (register - Register.XMM0) * 16
            return replace(state, xmm=state.xmm[:at] + edit.data + state.xmm[at + 16 :])
        case _ if register >= Register.ST0:
            return _with_st(state, register - Register.ST0, edit.data)
        case _:
            regs = (*state.regs[:register], value, *state.regs[register + 1 :])
            return replace(state, regs=regs)


def _with_st(state: CpuState, number: int, data: bytes) -> CpuState:
    """ST(number) is counted from the top of the stack; what is written there is not empty any more."""
    top, status, control, tags, registers, *last = state.fpu
    at = (top + number) % 8
    tags = tags[:at] + b"\0" + tags[at + 1 :]
    registers = registers[: at * 10] + data + registers[at * 10 + 10 :]
    opcode, code, operands, instruction, operand = last
    fpu = (top, status, control, tags, registers, opcode, code, operands, instruction, operand)
    return replace(state, fpu=fpu)


# ---- memory ----------------------------------------------------------------------------------------


def places(machine: Machine, edit: Edit) -> list[tuple[int, int]] | None:
    """Host-physical address and number of bytes of each part; None if any of it is nowhere."""
    guest = machine.guests[edit.guest]
    found: list[tuple[int, int]] = []
    for address, count in _pieces(edit.address, len(edit.data)):
        physical = address if edit.target == Target.PHYSICAL else guest_physical(guest, address)
        if physical is None or physical + count > guest.loaded.pfn_limit * PAGE_SIZE:
            return None
        found.append((guest.guest_memory.host_address(physical), count))
    return found


def _pieces(address: int, count: int) -> Iterator[tuple[int, int]]:
    """Cut at the ends of pages."""
    while count:
        step = min(count, PAGE_SIZE - (address & PAGE_SIZE - 1))
        yield address & WORD_MASK, step
        address, count = address + step, count - step


def _nowhere(edit: Edit) -> str:
    what = "guest-physical" if edit.target == Target.PHYSICAL else "linear"
    return f"no {len(edit.data)} bytes at {what} address {edit.address:#x}"


def guest_physical(guest: LaunchedGuest, address: int) -> int | None:
    """Where a linear address leads by the Guest's own page tables."""
    tables = guest.tables
    if tables.linear:
        return address
    try:
        entry = tables.memory.read_u32(tables.shadowed[tables.current] + (address >> 20 & 0xFFC))
        if entry & _P:
            entry = tables.memory.read_u32((entry & PAGE_MASK) + (address >> 10 & 0xFFC))
    except GuestKilled:
        return None
    return (entry & PAGE_MASK) | (address & PAGE_SIZE - 1) if entry & _P else None


__all__ = [
    "LONGEST_EDIT",
    "Edit",
    "Register",
    "Target",
    "guest_physical",
    "make",
    "places",
    "refusal",
]
