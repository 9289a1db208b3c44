"""Where a value came from: the steps that moved it, followed back from the place where it did harm.

The last write of a location (provenance.py) is a step; if it is an instruction that merely moves a value - a MOV, a
PUSH or a POP, an addition of a constant - what it moved from is the next location, at that tick. So the chain goes back
through registers, stacks and the Switcher's saved registers, until an instruction makes the value, or the Host does.

Source: Intel SDM volume 2 for what the instructions do. Read next: explain.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from capstone import CS_ARCH_X86, CS_MODE_32, Cs
from capstone.x86 import X86_OP_IMM, X86_OP_MEM, X86_OP_REG, X86Op

from replay.instructions import LONGEST
from replay.location_values import REGISTERS, register_value
from replay.locations import GuestEntry, Location, NoSuchLocation, Register
from replay.places import Place
from replay.provenance import Write
from replay.stops import Actor
from replay.timeline import Timeline

LONGEST_CHAIN = 40
_WORD = 0xFFFFFFFF
_DECODER = Cs(CS_ARCH_X86, CS_MODE_32)
_DECODER.detail = True
_MOVES = frozenset({"mov", "movzx", "movsx"})
_SHIFTS_BY_CONSTANT = frozenset({"add", "sub", "lea", "inc", "dec"})


@dataclass(frozen=True, slots=True)
class Link:
    """`write` put a value at `location`; `text` is the instruction, if it was one. `at`: the linear address, if any."""

    location: Location
    at: int | None
    write: Write
    text: str


def chain(timeline: Timeline, location: Location, first: int) -> Iterator[Link]:
    """The writes that brought a value to `location`, from the last one back to tick `first`. The cursor moves."""
    for _ in range(LONGEST_CHAIN):
        try:
            write = timeline.last_write(location)
        except NoSuchLocation:
            return
        if write is None or write.tick < first:
            return
        timeline.go(write.tick)
        code = timeline.read(write.eip, LONGEST)
        yield Link(location, _address(location), write, _text(code, write.eip))
        if write.by not in (Actor.GUEST, Actor.SWITCHER):
            return
        source = source_of(timeline, code, isinstance(location, Register) and location.name)
        if source is None:
            return
        location = source


def _address(location: Location) -> int | None:
    match location:
        case Place(address=address):
            return address
        case GuestEntry(address=address):
            return address
    return None


def _text(code: bytes, address: int) -> str:
    found = next(_DECODER.disasm(code, address, 1), None)
    return "" if found is None else f"{found.mnemonic} {found.op_str}".strip()


def source_of(timeline: Timeline, code: bytes, target: str | bool) -> Location | None:
    """What the instruction at hand moves: into the register `target`, or into memory. None if it makes a value."""
    found = next(_DECODER.disasm(code, timeline.machine.cpu.eip, 1), None)
    if found is None:
        return None
    operands = list(found.operands)
    match found.mnemonic:
        case "push" if operands:
            return _read(timeline, operands[0])
        case "pop" | "ret":
            return Place(_value(timeline, "esp"), 4)
        case "leave":
            return Place(_value(timeline, "ebp"), 4) if target == "ebp" else Register("ebp")
        case "popal":
            order = ("edi", "esi", "ebp", None, "ebx", "edx", "ecx", "eax")
            at = order.index(target) if isinstance(target, str) and target in order else None
            return None if at is None else Place(_value(timeline, "esp") + 4 * at & _WORD, 4)
        case name if name in _MOVES and len(operands) == 2:
            return _read(timeline, operands[1])
        case name if name in _SHIFTS_BY_CONSTANT:
            return _shifted(found.mnemonic, operands, target)
    return None


def _shifted(name: str, operands: list[X86Op], target: str | bool) -> Location | None:
    """A register plus a constant."""
    if name == "lea":
        memory = operands[1].mem
        return _register(memory.base) if memory.base and not memory.index else None
    constant = len(operands) == 1 or operands[1].type == X86_OP_IMM
    return Register(target) if constant and isinstance(target, str) else None


def _read(timeline: Timeline, operand: X86Op) -> Location | None:
    if operand.type == X86_OP_REG:
        return _register(operand.reg)
    if operand.type == X86_OP_MEM:
        return Place(address_of(timeline, operand), operand.size)
    return None


def _register(number: int) -> Location | None:
    name = str(_DECODER.reg_name(number))
    return Register(name) if name in REGISTERS else None


def _value(timeline: Timeline, name: str) -> int:
    return int.from_bytes(register_value(timeline.cpu, name), "little")


def address_of(timeline: Timeline, operand: X86Op) -> int:
    """The linear address of a memory operand, all segments being flat."""
    memory, total = operand.mem, int(operand.mem.disp)
    for number, factor in ((memory.base, 1), (memory.index, memory.scale)):
        if number:
            total += factor * _value(timeline, str(_DECODER.reg_name(number)))
    return total & _WORD


def base_of(code: bytes, address: int) -> Location | None:
    """The register by which the instruction at `address` finds its memory."""
    found = next(_DECODER.disasm(code, address, 1), None)
    for operand in [] if found is None else found.operands:
        if operand.type == X86_OP_MEM and operand.mem.base:
            return _register(operand.mem.base)
    return None


__all__ = ["Link", "address_of", "base_of", "chain", "source_of"]
