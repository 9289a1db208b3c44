"""The registers as the debugger sees them: one fixed table, and values for it out of a CpuState.

The order is GDB's. Its i386 code insists on names and order of the first three features; with them the first 41
registers are those of the classic `g` packet, so that a debugger that reads no description gets along too. Behind them
come our own: what one wants to see of the system, and `tick`, which says where in the run the state is. A description
cannot change while a debugger is connected, so there is one layout for all contexts; what a context does not know is
None.

What is tricky: GDB numbers x87 registers from the top of their stack, while tags are by physical register and two bits
each, and 80-bit values are little-endian bytes here and everywhere.

Source: GDB's feature names (manual, G.5.5 i386 Features); Intel SDM volume 1, 8.1.7 (tag word). Read next:
description.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType

from gdbstub.target import RegisterSet
from hostvm.cpu_state import CS, DS, ES, FS, GS, SS, CpuState
from hostvm.x86 import GENERAL_REGISTERS

_GDT, _IDT, _TR = 2, 3, 1
_EMPTY, _VALID, _ZERO, _SPECIAL = 3, 0, 1, 2


@dataclass(frozen=True, slots=True)
class Register:
    """One register: its name, size in bits, GDB's name for its type, and the feature it belongs to."""

    name: str
    bits: int
    type: str
    feature: str

    @property
    def width(self) -> int:
        """Size in bytes."""
        return self.bits // 8


CORE = "org.gnu.gdb.i386.core"
SSE = "org.gnu.gdb.i386.sse"
SEGMENTS = "org.gnu.gdb.i386.segments"
SYSTEM = "org.lgreplay.i386.system"

_POINTERS = {"esp": "data_ptr", "ebp": "data_ptr", "eip": "code_ptr", "eflags": "i386_eflags"}
_GENERAL = (*GENERAL_REGISTERS, "eip", "eflags")
_SELECTORS = ("cs", "ss", "ds", "es", "fs", "gs")
_X87_CONTROL = ("fctrl", "fstat", "ftag", "fiseg", "fioff", "foseg", "fooff", "fop")

REGISTERS: tuple[Register, ...] = (
    *(Register(name, 32, _POINTERS.get(name, "int32"), CORE) for name in _GENERAL + _SELECTORS),
    *(Register(f"st{index}", 80, "i387_ext", CORE) for index in range(8)),
    *(Register(name, 32, "int", CORE) for name in _X87_CONTROL),
    *(Register(f"xmm{index}", 128, "vec128", SSE) for index in range(8)),
    Register("mxcsr", 32, "i386_mxcsr", SSE),
    Register("fs_base", 32, "int", SEGMENTS),
    Register("gs_base", 32, "int", SEGMENTS),
    Register("cr0", 32, "i386_cr0", SYSTEM),
    Register("cr2", 32, "data_ptr", SYSTEM),
    Register("cr3", 32, "uint32", SYSTEM),
    Register("cr4", 32, "i386_cr4", SYSTEM),
    Register("idtr", 32, "data_ptr", SYSTEM),
    Register("idtr_limit", 32, "uint32", SYSTEM),
    Register("gdtr", 32, "data_ptr", SYSTEM),
    Register("gdtr_limit", 32, "uint32", SYSTEM),
    Register("tr", 32, "uint32", SYSTEM),
    Register("cpl", 32, "uint32", SYSTEM),
    Register("tick", 64, "uint64", SYSTEM),
)
NUMBER: Mapping[str, int] = MappingProxyType(
    {register.name: number for number, register in enumerate(REGISTERS)}
)
WIDTHS = tuple(register.width for register in REGISTERS)
UNKNOWN: RegisterSet = (None,) * len(REGISTERS)
TICK = NUMBER["tick"]
READ_ONLY = frozenset({TICK, NUMBER["cpl"]})
# What a debugger asks for at every stop.
EXPEDITED = tuple(NUMBER[name] for name in ("eip", "esp", "ebp", "eflags", "tick"))


# ---- values of a processor ------------------------------------------------------------------------


def _physical(state: CpuState, index: int) -> bytes:
    return state.fpu[4][index * 10 : index * 10 + 10]


def _tag(value: bytes) -> int:
    """What the tag word says of a register that is not empty."""
    exponent = int.from_bytes(value[8:], "little") & 0x7FFF
    if not any(value[:8]) and not exponent:
        return _ZERO
    return _VALID if 0 < exponent < 0x7FFF and value[7] & 0x80 else _SPECIAL


def _tag_word(state: CpuState) -> int:
    empty = state.fpu[3]
    tags = (_EMPTY if empty[i] else _tag(_physical(state, i)) for i in range(8))
    return sum(tag << 2 * index for index, tag in enumerate(tags))


def _x87_words(state: CpuState) -> tuple[int, ...]:
    top, status, control, _, _, opcode, code, data, instruction, operand = state.fpu
    status = status & ~0x3800 | (top & 7) << 11
    return (control, status, _tag_word(state), code, instruction, data, operand, opcode)


def _words(state: CpuState) -> tuple[int, ...]:
    """The 32-bit registers of the first feature, in order; x87 control words follow the stack."""
    order = (CS, SS, DS, ES, FS, GS)
    return (*state.regs, state.eip, state.eflags, *(state.segs[i].selector for i in order))


def _system(state: CpuState) -> tuple[int, ...]:
    gdt, idt = state.tables[_GDT], state.tables[_IDT]
    return (
        *(state.segs[FS].base, state.segs[GS].base),
        *state.cr,
        *(idt.base, idt.limit, gdt.base, gdt.limit),
        *(state.tables[_TR].selector, state.cpl),
    )


def _packed(words: tuple[int, ...]) -> list[bytes]:
    return [word.to_bytes(4, "little") for word in words]


def register_set(state: CpuState, tick: int) -> RegisterSet:
    """All registers of the processor at a tick."""
    top = state.fpu[0]
    return (
        *_packed(_words(state)),
        *(_physical(state, top + index & 7) for index in range(8)),
        *_packed(_x87_words(state)),
        *(state.xmm[at : at + 16] for at in range(0, 128, 16)),
        *_packed((state.mxcsr, *_system(state))),
        tick.to_bytes(8, "little"),
    )


def partial_set(known: Mapping[str, int]) -> RegisterSet:
    """Registers of a context of which only these are known."""
    values: list[bytes | None] = list(UNKNOWN)
    for name, value in known.items():
        number = NUMBER[name]
        values[number] = value.to_bytes(WIDTHS[number], "little")
    return tuple(values)


def _general(index: int, state: CpuState) -> int:
    return state.regs[index]


_QUICK: Mapping[int, Callable[[CpuState], int]] = MappingProxyType(
    {
        **{index: partial(_general, index) for index in range(8)},
        NUMBER["eip"]: lambda state: state.eip,
        NUMBER["eflags"]: lambda state: state.eflags,
    }
)


def register_value(state: CpuState, tick: int, number: int) -> int | None:
    """One register as a number, quickly if it is one that conditions are made of; None if there is no such register."""
    quick = _QUICK.get(number)
    if quick is not None:
        return quick(state)
    if not 0 <= number < len(REGISTERS):
        return None
    value = register_set(state, tick)[number]
    return None if value is None else int.from_bytes(value, "little")


__all__ = [
    "CORE",
    "EXPEDITED",
    "NUMBER",
    "READ_ONLY",
    "REGISTERS",
    "SEGMENTS",
    "SSE",
    "SYSTEM",
    "TICK",
    "UNKNOWN",
    "WIDTHS",
    "Register",
    "partial_set",
    "register_set",
    "register_value",
]
