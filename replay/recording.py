"""Recording: a World that writes down what another World answered, and the loop that runs a machine in it.

Each answer becomes an input event at the moment it is given, each report an observation, so the log has them in the
order in which a replay will meet them. What was answered with nothing leaves no event: the replayer sees from what
comes next that nothing was there. That works only if nothing and then something are never answered to the same
question at one place in the log, which is why `host_interrupt` and `completions` ask only once there.

The loop ends between two slices of the run, so the end is a tick like any other and a replay can stop there. A Guest's
idleness is waited for inside a slice; before it, what was logged goes to the file.

Read next: session.py, which reads what is written here.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from os import PathLike
from typing import Protocol

from hostvm.edits import Edit
from hostvm.machine import Machine, MachineConfig
from hostvm.observations import Observation
from hostvm.units import Nanoseconds, Tick
from hostvm.world import Completion, Request, World
from replay.checkpoints import checkpoint_of
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
from replay.keep import Keep
from replay.log import LogWriter
from replay.machine_header import Origin, header_of
from replay.slices import run_in_slices
from replay.trace_header import TraceEnd, TraceEndReason
from replay.world_time import FAR

IDLE_FLUSH_NS = 100_000_000


def _ignore() -> None:
    pass


class RecordingWorld:
    """Answers as `inner` does and gives each event to a log.

    A machine asks its first questions while it is built, and what cannot be built should not leave a trace: so events
    are kept back until `attach`.
    """

    def __init__(self, inner: World) -> None:
        self._inner = inner
        self._early: list[Event] = []
        self._write: Callable[[Event], None] = self._early.append
        self._before_wait = _ignore
        self._refused: tuple[Tick, int] | None = None
        self._fetched: Tick | None = None

    def attach(
        self, write: Callable[[Event], None], before_wait: Callable[[], None] = _ignore
    ) -> None:
        """Give all events to `write`, those kept back first; call `before_wait` when the machine goes idle."""
        self._write, self._before_wait = write, before_wait
        for event in self._early:
            write(event)
        self._early.clear()

    def _put(self, event: Event) -> None:
        self._refused = None
        self._fetched = None
        self._write(event)

    def horizon(self, tick: Tick) -> Tick:
        return self._inner.horizon(tick)

    def interrupt_line(self, tick: Tick) -> int | None:
        return self._inner.interrupt_line(tick)

    def interrupt_taken(self, tick: Tick, guest: int, vector: int, eip: int, check: int) -> None:
        self._inner.interrupt_taken(tick, guest, vector, eip, check)
        self._put(HostInterrupt(tick, guest, vector, eip, check))

    def host_interrupt(self, tick: Tick, guest: int) -> int | None:
        if self._refused == (tick, guest):
            return None
        vector = self._inner.host_interrupt(tick, guest)
        if vector is None:
            self._refused = tick, guest
        else:
            self._put(HostTurnInterrupt(tick, guest, vector))
        return vector

    def wait(self, tick: Tick, guest: int) -> int | None:
        self._before_wait()
        vector = self._inner.wait(tick, guest)
        if vector is not None:
            self._put(HostWoken(tick, guest, vector))
        return vector

    def clock(self, tick: Tick, guest: int) -> Nanoseconds:
        ns = self._inner.clock(tick, guest)
        self._put(ClockReading(tick, guest, ns))
        return ns

    def tsc(self, tick: Tick, guest: int) -> int:
        value = self._inner.tsc(tick, guest)
        self._put(TscReading(tick, guest, value))
        return value

    def choose(self, tick: Tick, guest: int, bound: int) -> int:
        value = self._inner.choose(tick, guest, bound)
        self._put(RandomChoice(tick, guest, bound, value))
        return value

    def program_timer(self, tick: Tick, deadline: Nanoseconds | None) -> None:
        self._inner.program_timer(tick, deadline)

    def submit(self, tick: Tick, request: Request) -> None:
        self._inner.submit(tick, request)

    def completions(self, tick: Tick) -> tuple[Completion, ...]:
        if self._fetched == tick:
            return ()
        done = self._inner.completions(tick)
        for one in done:
            self._put(DeviceCompletion(tick, one.guest, one.device, one.irq, one.data))
        self._fetched = tick
        return done

    def edit(self, tick: Tick, refusal: Callable[[Edit], str | None]) -> Edit | None:
        edit = self._inner.edit(tick, refusal)
        if edit is not None:
            self._put(DebuggerWrite(tick, edit.guest, edit.target, edit.address, edit.data))
        return edit

    def observe(self, observation: Observation) -> None:
        self._inner.observe(observation)
        self._put(observation)


class Watcher(Protocol):
    """Who looks on while a machine runs, and may stop it."""

    def observed(self, observation: Observation) -> None:
        """Take note of what the machine did; called within a machine step."""
        ...

    def progress(self, tick: Tick) -> None:
        """Take note of how far it is; called about twenty times a second while the machine is busy."""
        ...

    def stops(self) -> bool:
        """Whether to end here."""
        ...


@dataclass(frozen=True, slots=True)
class Recorded:
    """A trace just made: its end record, and how much there is in it."""

    end: TraceEnd
    events: int


class _Tally:
    """Counts events on their way, and shows the observations among them to the watcher."""

    def __init__(self, log: LogWriter, watcher: Watcher) -> None:
        self.events = 0
        self._log = log
        self._watcher = watcher

    def write(self, event: Event) -> None:
        self.events += 1
        self._log.write(event)
        if isinstance(event, Observation):
            self._watcher.observed(event)


class _IdleFlush:
    """Writes what was logged when the machine goes idle, though not at each of many short naps."""

    def __init__(self, log: LogWriter) -> None:
        self._log = log
        self._last = time.monotonic_ns()

    def __call__(self) -> None:
        now = time.monotonic_ns()
        if now - self._last >= IDLE_FLUSH_NS:
            self._last = now
            self._log.flush()


def record(
    config: MachineConfig,
    world: World,
    path: str | PathLike[str],
    origin: Origin,
    watcher: Watcher,
    *,
    max_ticks: int = FAR,
    keep_last: Keep | None = None,
) -> Recorded:
    """Run a machine from power-on to its end, to tick `max_ticks` or until the watcher stops it; make the trace `path`.

    Raises: ConfigurationError before any file is made; TraceWriteError. What was written by then stays readable.
    """
    recording = RecordingWorld(world)
    machine = Machine(config, recording)
    header, images = header_of(config, origin)
    take = (lambda: checkpoint_of(machine)) if keep_last else None
    with LogWriter(path, header, images, keep_last=keep_last, take_checkpoint=take) as log:
        tally = _Tally(log, watcher)
        recording.attach(tally.write, _IdleFlush(log))
        for tick in run_in_slices(machine, Tick(max_ticks)):
            log.pulse()
            watcher.progress(tick)
            if watcher.stops():
                break
        end = TraceEnd(machine.tick, machine.digest(), _end_reason(machine, watcher))
        log.close(end)
    return Recorded(end, tally.events)


def _end_reason(machine: Machine, watcher: Watcher) -> TraceEndReason:
    if watcher.stops():
        return TraceEndReason.INTERRUPTED
    return TraceEndReason.FINISHED if machine.finished else TraceEndReason.LIMIT


__all__ = ["Recorded", "RecordingWorld", "Watcher", "record"]
