"""Why was this virtual interrupt not delivered? All that stands in its way at a moment, since when, and until when.

The Host delivers between two runs of the Guest, and only if nothing forbids it (hostvm/interrupts_and_traps.py). So an
interrupt waits for one of these, and often for several at once:

    NOT_RAISED   nobody asked for it           BLOCKED     the Guest masked it (blocked_interrupts)
    LOWER_FIRST  a lower one goes first        NOIRQ       the Guest stands in its noirq window
    NO_HANDLER   the Guest gave no gate        DISABLED    the Guest has interrupts off (irq_enabled)
    ENDED        the Guest is gone             HOST_AWAITED nothing: the Host has not had its turn yet

A halted Guest is no reason: an interrupt wakes it, enabled or not.

Each reason is a condition on the state; since when and until when it holds is found by going there, the quickest way
that the condition allows. The cursor does not move. Read next: provenance.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from hostvm.abi import Call
from hostvm.gates import FIRST_EXTERNAL_VECTOR
from hostvm.interrupts_and_traps import LGUEST_IRQS
from hostvm.lguest import Lguest
from hostvm.observations import GuestEnded, IrqDelivered, IrqRaised
from hostvm.units import Tick
from hostvm.x86 import GATE_PRESENT
from replay.event_store import EventStore
from replay.events import Event, Kind
from replay.locations import Location, SharedField, place_of
from replay.look import Look
from replay.stops import OWN_STOP, EventMet, EventStop, Happening, Predicate, WatchHit, Watchpoint

if TYPE_CHECKING:
    from replay.timeline import Timeline

_IRQ_EVENTS = frozenset({Kind.IRQ_RAISED, Kind.IRQ_DELIVERED, Kind.GUEST_ENDED})


class Why(Enum):
    """What keeps an interrupt from being delivered."""

    ENDED = "the guest has ended"
    NOT_RAISED = "it is not raised"
    BLOCKED = "the guest blocks it (blocked_interrupts)"
    LOWER_FIRST = "a lower interrupt goes first"
    NOIRQ = "the guest is in its noirq window"
    NO_HANDLER = "the guest has no handler for it"
    DISABLED = "the guest has interrupts off (irq_enabled)"
    HOST_AWAITED = "nothing; the host has not had its turn yet"


@dataclass(frozen=True, slots=True)
class Obstacle:
    """A reason at the cursor: it has held since tick `since`, and `until` is the first tick at which it does not.

    `until` None: to the end of history.
    """

    why: Why
    since: Tick
    until: Tick | None


def whynot(timeline: Timeline, irq: int, guest: int = 0) -> tuple[Obstacle, ...]:
    """All reasons at the cursor why `irq` is not being delivered to a Guest. Raises ValueError for no such IRQ."""
    if not 0 <= irq < LGUEST_IRQS or not 0 <= guest < len(timeline.machine.guests):
        raise ValueError(f"there is no IRQ {irq} of guest {guest}")
    found = []
    for why in reasons(timeline.look, irq, guest):
        with timeline.excursion():
            since, until = _bounds(timeline, why, irq, guest)
            found.append(Obstacle(why, since, until))
    return tuple(found)


def reasons(look: Look, irq: int, guest: int = 0) -> tuple[Why, ...]:
    """The reasons alone, in the order in which the Host comes upon them."""
    found = tuple(why for why, holds in _CONDITIONS.items() if holds(look, irq, guest))
    return found or (Why.HOST_AWAITED,)


# ---- the conditions --------------------------------------------------------------------------------


def _lguest(look: Look, guest: int) -> Lguest:
    return look.machine.guests[guest].lguest


def _blocked(look: Look, guest: int) -> int:
    data = _lguest(look, guest).data
    return data.get(data.layout.blocked_interrupts) or 0


def _not_raised(look: Look, irq: int, guest: int) -> bool:
    return not _lguest(look, guest).irqs_pending >> irq & 1


def _is_blocked(look: Look, irq: int, guest: int) -> bool:
    data = _lguest(look, guest).data
    return data.address is None or bool(_blocked(look, guest) >> irq & 1)


def _lower_first(look: Look, irq: int, guest: int) -> bool:
    lower = _lguest(look, guest).irqs_pending & ~_blocked(look, guest) & (1 << irq) - 1
    return bool(lower) and not _not_raised(look, irq, guest)


def _in_noirq(look: Look, _irq: int, guest: int) -> bool:
    lguest = _lguest(look, guest)
    if lguest.abi.iret_is_redone:
        return False
    runs = look.machine.cpu.cpl and look.guest.number == guest
    eip = look.machine.cpu.eip if runs else look.machine.guests[guest].regs.eip
    return lguest.noirq_start <= eip < lguest.noirq_end


def _no_handler(look: Look, irq: int, guest: int) -> bool:
    idt = _lguest(look, guest).idt
    vector = FIRST_EXTERNAL_VECTOR + irq
    return vector >= len(idt) or not idt[vector][1] & GATE_PRESENT


def _disabled(look: Look, _irq: int, guest: int) -> bool:
    lguest = _lguest(look, guest)
    return not lguest.halted and not lguest.data.get(lguest.data.layout.irq_enabled)


_CONDITIONS: dict[Why, Callable[[Look, int, int], bool]] = {
    Why.ENDED: lambda look, _, guest: _lguest(look, guest).ended is not None,
    Why.NOT_RAISED: _not_raised,
    Why.BLOCKED: _is_blocked,
    Why.LOWER_FIRST: _lower_first,
    Why.NOIRQ: _in_noirq,
    Why.NO_HANDLER: _no_handler,
    Why.DISABLED: _disabled,
}


# ---- since when, until when ------------------------------------------------------------------------


def _bounds(timeline: Timeline, why: Why, irq: int, guest: int) -> tuple[Tick, Tick | None]:
    origin = timeline.tick

    def holds(look: Look) -> bool:
        return why in reasons(look, irq, guest)

    step = _steps(timeline, why, irq, guest)
    if step is None:
        return _by_predicate(timeline, holds, origin)
    since, until = timeline.first_tick, None
    while (tick := step(True)) is not None:
        if not holds(timeline.look):
            since = Tick(tick + 1)
            break
    timeline.return_to(origin)
    while (tick := step(False)) is not None:
        if not holds(timeline.look):
            until = tick
            break
    return since, until


def _by_predicate(
    timeline: Timeline, holds: Callable[[Look], bool], origin: Tick
) -> tuple[Tick, Tick | None]:
    ends = Predicate("not so", lambda look: not holds(look))
    before = timeline.search(((OWN_STOP, ends),), backwards=True)
    since = timeline.first_tick if holds(timeline.look) else Tick(before.tick + 1)
    timeline.return_to(origin)
    after = timeline.search(((OWN_STOP, ends),), backwards=False)
    return since, None if holds(timeline.look) else after.tick


_Step = Callable[[bool], Tick | None]


def _steps(timeline: Timeline, why: Why, irq: int, guest: int) -> _Step | None:
    """How to go to the next place where the condition may change; None: it may change anywhere.

    Backwards that is the last tick before a change, forwards the first behind one.
    """
    match why:
        case Why.ENDED | Why.NOT_RAISED:
            only = irq if why is Why.NOT_RAISED else None
            return lambda backwards: _by_events(timeline, only, guest, backwards)
        case Why.BLOCKED if timeline.machine.guests[guest].lguest.data.address is not None:
            return _by_watch(timeline, SharedField("blocked_interrupts", guest), guest)
        case Why.DISABLED if timeline.machine.guests[guest].lguest.data.address is not None:
            return _by_watch(timeline, SharedField("irq_enabled", guest), guest)
    return None


def _by_events(timeline: Timeline, irq: int | None, guest: int, backwards: bool) -> Tick | None:
    """Where the Guest ends or an interrupt is raised or delivered: if `irq`, this one, and unless both in one step."""
    store, here = timeline.store, timeline.tick

    def wants(event: Event) -> bool:
        match event:
            case GuestEnded():
                return event.guest == guest
            case IrqRaised() | IrqDelivered() if event.guest == guest:
                return irq is None or (event.irq == irq and not _is_brief(store, event))
        return False

    if backwards:
        found = store.find_before(here, wants, _IRQ_EVENTS)
    else:
        found = store.find_after(Tick(here - 1), wants, _IRQ_EVENTS)
    event = next(found, None)
    if event is None or event.tick < timeline.first_tick:
        return None
    goal = event.tick if backwards else Tick(event.tick + 1)
    timeline.run_to(goal)
    return goal


def _is_brief(store: EventStore, event: IrqRaised | IrqDelivered) -> bool:
    """Whether the interrupt is raised and delivered within one step, as most are."""
    same = (e for e in store.events_at(event.tick) if e.guest == event.guest)
    kinds = {
        type(e) for e in same if isinstance(e, IrqRaised | IrqDelivered) and e.irq == event.irq
    }
    return len(kinds) > 1


def _by_watch(timeline: Timeline, location: Location, guest: int) -> _Step:
    place = place_of(timeline.look, location)
    numbers = timeline.machine.guests[guest].lguest.abi.hypercalls
    # Halted, a Guest is open to interrupts whatever the word says.
    halt = next(number for number, call in numbers.items() if call is Call.HALT)

    def step(backwards: bool) -> Tick | None:
        stops = (
            (OWN_STOP, Watchpoint(place)),
            (OWN_STOP, EventStop(Happening.HYPERCALL, halt, guest)),
        )
        arrival = timeline.search(stops, backwards=backwards)
        if any(isinstance(r, WatchHit) for r in arrival.reasons):
            return arrival.tick
        if not any(isinstance(r, EventMet) for r in arrival.reasons):
            return None
        if not backwards:
            timeline.run_to(Tick(arrival.tick + 1))
        return timeline.tick

    return step


__all__ = ["Obstacle", "Why", "reasons", "whynot"]
