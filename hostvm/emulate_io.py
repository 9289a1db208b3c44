"""Instructions that the Launcher carries out for a Guest from 4.1 on: at ports, and on the registers of devices.

The Host hands over seven bytes from where the Guest stands and, if they touched a device's memory, the address that
was touched. It is not worked out here again, so nothing that the Guest may have written there counts for more than an
opcode and the number of a register.

At ports the kernel may use IN and OUT in all forms but the string ones, with an operand-size prefix, and CLI is
skipped. On devices anybody may use MOV between memory and a register, which is what compilers make of an access to
hardware. Anything else is the Guest's own fault, in both senses: it gets the trap after all.

The Launcher does not look at all of an instruction. Of an address without a base register it skips two bytes, of which
there are four, and it knows nothing of index registers (SIB): a Guest goes on in the middle of such an instruction, as
a Guest of upstream's did.

Source: lguest's Launcher (emulate_insn, emulate_mmio); Intel SDM 2, 2.1. Read next: devices/pci_bus.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from hostvm.devices.pci_bus import PciBus
from hostvm.devices.pci_registers import Access
from hostvm.switcher import GUEST_RING
from hostvm.x86 import GENERAL_REGISTERS, WORD_MASK

_OPERAND_SIZE, _CLI = 0x66, 0xFA
_IN, _IN_DX, _OUT, _OUT_DX = 0xE4, 0xEC, 0xE6, 0xEE
_STORE_8, _STORE, _LOAD_8, _LOAD = 0x88, 0x89, 0x8A, 0x8B
_KEYBOARD_STATUS = 0x64
_NO_BASE = 5
_DISPLACEMENTS: Mapping[int, int] = {0: 0, 1: 1, 2: 4, 3: 0}


class GuestRegisters(Protocol):
    """The Guest's registers, asked of the Host one by one."""

    def get(self, name: str) -> int:
        """A register's value."""
        ...

    def set(self, name: str, value: int) -> None:
        """Give a register a value."""
        ...


def emulate_port(insn: bytes, regs: GuestRegisters, bus: PciBus) -> bool:
    """Carry out a port instruction; False if the Guest must have its trap. Raises GuestKilled."""
    if regs.get("cs") & 3 != GUEST_RING:
        return False
    if insn[0] == _CLI:
        _go_on(regs, 1)
        return True
    prefixes = insn[0] == _OPERAND_SIZE
    opcode = insn[prefixes]
    kind = opcode & 0xFE
    if kind in (_IN, _OUT):
        port, length = insn[prefixes + 1], prefixes + 2
    elif kind in (_IN_DX, _OUT_DX):
        port, length = regs.get("edx") & 0xFFFF, prefixes + 1
    else:
        return False
    width = (2 if prefixes else 4) if opcode & 1 else 1
    eax, eip = regs.get("eax"), regs.get("eip")
    if kind in (_IN, _IN_DX):
        value = 1 if port == _KEYBOARD_STATUS else bus.port_in(port, width, eip)
        mask = (1 << 8 * width) - 1
        regs.set("eax", eax & ~mask | value & mask)
    elif not bus.port_out(port, width, eax, eip):
        return False
    _go_on(regs, length)
    return True


def emulate_mmio(insn: bytes, address: int, regs: GuestRegisters, bus: PciBus) -> bool:
    """Carry out a MOV at a guest-physical address of devices'; False if the Guest must have its trap.

    Raises GuestKilled.
    """
    found = bus.region(address)
    if found is None:
        return False
    registers, offset = found
    prefixes = insn[0] == _OPERAND_SIZE
    opcode, operands = insn[prefixes], insn[prefixes + 1]
    if opcode not in (_STORE, _LOAD) and (prefixes or opcode not in (_STORE_8, _LOAD_8)):
        return False
    width = (2 if prefixes else 4) if opcode & 1 else 1
    number = operands >> 3 & 7
    access = Access(offset, width, regs.get("eip"))
    if opcode in (_STORE, _STORE_8):
        registers.write(access, _get(regs, number, width))
    else:
        _set(regs, number, width, registers.read(access))
    _go_on(regs, prefixes + 2 + _displacement(operands))
    return True


def _go_on(regs: GuestRegisters, length: int) -> None:
    regs.set("eip", regs.get("eip") + length & WORD_MASK)


def _displacement(operands: int) -> int:
    """How many bytes the Launcher takes an address to have behind its ModRM byte."""
    mode = operands >> 6
    return 2 if mode == 0 and operands & 7 == _NO_BASE else _DISPLACEMENTS[mode]


def _register(number: int, width: int) -> tuple[str, int]:
    """Which register an instruction's number means, and where in it: numbers 4 to 7 are high bytes."""
    high = width == 1 and number & 4
    return GENERAL_REGISTERS[number & 3 if high else number], 8 if high else 0


def _get(regs: GuestRegisters, number: int, width: int) -> int:
    name, shift = _register(number, width)
    return regs.get(name) >> shift & (1 << 8 * width) - 1


def _set(regs: GuestRegisters, number: int, width: int, value: int) -> None:
    name, shift = _register(number, width)
    mask = (1 << 8 * width) - 1 << shift
    regs.set(name, regs.get(name) & ~mask & WORD_MASK | value << shift & mask)


__all__ = ["GuestRegisters", "emulate_mmio", "emulate_port"]
