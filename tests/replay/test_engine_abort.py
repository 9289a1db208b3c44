"""The one thing that a Guest can do to the process is told in a line."""

from __future__ import annotations

import subprocess
import sys

import pytest

from replay.engine_abort import say_when_aborted
from replay.exit_codes import ExitCode
from tests.end_to_end.commands import ROOT, environment
from tests.patience import PATIENCE

LOCKED_BIT_TESTS = ["f00fbae801", "f00fa3c0", "f00fb3c0", "f00fbaf801"]
PROGRAM = f"""
import sys
from {say_when_aborted.__module__} import say_when_aborted
from tests.hostvm.bare_machine import BareMachine
say_when_aborted()
bare = BareMachine(bytes.fromhex(sys.argv[1]))
bare.start(3)
print(bare.run_to_handler()[1][0])
"""


@pytest.mark.parametrize("code", LOCKED_BIT_TESTS)
def test_a_bit_test_with_lock_is_undefined_or_a_line_and_an_exit_code(code: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, code],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    if done.returncode:
        assert done.returncode == ExitCode.REFUSED
        assert done.stdout == ""
        assert done.stderr.count("\n") == 1
        assert "a bit test of a register with LOCK" in done.stderr
    else:
        assert (done.stdout, done.stderr) == ("6\n", "")
