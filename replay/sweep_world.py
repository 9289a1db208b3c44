"""A World in which an interrupt comes when somebody says: from there on a computed World, as any other.

An interrupt placed at a tick is a hardware interrupt whose line goes up there; the CPU takes it when it can, and then
the Host finds a reason for it, as it would have if things had taken another time:

(i) *The timer* rings because its deadline is reached: with the placed interrupt time jumps to the deadline.
(ii) *A device* has an answer: the one that its queue waits for, at once. If none is waited for, the interrupt comes
     alone, as one that is late does.

What is worth knowing of the run is noted on the way (`Notes`). Read next: sweep.py; worlds.py (VirtualWorld).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from hostvm.interrupts_and_traps import LGUEST_IRQS, TIMER_IRQ
from hostvm.machine import Machine
from hostvm.observations import ConsoleOutput, GuestEnded, IrqDelivered, Observation
from hostvm.units import Nanoseconds, Tick
from hostvm.world import DEVICE_VECTOR, TIMER_VECTOR, Action, Completion, Request
from replay.device_answers import Disks, answer
from replay.scan import Scan
from replay.worlds import NO_DISKS, Since, VirtualWorld

_TAIL = 4096


@dataclass(frozen=True, slots=True)
class Placed:
    """An interrupt to come at `tick`: the deadline that the timer has then, or what a device waits for."""

    tick: Tick
    guest: int
    irq: int
    deadline: Nanoseconds | None = None
    request: Request | None = None
    device: int = 0

    @property
    def vector(self) -> int:
        """The hardware's name for it."""
        return TIMER_VECTOR if self.irq == TIMER_IRQ else DEVICE_VECTOR


def place(machine: Machine, guest: int, irq: int) -> Placed | None:
    """An interrupt for a Guest at the tick at hand; None where nothing can raise it: its timer is not set."""
    assert 0 <= irq < LGUEST_IRQS, irq
    its = machine.guests[guest]
    if irq == TIMER_IRQ:
        deadline = its.lguest.timer
        return None if deadline is None else Placed(machine.tick, guest, irq, deadline)
    for device in its.devices.devices:
        for queue in device.queues:
            waiting = queue.waiting
            if queue.irq == irq and waiting is not None and waiting.action is not Action.INPUT:
                number, place_, count = device.placed.number, waiting.position, waiting.count
                request = Request(guest, number, irq, waiting.action, place_, count)
                return Placed(machine.tick, guest, irq, request=request, device=number)
    return Placed(machine.tick, guest, irq, device=len(its.devices.devices))


@dataclass(slots=True)
class Notes:
    """What a run has shown so far, of the Guest looked at."""

    guest: int
    irq: int
    panic: re.Pattern[str] | None = None
    ended: GuestEnded | None = None
    delivered: Tick | None = None
    said: tuple[Tick, str] | None = None
    console: str = field(default="", repr=False)

    def take(self, observation: Observation) -> bool:
        """Note an observation; answers whether the run need not go on."""
        match observation:
            case GuestEnded(guest=self.guest):
                self.ended = observation
                return True
            case IrqDelivered(guest=self.guest, irq=self.irq) if self.delivered is None:
                self.delivered = observation.tick
            case ConsoleOutput(guest=self.guest) if self.panic is not None:
                return self._hear(observation)
        return False

    def _hear(self, output: ConsoleOutput) -> bool:
        assert self.panic is not None
        self.console = (self.console + output.data.decode("latin-1"))[-_TAIL:]
        found = self.panic.search(self.console)
        if found is not None:
            line = self.console[self.console.rfind("\n", 0, found.end()) + 1 :]
            self.said = output.tick, line.partition("\n")[0]
        return found is not None


class PlacedWorld(VirtualWorld):
    """A VirtualWorld that goes on from `since`, in which `placed` comes; None: nothing but what comes anyway.

    When `notes` have all that is wanted it is `done`, and calls `pause`.
    """

    def __init__(
        self,
        since: Since,
        placed: Placed | None,
        notes: Notes,
        *,
        seed: int = 0,
        disks: Disks = NO_DISKS,
        pause: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(seed, disks=disks, since=since)
        self._placed = placed
        self._handing: Placed | None = None
        self._notes = notes
        self._images = disks
        self._pause = pause
        self.scan: Scan | None = None
        self.done = False

    def _is_up(self, tick: Tick) -> bool:
        return self._placed is not None and self._placed.tick <= tick

    def horizon(self, tick: Tick) -> Tick:
        first = super().horizon(tick)
        return first if self._placed is None else max(tick, min(first, self._placed.tick))

    def interrupt_line(self, tick: Tick) -> int | None:
        if self._placed is not None and self._is_up(tick):
            vector: int | None = self._placed.vector
        else:
            vector = super().interrupt_line(tick)
        if vector is not None and self.scan is not None and self.scan.delivery(tick):
            self._pause()
            return None
        return vector

    def _lower(self, vector: int, tick: int) -> None:
        if self._is_up(Tick(tick)):
            self._hand_over(tick)
        super()._lower(vector, tick)

    def _hand_over(self, tick: int) -> None:
        placed, self._placed = self._placed, None
        assert placed is not None
        if placed.deadline is None:
            self._handing = placed
        else:
            self._skipped += max(0, placed.deadline - self._time(tick))

    def wait(self, tick: Tick, guest: int) -> int | None:
        vector = super().wait(tick, guest)
        if vector is None and self._placed is not None:
            # Idle time takes no ticks, so what was meant for a later tick comes now or never.
            vector = self._placed.vector
            self._hand_over(tick)
            self._lower(vector, tick)
        return vector

    def completions(self, tick: Tick) -> tuple[Completion, ...]:
        handing, self._handing = self._handing, None
        others = super().completions(tick)
        if handing is None:
            return others
        if handing.request is None:
            return (Completion(handing.guest, handing.device, handing.irq, b""), *others)
        return (answer(handing.request, self._images, self._entropy.data), *others)

    def observe(self, observation: Observation) -> None:
        if self._notes.take(observation):
            self.done = True
            self._pause()


__all__ = ["Notes", "Placed", "PlacedWorld", "place"]
