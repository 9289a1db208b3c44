"""Time travel in a long history: a thousand million ticks of the hello Guest, recorded once for all figures here.

Percentiles of a step are over steps made one after the other, as somebody makes them who holds the key down. The wait
of a debugger is on the clock on the wall; rates are by CPU time.
"""

from __future__ import annotations

import ctypes
import random
import resource
import shutil
import tempfile
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

import replay
from hostvm.launcher import GuestConfig
from hostvm.machine import MachineConfig
from hostvm.x86 import PAGE_SIZE
from replay.catalogue import find_kernel
from replay.index import index
from replay.log import TraceReader
from replay.machine_header import Origin
from replay.moves import Unit
from replay.recording import record
from replay.session import Session
from replay.timeline import Timeline
from replay.virtual_world import VirtualWorld
from tests.bench.figures import Aim, Figure, Measured, cpu_time, ratio, summary, timed
from tests.bench.workloads import Stopwatch

TICKS = 1_000_000_000
PLACES = (1_000_000, 100_000_000, TICKS - 1000)
STEPS = 600
SEEKS = 40
NOWHERE = 0xC0100003
MEMORY = 16 << 20
_BLOCK = 64 << 10
_memcmp = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)(
    ("memcmp", ctypes.CDLL(None))
)


@cache
def _directory() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory()


@cache
def history(ticks: int) -> Path:
    """A trace of so many ticks."""
    path = Path(_directory().name) / f"{ticks}.lgt"
    kernel = find_kernel("hello")
    guest = GuestConfig(kernel.content, "loops=100000", MEMORY, name=kernel.name)
    config = MachineConfig((guest,))
    record(config, VirtualWorld(1), path, Origin("virtual", 1), Stopwatch(), max_ticks=ticks)
    return path


@cache
def travelled() -> Timeline:
    """The timeline of a trace of TICKS ticks after one pass over it."""
    timeline = replay.open(history(TICKS))
    timeline.seek("end")
    return timeline


def _replayed() -> None:
    with TraceReader(history(TICKS // 10)) as reader:
        for _ in Session(reader).verify():
            pass


def _passed() -> None:
    with replay.open(history(TICKS // 10)) as timeline:
        timeline.seek("end")


def first_pass(rounds: int) -> Measured:
    """Opening without an index and going to the end, against a replay."""
    return ratio(timed(_passed), timed(_replayed), rounds, ("passed", "replayed"))


def _percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


@cache
def _steps_back(place: int) -> list[float]:
    timeline = travelled()
    timeline.seek(place)
    waits = []
    for _ in range(STEPS):
        begin = time.perf_counter()
        timeline.step(Unit.INSTRUCTION, backwards=True)
        waits.append((time.perf_counter() - begin) * 1e3)
    return waits


def step_back(place: int, share: float) -> Callable[[int], Measured]:
    """Milliseconds that this share of the backward steps at a place stays below."""

    def measure(_rounds: int) -> Measured:
        waits = _steps_back(place)
        return Measured(_percentile(waits, share), min(waits), max(waits))

    return measure


def seek(_rounds: int) -> Measured:
    """Milliseconds of a seek to a random tick."""
    timeline = travelled()
    rng = random.Random(1)
    waits = []
    for _ in range(SEEKS):
        begin = time.perf_counter()
        timeline.seek(rng.randrange(TICKS))
        waits.append((time.perf_counter() - begin) * 1e3)
    return summary(waits)


@cache
def indexed() -> Path:
    """The same history with states stored in it."""
    path = Path(_directory().name) / "indexed.lgt"
    shutil.copyfile(history(TICKS), path)
    index(path)
    return path


def open_at_end(rounds: int) -> Measured:
    """Seconds from nothing to the end of an indexed history."""
    path = indexed()
    waits = []
    for _ in range(rounds):
        begin = time.perf_counter()
        with replay.open(path) as timeline:
            timeline.seek("end")
        waits.append(time.perf_counter() - begin)
    grown = path.stat().st_size - history(TICKS).stat().st_size
    return summary(waits, f"the index takes {grown / (1 << 20):.1f} MiB")


def seek_indexed(_rounds: int) -> Measured:
    """Milliseconds of a seek to a random tick that nobody has been near before."""
    rng = random.Random(2)
    waits = []
    with replay.open(indexed()) as timeline:
        for _ in range(SEEKS):
            begin = time.perf_counter()
            timeline.seek(rng.randrange(TICKS))
            waits.append((time.perf_counter() - begin) * 1e3)
    return summary(waits)


def scan(stop: replay.Breakpoint | replay.Watchpoint) -> Callable[[int], Measured]:
    """Million ticks a second that a resume backwards looks through."""

    def measure(_rounds: int) -> Measured:
        timeline = travelled()
        timeline.seek(TICKS // 2)
        number = timeline.stops.add(stop)
        begin = cpu_time()
        arrival = timeline.resume(backwards=True, limit=TICKS // 4)
        spent = cpu_time() - begin
        timeline.stops.remove(number)
        return summary([(TICKS // 2 - arrival.tick) / spent / 1e6])

    return measure


def event_stop(_rounds: int) -> Measured:
    """Milliseconds to go back to the one event of its kind, from the end."""
    timeline = travelled()
    waits = []
    for happening in (
        replay.Happening.RAISED,
        replay.Happening.HYPERCALL,
        replay.Happening.CONSOLE,
    ):
        timeline.seek("end")
        stop = replay.EventStop(happening)
        begin = time.perf_counter()
        found = timeline.store.find_before(timeline.tick, stop.wants, stop.kinds)
        assert next(found, None) is not None
        waits.append((time.perf_counter() - begin) * 1e3)
    return summary(waits)


def _changed_pages(here: int, there: int, count: int) -> list[int]:
    """Offsets of the pages that differ, by 64 KiB at a time and then by pages."""

    def differs(offset: int, size: int) -> bool:
        return bool(_memcmp(here + offset, there + offset, size))

    blocks = (offset for offset in range(0, count, _BLOCK) if differs(offset, _BLOCK))
    pages = (page for block in blocks for page in range(block, block + _BLOCK, PAGE_SIZE))
    return [page for page in pages if differs(page, PAGE_SIZE)]


def checkpoint(rounds: int) -> Measured:
    """Taking a snapshot, against one comparison of all guest memory with a copy."""
    timeline = travelled()
    machine = timeline.machine
    guest = machine.guests[0]
    count = guest.loaded.pfn_limit * PAGE_SIZE
    offset = guest.base - machine.memory.base
    here = ctypes.addressof(ctypes.c_char.from_buffer(machine.memory.mapping, offset))
    copy = ctypes.create_string_buffer(count)
    ctypes.memmove(copy, here, count)
    ratios = []
    for at in range(rounds):
        timeline.seek(TICKS // 2 + at * 100_000)
        machine.run(type(machine.tick)(machine.tick + 20_000))
        begin = cpu_time()
        timeline.keep_here()
        taken = cpu_time() - begin
        begin = cpu_time()
        _changed_pages(here, ctypes.addressof(copy), count)
        ratios.append(taken / (cpu_time() - begin))
        timeline.seek(TICKS // 2)
    return summary(ratios)


def resident(_rounds: int) -> Measured:
    """High-water mark of this process, guests and all, once the figures above are measured."""
    travelled()
    return summary([resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024])


_UNTOUCHED = replay.Watchpoint(replay.Place(0xF00000, 4, replay.GuestPhysicalSpace(0)))
FIGURES = (
    Figure("time travel: first pass / replay", "", Aim(1.1), first_pass),
    *(
        Figure(f"time travel: step back at {place:,}, p{int(share * 100)}", "ms", aim, measure)
        for place in PLACES
        for share, aim in ((0.5, Aim(2)), (0.99, Aim(25)))
        for measure in (step_back(place, share),)
    ),
    Figure("time travel: seek to a random tick", "ms", Aim(150), seek),
    Figure(
        "time travel: back to a breakpoint",
        "M ticks/s",
        Aim(25, at_least=True),
        scan(replay.Breakpoint(NOWHERE)),
    ),
    Figure(
        "time travel: back to a watchpoint", "M ticks/s", Aim(10, at_least=True), scan(_UNTOUCHED)
    ),
    Figure("time travel: an event in the log", "ms", Aim(10), event_stop),
    Figure("time travel: snapshot / memcmp", "", Aim(1.2), checkpoint),
    Figure("time travel: indexed, opened at its end", "s", Aim(1), open_at_end),
    Figure("time travel: indexed, seek to a random tick", "ms", Aim(150), seek_indexed),
    Figure("time travel: resident memory", "MiB", Aim(512), resident),
)
