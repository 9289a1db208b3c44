"""Stepping over moves from and to debug registers, if lguest is not to be as it was: quirks.py says why.

In ring 1 they fault with error code 0. A Guest never has a breakpoint in hardware, as its kernel drops all that it is
asked for. So DR0 to DR3 are zero, and the only reason for a debug trap is a single step. DR4 and DR5 are other names of
DR6 and DR7. Kernels later than 3.11 never ask: they take all of them to be zero.

Source: Intel SDM 3B 17.2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hostvm.quirks import Quirk
from hostvm.x86 import GENERAL_REGISTERS, WORD_MASK

if TYPE_CHECKING:
    from hostvm.lguest import Lguest

_READ, _WRITE = 0x21, 0x23
_LENGTH = 3
_STATUS, _CONTROL = 0xFFFF4FF0, 0x400
_VALUES = (0, 0, 0, 0, _STATUS, _CONTROL, _STATUS, _CONTROL)


def move_debug_register(guest: Lguest, address: int) -> bool:
    """Carry out the two-byte instruction at guest-physical `address`, if it is such a move; whether it was."""
    if Quirk.DEBUG_REGISTERS_FAULT in guest.quirks:
        return False
    opcode, registers = (guest.memory.read(address + at & WORD_MASK, 1)[0] for at in (1, 2))
    if opcode not in (_READ, _WRITE):
        return False
    if opcode == _READ:
        setattr(guest.regs, GENERAL_REGISTERS[registers & 7], _VALUES[registers >> 3 & 7])
    guest.regs.eip = guest.regs.eip + _LENGTH & WORD_MASK
    return True


__all__ = ["move_debug_register"]
