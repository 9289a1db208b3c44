"""A real Linux from power-on to poweroff, recorded, against the same kernel booted natively in QEMU.

The kernels are the user's (docs/linux.md); without LGREPLAY_LINUX_DIR there are no figures here. A run is taken apart
in a process of its own, because looking costs time. Parts are functions, and the time of other parts that one calls is
not its own.

`python -m tests.bench.linux ARGUMENTS` is that process: the arguments are those of `lgreplay`.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from hostvm.native import load
from replay.events import ClockReading
from replay.log import TraceReader
from tests.bench.figures import Aim, Figure, Measured, summary
from tests.bench.installed import environment
from tests.bench.ways import in_python
from tests.bench.workloads import ROOT
from tests.linux_kernels import LinuxBoot, boots
from tests.native_linux import boot_natively, has_qemu

REST = "start and the rest"
_AIM_IN_PYTHON = Aim(5)
_AIM = Aim(3) if load().library is not None else _AIM_IN_PYTHON
_WORLD = (
    *("horizon", "interrupt_line", "interrupt_taken", "host_interrupt", "wait", "clock", "tsc"),
    *("choose", "program_timer", "submit", "completions", "observe"),
)
_HOOKS = (
    "_on_interrupt",
    "_on_made",
    "_on_gap",
    "_on_iret",
    "_on_invalid",
    "_on_cpuid",
    "_on_rdtsc",
    "_on_delivery",
)


def _arguments(boot: LinuxBoot, folder: str, clock: str) -> list[str]:
    initrd = boot.initrd(Path(folder))
    files = ["--kernel", str(boot.kernel), "--initrd", str(initrd), "-o", f"{folder}/t.lgt"]
    wish = ["--memory", f"{boot.memory}M", "--append", boot.command_line, "--clock", clock]
    return ["record", *files, *wish, "--quiet"]


def _record(boot: LinuxBoot, folder: str, clock: str, *more: str) -> tuple[float, float]:
    """Seconds on the clock on the wall, and of CPU time, from starting the process to its end."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.monotonic()
    subprocess.run(
        [sys.executable, "-m", "replay", *_arguments(boot, folder, clock), *more],
        check=True,
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        stdin=subprocess.DEVNULL,
    )
    seconds = time.monotonic() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return seconds, used


# Against QEMU.


def _against_native(boot: LinuxBoot, rounds: int) -> Measured:
    ratios, ours, native = [], [], []
    with TemporaryDirectory() as folder:
        initrd = boot.initrd(Path(folder))
        _record(boot, folder, "host")
        for _ in range(rounds):
            ours.append(_record(boot, folder, "host"))
            there = boot_natively(boot, initrd)
            native.append((there.seconds, there.cpu_seconds))
            ratios.append(ours[-1][0] / there.seconds)
    return summary(ratios, f"recorded {_median(ours)}, native {_median(native)}")


def _median(times: list[tuple[float, float]]) -> str:
    wall, used = (median(column) for column in zip(*times, strict=True))
    return f"{wall:.2f} s (CPU {used:.2f} s)"


# The trace.


def _trace_rate(boot: LinuxBoot, _rounds: int) -> Measured:
    with TemporaryDirectory() as folder:
        trace = Path(folder) / "t.lgt"
        _record(boot, folder, "virtual", "--max-ticks", "1")
        empty = trace.stat().st_size
        _record(boot, folder, "virtual")
        size = trace.stat().st_size - empty
        with TraceReader(trace) as reader:
            times = [event.ns for event in reader.events() if isinstance(event, ClockReading)]
            count = reader.event_count
    seconds = (times[-1] - times[0]) / 1e9
    note = f"{count:,} events in {size:,} bytes for {seconds:.2f} s, files of the guest not counted"
    return summary([size / seconds / 1024], note)


# Where the time goes.


class Parts:
    """CPU time by part; the innermost part that is being carried out gets it."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._inside = [REST]
        self._since = time.process_time()

    def _turn(self) -> None:
        now = time.process_time()
        self.seconds[self._inside[-1]] += now - self._since
        self._since = now

    def watch(self, place: Any, names: tuple[str, ...], part: str) -> None:
        """Count the time of functions."""
        for name in names:
            if hasattr(place, name):
                setattr(place, name, self._watched(getattr(place, name), part))

    def _watched(self, function: Callable[..., Any], part: str) -> Callable[..., Any]:
        def call(*arguments: Any, **more: Any) -> Any:
            self._turn()
            self._inside.append(part)
            try:
                return function(*arguments, **more)
            finally:
                self._turn()
                self._inside.pop()

        return call

    def shares(self) -> dict[str, float]:
        """Percent by part, the largest first."""
        self._turn()
        total = sum(self.seconds.values())
        largest_first = sorted(self.seconds.items(), key=lambda item: -item[1])
        return {part: seconds / total * 100 for part, seconds in largest_first}


def _take_apart(arguments: list[str]) -> dict[str, float]:
    from hostvm import cpu, engine, gap_filler, instruction_count, machine, translations
    from hostvm.native import blocks
    from replay import recording
    from replay.cli import run

    parts = Parts()
    parts.watch(engine, ("_EMU_START",), "engine")
    parts.watch(blocks.Blocks, ("run",), "engine")
    for place in (
        cpu.Cpu,
        gap_filler.GapFiller,
        instruction_count.InstructionCount,
        translations.Translations,
    ):
        parts.watch(place, _HOOKS, "traps and new code")
    parts.watch(cpu.Cpu, ("run", "_run"), "stretches")
    parts.watch(machine.Machine, ("_host_turn",), "Host")
    parts.watch(machine.Machine, ("_report",), "digests")
    parts.watch(recording.RecordingWorld, _WORLD, "World and trace")
    assert run(arguments) == 0
    return parts.shares()


def _outside_of_engine(boot: LinuxBoot, _rounds: int) -> Measured:
    with TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, "-m", __name__, *_arguments(boot, folder, "virtual")],
            check=True,
            cwd=ROOT,
            env=environment(),
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
        )
    shares: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    note = ", ".join(f"{part} {share:.0f}%" for part, share in shares.items())
    return summary([100 - shares["engine"]], note)


def _figures() -> Iterator[Figure]:
    for boot in boots():
        name = f"Linux, {boot.name}"
        if boot.bzimage is not None and has_qemu():
            measure = partial(_against_native, boot)
            against = Figure(f"{name}: recorded boot / native boot", "", _AIM, measure)
            yield against
            if load().library is not None:
                yield in_python(against, _AIM_IN_PYTHON)
        yield Figure(f"{name}: trace by guest time", "KiB/s", None, partial(_trace_rate, boot))
        yield Figure(
            f"{name}: time outside of the engine", "%", None, partial(_outside_of_engine, boot)
        )


FIGURES: tuple[Figure, ...] = tuple(_figures())

if __name__ == "__main__":
    print(json.dumps(_take_apart(sys.argv[1:])))
