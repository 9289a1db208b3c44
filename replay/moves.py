"""The units in which one moves: tick, instruction, over a call, out of a function, event, world switch.

Each unit is a set of ticks that the history alone determines; a step forwards goes to the first of them behind the
cursor, a step backwards to the last before it. So the one undoes the other exactly, from any tick of the set.

Two units depend on where one starts. (i) *Over* is an instruction step, except that a call is left at once where it
returns to (its return address, with the stack as high as before); backwards, an instruction step that comes upon a
return goes on to the call that it belongs to. (ii) *Out* runs to where the present function returns to; backwards, to
the call that began it. Calls and returns are counted for that, in one ring and near one stack, since the stack itself
does not say where frames end.

Read next: timeline.py.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

from hostvm.cpu_state import ESP
from hostvm.units import Tick
from replay.instructions import LONGEST, is_call, is_return, length_of
from replay.look import Look, World
from replay.stops import (
    OWN_STOP,
    Arrival,
    Breakpoint,
    BreakpointHit,
    EventStop,
    Happening,
    HistoryEnd,
    HistoryStart,
    InstructionMet,
    Instructions,
    Reason,
    Stepped,
    Stop,
    Watchpoint,
)

if TYPE_CHECKING:
    from replay.timeline import Timeline

# What a callee may take off the stack besides the return address (RET n), and how far one stack may reach: kernel
# stacks lie side by side.
_TAKEN_OFF = 1024
_KERNEL_STACK, _USER_STACK = 4 << 10, 1 << 20
_IRET = 0xCF
_FAR_RETURNS = (0xCA, 0xCB)
_CALL_LENGTHS = range(2, 8)
_ERROR_CODES = frozenset({8, 10, 11, 12, 13, 14, 17})


class Unit(Enum):
    """How far a step goes."""

    TICK = "tick"
    INSTRUCTION = "instruction"
    OVER = "over"
    OUT = "out"
    EVENT = "event"
    SWITCH = "switch"


def step(timeline: Timeline, unit: Unit, *, backwards: bool) -> Arrival:
    """Make one step; for use inside `Timeline.moving`."""
    match unit:
        case Unit.TICK:
            return _by_ticks(timeline, backwards)
        case Unit.INSTRUCTION:
            return _instruction(timeline, backwards)
        case Unit.OVER:
            return _back_over(timeline) if backwards else _over(timeline)
        case Unit.OUT:
            return _back_out(timeline) if backwards else _out(timeline)
        case Unit.EVENT:
            return _to(timeline, EventStop(Happening.ANY), backwards)
        case Unit.SWITCH:
            return _switch(timeline, backwards)


def _stepped(timeline: Timeline, arrival: Arrival) -> Arrival:
    """Say `Stepped` for what the step itself was looking for, before what else there is at that tick."""
    rest = tuple(r for r in arrival.reasons if getattr(r, "number", None) != OWN_STOP)
    more = tuple(r for r in timeline.reasons_here(tuple(timeline.stops)) if r not in rest)
    edge = any(isinstance(r, HistoryStart | HistoryEnd) for r in rest)
    return Arrival(arrival.tick, (() if edge else (Stepped(),)) + rest + more)


def _to(timeline: Timeline, stop: Stop, backwards: bool, *, others: bool = False) -> Arrival:
    """Go to the next tick that `stop` means; the user's stops end the way only if `others`."""
    users = tuple(timeline.stops) if others else ()
    arrival = timeline.search(((OWN_STOP, stop), *users), backwards=backwards)
    own = any(getattr(r, "number", None) == OWN_STOP for r in arrival.reasons)
    if others and not own:
        return arrival
    return _stepped(timeline, arrival)


# ---- ticks and instructions ------------------------------------------------------------------------


def _by_ticks(timeline: Timeline, backwards: bool) -> Arrival:
    goal = timeline.tick + (-1 if backwards else 1)
    return _stepped(timeline, _within(timeline, goal, backwards))


def _within(timeline: Timeline, goal: int, backwards: bool) -> Arrival:
    """Go to `goal`, which is near; watchpoints met on the way are told of."""
    if not timeline.first_tick <= goal <= timeline.end_tick:
        edge: Reason = HistoryStart() if backwards else HistoryEnd()
        return Arrival(timeline.tick, (edge,))
    watched = tuple((n, s) for n, s in timeline.stops if isinstance(s, Watchpoint))
    if watched:
        return timeline.search(watched, backwards=backwards, limit=goal)
    timeline.run_to(Tick(goal))
    return Arrival(timeline.tick)


def _instruction(timeline: Timeline, backwards: bool) -> Arrival:
    arrival = _within(timeline, timeline.tick + (-1 if backwards else 1), backwards)
    at_edge = timeline.tick in (timeline.first_tick, timeline.end_tick)
    if arrival.reasons or timeline.begins or at_edge:
        return _stepped(timeline, arrival)
    return _to(timeline, Instructions(lambda _: True), backwards)


# ---- calls -----------------------------------------------------------------------------------------


def _code(look: Look) -> bytes:
    return look.read(look.machine.cpu.eip, LONGEST)


def _esp(look: Look) -> int:
    return int(look.machine.cpu.env.regs[ESP]) & 0xFFFFFFFF


def _over(timeline: Timeline) -> Arrival:
    code = _code(timeline.look)
    if not (timeline.begins and is_call(code)):
        return _instruction(timeline, backwards=False)
    esp, cpl = _esp(timeline.look), timeline.machine.cpu.cpl

    def returned(look: Look) -> bool:
        return look.machine.cpu.cpl == cpl and 0 <= _esp(look) - esp < _TAKEN_OFF

    behind = Breakpoint(timeline.machine.cpu.eip + length_of(code), condition=returned)
    return _to(timeline, behind, backwards=False, others=True)


def _back_over(timeline: Timeline) -> Arrival:
    eip, cpl = timeline.machine.cpu.eip, timeline.machine.cpu.cpl
    arrival = _instruction(timeline, backwards=True)
    code = _code(timeline.look)
    only_stepped = all(isinstance(r, Stepped) for r in arrival.reasons)
    same_ring = timeline.machine.cpu.cpl == cpl
    if not (only_stepped and same_ring and is_return(code)) or code[0] == _IRET:
        return arrival
    esp = _esp(timeline.look) + (8 if code[0] in _FAR_RETURNS else 4)

    def called(look: Look) -> bool:
        at = _code(look)
        return _esp(look) == esp and is_call(at) and look.machine.cpu.eip + length_of(at) == eip

    own = tuple((OWN_STOP, Breakpoint(eip - n, ring=cpl, condition=called)) for n in _CALL_LENGTHS)
    found = timeline.search((*own, *timeline.stops), backwards=True)
    if any(isinstance(r, BreakpointHit) and r.number == OWN_STOP for r in found.reasons):
        return _stepped(timeline, found)
    return found


class _Depth:
    """Counts calls and returns of one ring near one stack."""

    def __init__(self, look: Look) -> None:
        self.depth = 0
        self._cpl = look.machine.cpu.cpl
        self._esp = _esp(look)
        self._reach = _USER_STACK if self._cpl == 3 else _KERNEL_STACK

    def kind(self, look: Look) -> int:
        """1 for a call, -1 for a return, 0 for anything else or anywhere else."""
        if look.machine.cpu.cpl != self._cpl or abs(_esp(look) - self._esp) >= self._reach:
            return 0
        code = _code(look)
        if is_call(code):
            return 1
        return -1 if is_return(code) else 0


def _out(timeline: Timeline) -> Arrival:
    counter = _Depth(timeline.look)
    counter.depth = max(0, counter.kind(timeline.look)) if timeline.begins else 0
    leaves_at_once = timeline.begins and counter.kind(timeline.look) < 0
    if leaves_at_once:
        return _instruction(timeline, backwards=False)

    def leaves(look: Look) -> bool:
        counter.depth += counter.kind(look)
        return counter.depth < 0

    arrival = _to(timeline, Instructions(leaves), backwards=False, others=True)
    if any(not isinstance(r, Stepped) for r in arrival.reasons):
        return arrival
    return _instruction(timeline, backwards=False)


def _back_out(timeline: Timeline) -> Arrival:
    counter = _Depth(timeline.look)
    notes: list[tuple[Tick, int]] = []

    def note(look: Look) -> bool:
        kind = counter.kind(look)
        if kind:
            notes.append((look.tick, kind))
        return False

    for _ in timeline.scan_back(((OWN_STOP, Instructions(note)),)):
        for tick, kind in reversed(notes):
            counter.depth -= kind
            if counter.depth < 0:
                timeline.return_to(tick)
                return _stepped(timeline, Arrival(tick))
        notes.clear()
    timeline.return_to(timeline.first_tick)
    return Arrival(timeline.tick, (HistoryStart(),))


# ---- world switches --------------------------------------------------------------------------------


def _switch(timeline: Timeline, backwards: bool) -> Arrival:
    """To the next tick at which the Guest is in where it was not before, or the other way round.

    Into the Guest leads the Switcher's IRET, and the tick behind it is meant; out of it a trap to one of its entries.
    """
    entries = {
        address: vector
        for switcher in timeline.machine.switchers
        for vector, address in enumerate(switcher.default_idt_entries)
    }

    def turns(look: Look) -> bool:
        cpu = look.machine.cpu
        if look.machine.cpu.eip not in entries:
            return _code(look)[:1] == bytes((_IRET,))
        saved_cs = look.word(_esp(look) + (8 if entries[cpu.eip] in _ERROR_CODES else 4))
        return saved_cs is not None and saved_cs & 3 != 0

    stop = Instructions(turns, timeline.machine.switcher_text)
    origin = timeline.tick
    while True:
        arrival = timeline.search(((OWN_STOP, stop),), backwards=backwards)
        if not any(isinstance(r, InstructionMet) for r in arrival.reasons):
            return _stepped(timeline, arrival)
        if timeline.machine.cpu.eip in entries:
            return _stepped(timeline, arrival)
        inside = Tick(timeline.tick + 1)
        if backwards and inside >= origin:
            continue
        timeline.run_to(inside)
        if timeline.look.world in (World.KERNEL, World.USER):
            return _stepped(timeline, Arrival(inside))
        if backwards:
            timeline.run_to(Tick(inside - 1))


__all__ = ["Unit", "step"]
