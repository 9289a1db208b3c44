"""A World for what might have been: the rest of a log, edited, for as long as it fits; then a computed World.

(i) *Following.* As long as the machine asks and reports what the log has next, it gets the log's answers. With a log
that nobody has edited that is a replay, to the end.
(ii) *Parting.* Sooner or later an edit shows: the machine reports something else, or asks for what is not there, or
the log is over. That is no error. From then on a VirtualWorld answers, from the time reached; it is told which timer
was set and what devices wait for.
(iii) *What was put there by hand* counts to the end: an interrupt that was added or moved comes at its tick, or as soon
after it as the CPU takes interrupts, whatever else has become of the log; so does an edit.

Read next: branch.py; session.py, where following is strict.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace

from hostvm.edits import Edit
from hostvm.observations import DirectTraps, Observation, StateDigest
from hostvm.units import Nanoseconds, Tick
from hostvm.world import Completion, Request
from replay.device_answers import NO_DISKS, Disks
from replay.errors import ReplayError
from replay.ethernet import Port
from replay.events import (
    ClockReading,
    DebuggerWrite,
    DeviceCompletion,
    Event,
    HostInterrupt,
    HostTurnInterrupt,
    HostWoken,
    RandomChoice,
    TscReading,
)
from replay.session import HARDWARE_VECTORS
from replay.virtual_world import VIRTUAL_NS_PER_TICK, VirtualWorld
from replay.world_time import FAR, Since


class BadEdit(ReplayError):
    """What a debugger wants to write at `tick` cannot be written."""

    def __init__(self, tick: Tick, why: str) -> None:
        super().__init__(tick, why)
        self.tick = tick
        self.why = why

    def __str__(self) -> str:
        return f"cannot be written at tick {self.tick}: there is {self.why}"


@dataclass(slots=True)
class _Time:
    """What clock and time stamp counter said last."""

    clock: tuple[Tick, int]
    tsc: tuple[Tick, int]

    def at(self, tick: Tick) -> Since:
        """Both at a later tick, if time goes on as virtual time does."""
        ns, tsc = (
            value + (tick - then) * VIRTUAL_NS_PER_TICK for then, value in (self.clock, self.tsc)
        )
        return Since(tick, ns, tsc)


def _order(event: Event) -> tuple[int, int]:
    """Within a tick, what is reported on arrival comes first, then edits, then the step."""
    match event:
        case StateDigest() | DirectTraps():
            return event.tick, 0
        case DebuggerWrite():
            return event.tick, 1
        case _:
            return event.tick, 2


class EditedWorld:
    """Answers from `events`, then from a VirtualWorld of `seed`. Those of `events` that are not `known` were put there.

    `since`: the time where it begins. Raises BadEdit where an edit is not possible.
    """

    def __init__(
        self,
        events: Iterable[Event],
        known: Collection[Event],
        since: Since,
        seed: int = 0,
        disks: Disks = NO_DISKS,
        ports: Sequence[Port] = (),
    ) -> None:
        self._events = sorted(events, key=_order)
        self._at = 0
        by_hand = [event for event in self._events if event not in known]
        self._edits = [event for event in self._events if isinstance(event, DebuggerWrite)]
        self._lines = [event for event in by_hand if isinstance(event, HostInterrupt)]
        for event in self._lines:
            if event.vector not in HARDWARE_VECTORS:
                raise BadEdit(event.tick, f"no hardware interrupt {event.vector:#x}")
        self._unasked = deque(e for e in self._events if isinstance(e, HostInterrupt))
        self._time = _Time((since.tick, since.ns), (since.tick, since.tsc))
        self._seed, self._disks, self._ports = seed, disks, ports
        self._deadline: Nanoseconds | None = None
        self._requests: dict[tuple[int, int, int], Request] = {}
        self._virtual: VirtualWorld | None = None

    @property
    def parted(self) -> bool:
        """Whether history has left the log."""
        return self._virtual is not None

    # ---- following ------------------------------------------------------------------------------

    def _next(self) -> Event | None:
        """The next event of the log; None when there is no more, or it is not followed any more."""
        if self._virtual is not None or self._at >= len(self._events):
            return None
        return self._events[self._at]

    def _take(self) -> None:
        event = self._events[self._at]
        self._at += 1
        if self._unasked and self._unasked[0] is event:
            self._unasked.popleft()

    def _apart(self, tick: Tick) -> VirtualWorld:
        """Follow no more."""
        if self._virtual is None:
            since = self._time.at(tick)
            self._virtual = VirtualWorld(
                self._seed, disks=self._disks, since=since, ports=self._ports
            )
            self._virtual.program_timer(tick, self._deadline)
            for request in self._requests.values():
                self._virtual.submit(tick, request)
        return self._virtual

    # ---- interrupts -----------------------------------------------------------------------------

    def _line(self, tick: Tick) -> HostInterrupt | None:
        """The interrupt put there by hand whose time has come."""
        return self._lines[0] if self._lines and self._lines[0].tick <= tick else None

    def horizon(self, tick: Tick) -> Tick:
        if self._virtual is None and self._at >= len(self._events):
            self._apart(tick)
        if self._virtual is None:
            first = self._unasked[0].tick if self._unasked else FAR
            if first < tick and self._unasked[0] not in self._lines:
                # Passed by: the machine was deaf where the log has it taken.
                self._apart(tick)
        if self._virtual is not None:
            first = min(self._virtual.horizon(tick), self._lines[0].tick if self._lines else FAR)
        first = min(first, self._edits[0].tick if self._edits else FAR)
        return max(tick, first)

    def interrupt_line(self, tick: Tick) -> int | None:
        if self._virtual is None:
            due = self._unasked[0] if self._unasked else None
            return due.vector if due is not None and due.tick <= tick else None
        line = self._line(tick)
        return line.vector if line is not None else self._virtual.interrupt_line(tick)

    def interrupt_taken(self, tick: Tick, guest: int, vector: int, eip: int, check: int) -> None:
        event = self._next()
        if isinstance(event, HostInterrupt) and event.vector == vector:
            taken = replace(event, tick=tick, guest=guest, eip=eip, check=check)
            if event == taken or event in self._lines:
                self._lines = [line for line in self._lines if line is not event]
                self._take()
                return
        virtual = self._apart(tick)
        if self._line(tick) is not None:
            self._lines.pop(0)
        else:
            virtual.interrupt_taken(tick, guest, vector, eip, check)

    def host_interrupt(self, tick: Tick, guest: int) -> int | None:
        if self._virtual is None:
            event = self._next()
            if not isinstance(event, HostTurnInterrupt) or not self._is_at(event, tick, guest):
                return None
            self._take()
            return event.vector
        if self._line(tick) is not None:
            return self._lines.pop(0).vector
        return self._virtual.host_interrupt(tick, guest)

    def wait(self, tick: Tick, guest: int) -> int | None:
        event = self._next()
        if isinstance(event, HostWoken) and self._is_at(event, tick, guest):
            self._take()
            return event.vector
        vector = self._apart(tick).wait(tick, guest)
        # Idle time takes no ticks, so what was meant for a later tick comes now or never.
        return self._lines.pop(0).vector if vector is None and self._lines else vector

    def _is_at(self, event: Event, tick: Tick, guest: int) -> bool:
        return (event.tick, event.guest) == (tick, guest)

    # ---- other questions ------------------------------------------------------------------------

    def clock(self, tick: Tick, guest: int) -> Nanoseconds:
        event = self._next()
        if isinstance(event, ClockReading) and self._is_at(event, tick, guest):
            self._take()
            self._time.clock = tick, event.ns
            return event.ns
        return self._apart(tick).clock(tick, guest)

    def tsc(self, tick: Tick, guest: int) -> int:
        event = self._next()
        if isinstance(event, TscReading) and self._is_at(event, tick, guest):
            self._take()
            self._time.tsc = tick, event.value
            return event.value
        return self._apart(tick).tsc(tick, guest)

    def choose(self, tick: Tick, guest: int, bound: int) -> int:
        event = self._next()
        if isinstance(event, RandomChoice) and event == replace(
            event, tick=tick, guest=guest, bound=bound
        ):
            self._take()
            return event.value
        return self._apart(tick).choose(tick, guest, bound)

    def program_timer(self, tick: Tick, deadline: Nanoseconds | None) -> None:
        self._deadline = deadline
        if self._virtual is not None:
            self._virtual.program_timer(tick, deadline)

    def submit(self, tick: Tick, request: Request) -> None:
        self._requests[request.guest, request.device, request.irq] = request
        if self._virtual is not None:
            self._virtual.submit(tick, request)

    def completions(self, tick: Tick) -> tuple[Completion, ...]:
        if self._virtual is not None:
            return self._virtual.completions(tick)
        done: list[Completion] = []
        while isinstance(event := self._next(), DeviceCompletion) and event.tick == tick:
            self._take()
            self._requests.pop((event.guest, event.device, event.irq), None)
            done.append(Completion(event.guest, event.device, event.irq, event.data))
        return tuple(done)

    def edit(self, tick: Tick, refusal: Callable[[Edit], str | None]) -> Edit | None:
        if not self._edits or self._edits[0].tick > tick:
            return None
        event = self._edits.pop(0)
        if self._next() is event:
            self._take()
        edit = Edit(event.guest, event.target, event.address, event.data)
        why = refusal(edit)
        if why is not None:
            raise BadEdit(tick, why)
        return edit

    # ---- reports --------------------------------------------------------------------------------

    def observe(self, observation: Observation) -> None:
        if self._virtual is None:
            if self._next() == observation:
                self._take()
            else:
                self._apart(observation.tick)
        if self._virtual is not None:
            self._virtual.observe(observation)


__all__ = ["BadEdit", "EditedWorld"]
