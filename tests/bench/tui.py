"""The full screen: how long one waits for it, with how many events, and what memory it takes.

The screen is 200 columns by 60 lines; what would go to a terminal goes nowhere. Waits are on the clock on the wall,
from the key to the moment when the changed screen has been written. The trace of a million events is made, not
recorded: what it lists did not happen, and nothing is replayed in it.
"""

from __future__ import annotations

import asyncio
import itertools
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

from hostvm.observations import IrqDelivered, IrqRaised
from hostvm.units import Tick
from replay.log import LogWriter, TraceReader
from replay.timeline import Timeline
from tests.bench.figures import Aim, Figure, Measured, summary
from tests.bench.time_travel import history
from tests.tui.sitting import SHIPPED, Sitting

COLUMNS, ROWS = 200, 60
STEPS = 150
EVENTS = 1_000_000


@cache
def largest() -> Path:
    """The largest of the traces that are shipped."""
    return max(SHIPPED.glob("*/*.lgt"), key=lambda path: path.stat().st_size)


@cache
def million() -> Path:
    """A trace with so many events."""
    source = history(1_000_000)
    path = source.with_name("million.lgt")
    with TraceReader(source) as reader, LogWriter(path, reader.header, _images(reader)) as log:
        # What the machine asks while it is built must be there.
        for event in itertools.takewhile(lambda event: not event.tick, reader.events()):
            log.write(event)
        for number in range(2, EVENTS):
            kind: type[IrqDelivered | IrqRaised] = IrqDelivered if number % 2 else IrqRaised
            log.write(kind(Tick(number // 2), 0, number // 2 % 8))
        end = reader.end
        assert end is not None
        log.close(end)
    return path


def _images(reader: TraceReader) -> dict[str, bytes]:
    return {info.name: reader.image(info.name) for info in reader.header.images}


class _Nowhere(Sitting):
    """A user whose screen nobody sees: no time is spent on a terminal's emulation."""

    def __init__(self, trace: Path | Timeline) -> None:
        super().__init__(trace, COLUMNS, ROWS)
        self.feeder.write = self._count  # type: ignore[method-assign]
        self.redraws: list[float] = []
        self._watched: Callable[[], object] | None = None
        self._before: object = None
        self._seen_at = 0.0
        application = self.tui.window.application
        redraw = application._redraw

        def timed_redraw(render_as_done: bool = False) -> None:
            begin = time.perf_counter()
            redraw(render_as_done)
            end = time.perf_counter()
            self.redraws.append((end - begin) * 1e3)
            if not self._seen_at and self._watched is not None and self._watched() != self._before:
                self._seen_at = end

        application._redraw = timed_redraw  # type: ignore[method-assign]

    def _count(self, text: str) -> int:
        self.feeder.written += len(text)
        return len(text)

    async def waited(self, key: str, watched: Callable[[], object]) -> float:
        """Milliseconds from a key until what it changes has been drawn."""
        await self.settled()
        self._watched, self._before, self._seen_at = watched, watched(), 0.0
        begin = time.perf_counter()
        self.send(key)
        while not self._seen_at:
            assert time.perf_counter() - begin < 30, key
            await asyncio.sleep(0.0005)
        return (self._seen_at - begin) * 1e3


def _percentile(values: Sequence[float], share: float = 0.95) -> Measured:
    value = sorted(values)[min(len(values) - 1, int(len(values) * share))]
    return Measured(value, min(values), max(values))


@cache
def _stepped() -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Waits from key to screen, and times of the redraws, of steps forth and back at some places."""

    async def session() -> tuple[tuple[float, ...], tuple[float, ...]]:
        async with _Nowhere(largest()) as user:
            await user.known()
            waits = []
            for place in ("30%", "60%", "90%"):
                await user.press(":")
                await user.type(f"seek {place}")
                user.redraws.clear()
                for number in range(STEPS // 3):
                    key = "S" if number % 2 else "s"
                    waits.append(await user.waited(key if number % 5 else "I", lambda: user.tick))
            return tuple(waits), tuple(user.redraws)

    return asyncio.run(session())


@cache
def _scrolled() -> tuple[float, ...]:
    """Waits for the event list of a million events: lines, pages, both ends."""

    async def session() -> tuple[float, ...]:
        async with _Nowhere(million()) as user:
            await user.known()
            await user.press("f5", "z", ":")
            await user.type("focus events")
            waits = []
            for key in ("G", "g g", "j", "pagedown", "j", "pagedown", "G", "k", "pageup", "k") * 6:
                sent = key.replace(" ", "")
                waits.append(await user.waited(sent, lambda: user.tui.layout.cursors.get("events")))
            return tuple(waits)

    return asyncio.run(session())


_MEMORY = """
import asyncio, sys
def resident():
    for line in open("/proc/self/status"):
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
import replay
from replay.events import Kind
timeline = replay.open(sys.argv[1])
for event in timeline.store.find_after(0, lambda _: False, frozenset(Kind)):
    pass
before = resident()
from tests.bench.tui import _Nowhere
async def session():
    async with _Nowhere(timeline) as user:
        await user.known()
        for key in ("f1", "f2", "f3", "f4", "f5", "?", "escape", "f1"):
            await user.press(key)
        return resident()
after = asyncio.run(session())
print(after - before)
"""


def memory(rounds: int) -> Measured:
    """MiB that a process with a timeline has more once the screen stands and its index is whole."""
    found = []
    for _ in range(min(rounds, 3)):
        done = subprocess.run(
            [sys.executable, "-c", _MEMORY, str(million())],
            capture_output=True,
            text=True,
            check=True,
            cwd=Path(__file__).parents[2],
        )
        found.append(float(done.stdout))
    return summary(found, "with an index of a million events")


FIGURES = (
    Figure("screen: redraw after a step, p95", "ms", Aim(30), lambda _: _percentile(_stepped()[1])),
    Figure("screen: key to screen, p95", "ms", Aim(60), lambda _: _percentile(_stepped()[0])),
    Figure(
        "screen: a million events, key to screen, p95",
        "ms",
        Aim(60),
        lambda _: _percentile(_scrolled()),
    ),
    Figure("screen: memory", "MiB", Aim(80), memory),
)
