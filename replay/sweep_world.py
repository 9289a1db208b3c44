"""A World in which interrupts come when somebody says: from there on a computed World, as any other.

An interrupt placed at a tick is a hardware interrupt whose line goes up there; the CPU takes it when it can, and then
the Host finds a reason for it, as it would have if things had taken another time:

(i) *The timer* rings because its deadline is reached: with the placed interrupt time jumps to the deadline.
(ii) *A device* has an answer: the one that its queue waits for, at once. If none is waited for, the interrupt comes
     alone, as one that is late does.

What comes besides those that are placed is the `Background`. What is worth knowing of the run is noted on the way
(`Notes`). Read next: run_notes.py, sweep.py; virtual_world.py.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum

from hostvm.interrupts_and_traps import LGUEST_IRQS, TIMER_IRQ
from hostvm.machine import Machine
from hostvm.observations import Observation
from hostvm.units import Nanoseconds, Tick
from hostvm.world import DEVICE_VECTOR, TIMER_VECTOR, Action, Completion, Request
from replay.device_answers import NO_DISKS, Disks, answer
from replay.ethernet import Port
from replay.run_notes import Notes
from replay.scan import Scan
from replay.virtual_world import VIRTUAL_LATENCY_NS, VirtualWorld
from replay.world_time import FAR, HOST_HZ, Since

# A device that no Guest has.
FREE = 255


class Background(Enum):
    """What comes besides the interrupts that are placed."""

    SEEDED = "seeded"
    """What comes in a VirtualWorld: timer and devices, each as late as the seed says, and the Host's own tick."""

    PUNCTUAL = "punctual"
    """Timer and devices to the tick, and no Host's tick."""

    SILENT = "silent"
    """Nothing, unless the machine is idle: then what it waits for comes at once."""


@dataclass(frozen=True, slots=True)
class Placed:
    """An interrupt to come at `tick`: the deadline that the timer has then, or what a device waits for.

    Where neither is said, the World finds out when the time has come, as far as it was told. `answers`: what devices
    deliver then, if that is known. A `bare` one has no reason: nothing is due, and nobody has an answer.
    """

    tick: Tick
    guest: int
    irq: int
    deadline: Nanoseconds | None = None
    request: Request | None = None
    device: int = 0
    answers: tuple[Completion, ...] = ()
    bare: bool = False

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


@dataclass(frozen=True, slots=True)
class Course:
    """What comes in a run besides what is placed; `seed` decides where the background leaves it open.

    `holds`: before the last of those placed is taken, nothing comes besides. The Host draws `choices` first.
    """

    seed: int = 0
    background: Background = Background.SEEDED
    holds: bool = False
    choices: tuple[int, ...] = ()
    host_hz: int = HOST_HZ


class PlacedWorld(VirtualWorld):
    """A VirtualWorld that goes on from `since`, in which interrupts come that `place` was told of, ascending.

    When `notes` have all that is wanted the World is `done`, and calls `pause`.
    """

    def __init__(
        self,
        since: Since,
        course: Course,
        notes: Notes,
        *,
        disks: Disks = NO_DISKS,
        ports: Sequence[Port] = (),
        pause: Callable[[], None] = lambda: None,
    ) -> None:
        lively = course.background is Background.SEEDED
        super().__init__(
            course.seed,
            latency=VIRTUAL_LATENCY_NS if lively else 0,
            host_hz=course.host_hz if lively else 0,
            disks=disks,
            since=since,
            ports=ports,
        )
        self._placed: deque[Placed] = deque()
        self._known = deque(course.choices)
        self._handing: list[Placed] = []
        self._deadline: Nanoseconds | None = None
        self._silent = course.background is Background.SILENT
        self._holds = course.holds
        self._idle = False
        self._notes = notes
        self._images = disks
        self._pause = pause
        self.scan: Scan | None = None
        self.done = False

    def place(self, placed: Placed) -> None:
        """Have one come, behind all the others."""
        self._placed.append(placed)

    def release(self) -> None:
        """Hold back no longer what comes besides."""
        self._holds = False

    @property
    def _quiet(self) -> bool:
        return not self._idle and (self._silent or self._holds)

    def _is_up(self, tick: int) -> bool:
        return bool(self._placed) and self._placed[0].tick <= tick

    def horizon(self, tick: Tick) -> Tick:
        first = FAR if self._quiet else super().horizon(tick)
        return max(tick, min(first, self._placed[0].tick)) if self._placed else first

    def _line(self, tick: Tick) -> int | None:
        if self._is_up(tick):
            return self._placed[0].vector
        return None if self._quiet else super().interrupt_line(tick)

    def host_interrupt(self, tick: Tick, guest: int) -> int | None:
        vector = self._line(tick)
        if vector is not None:
            self._lower(vector, tick)
        return vector

    def interrupt_line(self, tick: Tick) -> int | None:
        vector = self._line(tick)
        if vector is not None and self.scan is not None and self.scan.delivery(tick):
            self._pause()
            return None
        return vector

    def _lower(self, vector: int, tick: int) -> None:
        while self._is_up(tick) and self._placed[0].vector == vector:
            self._hand_over(tick)
        super()._lower(vector, tick)

    def _hand_over(self, tick: int) -> None:
        placed = self._placed.popleft()
        self._holds = self._holds and bool(self._placed)
        if placed.bare:
            return
        if placed.irq != TIMER_IRQ:
            self._handing.append(placed)
            return
        deadline = self._deadline if placed.deadline is None else placed.deadline
        if deadline is not None:
            self._skipped += max(0, deadline - self._time(tick))

    def wait(self, tick: Tick, guest: int) -> int | None:
        # Whoever is idle is woken, whatever the background.
        self._idle = True
        vector = super().wait(tick, guest)
        self._idle = False
        if vector is None and self._placed:
            # Idle time takes no ticks, so what was meant for a later tick comes now or never.
            vector = self._placed[0].vector
            self._hand_over(tick)
            self._lower(vector, tick)
        return vector

    def program_timer(self, tick: Tick, deadline: Nanoseconds | None) -> None:
        self._deadline = deadline
        super().program_timer(tick, deadline)

    def completions(self, tick: Tick) -> tuple[Completion, ...]:
        handing, self._handing = self._handing, []
        others = super().completions(tick)
        return (*(done for placed in handing for done in self._answers(placed)), *others)

    def _answers(self, placed: Placed) -> tuple[Completion, ...]:
        if placed.answers:
            for done in placed.answers:
                self._outstanding.take(done.guest, done.irq)
            return placed.answers
        request = placed.request or self._outstanding.take(placed.guest, placed.irq)
        if request is None:
            return (Completion(placed.guest, placed.device, placed.irq, b""),)
        return (answer(request, self._images, self._entropy.data),)

    def choose(self, tick: Tick, guest: int, bound: int) -> int:
        return self._known.popleft() % bound if self._known else super().choose(tick, guest, bound)

    def observe(self, observation: Observation) -> None:
        super().observe(observation)
        if self._notes.take(observation):
            self.done = True
            self._pause()


__all__ = ["FREE", "Background", "Course", "Placed", "PlacedWorld", "place"]
