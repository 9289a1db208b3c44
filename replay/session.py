"""Replay: a World that answers from a trace, and the loop that runs a machine in it and checks everything.

ReplayWorld is strict. Each question must be answered by the next event of the log, asked at the same tick for the same
Guest, and each report must equal the next event; the first difference is a `Divergence`, raised out of `Machine.run`.
The machine is then in the middle of a step and of no further use.

(i) *Looking ahead.* The machine wants to know the tick of the next hardware interrupt long before it gets there, so
events are fetched ahead until one is found. Where interrupts are rare that would be the whole trace; after LOOK_AHEAD
events a horizon is given at which there is no interrupt, and the machine merely asks again. (ii) *Nothing* is what was
answered when the next event is not an answer to the question (see recording.py). (iii) *Foreign values.* An event may
be well-formed and still name what no machine has; it is refused before the machine gets to see it.

A Session is a machine that goes forward through one trace, from power-on or, where a flight recorder has dropped that,
from the first checkpoint. Read next: timeline.py, which goes backwards.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from hostvm.edits import Edit
from hostvm.machine import Machine, MachineConfig
from hostvm.observations import Observation
from hostvm.units import Nanoseconds, Tick
from hostvm.world import DEVICE_VECTOR, NMI_VECTOR, TIMER_VECTOR, Completion, Request, World
from replay.checkpoints import state_of
from replay.describe import event_to_text
from replay.directory import Entry
from replay.errors import Divergence, Place, TraceTruncated
from replay.event_store import UNASKED, EventCursor, Unasked
from replay.events import (
    ClockReading,
    DebuggerWrite,
    DeviceCompletion,
    Event,
    HostInterrupt,
    HostTurnInterrupt,
    HostWoken,
    RandomChoice,
    StateDigest,
    TscReading,
)
from replay.log import Checkpoint, TraceReader
from replay.machine_header import machine_of
from replay.slices import run_in_slices
from replay.trace_header import TraceEnd
from replay.virtual_world import VirtualWorld
from replay.world_time import FAR

LOOK_AHEAD = 4096
VIRTUAL_IRQS = 32
HARDWARE_VECTORS = frozenset({NMI_VECTOR, TIMER_VECTOR, DEVICE_VECTOR})
NOTHING_MORE = "nothing more"

_Answer = TypeVar("_Answer", ClockReading, TscReading, RandomChoice)


def _words(event: Event | None) -> str:
    return NOTHING_MORE if event is None else " ".join(event_to_text(event).split())


class _EventsAhead:
    """The events to come, with those fetched ahead of their time; the interrupts among them are at hand."""

    def __init__(self, events: Iterable[Event]) -> None:
        self._source = iter(events)
        self._queue: deque[Event] = deque()
        self._unasked: deque[Unasked] = deque()
        self._exhausted = False
        self.taken = 0

    def _fetch(self) -> bool:
        event = next(self._source, None)
        if event is None:
            self._exhausted = True
            return False
        self._queue.append(event)
        if isinstance(event, UNASKED):
            self._unasked.append(event)
        return True

    def next(self) -> Event | None:
        """The next event, which stays where it is; None at the end."""
        if self._queue or self._fetch():
            return self._queue[0]
        return None

    def take(self) -> None:
        """Pass over the next event."""
        event = self._queue.popleft()
        self.taken += 1
        if self._unasked and self._unasked[0] is event:
            self._unasked.popleft()

    def next_unasked(self) -> Unasked | None:
        """The next event for which nobody asks, among those fetched."""
        return self._unasked[0] if self._unasked else None

    def free_until(self, tick: Tick) -> Tick:
        """Fetch until such an event is at hand or none can be before the tick returned, which is after `tick`."""
        while not self._unasked and not self._exhausted:
            if len(self._queue) >= LOOK_AHEAD and self._queue[-1].tick > tick:
                return self._queue[-1].tick
            self._fetch()
        return self._unasked[0].tick if self._unasked else FAR


class ReplayWorld:
    """Answers from `events`, for a machine with `guests` Guests; `torn` is raised where a torn trace has no more."""

    def __init__(
        self, events: Iterable[Event] | EventCursor, guests: int, torn: TraceTruncated | None = None
    ) -> None:
        self._events = events if isinstance(events, EventCursor) else _EventsAhead(events)
        self._guests = guests
        self._torn = torn

    @property
    def events_taken(self) -> int:
        """How many events the machine has met."""
        return self._events.taken

    def next_event(self) -> Event | None:
        """The event that the machine must meet next."""
        return self._events.next()

    # Disagreement.

    def _diverged(self, tick: Tick, actual: str, what: str) -> Divergence | TraceTruncated:
        event = self._events.next()
        if event is None and self._torn is not None:
            return self._torn
        # Where the machine passed an event by, that was the first difference.
        first = tick if event is None else min(tick, event.tick)
        return Divergence(first, _words(event), actual, what)

    def _refuse(self, event: Event, why: str) -> Divergence:
        return Divergence(event.tick, _words(event), f"have {why}", "impossible input")

    def _answer(self, kind: type[_Answer], tick: Tick, guest: int) -> _Answer:
        """Take the next event, which must be the answer to this question."""
        event = self._events.next()
        if type(event) is not kind or event.tick != tick or event.guest != guest:
            asked = f"ask for {kind.__name__} at tick {tick} for guest {guest}"
            raise self._diverged(tick, asked, "input")
        self._events.take()
        return event

    # Hardware interrupts.

    def horizon(self, tick: Tick) -> Tick:
        horizon = self._events.free_until(tick)
        if horizon < tick:
            raise Divergence(
                horizon,
                _words(self._events.next_unasked()),
                f"pass on to tick {tick}",
                "interrupt",
            )
        return horizon

    def interrupt_line(self, tick: Tick) -> int | None:
        self._events.free_until(tick)
        event = self._events.next_unasked()
        if not isinstance(event, HostInterrupt) or event.tick != tick:
            return None
        return self._vector(event)

    def _vector(self, event: HostInterrupt | HostTurnInterrupt | HostWoken) -> int:
        if event.vector not in HARDWARE_VECTORS:
            raise self._refuse(event, "no such hardware interrupt")
        return event.vector

    def interrupt_taken(self, tick: Tick, guest: int, vector: int, eip: int, check: int) -> None:
        taken = HostInterrupt(tick, guest, vector, eip, check)
        if self._events.next() != taken:
            raise self._diverged(tick, _words(taken), "interrupt")
        self._events.take()

    def host_interrupt(self, tick: Tick, guest: int) -> int | None:
        event = self._events.next()
        if not isinstance(event, HostTurnInterrupt) or (event.tick, event.guest) != (tick, guest):
            return None
        self._events.take()
        return self._vector(event)

    def wait(self, tick: Tick, guest: int) -> int | None:
        event = self._events.next()
        if isinstance(event, HostWoken) and (event.tick, event.guest) == (tick, guest):
            self._events.take()
            return self._vector(event)
        # The machine may still report about the step in which it fell asleep for good.
        ends = event is None or (isinstance(event, StateDigest) and event.tick == tick + 1)
        if ends and not (event is None and self._torn):
            return None
        raise self._diverged(tick, f"wait at tick {tick} for guest {guest}", "input")

    # The other questions.

    def clock(self, tick: Tick, guest: int) -> Nanoseconds:
        return self._answer(ClockReading, tick, guest).ns

    def tsc(self, tick: Tick, guest: int) -> int:
        return self._answer(TscReading, tick, guest).value

    def choose(self, tick: Tick, guest: int, bound: int) -> int:
        event = self._events.next()
        if isinstance(event, RandomChoice) and event.bound != bound:
            raise self._diverged(tick, f"choose one of {bound}", "input")
        return self._answer(RandomChoice, tick, guest).value

    def program_timer(self, tick: Tick, deadline: Nanoseconds | None) -> None:
        pass

    def submit(self, tick: Tick, request: Request) -> None:
        pass

    def completions(self, tick: Tick) -> tuple[Completion, ...]:
        done: list[Completion] = []
        while True:
            event = self._events.next()
            if not isinstance(event, DeviceCompletion) or event.tick != tick:
                return tuple(done)
            if event.guest >= self._guests or event.irq >= VIRTUAL_IRQS:
                raise self._refuse(event, "no such guest or irq")
            self._events.take()
            done.append(Completion(event.guest, event.device, event.irq, event.data))

    def edit(self, tick: Tick, refusal: Callable[[Edit], str | None]) -> Edit | None:
        event = self._events.next()
        if not isinstance(event, DebuggerWrite) or event.tick != tick:
            return None
        edit = Edit(event.guest, event.target, event.address, event.data)
        why = refusal(edit)
        if why is not None:
            raise self._refuse(event, why)
        self._events.take()
        return edit

    # Reports.

    def observe(self, observation: Observation) -> None:
        if self._events.next() != observation:
            raise self._diverged(observation.tick, _words(observation), "observation")
        self._events.take()


@dataclass(frozen=True, slots=True)
class Verified:
    """What a replay has shown: everything from `first_tick` to `last_tick` happened again, `events` events in all.

    `torn`: the trace ends there without saying how the recording went on.
    """

    first_tick: Tick
    last_tick: Tick
    events: int
    torn: TraceTruncated | None


def machine_at(
    config: MachineConfig, first: Checkpoint | None, world: World, place: Place
) -> Machine:
    """A machine at power-on, or in the state `first`, which is from `place`; `world` answers from there on."""
    if first is None:
        machine = Machine(config, world)
    else:
        # What a machine asks at power-on is not in this part of the history.
        machine = Machine(config, VirtualWorld())
        machine.restore(state_of(first, machine, place.path, place.offset))
        machine.world = world
    machine.make_edits()
    return machine


@dataclass(frozen=True, slots=True)
class Start:
    """What a replay of a trace starts from: power-on, or the checkpoint `entry`. `torn`: how the trace breaks off."""

    reader: TraceReader
    config: MachineConfig
    entry: Entry | None
    torn: TraceTruncated | None

    def machine(self, world: ReplayWorld) -> Machine:
        """The machine at its start; `world` answers from there on."""
        if self.entry is None:
            return machine_at(self.config, None, world, Place(str(self.reader.path), 0))
        first = self.reader.read_checkpoint(self.entry)
        place = Place(str(self.reader.path), self.entry.offset)
        return machine_at(self.config, first, world, place)

    @property
    def end_tick(self) -> Tick:
        """The tick up to which the trace determines the run."""
        end = self.reader.end
        return end.tick if end else self.reader.last_tick or Tick(0)


def start_of(reader: TraceReader) -> Start:
    """Where to start with a trace.

    Raises: TraceError, TraceMismatch, ConfigurationError when it cannot be replayed here.
    """
    config = machine_of(reader)
    entry = None if reader.starts_at_power_on else next(reader.checkpoints(), None)
    if entry is None and not reader.starts_at_power_on:
        raise TraceTruncated(reader.path, reader.torn_at or 0, "no checkpoint to start from")
    return Start(reader, config, entry, _tear(reader))


class Session:
    """A machine at the beginning of a trace, about to do all that the trace says.

    Raises: TraceError, TraceMismatch, ConfigurationError when the trace cannot be replayed here.
    """

    def __init__(self, reader: TraceReader) -> None:
        self.reader = reader
        self.start = start = start_of(reader)
        self.torn = start.torn
        self.end_tick = start.end_tick
        events = reader.events() if start.entry is None else reader.events_after(start.entry)
        self.world = ReplayWorld(events, len(start.config.guests), self.torn)
        self.machine = start.machine(self.world)
        self.first_tick = self.machine.tick

    def verify(self) -> Iterator[Tick]:
        """Run to the end of the trace, checking everything; yield the tick about twenty times a second.

        Raises: Divergence; TraceError when damage is met.
        """
        try:
            yield from run_in_slices(self.machine, self.end_tick)
        except TraceTruncated as torn:
            # A torn trace may end within the step that its last events belong to.
            if torn is not self.torn:
                raise
        if self.torn is None and self.reader.end:
            self._check_end(self.reader.end)

    def _check_end(self, end: TraceEnd) -> None:
        machine, rest = self.machine, self.world.next_event()
        if machine.tick != end.tick or rest is not None:
            expected = f"end at tick {end.tick}" if rest is None else _words(rest)
            raise Divergence(
                machine.tick, expected, f"end at tick {machine.tick}", "end of the run"
            )
        digest = machine.digest()
        if digest != end.digest:
            raise Divergence(end.tick, end.digest.hex(), f"reach {digest.hex()}", "final digest")

    @property
    def verified(self) -> Verified:
        """What has been shown so far."""
        return Verified(self.first_tick, self.machine.tick, self.world.events_taken, self.torn)


def _tear(reader: TraceReader) -> TraceTruncated | None:
    if reader.complete:
        return None
    text = "the trace ends here, unfinished: its recorder was stopped, or still runs"
    if reader.damage is not None:
        text = reader.damage.text
    return TraceTruncated(reader.path, reader.torn_at or 0, text)


__all__ = ["ReplayWorld", "Session", "Start", "Verified", "machine_at", "start_of"]
