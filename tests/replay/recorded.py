"""Recordings for tests: short runs of the hello Guest, made once, and altered copies of their traces."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from hostvm.launcher import GuestConfig
from hostvm.machine import MachineConfig
from hostvm.observations import ConsoleOutput, Observation
from hostvm.units import Tick
from hostvm.world import World
from replay.catalogue import find_kernel
from replay.events import Event
from replay.keep import Keep
from replay.log import LogWriter, TraceReader
from replay.machine_header import Origin
from replay.recording import Recorded, record
from replay.session import Session, Verified
from replay.trace_header import TraceEnd
from replay.virtual_world import VirtualWorld
from replay.world_time import FAR

ORIGIN = Origin("virtual", 1, ("lgreplay", "record"))


@dataclass
class Silent:
    """A watcher that remembers, and stops the recording at `stop_at`."""

    stop_at: int = FAR
    tick: int = 0
    observations: list[Observation] = field(default_factory=list)

    def observed(self, observation: Observation) -> None:
        self.observations.append(observation)

    def progress(self, tick: Tick) -> None:
        self.tick = tick

    def stops(self) -> bool:
        return self.tick >= self.stop_at

    @property
    def console(self) -> bytes:
        return b"".join(o.data for o in self.observations if isinstance(o, ConsoleOutput))


def hello(
    command_line: str = "loops=1", guests: int = 1, digest_interval: int = 1 << 16
) -> MachineConfig:
    kernel = find_kernel("hello")
    guest = GuestConfig(kernel.content, command_line, 16 << 20, name=kernel.name)
    return MachineConfig((guest,) * guests, digest_interval)


def record_hello(
    path: Path,
    world: World | None = None,
    watcher: Silent | None = None,
    *,
    config: MachineConfig | None = None,
    max_ticks: int = FAR,
    keep_last: Keep | None = None,
) -> Recorded:
    return record(
        config or hello(),
        world or VirtualWorld(1),
        path,
        ORIGIN,
        watcher or Silent(),
        max_ticks=max_ticks,
        keep_last=keep_last,
    )


def verify(path: Path) -> Verified:
    """Replay a whole trace; raise what a replay raises."""
    with TraceReader(path) as reader:
        session = Session(reader)
        for _ in session.verify():
            pass
        return session.verified


Change = Callable[[list[Event]], Iterable[Event]]


def altered(
    original: Path,
    path: Path,
    change: Change = list,
    end: Callable[[TraceEnd], TraceEnd] | None = None,
) -> Path:
    """Write a well-formed trace like `original` but for its events, or for its end."""
    with TraceReader(original) as reader:
        header, last = reader.header, reader.end
        assert last is not None
        images = {image.name: reader.image(image.name) for image in header.images}
        events = list(reader.events())
    with LogWriter(path, header, images) as writer:
        for event in change(events):
            writer.write(event)
        writer.close(end(last) if end else last)
    return path


def events_of(path: Path) -> Iterator[Event]:
    with TraceReader(path) as reader:
        yield from reader.events()
