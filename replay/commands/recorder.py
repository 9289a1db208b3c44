"""What `lgreplay record` does: build what was asked for, run it in view of the user, end when told to."""

from __future__ import annotations

import secrets
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from hostvm.abi import DEFAULT_GENERATION
from hostvm.launcher import DEFAULT_MEMORY, GuestConfig
from hostvm.machine import MachineConfig
from hostvm.observations import ConsoleOutput, EndReason, GuestEnded, Observation
from hostvm.units import Tick
from replay.catalogue import find_kernel
from replay.commands.terminal import Terminal
from replay.errors import one_line
from replay.keep import Keep
from replay.machine_header import Origin
from replay.quantities import short_count
from replay.recording import Recorded, record
from replay.trace_file import incomplete_path
from replay.trace_header import TraceEndReason
from replay.worlds import FAR, HostWorld, VirtualWorld

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
END_WORDS = {
    TraceEndReason.FINISHED: "the machine has ended",
    TraceEndReason.INTERRUPTED: "ended as you asked",
    TraceEndReason.LIMIT: "reached the limit of ticks",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """The options of `lgreplay record`."""

    guests: tuple[str, ...] = ("hello",)
    output: str | None = None
    memory: int | None = None
    initrd: str | None = None
    command_line: str = ""
    abi: str | None = None
    clock: str = "host"
    seed: int | None = None
    max_ticks: int | None = None
    keep_last: Keep | None = None
    quiet: bool = False


class View:
    """Watches a recording: shows it, and passes on the wish to stop."""

    def __init__(self, terminal: Terminal, name: str, *, quiet: bool) -> None:
        self._terminal = terminal
        self._name = name
        self._quiet = quiet
        self._began = time.monotonic()
        self._stopping = False
        self.ended: list[GuestEnded] = []

    @property
    def seconds(self) -> float:
        """How long it has taken so far."""
        return time.monotonic() - self._began

    def stop(self) -> None:
        """End at the next opportunity."""
        self._stopping = True

    def stops(self) -> bool:
        """Whether to end."""
        return self._stopping or self._terminal.reader_gone

    def observed(self, observation: Observation) -> None:
        """Show what a Guest writes, and remember how it ends."""
        if isinstance(observation, ConsoleOutput) and not self._quiet:
            self._terminal.console(observation.data)
        elif isinstance(observation, GuestEnded):
            self.ended.append(observation)

    def progress(self, tick: Tick) -> None:
        """Show how far it is."""
        speed = short_count(tick / max(self.seconds, 1e-3))
        self._terminal.status(
            f"recording {self._name}: {short_count(tick)} ticks, {self.seconds:.1f} s,"
            f" {speed} ticks/s; ^C ends"
        )


@contextmanager
def _stopped_by_signals(view: View, world: HostWorld | VirtualWorld) -> Iterator[None]:
    """The first signal ends the recording, the second has its usual effect."""
    before = {number: signal.getsignal(number) for number in STOP_SIGNALS}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def stop(_number: int, _frame: FrameType | None) -> None:
        view.stop()
        if isinstance(world, HostWorld):
            world.stop()
        restore()

    for number in STOP_SIGNALS:
        signal.signal(number, stop)
    try:
        yield
    finally:
        restore()


def free_name(stem: str) -> Path:
    """A trace name that is not taken: STEM.trace, or the first free STEM-2.trace, STEM-3.trace ..."""
    number, path = 1, Path(f"{stem}.trace")
    while path.exists() or incomplete_path(path).exists():
        number += 1
        path = Path(f"{stem}-{number}.trace")
    return path


def machine_config(wish: Wish) -> MachineConfig:
    """Read the files that were named."""
    initrd = Path(wish.initrd).read_bytes() if wish.initrd else b""
    kernels = [find_kernel(words) for words in wish.guests]
    return MachineConfig(
        tuple(
            GuestConfig(
                kernel=kernel.content,
                command_line=wish.command_line,
                memory=wish.memory if wish.memory is not None else DEFAULT_MEMORY,
                initrd=initrd,
                abi=wish.abi or DEFAULT_GENERATION,
                name=kernel.name,
            )
            for kernel in kernels
        )
    )


def _world(wish: Wish) -> tuple[HostWorld | VirtualWorld, int]:
    if wish.clock == "virtual":
        seed = wish.seed or 0
        return VirtualWorld(seed), seed
    seed = secrets.randbits(32) if wish.seed is None else wish.seed
    return HostWorld(seed), seed


def run(wish: Wish) -> None:
    """Record, and say what has become of it.

    Raises: BrokenPipeError when nobody reads the console any more; the trace is whole then.
    """
    config = machine_config(wish)
    world, seed = _world(wish)
    path = Path(wish.output) if wish.output else free_name(Path(wish.guests[0]).name)
    origin = Origin(wish.clock, seed, ("lgreplay", *sys.argv[1:]), time.time_ns())
    terminal = Terminal()
    view = View(terminal, config.guests[0].name, quiet=wish.quiet)
    try:
        with _stopped_by_signals(view, world):
            recorded = record(
                config,
                world,
                path,
                origin,
                view,
                max_ticks=FAR if wish.max_ticks is None else wish.max_ticks,
                keep_last=wish.keep_last,
            )
    finally:
        terminal.clear()
    for line in _summary(path, recorded, view):
        terminal.say(line)
    if terminal.reader_gone:
        raise BrokenPipeError


def _summary(path: Path, recorded: Recorded, view: View) -> Iterator[str]:
    for end in view.ended:
        text = f": {one_line(end.text)}" if end.text else ""
        yield f"guest {end.guest} {_END_OF_GUEST[end.reason]} at tick {end.tick:,}{text}"
    end_words = END_WORDS[recorded.end.reason]
    yield (
        f"{one_line(str(path))}: {recorded.end.tick:,} ticks, {recorded.events:,} events,"
        f" {path.stat().st_size:,} bytes, {view.seconds:.1f} s; {end_words}"
    )


_END_OF_GUEST = {
    EndReason.POWEROFF: "powered off",
    EndReason.RESTART: "asked for a restart",
    EndReason.KILLED: "was killed",
    EndReason.CRASHED: "crashed",
}

__all__ = ["View", "Wish", "free_name", "machine_config", "run"]
