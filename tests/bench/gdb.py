"""A real gdb on a trace: how long one waits for it, on the clock on the wall.

The gdb is the system's; it takes the time itself, in its own Python, around its own commands. So gdb's part is in the
figures: a step is five to ten packets, and gdb's unwinder. Without such a gdb there are no figures.

The dump is made through a socket - behind a pipe gdb looks for words on standard error after each character - and by
the newest gdb as well, since newer ones ask for memory in another way.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

from gdbstub.serving import GDB_SCRIPT
from replay.look import Look
from replay.stops import Breakpoint
from tests.bench.figures import Aim, Figure, Measured, summary
from tests.bench.workloads import ROOT
from tests.gdbstub.debuggers import Gdb, found
from tests.replay.histories import record_guest, timeline_of

STEPS = 400
EVALUATIONS = 10_000
DUMP = 16 << 20
# What is mapped from PAGE_OFFSET on, less what lies above the Guest's memory.
DUMP_AT = 0xC0000000
_TIMED = "python import time; b = time.perf_counter(); {}; print('TOOK', time.perf_counter() - b)"


@cache
def _trace(guest: str, command_line: str) -> Path:
    folder = Path(mkdtemp(prefix="lgreplay-bench-"))
    return record_guest(folder / f"{guest}.lgt", guest, command_line)


def _systems() -> Gdb | None:
    return next((gdb for gdb in found() if not gdb.home), None)


def _newest() -> Gdb | None:
    return max(
        found(), key=lambda gdb: [int(part) for part in gdb.version.split(".")], default=None
    )


def _run(gdb: Gdb | None, remote: str, *commands: str) -> list[float]:
    """Seconds that the timed ones among these commands took."""
    assert gdb is not None
    lines = ("set pagination off", "set confirm off", f"target remote {remote}", *commands)
    words = [word for line in lines for word in ("-ex", line)]
    path = os.pathsep.join(map(str, filter(None, (ROOT, gdb.home))))
    done = subprocess.run(
        [str(gdb.program), "-nx", "-batch", *words],
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
        env={**os.environ, "PYTHONPATH": path},
        stdin=subprocess.DEVNULL,
    )
    return [float(number) for number in re.findall(r"^TOOK (\S+)$", done.stdout, re.MULTILINE)]


def _gdb(path: Path, *commands: str) -> list[float]:
    return _run(_systems(), f"| {sys.executable} -m replay gdb --stdio {path}", *commands)


def _timed(code: str) -> str:
    return _TIMED.format(code)


def _execute(command: str) -> str:
    return f"gdb.execute({command!r}, to_string=True)"


@cache
def _stepped(rounds: int) -> tuple[Measured, Measured]:
    """Steps a second, forward and back, each with a stop of its own."""
    forward, back = (f"[{_execute(c)} for _ in range({STEPS})]" for c in ("stepi", "reverse-stepi"))
    script = [f"source {GDB_SCRIPT}", "seek 50%"]
    script += [_timed(forward), _timed(back)] * (rounds + 1)
    times = _gdb(_trace("kestrel", "init=mix"), *script)[2:]
    rates = [STEPS / seconds for seconds in times]
    return summary(rates[::2]), summary(rates[1::2])


@contextmanager
def _served(path: Path) -> Iterator[Path]:
    """A socket at which the trace is."""
    where = Path(mkdtemp(prefix="lgreplay-bench-")) / "gdb"
    words = [sys.executable, "-m", "replay", "gdb", "--unix", str(where), str(path)]
    with subprocess.Popen(words, cwd=ROOT, stderr=subprocess.DEVNULL) as server:
        try:
            while not where.exists() and server.poll() is None:
                time.sleep(0.05)
            yield where
        finally:
            server.terminate()


def _dump(gdb: Gdb | None, rounds: int) -> Measured:
    file = Path(mkdtemp(prefix="lgreplay-bench-")) / "memory"
    command = f"dump binary memory {file} {DUMP_AT:#x} {DUMP_AT + DUMP:#x}"
    script = [f"source {GDB_SCRIPT}", "seek 50%", "tbreak lguest_iret", "continue"]
    script += [_timed(_execute(command))] * (rounds + 1)
    with _served(_trace("kestrel", "init=mix")) as socket:
        times = _run(gdb, str(socket), *script)[1:]
    assert gdb is not None
    assert file.stat().st_size == DUMP
    return summary([DUMP / 1e6 / seconds for seconds in times], f"gdb {gdb.version}, a socket")


def _connect(rounds: int) -> Measured:
    times = []
    for _ in range(rounds + 1):
        begin = time.perf_counter()
        _gdb(_trace("kestrel", "init=mix"))
        times.append(time.perf_counter() - begin)
    return summary(times[1:], "starting both, and ending them")


@cache
def _hot(path: Path) -> tuple[int, int]:
    """An address in a program's loop, and how often its instruction begins in this history."""
    with timeline_of(path) as timeline:
        timeline.stops.add(Breakpoint(timeline.address("start_kernel")))
        timeline.resume()
        while timeline.cpu.eip >= DUMP_AT:
            timeline.go(timeline.tick + (timeline.end_tick - timeline.tick) // 3)
        address, count = timeline.cpu.eip, 0

        def counted(_: Look) -> bool:
            nonlocal count
            count += 1
            return False

        timeline.go(0)
        timeline.resume_with(((0, Breakpoint(address, condition=counted)),), backwards=False)
        return address, count


def _condition(rounds: int) -> Measured:
    path = _trace("hello", "loops=4")
    address, count = _hot(path)
    condition = f"break *{address:#x} if $esp == 1 && $eax == 2"
    times = [
        seconds
        for _ in range(rounds + 1)
        for seconds in _gdb(path, condition, _timed(_execute("continue")))
    ]
    scaled = [seconds * EVALUATIONS / count for seconds in times[1:]]
    return summary(scaled, f"of {count:,} evaluations, the run included")


FIGURES: tuple[Figure, ...] = (
    Figure("gdb: stepi", "/s", Aim(300, at_least=True), lambda rounds: _stepped(rounds)[0]),
    Figure("gdb: reverse-stepi", "/s", Aim(200, at_least=True), lambda rounds: _stepped(rounds)[1]),
    Figure("gdb: dump of 16 MiB", "MB/s", Aim(20, at_least=True), lambda r: _dump(_systems(), r)),
    Figure("gdb: dump, newest gdb", "MB/s", Aim(20, at_least=True), lambda r: _dump(_newest(), r)),
    Figure("gdb: connect to first prompt", "s", Aim(1.5), _connect),
    Figure("gdb: a false condition, 10,000 times", "s", Aim(1), _condition),
)
