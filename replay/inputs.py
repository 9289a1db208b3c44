"""The hardware interrupts of a history as inputs that might not have come, each with what it brought.

An interrupt belongs to a place in the code, not to a tick: leave out one that came earlier, and all that follows
happens at another tick. So an input knows at which instruction it came, and with which registers, and can be put there
again in another run.

Read next: minimise.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from hostvm.interrupts_and_traps import TIMER_IRQ
from hostvm.machine import Machine
from hostvm.observations import IrqRaised
from hostvm.units import Tick
from hostvm.world import DEVICE_VECTOR, Completion
from replay.event_store import EventStore
from replay.events import (
    DeviceCompletion,
    Event,
    HostInterrupt,
    HostTurnInterrupt,
    HostWoken,
    Kind,
    RandomChoice,
)
from replay.sweep_world import FREE, Placed, place

_SOURCES = (HostInterrupt, HostTurnInterrupt, HostWoken)


@dataclass(frozen=True, slots=True)
class Input:
    """A hardware interrupt taken at `tick`: event `number` of the trace.

    `eip` and `check` say where, if a Guest was in. `rings`: the timer was due. `answers`: what devices delivered.
    """

    number: int
    tick: Tick
    guest: int
    vector: int
    eip: int | None
    check: int | None
    rings: bool
    answers: tuple[Completion, ...]

    def placed(self, machine: Machine) -> Placed:
        """The same interrupt where `machine` stands."""
        irq = self.answers[0].irq if self.answers else int(self.vector == DEVICE_VECTOR)
        if irq == TIMER_IRQ and self.rings:
            found = place(machine, self.guest, irq)
            if found is not None:
                return found
        return Placed(
            machine.tick, self.guest, irq, device=FREE, answers=self.answers, bare=not self.answers
        )


def inputs_of(store: EventStore, until: Tick) -> list[Input]:
    """The interrupts before `until` that need not have come; those that ended idleness must. Raises TraceError."""
    found: list[Input] = []
    source: tuple[int, Event] | None = None
    brought: list[Event] = []
    for number, event in enumerate(_events(store), store.first_number):
        if event.tick >= until:
            break
        if isinstance(event, _SOURCES):
            found += _input(source, brought)
            source, brought = (number, event), []
        elif isinstance(event, DeviceCompletion | IrqRaised):
            brought.append(event)
    return found + _input(source, brought)


def _events(store: EventStore) -> Iterator[Event]:
    for number in range(store.chunk_count):
        yield from store.chunk(number).events


def _input(source: tuple[int, Event] | None, brought: list[Event]) -> list[Input]:
    if source is None or isinstance(source[1], HostWoken):
        return []
    number, event = source
    assert isinstance(event, HostInterrupt | HostTurnInterrupt)
    # All that it brings comes in one turn of the Host.
    turn = brought[0].tick if brought else None
    answers = tuple(
        Completion(e.guest, e.device, e.irq, e.data)
        for e in brought
        if isinstance(e, DeviceCompletion) and e.tick == turn
    )
    rings = any(isinstance(e, IrqRaised) and e.irq == TIMER_IRQ and e.tick == turn for e in brought)
    eip, check = (event.eip, event.check) if isinstance(event, HostInterrupt) else (None, None)
    return [Input(number, event.tick, event.guest, event.vector, eip, check, rings, answers)]


def choices_from(store: EventStore, tick: Tick) -> list[int]:
    """What the Host drew from `tick` on."""
    found = store.find_after(
        Tick(tick - 1), lambda e: isinstance(e, RandomChoice), frozenset({Kind.RANDOM_CHOICE})
    )
    return [event.value for event in found if isinstance(event, RandomChoice)]


__all__ = ["Input", "choices_from", "inputs_of"]
