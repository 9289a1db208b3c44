"""Replacing what came in - typed text, disk blocks, random bytes - by what says nothing, where the run allows.

The run is made again with other data at the same ticks. It must go the same way: the same interrupts at the same
instructions, the same questions, hypercalls, traps and ends, each at its tick. What data does to memory, to what is
printed and to arguments may be another, and so the digests are made anew.

Where a run goes another way, the last thing that was replaced before that is put back, and it is tried again. So what
has to stay is found out, one piece after the other, and only so often.

Read next: redact.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from hostvm.machine import MachineConfig
from hostvm.observations import (
    ConsoleOutput,
    DirectTraps,
    Hypercall,
    Observation,
    PacketSent,
    StateDigest,
)
from hostvm.units import Tick
from replay.derived import Progress
from replay.errors import Divergence, Place, ReplayError
from replay.events import ConsoleInput, DeviceCompletion, Event, HostInterrupt
from replay.log import Checkpoint
from replay.private import device_of
from replay.recording import RecordingWorld
from replay.session import ReplayWorld, machine_at
from replay.slices import run_in_slices
from replay.trace_header import TraceEnd, TraceHeader

MOST_TRIES = 64
# What people call it, and which kind of device it comes from.
KINDS: Mapping[str, str] = MappingProxyType(
    {"console": "console", "disk": "block", "random": "rng"}
)
_SPACE = 0x20


class CannotScrub(ReplayError):
    """The run needs more of what came in than was tried to put back."""

    def __init__(self, tick: Tick) -> None:
        super().__init__(tick)
        self.tick = tick

    def __str__(self) -> str:
        return f"after {MOST_TRIES} tries the run still goes another way, at tick {self.tick:,}: nothing is scrubbed"


@dataclass(frozen=True, slots=True)
class Scrubbed:
    """The events of the run made again, its end, and how many pieces were replaced, of how many."""

    events: tuple[Event, ...]
    end: TraceEnd
    replaced: int
    pieces: int


@dataclass(frozen=True, slots=True)
class Original:
    """A history to be scrubbed: how it began, what happened, how it ended."""

    header: TraceHeader
    config: MachineConfig
    first: Checkpoint | None
    events: Sequence[Event]
    end: TraceEnd
    place: Place


def scrub(original: Original, kinds: Sequence[str], progress: Progress) -> Scrubbed:
    """Replace what came in of these kinds (KINDS), as far as the run allows.

    Raises CannotScrub, and as Session does.
    """
    wanted = {KINDS[kind] for kind in kinds}
    pieces = [
        at
        for at, event in enumerate(original.events)
        if _is_of(event, wanted, original.header) and _blank(event, original.header) != event
    ]
    chosen = list(pieces)
    tick = Tick(0)
    for _ in range(MOST_TRIES):
        try:
            events, end = _run(original, frozenset(chosen), progress)
            return Scrubbed(tuple(events), end, len(chosen), len(pieces))
        except Divergence as divergence:
            tick = divergence.tick
            before = [at for at in chosen if original.events[at].tick <= tick]
            if not before:
                raise
            chosen.remove(before[-1])
    raise CannotScrub(tick)


def _is_of(event: Event, devices: set[str], header: TraceHeader) -> bool:
    match event:
        case DeviceCompletion():
            return device_of(header, event) in devices
        case ConsoleInput():
            return "console" in devices
    return False


def _blank(event: Event, header: TraceHeader) -> Event:
    """The same event with data that says nothing: typed letters become x, everything else zeros."""
    match event:
        case ConsoleInput(data=data):
            return replace(event, data=_letters(data))
        case DeviceCompletion(data=data):
            typed = device_of(header, event) == "console"
            return replace(event, data=_letters(data) if typed else bytes(len(data)))
    return event


def _letters(typed: bytes) -> bytes:
    return bytes(ord("x") if byte > _SPACE and byte != 0x7F else byte for byte in typed)


def _run(
    original: Original, chosen: frozenset[int], progress: Progress
) -> tuple[list[Event], TraceEnd]:
    """Make the run with other data at `chosen`. Raises Divergence where it goes another way."""
    header, end = original.header, original.end
    events = [_blank(e, header) if at in chosen else e for at, e in enumerate(original.events)]
    inner = _ScrubbedWorld(events, len(original.config.guests))
    recording = RecordingWorld(inner)
    made: list[Event] = []
    recording.attach(made.append)
    machine = machine_at(original.config, original.first, recording, original.place)
    for tick in run_in_slices(machine, end.tick):
        progress("trying without", tick, end.tick)
    left = inner.next_event()
    if machine.tick != end.tick or left is not None:
        raise Divergence(machine.tick, "go on", "end there", "end of the run")
    return made, replace(end, digest=machine.digest())


class _ScrubbedWorld(ReplayWorld):
    """Answers from events, and is strict about everything but what data alone can change."""

    def interrupt_taken(self, tick: Tick, guest: int, vector: int, eip: int, check: int) -> None:
        """An interrupt was taken; the registers may be others."""
        event = self.next_event()
        if isinstance(event, HostInterrupt):
            check = event.check
        super().interrupt_taken(tick, guest, vector, eip, check)

    def observe(self, observation: Observation) -> None:
        """The machine did something."""
        expected = self.next_event()
        if expected is not None and _shape(expected) == _shape(observation):
            self._events.take()
        else:
            super().observe(observation)


def _shape(event: Event) -> Event:
    """What of an observation must be the same."""
    match event:
        case ConsoleOutput() | PacketSent():
            return replace(event, data=b"")
        case StateDigest():
            return replace(event, registers=b"", memory=b"")
        case DirectTraps():
            return replace(event, counts=())
        case Hypercall():
            return replace(event, args=())
    return event


__all__ = ["KINDS", "CannotScrub", "Original", "Scrubbed", "scrub"]
