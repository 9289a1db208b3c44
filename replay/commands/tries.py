"""`lgreplay record --tries N --until-failure`: many recordings, of which the first that fails is kept.

Each try is an `lgreplay record` of its own, with the seed in its command line; so what is kept says how to make it
again. As many run side by side as there are cores. Of several that fail the one with the smallest seed is kept,
whichever was ready first: the same tries always give the same trace.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import click

from hostvm.errors import ConfigurationError
from replay.commands.plan import free_name
from replay.commands.terminal import Terminal
from replay.errors import one_line
from replay.event_store import EventStore
from replay.events import ConsoleOutput
from replay.failure import failure_of
from replay.log import TraceReader

_OURS = frozenset({"--tries", "--output", "-o", "--seed", "--panic"})
_FLAGS = frozenset({"--until-failure", "--quiet"})
_POLL_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class Tries:
    """`count` recordings with seeds from `seed` on, with chaos or without; `panic`: a failure, if a guest prints it."""

    count: int
    seed: int
    chaos: bool
    output: str | None
    guest: str
    panic: str | None


def run_tries(tries: Tries, arguments: Sequence[str]) -> None:
    """Record until one fails; `arguments` are those of the command. Raises ConfigurationError, OSError."""
    try:
        panic = None if tries.panic is None else re.compile(tries.panic)
    except re.error as error:
        raise ConfigurationError(f"--panic: {error}") from error
    path = Path(tries.output) if tries.output else free_name(Path(tries.guest).name)
    begin = time.monotonic()
    # Beside the output: from there a trace can be moved into its place.
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".tries-") as folder:
        found = _first_failure(_Race(tries, arguments, Path(folder)), panic)
        seconds = time.monotonic() - begin
        if found is None:
            click.echo(f"none of {tries.count:,} tries failed, {seconds:.1f} s", err=True)
            return
        number, said = found
        (Path(folder) / f"{number}.lgt").replace(path)
    words = f"{path}: try {number + 1:,} of {tries.count:,} fails, seed {tries.seed + number}: {said}; {seconds:.1f} s"
    click.echo(one_line(words), err=True)


def _first_failure(race: _Race, panic: re.Pattern[str] | None) -> tuple[int, str] | None:
    """Number of the first try that fails, and how."""
    terminal = Terminal()
    failed: dict[int, str] = {}
    try:
        with race.running():
            for number in race.finished():
                said = _failure(race.path(number), panic)
                if said is None:
                    race.path(number).unlink()
                else:
                    failed[number] = said
                    race.end_with(number)
                terminal.status(f"record: {race.done:,} of {race.count:,} tries")
    finally:
        terminal.clear()
    return min(failed.items()) if failed else None


def _failure(path: Path, panic: re.Pattern[str] | None) -> str | None:
    with TraceReader(path) as reader:
        end = failure_of(EventStore(reader))
        if end is not None:
            return end.text
        said = b"".join(e.data for e in reader.events() if isinstance(e, ConsoleOutput))
        found = panic.search(said.decode("latin-1")) if panic else None
        return None if found is None else found[0]


class _Race:
    """The recordings, some of them under way."""

    def __init__(self, tries: Tries, arguments: Sequence[str], folder: Path) -> None:
        self.count = tries.count
        self.done = 0
        self._tries = tries
        self._arguments = list(without_ours(arguments))
        self._folder = folder
        self._next = 0
        self._running: dict[int, subprocess.Popen[bytes]] = {}

    def path(self, number: int) -> Path:
        """Where a try goes."""
        return self._folder / f"{number}.lgt"

    def end_with(self, number: int) -> None:
        """Tries behind this one do not matter any more."""
        self.count = min(self.count, number)
        for behind in [each for each in self._running if each > number]:
            self._kill(self._running.pop(behind))

    @contextmanager
    def running(self) -> Iterator[None]:
        """Whatever happens, nothing runs behind this."""
        try:
            yield
        finally:
            for child in self._running.values():
                self._kill(child)

    def _kill(self, child: subprocess.Popen[bytes]) -> None:
        child.kill()
        child.communicate()

    def finished(self) -> Iterator[int]:
        """Run them; yield the number of each that is ready. Raises ConfigurationError where one cannot record."""
        while self._next < self.count or self._running:
            while self._next < self.count and len(self._running) < (os.cpu_count() or 1):
                self._running[self._next] = self._start(self._next)
                self._next += 1
            ready = [number for number, child in self._running.items() if child.poll() is not None]
            if not ready:
                time.sleep(_POLL_SECONDS)
            for number in ready:
                child = self._running.pop(number, None)
                if child is None:
                    continue
                _, said = child.communicate()
                if child.returncode:
                    raise ConfigurationError(
                        said.decode(errors="replace").strip().split(": ", 1)[-1]
                    )
                self.done += 1
                yield number

    def _start(self, number: int) -> subprocess.Popen[bytes]:
        seed = self._tries.seed + number
        how = [f"--chaos={seed}"] if self._tries.chaos else ["--seed", str(seed)]
        command = [sys.executable, "-m", "replay", "record", *how, "--quiet"]
        command += ["-o", str(self.path(number)), *self._arguments]
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )


def without_ours(arguments: Sequence[str]) -> Iterator[str]:
    """The arguments of `record` behind its name, without those that each try gets anew."""
    left = iter(arguments[1:])
    for word in left:
        name = word.partition("=")[0] if word.startswith("--") else word[:2]
        if word == "--":
            yield word
            yield from left
        elif name in _OURS:
            if word in _OURS:
                next(left, None)
        elif name == "--chaos":
            pass
        elif word not in _FLAGS:
            yield word


__all__ = ["Tries", "run_tries", "without_ours"]
