"""Somebody at the terminal of a real Linux: what is typed comes in, what is printed comes out, ^C is the guest's.

The kernels are the user's (docs/linux.md); without any, nothing here runs, and the summary says so.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from hostvm.observations import EndReason
from tests.end_to_end.terminals import Spawn, ended
from tests.end_to_end.test_linux import console_of, each_kernel, end_of
from tests.end_to_end.test_linux_devices import asked, assert_replays
from tests.linux_kernels import LinuxBoot

pytestmark = [pytest.mark.timeout(1800), pytest.mark.slow, pytest.mark.needs_terminal]

CTRL_A, CTRL_C = "\x01", "\x03"


@each_kernel
def test_a_program_at_the_console_is_typed_at_and_all_of_it_replays(
    boot: LinuxBoot, terminal: Spawn, tmp_path: Path
) -> None:
    child = terminal("record", *asked(boot, "console", tmp_path), "-i", "-o", "t.lgt")
    child.expect_exact("talk: ready")
    child.send("hello, hosxx\x7f\x7ft\r")
    child.expect_exact("you said 11: hello, host")
    child.send("never ended" + CTRL_C)
    child.expect_exact("talk: killed by 2")
    child.expect_exact("talk: ready")
    long = "x" * 200
    child.send(long + "\r")
    child.expect_exact(f"you said 200: {long}")
    child.send("exit\r")
    child.expect_exact("talk: over")
    child.expect_exact("guest 0 powered off")
    assert ended(child) == 0
    trace = tmp_path / "t.lgt"
    assert end_of(trace).reason == EndReason.POWEROFF
    assert b"you said 11: hello, host" in console_of(trace)
    assert_replays(trace)


@each_kernel
def test_the_recording_of_a_guest_that_waits_is_ended_at_the_keyboard(
    boot: LinuxBoot, terminal: Spawn, tmp_path: Path
) -> None:
    child = terminal("record", *asked(boot, "console", tmp_path), "-i", "-o", "t.lgt")
    child.expect_exact("talk: ready")
    child.send(CTRL_A + "x")
    child.expect_exact("ended as you asked")
    assert ended(child) == 0
    assert_replays(tmp_path / "t.lgt")
