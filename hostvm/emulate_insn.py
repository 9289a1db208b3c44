"""Stepping over port instructions: a Guest kernel that probes for hardware finds none.

IN, OUT and their forms fault at ring 1 with error code 0. The Host skips the instruction; IN reads all ones, as from a
bus with nothing on it. One operand-size prefix is understood and nothing else; anything else is reflected.

Two forms exist. Up to 3.0, IN with an odd opcode sets all of EAX even after the prefix, and one with an even opcode
sets the low half, or after the prefix the high half. Later each sets as many bits as it reads. From 2.6.34 on a lone
CLI is skipped too. 2.6.23 knows its kernel by its addresses, later ones by the ring.

What else a Guest's kernel may touch if a bug of lguest is corrected stands in debug_registers.py.

One thing that is said to a port has a meaning here, unless lguest is to be as it was: a PC's keyboard controller resets
it when told to pulse its output lines, and so kernels without a hypercall for it restart. They wait until it takes
commands; so in its status, all ones, the bit that says that it is busy is clear. A kernel that looks for a keyboard
still finds none: there seems to be no end of what it could read.

Source: lguest, drivers/lguest/core.c (2.6.23), drivers/lguest/x86/core.c (later).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hostvm.debug_registers import move_debug_register
from hostvm.observations import EndReason
from hostvm.quirks import Quirk
from hostvm.switcher import GUEST_RING
from hostvm.x86 import WORD_MASK

if TYPE_CHECKING:
    from hostvm.lguest import Lguest

_OPERAND_SIZE = 0x66
_CLI, _TWO_BYTES = 0xFA, 0x0F
_LENGTHS = {0xE4: 2, 0xEC: 1, 0xE6: 2, 0xEE: 1}  # by opcode without its width bit
_READS = (0xE4, 0xEC)
_OUT_IMMEDIATE = 0xE6
_IN_IMMEDIATE = 0xE4
_BYTES = (0xE4, 0xE6, 0xEC, 0xEE)
_KEYBOARD_CONTROLLER, _BUSY, _PULSE_RESET = 0x64, 0x02, 0xFE


def emulate_insn(guest: Lguest) -> bool:
    """Skip the instruction at EIP if it is one the Host knows; whether it was."""
    if not _is_kernel(guest):
        return False
    regs = guest.regs
    address = guest.tables.guest_pa(regs.eip)
    opcode = guest.memory.read(address, 1)[0]
    if opcode == _CLI and guest.abi.port_skip_knows_cli:
        regs.eip = regs.eip + 1 & WORD_MASK
        return True
    prefixed = opcode == _OPERAND_SIZE
    if prefixed:
        opcode = guest.memory.read(address + 1 & WORD_MASK, 1)[0]
    kind = opcode & 0xFE
    if kind not in _LENGTHS:
        return opcode == _TWO_BYTES and not prefixed and move_debug_register(guest, address)
    if kind in _READS:
        read = _ones_by_width if guest.abi.port_read_by_width else _ones_as_first_written
        regs.eax |= read(bool(opcode & 1), prefixed)
    if Quirk.RESET_UNHEARD not in guest.quirks and opcode in _BYTES and not prefixed:
        _keyboard_controller(guest, opcode, address)
    regs.eip = regs.eip + prefixed + _LENGTHS[kind] & WORD_MASK
    return True


def _keyboard_controller(guest: Lguest, opcode: int, address: int) -> None:
    """A byte came from a port, or goes there: the one port at which somebody listens; `address` is guest-physical."""
    port = guest.regs.edx & 0xFFFF
    if opcode in (_IN_IMMEDIATE, _OUT_IMMEDIATE):
        port = guest.memory.read(address + 1 & WORD_MASK, 1)[0]
    if port != _KEYBOARD_CONTROLLER:
        return
    if opcode & 0xFE in _READS:
        guest.regs.eax &= ~_BUSY
    elif guest.regs.eax & 0xFF == _PULSE_RESET:
        guest.ended = EndReason.RESTART, ""


def _is_kernel(guest: Lguest) -> bool:
    regs = guest.regs
    if not guest.abi.port_skip_asks_ring:
        return regs.eip >= guest.tables.kernel_address
    if regs.cs & 3 == GUEST_RING:
        return True
    if Quirk.PORT_SKIP_WALKS_USER_EIP in guest.quirks:
        guest.tables.guest_pa(regs.eip)
    return False


def _ones_by_width(wide: bool, prefixed: bool) -> int:
    if not wide:
        return 0xFF
    return 0xFFFF if prefixed else WORD_MASK


def _ones_as_first_written(wide: bool, prefixed: bool) -> int:
    if wide:
        return WORD_MASK
    return 0xFFFF0000 if prefixed else 0xFFFF


__all__ = ["emulate_insn"]
