"""What a location holds, as bytes; and of what the Host keeps in mind, which events can change it.

A value is compared with what it was, so it must not change by looking: bytes for memory, little-endian numbers for
registers. The FPU is one value: its text.

Only a turn of the Host changes what the Host keeps in mind, and what it does there is in the log. So for each such
value there are kinds of events, and of those the ones with the right number and the right Guest.

Read next: provenance.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from hostvm.cpu_state import CpuState
from hostvm.observations import Hypercall, IrqDelivered, IrqRaised
from hostvm.x86 import GENERAL_REGISTERS
from replay.events import Event, Kind
from replay.locations import (
    VECTORS,
    GdtEntry,
    IdtEntry,
    Location,
    NoSuchLocation,
    PendingBit,
    Register,
    place_of,
)
from replay.look import Look
from replay.places import content

_SEGMENTS = ("es", "cs", "ss", "ds", "fs", "gs")
_CONTROL = ("cr0", "cr2", "cr3", "cr4")
REGISTERS = frozenset(
    {*GENERAL_REGISTERS, *_SEGMENTS, *_CONTROL, "eip", "eflags", "gdtr", "idtr", "tr", "fpu"}
)
_GDT_ENTRIES = 32
_IRQS = 32
_CALLS = frozenset({Kind.HYPERCALL, Kind.GUEST_RESTARTED})
_INTERRUPTS = frozenset({Kind.IRQ_RAISED, Kind.IRQ_DELIVERED, Kind.GUEST_RESTARTED})

Value: TypeAlias = Callable[[Look], bytes]


@dataclass(frozen=True, slots=True)
class HostValue:
    """A value in the Host's mind, and the events of steps that can change it."""

    value: Value
    kinds: frozenset[Kind]
    may_change: Callable[[Event], bool]


def value_of(look: Look, location: Location) -> bytes:
    """The value of a location here. Raises NoSuchLocation."""
    guest = getattr(location, "guest", 0)
    _within(guest, len(look.machine.guests), "guest")
    match location:
        case Register(name):
            return register_value(look.cpu, name)
        case IdtEntry() | GdtEntry() | PendingBit():
            return host_value(location).value(look)
        case _:
            return content(place_of(look, location), look)


# ---- registers ----


def register_value(cpu: CpuState, name: str) -> bytes:
    """A register's bytes, little-endian. Raises NoSuchLocation."""
    if name in GENERAL_REGISTERS:
        return cpu.regs[GENERAL_REGISTERS.index(name)].to_bytes(4, "little")
    if name in _SEGMENTS:
        return cpu.segs[_SEGMENTS.index(name)].selector.to_bytes(2, "little")
    if name in _CONTROL:
        return cpu.cr[_CONTROL.index(name)].to_bytes(4, "little")
    match name:
        case "eip" | "eflags":
            return int(getattr(cpu, name)).to_bytes(4, "little")
        case "gdtr" | "idtr":
            table = cpu.tables[2 if name == "gdtr" else 3]
            return table.base.to_bytes(4, "little") + table.limit.to_bytes(4, "little")
        case "tr":
            return cpu.tables[1].selector.to_bytes(2, "little")
        case "fpu":
            return repr(cpu.fpu).encode()
    raise NoSuchLocation(f"there is no register {name}")


# ---- what the Host keeps in mind ----


def host_value(location: IdtEntry | GdtEntry | PendingBit) -> HostValue:
    """How to see it, and which events to look at. Raises NoSuchLocation."""
    match location:
        case IdtEntry(vector, guest):
            _within(vector, VECTORS, "vector")
            return HostValue(
                _idt_value(vector, guest), _CALLS, lambda e: _may_load_gate(e, vector, guest)
            )
        case GdtEntry(index, guest):
            _within(index, _GDT_ENTRIES, "GDT entry")
            return HostValue(_gdt_value(index, guest), _CALLS, lambda e: _is_call_of(e, guest))
        case PendingBit(irq, guest):
            _within(irq, _IRQS, "IRQ")
            return HostValue(
                _pending_value(irq, guest),
                _INTERRUPTS,
                lambda e: _may_change_pending(e, irq, guest),
            )


def _within(number: int, bound: int, what: str) -> None:
    if not 0 <= number < bound:
        raise NoSuchLocation(f"there is no {what} {number}")


def _is_call_of(event: Event, guest: int) -> bool:
    return not isinstance(event, Hypercall) or event.guest == guest


def _may_load_gate(event: Event, vector: int, guest: int) -> bool:
    # LOAD_IDT_ENTRY gives the vector as its first argument, in every generation.
    return not isinstance(event, Hypercall) or (
        event.guest == guest and bool(event.args) and event.args[0] == vector
    )


def _may_change_pending(event: Event, irq: int, guest: int) -> bool:
    return not isinstance(event, IrqRaised | IrqDelivered) or (
        event.irq == irq and event.guest == guest
    )


def _pair(words: tuple[int, int]) -> bytes:
    return words[0].to_bytes(4, "little") + words[1].to_bytes(4, "little")


def _idt_value(vector: int, guest: int) -> Value:
    return lambda look: (
        _pair(idt[vector])
        if vector < len(idt := look.machine.guests[guest].lguest.idt)
        else bytes(8)
    )


def _gdt_value(index: int, guest: int) -> Value:
    return lambda look: _pair(look.machine.guests[guest].lguest.gdt[index])


def _pending_value(irq: int, guest: int) -> Value:
    return lambda look: bytes((look.machine.guests[guest].lguest.irqs_pending >> irq & 1,))


__all__ = ["REGISTERS", "HostValue", "host_value", "register_value", "value_of"]
