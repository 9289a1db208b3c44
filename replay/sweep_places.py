"""Places for an interrupt: where a function is, near which events, and what would become of an interrupt there.

A place is a tick. Instructions are met by running history under a scan, from which the timeline comes back to where it
was. What would become of an interrupt can be seen from the state: whether the CPU takes it - it comes while a Guest
runs with interrupts on - and whether lguest delivers it at once.

Read next: sweep.py, scan.py.
"""

from __future__ import annotations

from collections.abc import Callable

from hostvm.interrupts_and_traps import interrupts_on
from hostvm.observations import IrqRaised
from hostvm.units import Tick
from replay.events import Kind
from replay.look import Look, World
from replay.outcomes import Reception
from replay.predicate import NAMES
from replay.stops import EventStop, InstructionMet, Instructions
from replay.sweep_plan import BadSweep
from replay.sweep_world import place
from replay.symbols import Symbols
from replay.timeline import Timeline

MOST_PLACES = 1_000_000


def visits(timeline: Timeline, name: str, guest: int, first: int, last: int) -> list[Tick]:
    """Ticks from `first` to before `last` at which a Guest's kernel is in the function `name`. Raises BadSweep."""

    def wants(look: Look) -> bool:
        return look.world is World.KERNEL and look.guest.number == guest

    extent = extent_of(timeline.symbols, name, guest)
    return instructions_met(timeline, extent, wants, first, last)


def instructions_met(
    timeline: Timeline,
    extent: tuple[int, int],
    wants: Callable[[Look], bool],
    first: int,
    last: int,
) -> list[Tick]:
    """Ticks from `first` to before `last` that begin an instruction between two addresses, where `wants` says so."""
    low, high = max(first, timeline.first_tick), min(last, timeline.end_tick)
    if low >= high:
        return []
    with timeline.excursion():
        timeline.run_to(Tick(low))
        scan = timeline.scan([(0, Instructions(wants, extent))], backwards=True)
        timeline.run_scan(scan, Tick(high))
    ticks = sorted({tick for tick, reason in scan.hits if isinstance(reason, InstructionMet)})
    return [tick for tick in ticks if tick < last]


def extent_of(symbols: Symbols, name: str, guest: int) -> tuple[int, int]:
    """First and last address of a function; up to the next symbol if nothing says how long it is. Raises BadSweep."""
    table = symbols.kernels[guest]
    symbol = table.by_name.get(name)
    if symbol is None:
        raise BadSweep(f"the kernel has no symbol {name}")
    if symbol.size:
        return symbol.address, symbol.address + symbol.size - 1
    behind = min((s.address for s in table if s.address > symbol.address), default=1 << 32)
    return symbol.address, behind - 1


def around(timeline: Timeline, stop: EventStop, distance: int) -> list[Tick]:
    """Ticks not further than `distance` from an event that `stop` wants. Raises BadSweep."""
    found: set[Tick] = set()
    for event in timeline.store.find_after(Tick(-1), stop.wants, stop.kinds):
        low = max(timeline.first_tick, event.tick - distance)
        high = min(timeline.end_tick - 1, event.tick + distance)
        found.update(Tick(tick) for tick in range(low, high + 1))
        if len(found) > MOST_PLACES:
            raise BadSweep(f"more than {MOST_PLACES:,} places")
    return sorted(found)


def raised_by(timeline: Timeline, guest: int, tick: Tick) -> tuple[int, ...]:
    """The virtual interrupts of a Guest that the hardware interrupt at `tick` raises in history. Raises BadSweep."""
    if not timeline.store.interrupt_at(tick):
        raise BadSweep(f"no hardware interrupt is taken at tick {tick}")
    behind = timeline.store.find_after(tick, lambda _: True, frozenset(Kind))
    turn = next(behind, None)
    if turn is None:
        return ()
    raised = (e for e in timeline.store.events_at(turn.tick) if isinstance(e, IrqRaised))
    return tuple(sorted({event.irq for event in raised if event.guest == guest}))


def reception(look: Look, guest: int, irq: int) -> Reception:
    """What would happen to a Guest's interrupt here."""
    machine = look.machine
    its = machine.guests[guest].lguest
    placed = place(machine, guest, irq)
    if placed is None:
        return Reception.UNSET
    if (
        machine.current_guest.number != guest
        or not machine.cpu.cpl
        or not machine.cpu.interruptible(placed.vector)
    ):
        return Reception.DEAF
    blocked = NAMES["blocked"](look) >> irq & 1
    gate = its.idt[32 + irq][1] & 0x8000
    if blocked or not gate or not interrupts_on(its):
        return Reception.HELD
    return Reception.HELD if NAMES["in_noirq"](look) else Reception.DELIVERED


__all__ = [
    "MOST_PLACES",
    "around",
    "extent_of",
    "instructions_met",
    "raised_by",
    "reception",
    "visits",
]
