"""What `lgreplay record` does: run what was asked for in view of the user, and end when told to."""

from __future__ import annotations

import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from hostvm.observations import (
    ConsoleOutput,
    GuestEnded,
    GuestRestarted,
    Observation,
)
from hostvm.units import Tick
from replay.commands.keyboard import HELP, EscapeKeys, keyboard
from replay.commands.plan import Wish, choose_seed, free_name, make_plan, make_world
from replay.commands.terminal import Terminal
from replay.describe import END_OF_GUEST
from replay.errors import one_line
from replay.host_world import HostWorld
from replay.machine_header import Origin
from replay.quantities import short_count
from replay.recording import Recorded, record
from replay.trace_header import TraceEndReason
from replay.world_time import FAR

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
END_WORDS = {
    TraceEndReason.FINISHED: "the machine has ended",
    TraceEndReason.INTERRUPTED: "ended as you asked",
    TraceEndReason.LIMIT: "reached the limit of ticks",
}


class View:
    """Watches a recording: shows it, and passes on the wish to stop."""

    def __init__(self, terminal: Terminal, name: str, *, quiet: bool) -> None:
        self._terminal = terminal
        self._name = name
        self._quiet = quiet
        self._began = time.monotonic()
        self._stopping = False
        self.wake: Callable[[], None] | None = None
        self.ended: list[GuestEnded] = []
        self.restarts: Counter[int] = Counter()

    @property
    def seconds(self) -> float:
        """How long it has taken so far."""
        return time.monotonic() - self._began

    def stop(self) -> None:
        """End at the next opportunity, and wait for nothing any more."""
        self._stopping = True
        if self.wake is not None:
            self.wake()

    def stops(self) -> bool:
        """Whether to end."""
        return self._stopping or self._terminal.reader_gone

    def observed(self, observation: Observation) -> None:
        """Show what a Guest writes, and remember how it ends."""
        if isinstance(observation, ConsoleOutput) and not self._quiet:
            self._terminal.console(observation.data)
        elif isinstance(observation, GuestEnded):
            self.ended.append(observation)
        elif isinstance(observation, GuestRestarted):
            self.restarts[observation.guest] += 1

    def progress(self, tick: Tick) -> None:
        """Show how far it is."""
        speed = short_count(tick / max(self.seconds, 1e-3))
        self._terminal.status(
            f"recording {self._name}: {short_count(tick)} ticks, {self.seconds:.1f} s,"
            f" {speed} ticks/s; ^C ends"
        )


@contextmanager
def _stopped_by_signals(view: View) -> Iterator[None]:
    """The first signal ends the recording, the second has its usual effect."""
    before = {number: signal.getsignal(number) for number in STOP_SIGNALS}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def stop(_number: int, _frame: FrameType | None) -> None:
        view.stop()
        restore()

    for number in STOP_SIGNALS:
        signal.signal(number, stop)
    try:
        yield
    finally:
        restore()


def run(wish: Wish, arguments: Sequence[str]) -> None:
    """Record, and say what has become of it; `arguments` are those of the command line, for the record.

    Raises: BrokenPipeError when nobody reads the console any more; the trace is whole then.
    """
    plan = make_plan(wish)
    seed = choose_seed(wish)
    first = wish.init or (*wish.guests, *wish.kernels)[0]
    path = Path(wish.output) if wish.output else free_name(Path(first).name)
    origin = Origin(wish.clock, seed, ("lgreplay", *arguments), time.time_ns())
    terminal = Terminal(interactive=wish.interactive)
    view = View(terminal, plan.config.guests[0].name, quiet=wish.quiet)
    try:
        with keyboard(interactive=wish.interactive) as keys:
            passed: Callable[[bytes], bytes] = bytes
            if wish.interactive:
                passed = EscapeKeys(view.stop, lambda: terminal.say(HELP))
                terminal.say(f"recording {one_line(str(path))}; {HELP}")
            world = make_world(wish, seed, plan, keys, passed)
            if isinstance(world, HostWorld):
                view.wake = world.stop
            with _stopped_by_signals(view):
                recorded = record(
                    plan.config,
                    world,
                    path,
                    origin,
                    view,
                    max_ticks=FAR if wish.max_ticks is None else wish.max_ticks,
                    keep_last=wish.keep_last,
                )
    finally:
        terminal.clear()
        terminal.take_back()
    for line in _summary(path, recorded, view):
        terminal.say(line)
    if terminal.reader_gone:
        raise BrokenPipeError


def _summary(path: Path, recorded: Recorded, view: View) -> Iterator[str]:
    for guest, times in sorted(view.restarts.items()):
        yield f"guest {guest} was restarted {times} time{'s' if times > 1 else ''}"
    for end in view.ended:
        text = f": {one_line(end.text)}" if end.text else ""
        yield f"guest {end.guest} {END_OF_GUEST[end.reason]} at tick {end.tick:,}{text}"
    end_words = END_WORDS[recorded.end.reason]
    yield (
        f"{one_line(str(path))}: {recorded.end.tick:,} ticks, {recorded.events:,} events,"
        f" {path.stat().st_size:,} bytes, {view.seconds:.1f} s; {end_words}"
    )


__all__ = ["View", "run"]
