"""How much memory lgreplay takes at most, beyond what the Guest has: recording, and replaying."""

from __future__ import annotations

import subprocess
import sys
from tempfile import TemporaryDirectory

from tests.bench.figures import Aim, Figure, Measured, summary
from tests.bench.workloads import BUSY, ROOT

GUEST_MIB = 4
# The high-water mark must be read inside the process: what its parent is told includes the parent's own.
PROGRAM = """
import sys
from replay.cli import run
code = run(sys.argv[1:])
sys.stdout.flush()
mark = next(line for line in open('/proc/self/status') if line.startswith('VmHWM'))
print(mark.split()[1], file=sys.stderr)
sys.exit(code)
"""


def _peak_mib(*arguments: str) -> float:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=True,
    )
    return int(done.stderr.split()[-1]) / 1024 - GUEST_MIB


def _recording(rounds: int) -> Measured:
    with TemporaryDirectory() as folder:
        peaks = [_peak_mib(*_record(f"{folder}/{number}.trace")) for number in range(rounds)]
    return summary(peaks, "hello with many interrupts")


def _replaying(rounds: int) -> Measured:
    with TemporaryDirectory() as folder:
        _peak_mib(*_record(f"{folder}/it.trace"))
        peaks = [_peak_mib("replay", f"{folder}/it.trace") for _ in range(rounds)]
    return summary(peaks, "hello with many interrupts")


def _record(path: str) -> list[str]:
    wish = ["record", "--guest", "hello", "--append", BUSY, "--memory", f"{GUEST_MIB}M"]
    return [*wish, "--clock", "virtual", "--quiet", "--output", path]


FIGURES = (
    Figure("peak memory, recording", "MiB", Aim(120), _recording),
    Figure("peak memory, replaying", "MiB", Aim(120), _replaying),
)
