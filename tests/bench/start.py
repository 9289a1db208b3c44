"""How long the user waits: from starting the process to the first line of the Guest, for what is typed at a shell."""

from __future__ import annotations

import subprocess
import sys
import time
from tempfile import TemporaryDirectory

from tests.bench.figures import Aim, Figure, Measured, summary
from tests.bench.installed import environment
from tests.bench.workloads import ROOT

# Like the installed `lgreplay`, but of this tree.
LGREPLAY = [sys.executable, "-c", "from replay.__main__ import main; main()"]


def _seconds_to_first_output(folder: str, number: int) -> float:
    """Wall-clock time; hello prints its first line some thousand instructions after its first one."""
    command = [*LGREPLAY, "record", "--guest", "hello", "--append", "loops=1"]
    began = time.monotonic()
    with subprocess.Popen(
        [*command, "--output", f"{folder}/{number}.trace"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        stdin=subprocess.DEVNULL,
        cwd=ROOT,
        env=environment(),
    ) as process:
        assert process.stdout is not None
        first = process.stdout.read(1)
        seconds = time.monotonic() - began
        process.stdout.read()
    assert first
    assert process.returncode == 0
    return seconds


def _start(rounds: int) -> Measured:
    with TemporaryDirectory() as folder:
        times = [_seconds_to_first_output(folder, number) for number in range(rounds + 1)]
    return summary(times[1:], "wall-clock time, of one process at a time")


FIGURES = (Figure("start of `lgreplay record`", "s", Aim(0.5), _start),)
