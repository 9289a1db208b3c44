"""Provenance: who last wrote this, and what was there before.

A *location* is anything that has a value: bytes in memory, a register of the CPU, or something that the Host keeps in
its own mind - a Guest's IDT or GDT entry, a pending interrupt. What became of a value is the set of ticks whose step
changed it, and each kind of location has its own quick way to them:

(i) memory: watchpoints, which see the CPU, the Host and devices alike;
(ii) Host values: only a turn of the Host changes them, and what it does there is in the log; so the ticks of the
     events that can be the cause are looked at, last one first;
(iii) registers: every instruction may be the one, so every step is looked at, in stretches that grow.

A `Write` tells the step, so that asking again from its tick follows the value further back. The cursor does not move.

Read next: timeline.py, whynot.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from hostvm import edits
from hostvm.cpu_state import CpuState
from hostvm.edits import Edit, Target
from hostvm.memory_map import SWITCHER_SLOT
from hostvm.observations import Hypercall, IrqDelivered, IrqRaised
from hostvm.probes import touches
from hostvm.units import Tick
from hostvm.x86 import PAGE_MASK, Pte
from replay.events import DebuggerWrite, Event, Kind
from replay.look import GuestPhysicalSpace, GuestSpace, Look, MachineSpace, World
from replay.places import Place, content, fixed, locate
from replay.stops import (
    OWN_STOP,
    Actor,
    Predicate,
    Touch,
    WatchHit,
    Watchpoint,
)
from replay.symbols import Named

if TYPE_CHECKING:
    from replay.timeline import Timeline

_SEGMENTS = ("es", "cs", "ss", "ds", "fs", "gs")
_GENERAL = ("eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi")
_CONTROL = ("cr0", "cr2", "cr3", "cr4")
REGISTERS = frozenset(
    {*_GENERAL, *_SEGMENTS, *_CONTROL, "eip", "eflags", "gdtr", "idtr", "tr", "fpu"}
)
_A_D = int(Pte.A | Pte.D)
_GDT_ENTRIES = 32
_IRQS = 32
_VECTORS = 256


class NoSuchLocation(ValueError):
    """A location that this machine does not have, or not at this moment."""


@dataclass(frozen=True, slots=True)
class Register:
    """A register of the CPU: general, segment, eip, eflags, cr0 cr2 cr3 cr4, idtr, gdtr, tr, or fpu."""

    name: str


@dataclass(frozen=True, slots=True)
class IdtEntry:
    """What a Guest asked for as gate of a vector."""

    vector: int
    guest: int = 0


@dataclass(frozen=True, slots=True)
class RealIdtEntry:
    """The gate that the CPU really has for a vector while a Guest runs."""

    vector: int


@dataclass(frozen=True, slots=True)
class GdtEntry:
    """A descriptor of a Guest's GDT, as the Host keeps it."""

    index: int
    guest: int = 0


@dataclass(frozen=True, slots=True)
class PendingBit:
    """Whether a virtual interrupt is pending."""

    irq: int
    guest: int = 0


@dataclass(frozen=True, slots=True)
class GuestEntry:
    """The Guest's own page-table entry for a linear address."""

    address: int
    guest: int = 0


@dataclass(frozen=True, slots=True)
class ShadowEntry:
    """The shadow page-table entry for a linear address, without A and D, which the CPU and snapshots set and clear."""

    address: int
    guest: int = 0


@dataclass(frozen=True, slots=True)
class SharedField:
    """A word of the page that Guest and Host share, such as irq_enabled."""

    name: str
    guest: int = 0


Location: TypeAlias = (
    Place
    | Register
    | IdtEntry
    | RealIdtEntry
    | GdtEntry
    | PendingBit
    | GuestEntry
    | ShadowEntry
    | SharedField
)


@dataclass(frozen=True, slots=True)
class Write:
    """The step at `tick` changed a location from `old` to `new`.

    `by`: who; `eip` and `where`: at which instruction, if it was one; `events`: what the log says of that step.
    """

    tick: Tick
    by: Actor
    old: bytes
    new: bytes
    eip: int
    where: Named | None
    events: tuple[Event, ...]


Value: TypeAlias = Callable[[Look], bytes]


@dataclass(frozen=True, slots=True)
class _HostValue:
    """A value in the Host's mind, and the events of steps that can change it."""

    value: Value
    kinds: frozenset[Kind]
    may_change: Callable[[Event], bool]


def last_write(timeline: Timeline, location: Location) -> Write | None:
    """The last step before the cursor that changed `location`; None if nothing in history did.

    Raises NoSuchLocation.
    """
    return _find(timeline, location, backwards=True)


def next_write(timeline: Timeline, location: Location) -> Write | None:
    """The first step from the cursor on that changes `location`. Raises NoSuchLocation."""
    return _find(timeline, location, backwards=False)


def value_of(look: Look, location: Location) -> bytes:
    """The value of a location here. Raises NoSuchLocation."""
    match location:
        case Register(name):
            return register_value(look.cpu, name)
        case IdtEntry() | GdtEntry() | PendingBit():
            return _host_value(location).value(look)
        case _:
            return content(place_of(look, location), look)


def _find(timeline: Timeline, location: Location, *, backwards: bool) -> Write | None:
    value_of(timeline.look, location)
    with timeline.excursion():
        match location:
            case Register(name):
                tick = _register_change(timeline, name, backwards)
            case IdtEntry() | GdtEntry() | PendingBit():
                tick = _host_change(timeline, _host_value(location), backwards)
            case _:
                # What the entry of an address is, say, may itself change: the words found at the cursor are meant.
                place = place_of(timeline.look, location)
                masked = isinstance(location, ShadowEntry)
                location = place
                tick = _memory_change(timeline, place, backwards, masked=masked)
        return None if tick is None else _describe(timeline, location, tick)


def _describe(timeline: Timeline, location: Location, tick: Tick) -> Write:
    timeline.run_to(tick)
    look = timeline.look
    old, eip, world = value_of(look, location), look.machine.cpu.eip, look.world
    delivery = not timeline.begins and timeline.store.interrupt_at(tick)
    where = timeline.symbols.name_of(eip, in_guest=world in (World.KERNEL, World.USER))
    events = tuple(timeline.events_at(tick))
    halts = look.read(eip, 1) == b"\xf4" and world is World.HOST
    timeline.run_to(Tick(tick + 1))
    new = value_of(look, location)
    if any(_edits(event, location, look) for event in timeline.store.events_at(Tick(tick + 1))):
        by = Actor.DEBUGGER
    elif delivery:
        by = Actor.DELIVERY
    elif halts:
        by = Actor.HOST
    else:
        by = Actor.GUEST if world in (World.KERNEL, World.USER) else Actor.SWITCHER
    return Write(tick, by, old, new, eip, where, events)


def _edits(event: Event, location: Location, look: Look) -> bool:
    """Whether this is a debugger's write to a location."""
    match event, location:
        case DebuggerWrite(target=Target.REGISTER, address=number), Register(name):
            return number in set(edits.Register) and edits.Register(number).name.lower() == name
        case DebuggerWrite(target=Target.PHYSICAL | Target.LINEAR), Place():
            edit = Edit(event.guest, event.target, event.address, event.data)
            spans = locate(location, look).spans
            return any(touches(spans, *part) for part in edits.places(look.machine, edit) or ())
    return False


# ---- (i) memory ----------------------------------------------------------------------------------


def place_of(look: Look, location: Location) -> Place:
    """Where in memory a location is at this moment. Raises NoSuchLocation."""
    match location:
        case Place():
            return fixed(location, look)
        case RealIdtEntry(vector) if 0 <= vector < _VECTORS:
            return Place(look.guest.place.guest_idt + 8 * vector, 8, MachineSpace())
        case GuestEntry(address, guest):
            return _guest_entry(look, address, guest)
        case ShadowEntry(address, guest):
            return _shadow_entry(look, address, guest)
        case SharedField(name, guest):
            return _shared_field(look, name, guest)
    raise NoSuchLocation(f"there is no {location}")


def _guest_entry(look: Look, address: int, guest: int) -> Place:
    _, at = look.entry_addresses(address, GuestSpace(guest))
    if at is None:
        raise NoSuchLocation(f"guest {guest} has no page table for {address:#x} here")
    return Place(at, 4, GuestPhysicalSpace(guest))


def _shadow_entry(look: Look, address: int, guest: int) -> Place:
    machine = look.machine
    root = machine.guests[guest].tables.root
    directory = machine.memory.read_u32(root + (address >> 20 & 0xFFC))
    if address >> 22 >= SWITCHER_SLOT or not directory & Pte.P:
        raise NoSuchLocation(f"no shadow page table for {address:#x} here")
    return Place((directory & PAGE_MASK) + (address >> 10 & 0xFFC), 4, MachineSpace())


def _shared_field(look: Look, name: str, guest: int) -> Place:
    data = look.machine.guests[guest].lguest.data
    offset = getattr(data.layout, name, None)
    if not isinstance(offset, int) or data.address is None:
        raise NoSuchLocation(f"guest {guest} shares no word called {name} here")
    return Place(data.address + offset, 4, GuestPhysicalSpace(guest))


def _memory_change(
    timeline: Timeline, place: Place, backwards: bool, *, masked: bool
) -> Tick | None:
    while True:
        watch = Watchpoint(place, Touch.CHANGE)
        arrival = timeline.search(((OWN_STOP, watch),), backwards=backwards)
        hits = [r for r in arrival.reasons if isinstance(r, WatchHit)]
        if not hits:
            return None
        if not (masked and _same_but_for_a_d(hits[0])):
            return hits[0].tick


def _same_but_for_a_d(hit: WatchHit) -> bool:
    old, new = (int.from_bytes(raw, "little") for raw in (hit.old, hit.new))
    return not (old ^ new) & ~_A_D


# ---- (ii) what the Host keeps in mind --------------------------------------------------------------


def _host_value(location: IdtEntry | GdtEntry | PendingBit) -> _HostValue:
    match location:
        case IdtEntry(vector, guest):
            _within(vector, _VECTORS, "vector")
            return _HostValue(
                _idt_value(vector, guest), _CALLS, lambda e: _may_load_gate(e, vector, guest)
            )
        case GdtEntry(index, guest):
            _within(index, _GDT_ENTRIES, "GDT entry")
            return _HostValue(_gdt_value(index, guest), _CALLS, lambda e: _is_call_of(e, guest))
        case PendingBit(irq, guest):
            _within(irq, _IRQS, "IRQ")
            return _HostValue(
                _pending_value(irq, guest),
                frozenset({Kind.IRQ_RAISED, Kind.IRQ_DELIVERED}) | _RESTARTS,
                lambda e: (
                    not isinstance(e, IrqRaised | IrqDelivered)
                    or (e.irq == irq and e.guest == guest)
                ),
            )


_RESTARTS = frozenset(kind for kind in Kind if kind.name == "GUEST_RESTARTED")
_CALLS = frozenset({Kind.HYPERCALL}) | _RESTARTS


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


def _host_change(timeline: Timeline, value: _HostValue, backwards: bool) -> Tick | None:
    origin = timeline.tick
    if backwards:
        found = timeline.store.find_before(origin, value.may_change, value.kinds)
    else:
        found = timeline.store.find_after(Tick(origin - 1), value.may_change, value.kinds)
    last: Tick | None = None
    now = value.value(timeline.look)
    for event in found:
        timeline.poll()
        if event.tick == last or event.tick < timeline.first_tick:
            continue
        last = event.tick
        timeline.run_to(event.tick)
        before = value.value(timeline.look)
        if backwards:
            if before != now:
                return event.tick
            continue
        timeline.run_to(Tick(event.tick + 1))
        if value.value(timeline.look) != before:
            return event.tick
    return None


# ---- (iii) registers -----------------------------------------------------------------------------


def register_value(cpu: CpuState, name: str) -> bytes:
    """A register's bytes, little-endian. Raises NoSuchLocation."""
    if name in _GENERAL:
        return cpu.regs[_GENERAL.index(name)].to_bytes(4, "little")
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


def _register_change(timeline: Timeline, name: str, backwards: bool) -> Tick | None:
    if not backwards:
        return _next_register_change(timeline, name)
    after = register_value(timeline.cpu, name)
    end = timeline.tick
    seen: list[tuple[Tick, bytes]] = []

    def note(look: Look) -> bool:
        value = register_value(look.cpu, name)
        if not seen or seen[-1][1] != value:
            seen.append((look.tick, value))
        return False

    for _ in timeline.scan_back(((OWN_STOP, Predicate(name, note)),)):
        while seen:
            tick, value = seen.pop()
            if value != after:
                return _refine(timeline, name, tick, end, after)
            end = tick
        seen.clear()
    return None


def _refine(timeline: Timeline, name: str, begin: Tick, end: Tick, after: bytes) -> Tick:
    """The last step in begin..end-1 behind which the register has the value that it kept until `end`."""
    timeline.return_to(begin)
    low, high = int(begin), int(end)
    while high - low > 1:
        middle = (low + high) // 2
        timeline.run_to(Tick(middle))
        if register_value(timeline.cpu, name) == after:
            high = middle
        else:
            low = middle
    return Tick(low)


def _next_register_change(timeline: Timeline, name: str) -> Tick | None:
    now = register_value(timeline.cpu, name)
    origin = timeline.tick
    differs = Predicate(name, lambda look: register_value(look.cpu, name) != now)
    arrival = timeline.search(((OWN_STOP, differs),), backwards=False)
    if not arrival.reasons or register_value(timeline.cpu, name) == now:
        return None
    first = max(origin, arrival.tick - 2)
    timeline.run_to(Tick(first))
    while register_value(timeline.cpu, name) == now:
        timeline.run_to(Tick(timeline.tick + 1))
    return Tick(timeline.tick - 1)


__all__ = [
    "REGISTERS",
    "GdtEntry",
    "GuestEntry",
    "IdtEntry",
    "Location",
    "NoSuchLocation",
    "PendingBit",
    "RealIdtEntry",
    "Register",
    "ShadowEntry",
    "SharedField",
    "Write",
    "last_write",
    "next_write",
    "place_of",
    "register_value",
    "value_of",
]
