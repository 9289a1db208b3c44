"""Explaining: what killed a Guest, told from the trace.

(i) *The end*: how and when. (ii) *The tick of no return* (no_return.py), and what happened in that step.
(iii) *The value that killed*: the last words of a Guest, or of lguest about it, name an address. Either something is
      wrong with the entry that maps it, or it was computed from a value; both have an origin (origin.py), which is
      followed back, at most to the tick of no return.
(iv) *The interrupt* last taken before that, and what lguest thought of interrupts there.

All of it is found out anew from the trace; what cannot be found out is not said. Read next: commands/explaining.py.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from hostvm.observations import Hypercall, IrqDelivered, TrapReflected
from hostvm.units import Tick
from hostvm.x86 import PAGE_SIZE
from replay.attempts import Attempts
from replay.events import Event, HostInterrupt, Kind
from replay.locations import GuestEntry, Location, NoSuchLocation, Register, place_of
from replay.look import GuestPhysicalSpace, World
from replay.no_return import NoReturn, find_no_return
from replay.origin import Link, base_of, chain
from replay.outcomes import Verdict
from replay.places import Place
from replay.predicate import NAMES
from replay.stops import Actor, Breakpoint
from replay.sweep_plan import BadSweep

_NUMBER = re.compile(r"\b(?:0x([0-9a-f]+)|([0-9a-f]{8}))\b")
_STATES = ("irq_enabled", "irq_pending", "pending", "blocked")
_PAGE_FAULT = 14
_NEAR = PAGE_SIZE


@dataclass(frozen=True, slots=True)
class Moment:
    """A tick, and where the machine stood: `where` with a symbol, `code` the instruction, `world` whose it is."""

    tick: Tick
    eip: int
    where: str
    code: str
    world: str


@dataclass(frozen=True, slots=True)
class Struck:
    """An interrupt of the history: what it came before, and what was thought of interrupts there.

    `states` are words of lguest's by name; `window` are the addresses between which lguest delivers nothing.
    `delivered`: when lguest delivered an interrupt because of it.
    """

    at: Moment
    event: Event
    states: dict[str, int]
    window: tuple[int, int]
    delivered: Tick | None


@dataclass(frozen=True, slots=True)
class Told:
    """A hypercall or trap in which the value that killed was last seen."""

    event: Event
    value: int


@dataclass(frozen=True, slots=True)
class Explanation:
    """What is known of the end of a trace. `killer` are the writes of the value that killed, the last one first."""

    verdict: Verdict
    text: str
    end: Tick
    no_return: NoReturn | None = None
    at_no_return: Moment | None = None
    struck: Struck | None = None
    told: Told | None = None
    killer: tuple[Link, ...] = ()

    @property
    def overwrote(self) -> Link | None:
        """The first write behind the interrupt in question that put something else where the value was looked for."""
        its = [link for link in self.killer if link.at is not None and link.write.by is Actor.GUEST]
        return its[-1] if its else None


class Explainer:
    """Explains the end of the trace of `made`."""

    def __init__(self, made: Attempts) -> None:
        self._made = made

    def explain(self, runs: int) -> Explanation:
        """Find out what there is to say. Raises BadSweep if the trace does not fail."""
        made = self._made
        made.find_failure()
        found = self._no_return(runs)
        moment = None if found is None else self._moment(found.tick)
        first = made.first_tick if found is None else found.tick
        told, killer = self._killer(first)
        if not killer:
            # The harm may be older than what made it certain.
            told, killer = self._killer(made.first_tick)
        known = Explanation(
            made.verdict, made.text, made.failed_at, found, moment, told=told, killer=killer
        )
        overwrote = known.overwrote
        cause = found.tick if overwrote is None and found is not None else None
        if overwrote is not None:
            cause = overwrote.write.tick
        return known if cause is None else replace(known, struck=self._struck(cause))

    def _no_return(self, runs: int) -> NoReturn | None:
        made = self._made
        try:
            return find_no_return(made, runs, 0, max(0, made.failed_at - 1))
        except BadSweep:
            return None

    # ---- (ii), (iv) -----------------------------------------------------------------------------------

    def _moment(self, tick: Tick) -> Moment:
        made = self._made
        made.go(tick)
        look, eip = made.look, made.machine.cpu.eip
        in_guest = look.world in (World.KERNEL, World.USER)
        name = made.symbols.name_of(eip, in_guest=in_guest, guest=look.guest.number)
        where = f"{eip:08x}" if name is None else f"{eip:08x} {name}"
        return Moment(tick, eip, where, made.code_here(), look.world.value)

    def _struck(self, tick: Tick) -> Struck | None:
        """The last interrupt up to a tick."""
        made = self._made
        event = self._last(Kind.HOST_INTERRUPT, _is_interrupt, tick)
        if not isinstance(event, HostInterrupt):
            return None
        moment = self._moment(event.tick)
        states = {name: int(NAMES[name](made.look)) for name in _STATES}
        window = (int(NAMES["noirq_start"](made.look)), int(NAMES["noirq_end"](made.look)))
        return Struck(moment, event, states, window, self._delivered_by(event))

    def _delivered_by(self, event: HostInterrupt) -> Tick | None:
        """When lguest delivered something in the turn of the Host that the interrupt brought about."""
        behind = self._made.store.find_after(event.tick, lambda _: True, frozenset(Kind))
        turn = next(behind, None)
        if turn is None:
            return None
        events = self._made.store.events_at(turn.tick)
        return turn.tick if any(isinstance(each, IrqDelivered) for each in events) else None

    # ---- (iii) ----------------------------------------------------------------------------------

    def _killer(self, first: Tick) -> tuple[Told | None, tuple[Link, ...]]:
        made = self._made
        numbers = [int(one or other, 16) for one, other in _NUMBER.findall(made.text)]
        for told, tick, location in self._suspects(numbers):
            made.go(tick)
            links = tuple(chain(made, location, first))
            if links:
                return told, links
        return None, ()

    def _suspects(self, numbers: list[int]) -> Iterator[tuple[Told, Tick, Location]]:
        """What may have held the value that killed, and when: the most telling first."""
        fault = self._last(Kind.TRAP_REFLECTED, _is_page_fault)
        if isinstance(fault, TrapReflected):
            self._made.go(fault.tick + 1)
            address = self._made.machine.guests[fault.guest].lguest.cr2
            if address in numbers:
                yield from self._of_fault(fault, address)
        for number in numbers:
            yield from self._of_calls(number)

    def _last(
        self, kind: Kind, wanted: Callable[[Event], bool], tick: Tick | None = None
    ) -> Event | None:
        """The last event of a kind up to a tick, by default that of the failure."""
        until = self._made.failed_at if tick is None else tick
        found = self._made.store.find_before(Tick(until + 1), wanted, frozenset({kind}))
        return next(found, None)

    def _of_fault(
        self, fault: TrapReflected, address: int
    ) -> Iterator[tuple[Told, Tick, Location]]:
        """A page fault: the entry for the address, if it is there, or the register that held the address."""
        made, told = self._made, Told(fault, address)
        made.go(fault.tick)
        entry = GuestEntry(address, fault.guest)
        try:
            place = place_of(made.look, entry)
        except NoSuchLocation:
            place = None
        if place is not None and (made.look.word(place.address, place.space) or 0) & 1:
            yield told, fault.tick, place
            return
        found = made.search(((0, Breakpoint(fault.eip)),), backwards=True)
        code = made.read(fault.eip, 15)
        register = base_of(code, fault.eip)
        if register is not None:
            yield told, found.tick, register
        elif fault.eip == address:
            yield told, found.tick, Register("eip")

    def _of_calls(self, number: int) -> Iterator[tuple[Told, Tick, Location]]:
        """The last hypercall with an argument at or close below an address."""

        def wants(event: Event) -> bool:
            return isinstance(event, Hypercall) and any(0 <= number - a < _NEAR for a in event.args)

        call = self._last(Kind.HYPERCALL, wants)
        if not isinstance(call, Hypercall):
            return
        value = next(a for a in call.args if 0 <= number - a < _NEAR)
        self._made.go(call.tick)
        told = Told(call, value)
        place = self._word_in_ring(call.guest, value)
        if call.queued and place is not None:
            yield told, call.tick, place
        names = ("eax", "ebx", "ecx", "edx", "esi", "edi")
        guest = self._made.machine.guests[call.guest]
        for name in names:
            if not call.queued and getattr(guest.regs, name) == value:
                trap = self._made.search(((0, Breakpoint(guest.regs.eip - 2)),), backwards=True)
                yield told, trap.tick, Register(name)

    def _word_in_ring(self, guest: int, value: int) -> Place | None:
        """Where in the page shared with the Host a value stands."""
        made = self._made
        address = made.machine.guests[guest].lguest.data.address
        if address is None:
            return None
        space = GuestPhysicalSpace(guest)
        raw = made.look.read(address, _NEAR, space)
        wanted = value.to_bytes(4, "little")
        found = next((at for at in range(0, len(raw) - 3, 4) if raw[at : at + 4] == wanted), None)
        return None if found is None else Place(address + found, 4, space)


def _is_interrupt(event: Event) -> bool:
    return isinstance(event, HostInterrupt)


def _is_page_fault(event: Event) -> bool:
    return isinstance(event, TrapReflected) and event.vector == _PAGE_FAULT


__all__ = ["Explainer", "Explanation", "Moment", "Struck", "Told"]
