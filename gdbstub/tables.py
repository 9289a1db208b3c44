"""What `info` shows: the Guest's IDT and GDT, its interrupts, what its Host knows of it, and the events around.

Pure functions from the machine to lines of text. Numbers are named where lguest or the processor has names for them.

Read next: words.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from types import MappingProxyType

from gdbstub.errors import TargetFault
from gdbstub.linux import current_task
from hostvm.gates import FIRST_EXTERNAL_VECTOR
from hostvm.interrupts_and_traps import LGUEST_IRQS
from hostvm.lguest import Lguest
from hostvm.units import Tick
from hostvm.x86 import (
    GateType,
    descriptor_base,
    descriptor_limit,
    gate_dpl,
    gate_offset,
    gate_present,
    gate_selector,
    gate_type,
)
from replay.describe import TRAP_NAMES, event_to_text
from replay.events import Event, Kind
from replay.location_values import value_of
from replay.locations import RealIdtEntry
from replay.timeline import Timeline
from replay.whynot import Why, reasons

_SHOWN = 10
_ALL = frozenset(Kind)


def _any(_: Event) -> bool:
    return True


def _lguest(timeline: Timeline) -> Lguest:
    return timeline.look.guest.lguest


def _gate_kind(hi: int) -> str:
    kind = gate_type(hi)
    return GateType(kind).name.lower() if kind in set(GateType) else f"type {kind:#x}"


def _idt(timeline: Timeline) -> Iterator[str]:
    """The Guest's gates that are present, and whether the CPU has them itself."""
    for vector, (lo, hi) in enumerate(_lguest(timeline).idt):
        if not gate_present(hi):
            continue
        offset = gate_offset(lo, hi)
        real = value_of(timeline.look, RealIdtEntry(vector))
        words = (int.from_bytes(real[:4], "little"), int.from_bytes(real[4:], "little"))
        direct = "direct" if gate_offset(*words) == offset else "by the Host"
        handler = timeline.symbols.name_of(offset, in_guest=True)
        yield (
            f"{vector:3} {TRAP_NAMES.get(vector, ''):8} {gate_selector(lo):#06x}:{offset:#010x} "
            f"{_gate_kind(hi):9} dpl {gate_dpl(hi)} {direct:12} {handler or ''}"
        )


def _gdt(timeline: Timeline) -> Iterator[str]:
    for index, (lo, hi) in enumerate(_lguest(timeline).gdt):
        if lo or hi:
            yield (
                f"{index:3} selector {index * 8:#06x} base {descriptor_base(lo, hi):#010x} "
                f"limit {descriptor_limit(lo, hi):#010x} access {hi >> 8 & 0xFF:#04x} flags {hi >> 20 & 0xF:#x}"
            )


def _irqs(timeline: Timeline) -> Iterator[str]:
    """Interrupts that are pending, have a handler or are blocked, and what stands in their way."""
    guest = _lguest(timeline)
    for irq in range(LGUEST_IRQS):
        vector = irq + FIRST_EXTERNAL_VECTOR
        handled = vector < len(guest.idt) and gate_present(guest.idt[vector][1])
        pending = bool(guest.irqs_pending >> irq & 1)
        if handled or pending:
            why = reasons(timeline.look, irq, guest.number)
            obstacles = "; ".join(reason.value for reason in why if reason is not Why.NOT_RAISED)
            state = "pending" if pending else "not raised"
            yield f"irq {irq:2} vector {vector:#04x} {state:10} {obstacles}".rstrip()


def _state(timeline: Timeline) -> Iterator[str]:
    """The Host's part of a Guest."""
    guest, data = _lguest(timeline), _lguest(timeline).data
    yield f"guest          {guest.number}, lguest {guest.abi.name}"
    yield f"tables         directory {timeline.look.directory:#010x}, shadow {guest.tables.root:#010x}"
    yield f"kernel stack   {guest.ss1:#06x}:{guest.esp1:#010x}, {guest.stack_pages} pages"
    yield f"halted         {'yes' if guest.halted else 'no'}"
    yield f"pending        {guest.irqs_pending:#010x}"
    yield f"timer          {'off' if guest.timer is None else f'{guest.timer} ns'}"
    window = (guest.noirq_start, guest.noirq_end)
    yield f"noirq window   {window[0]:#010x}..{window[1]:#010x}"
    yield f"lguest_data    {'not told' if data.address is None else f'{data.address:#010x}'}"
    if task := current_task(timeline, guest.number):
        yield f"current task   {task}"
    if guest.ended:
        yield f"ended          {' '.join(guest.ended[1].split())}"


def _events(timeline: Timeline, wanted: str) -> Iterator[str]:
    """Some events before and after the cursor whose text contains `wanted`."""

    def texts(events: Iterator[str]) -> list[str]:
        return list(islice((text for text in events if wanted in text), _SHOWN))

    store, tick = timeline.store, timeline.tick
    before = texts(event_to_text(e) for e in store.find_before(tick, _any, _ALL))
    after = texts(event_to_text(e) for e in store.find_after(Tick(tick - 1), _any, _ALL))
    yield from reversed(before)
    yield f"--- tick {tick:,}"
    yield from after


_TABLES: Mapping[str, Callable[[Timeline], Iterator[str]]] = MappingProxyType(
    {"idt": _idt, "gdt": _gdt, "irqs": _irqs, "lguest": _state}
)
NAMES = (*_TABLES, "events")


def table(timeline: Timeline, name: str, wanted: str = "") -> str:
    """One of NAMES as text.

    Raises: TargetFault when there is no table of this name.
    """
    if name == "events":
        return "\n".join(_events(timeline, wanted))
    show = _TABLES.get(name)
    if show is None:
        raise TargetFault(f"{name!a} is nothing to show; say one of {', '.join(NAMES)}")
    return "\n".join(show(timeline)) or "nothing"


__all__ = ["NAMES", "table"]
