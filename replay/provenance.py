"""Provenance: who last wrote this, and what was there before.

What became of a location's value is the set of ticks whose step changed it, and each kind of location has its own
quick way to them:

(i) memory: watchpoints, which see the CPU, the Host and devices alike;
(ii) what the Host keeps in mind: only a turn of the Host changes it, and what it does there is in the log; so the
     ticks of the events that can be the cause are looked at, last one first;
(iii) registers: every instruction may be the one, so every step is looked at, in stretches that grow.

A `Write` tells the step, so that asking again from its tick follows the value further back. The cursor does not move.

Read next: locations.py for what can be asked about; timeline.py, whynot.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hostvm import edits
from hostvm.edits import Edit, Target
from hostvm.probes import touches
from hostvm.units import Tick
from hostvm.x86 import Pte
from replay.events import DebuggerWrite, Event
from replay.location_values import HostValue, host_value, register_value, value_of
from replay.locations import (
    GdtEntry,
    IdtEntry,
    Location,
    PendingBit,
    Register,
    ShadowEntry,
    place_of,
)
from replay.look import Look, World
from replay.places import Place, locate
from replay.stops import OWN_STOP, Actor, Predicate, Touch, WatchHit, Watchpoint
from replay.symbols import Named

if TYPE_CHECKING:
    from replay.timeline import Timeline

_A_D = int(Pte.A | Pte.D)


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


def last_write(timeline: Timeline, location: Location) -> Write | None:
    """The last step before the cursor that changed `location`; None if nothing in history did.

    Raises NoSuchLocation.
    """
    return _find(timeline, location, backwards=True)


def next_write(timeline: Timeline, location: Location) -> Write | None:
    """The first step from the cursor on that changes `location`. Raises NoSuchLocation."""
    return _find(timeline, location, backwards=False)


def _find(timeline: Timeline, location: Location, *, backwards: bool) -> Write | None:
    value_of(timeline.look, location)
    with timeline.excursion():
        match location:
            case Register(name):
                tick = _register_change(timeline, name, backwards)
            case IdtEntry() | GdtEntry() | PendingBit():
                tick = _host_change(timeline, host_value(location), backwards)
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


def _host_change(timeline: Timeline, value: HostValue, backwards: bool) -> Tick | None:
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


__all__ = ["Write", "last_write", "next_write"]
