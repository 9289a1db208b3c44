"""Stops: what a move through time is to be ended by, and the reasons with which it answers.

Three families, found in three ways (scan.py, timeline.py): *code* and *memory* by probes in the engine, *events* from
the log without running anything, *predicates* by looking at every step. What a stop means is the same in both
directions, as a set of ticks; forwards the first of them behind the cursor ends the move, backwards the last before it.

- Breakpoint: ticks that begin the instruction at the address. Not a delivery or a Host turn that happens at it; of a
  REP instruction the first iteration only; a faulting attempt and its retry both.
- Watchpoint: accesses. Forwards the move ends behind the step that made it, backwards before it.
- EventStop: ticks of events in the log.
- Predicate: ticks at which an expression is true and at whose neighbour, on the side one comes from, it is not.

Read next: predicate.py for expressions, timeline.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

from hostvm.observations import (
    ConsoleOutput,
    GuestEnded,
    Hypercall,
    IrqDelivered,
    IrqRaised,
    TrapReflected,
)
from hostvm.units import Tick
from replay.events import Event, HostInterrupt, HostTurnInterrupt, HostWoken, Kind
from replay.layouts import LAYOUTS
from replay.look import Look
from replay.places import Place

Condition: TypeAlias = Callable[[Look], bool]


class Touch(Enum):
    """What a watchpoint answers to."""

    WRITE = "write"
    READ = "read"
    ACCESS = "access"
    CHANGE = "change"


class Happening(Enum):
    """What in the log an event stop answers to; `number` of the stop is the thing in brackets."""

    RAISED = "raised"  # virtual interrupt (IRQ)
    DELIVERED = "delivered"  # virtual interrupt (IRQ)
    INTERRUPT = "interrupt"  # hardware interrupt (vector)
    HYPERCALL = "hypercall"  # (number)
    TRAP = "trap"  # reflected to the Guest (vector)
    CONSOLE = "console"
    ENDED = "ended"
    ANY = "any"  # whatever is not a mere digest or count


@dataclass(frozen=True, slots=True)
class Breakpoint:
    """An instruction at a linear address; only in one Guest address space (page directory) or ring, if given."""

    address: int
    directory: int | None = None
    ring: int | None = None
    condition: Condition | None = None


@dataclass(frozen=True, slots=True)
class Watchpoint:
    """Bytes in memory, whoever touches them."""

    place: Place
    touch: Touch = Touch.CHANGE
    condition: Condition | None = None


@dataclass(frozen=True, slots=True)
class EventStop:
    """Events of a kind, of one Guest or all; `number` None: any."""

    happening: Happening
    number: int | None = None
    guest: int | None = None

    def wants(self, event: Event) -> bool:
        """Whether this event is meant."""
        fits = isinstance(event, _CLASSES[self.happening])
        if not fits or (self.guest is not None and event.guest != self.guest):
            return False
        return self.number is None or self.number == _number(event)

    @property
    def kinds(self) -> frozenset[Kind]:
        """Kinds of the events that can be meant."""
        return _KINDS[self.happening]


@dataclass(frozen=True, slots=True)
class Predicate:
    """A condition on the state. `text` is for people; `domain` are linear addresses outside which it is never true.

    `depends`: names of all that it depends on, if that is little (sparse.py); else it is looked at before every step.
    """

    text: str
    holds: Condition
    domain: tuple[int, int] | None = None
    depends: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class Instructions:
    """Every instruction that begins at a linear address in `domain` (first, last) and that `wants` says yes to."""

    wants: Condition
    domain: tuple[int, int] = (0, 0xFFFFFFFF)


Stop: TypeAlias = Breakpoint | Watchpoint | EventStop | Predicate | Instructions

# Number of a stop that a move makes for itself; those of users begin at 1.
OWN_STOP = 0
_BOOKKEEPING = frozenset({Kind.STATE_DIGEST, Kind.DIRECT_TRAPS})
_INTERRUPTS = (HostInterrupt, HostTurnInterrupt, HostWoken)
_CLASSES: dict[Happening, tuple[type[Event], ...]] = {
    Happening.RAISED: (IrqRaised,),
    Happening.DELIVERED: (IrqDelivered,),
    Happening.INTERRUPT: _INTERRUPTS,
    Happening.HYPERCALL: (Hypercall,),
    Happening.TRAP: (TrapReflected,),
    Happening.CONSOLE: (ConsoleOutput,),
    Happening.ENDED: (GuestEnded,),
    Happening.ANY: tuple(
        layout.event for kind, layout in LAYOUTS.items() if kind not in _BOOKKEEPING
    ),
}
_KINDS = {
    Happening.RAISED: frozenset({Kind.IRQ_RAISED}),
    Happening.DELIVERED: frozenset({Kind.IRQ_DELIVERED}),
    Happening.INTERRUPT: frozenset(
        {Kind.HOST_INTERRUPT, Kind.HOST_TURN_INTERRUPT, Kind.HOST_WOKEN}
    ),
    Happening.HYPERCALL: frozenset({Kind.HYPERCALL}),
    Happening.TRAP: frozenset({Kind.TRAP_REFLECTED}),
    Happening.CONSOLE: frozenset({Kind.CONSOLE_OUTPUT}),
    Happening.ENDED: frozenset({Kind.GUEST_ENDED}),
    Happening.ANY: frozenset(Kind) - _BOOKKEEPING,
}


def _number(event: Event) -> int | None:
    match event:
        case IrqRaised(irq=number) | IrqDelivered(irq=number):
            return number
        case Hypercall(number=number):
            return number
        case TrapReflected(vector=number) | HostInterrupt(vector=number):
            return number
        case HostTurnInterrupt(vector=number) | HostWoken(vector=number):
            return number
        case _:
            return None


# ---- why a move ended ----------------------------------------------------------------------------


class Actor(Enum):
    """Who touched memory."""

    GUEST = "guest"
    SWITCHER = "switcher"
    HOST = "host"
    DELIVERY = "interrupt delivery"
    DEBUGGER = "debugger"


@dataclass(frozen=True, slots=True)
class Stepped:
    """The step asked for was made."""


@dataclass(frozen=True, slots=True)
class BreakpointHit:
    """Stop `number`: the instruction at its address begins here."""

    number: int


@dataclass(frozen=True, slots=True)
class WatchHit:
    """Stop `number`: the step at `tick` touched its place. `old` and `new`: the content before and after that step."""

    number: int
    tick: Tick
    is_write: bool
    place: Place
    old: bytes
    new: bytes
    by: Actor


@dataclass(frozen=True, slots=True)
class EventMet:
    """Stop `number`: this event belongs to the step at hand."""

    number: int
    event: Event


@dataclass(frozen=True, slots=True)
class PredicateTrue:
    """Stop `number`: its expression holds here, and did not one tick before (after, when going back)."""

    number: int


@dataclass(frozen=True, slots=True)
class InstructionMet:
    """Stop `number`, which looks at every instruction, wants the one that begins here."""

    number: int


@dataclass(frozen=True, slots=True)
class HistoryStart:
    """There is nothing earlier."""


@dataclass(frozen=True, slots=True)
class HistoryEnd:
    """There is nothing later."""


@dataclass(frozen=True, slots=True)
class Cancelled:
    """The move was broken off; the position is where it was before."""


Reason: TypeAlias = (
    Stepped
    | BreakpointHit
    | WatchHit
    | EventMet
    | PredicateTrue
    | InstructionMet
    | HistoryStart
    | HistoryEnd
    | Cancelled
)


@dataclass(frozen=True, slots=True)
class Arrival:
    """Where a move ended, and all reasons why there."""

    tick: Tick
    reasons: tuple[Reason, ...] = ()


class StopTable:
    """The stops in force, each under a number of its own. Adding and removing does not move anything."""

    def __init__(self) -> None:
        self._stops: dict[int, Stop] = {}
        self._last = 0

    def add(self, stop: Stop) -> int:
        """Put a stop in force; returns its number."""
        self._last += 1
        self._stops[self._last] = stop
        return self._last

    def remove(self, number: int) -> None:
        """Take a stop away. Raises KeyError."""
        del self._stops[number]

    def clear(self) -> None:
        """Take all stops away."""
        self._stops.clear()

    def __iter__(self) -> Iterator[tuple[int, Stop]]:
        return iter(tuple(self._stops.items()))

    def __len__(self) -> int:
        return len(self._stops)


__all__ = [
    "OWN_STOP",
    "Actor",
    "Arrival",
    "Breakpoint",
    "BreakpointHit",
    "Cancelled",
    "Condition",
    "EventMet",
    "EventStop",
    "Happening",
    "HistoryEnd",
    "HistoryStart",
    "InstructionMet",
    "Instructions",
    "Predicate",
    "PredicateTrue",
    "Reason",
    "Stepped",
    "Stop",
    "StopTable",
    "Touch",
    "WatchHit",
    "Watchpoint",
]
