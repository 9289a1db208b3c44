"""^C at any step of a command; `make fuzz` has it at many more, and of all commands."""

from __future__ import annotations

import subprocess
import sys

from tests.end_to_end.commands import ROOT, environment

COMMANDS = (
    "record --guest hello --memory 8M --clock",
    "index",
    "export race.lgt --jsonl",
    "salvage",
)


def test_a_ctrl_c_at_any_step_leaves_nothing_half_done_and_no_traceback() -> None:
    fuzz = subprocess.run(
        [sys.executable, "-m", "tests.fuzz.interrupt", "--runs", "4", "--only", *COMMANDS],
        cwd=ROOT,
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert fuzz.returncode == 0, fuzz.stdout + fuzz.stderr
    assert fuzz.stdout.count(" 0 wrong") == len(COMMANDS), fuzz.stdout
