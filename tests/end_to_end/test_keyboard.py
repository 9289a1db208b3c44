"""Recording at a real terminal: who gets which key, and what is left of the terminal afterwards."""

from __future__ import annotations

import os
import shlex
import signal
import sys
import termios
import time
from pathlib import Path
from typing import Any

import pexpect
import pytest

from tests.end_to_end.commands import command, environment, lgreplay
from tests.end_to_end.terminals import Spawn, ended
from tests.patience import PATIENCE, wait_until

pytestmark = pytest.mark.needs_terminal

CTRL_A, CTRL_C, CTRL_D = "\x01", "\x03", "\x04"
ECHO = ("record", "--guest", "kestrel", "-o", "t.lgt", "--append", "init=echo tty quiet")
RAW_ECHO = ("record", "--guest", "kestrel", "-o", "t.lgt", "--append", "init=echo quiet")
LFLAG = 3


@pytest.fixture
def under_a_shell(at_a_terminal: Spawn) -> Spawn:
    """The same, beneath a shell that stays when the command has gone."""
    stay = '"$@"; echo Killed; sleep 100'
    return lambda *arguments: at_a_terminal("sh", "-c", stay, "sh", *command(*arguments))


def recorder_beneath(child: Any) -> int:
    """The number of the process that a shell has started."""
    (number,) = Path(f"/proc/{child.pid}/task/{child.pid}/children").read_text("utf-8").split()
    return int(number)


def settings(child: Any) -> list[Any]:
    return termios.tcgetattr(child.child_fd)


def test_a_guest_is_typed_at_and_all_of_it_replays(terminal: Spawn, tmp_path: Path) -> None:
    child = terminal(*ECHO, "-i")
    child.expect_exact("recording t.lgt; ^A x ends the recording")
    child.expect_exact("type something")
    child.send("hexx\x7f\x7fllo\r")
    child.expect_exact("hexx\b \b\b \bllo\r\nhello\r\n")
    child.send("exit\r")
    child.expect_exact("echo: 6 bytes")
    assert ended(child) == 0
    done = lgreplay("replay", "t.lgt", folder=tmp_path)
    assert done.out.endswith("all as recorded\n")


def test_control_keys_are_the_guests(terminal: Spawn) -> None:
    child = terminal(*RAW_ECHO, "-i")
    child.expect_exact("type something")
    child.send("\x03\x1a\x1c\x11\x13\r\n")
    child.expect_exact("\x03\x1a\x1c\x11\x13\r\r\n")
    child.send(CTRL_A + "a")
    child.expect_exact("\x01")
    child.send(CTRL_A + "x")
    child.expect_exact("ended as you asked")
    assert ended(child) == 0


def test_ctrl_c_ends_the_program_that_reads_and_not_the_recording(terminal: Spawn) -> None:
    child = terminal(*ECHO, "-i")
    child.expect_exact("type something")
    child.send("abc" + CTRL_C)
    child.expect_exact("abc^C\r\nkestrel: echo[1] was killed by signal 2")
    child.expect_exact("guest 0 powered off")
    assert ended(child) == 0


def test_keys_after_the_escape_that_mean_nothing_are_answered_with_what_does(
    terminal: Spawn,
) -> None:
    child = terminal(*ECHO, "-i")
    child.expect_exact("type something")
    child.send(CTRL_A + "h")
    child.expect_exact("^A x ends the recording, ^A ^A types ^A")
    child.send("ok\r" + CTRL_A)
    child.expect_exact("ok\r\nok\r\n")
    child.send("X")
    assert ended(child) == 0


def test_a_guest_that_listens_to_nothing_can_be_left(terminal: Spawn) -> None:
    child = terminal("record", "-o", "t.lgt", "-i", "--append", "loops=100000000")
    child.expect_exact("hello:")
    child.send("what" + CTRL_A + "x")
    child.expect_exact("ended as you asked")
    assert ended(child) == 0


@pytest.mark.parametrize("options", [(), ("-i",)])
@pytest.mark.parametrize("number", [None, signal.SIGTERM, signal.SIGKILL, signal.SIGSEGV])
def test_the_terminal_is_afterwards_as_it_was(
    under_a_shell: Spawn, options: tuple[str, ...], number: signal.Signals | None
) -> None:
    # Beneath a shell: with the leader of its session, a terminal itself would go.
    child = under_a_shell(*ECHO, *options)
    before = settings(child)
    child.expect_exact("type something")
    assert settings(child) != before
    assert not settings(child)[LFLAG] & termios.ICANON
    assert bool(settings(child)[LFLAG] & termios.ISIG) is not bool(options)
    if number is None:
        child.send("exit\r")
    else:
        os.kill(recorder_beneath(child), number)
    wait_until(lambda: settings(child) == before)


def test_settings_that_somebody_made_after_a_kill_stay(under_a_shell: Spawn) -> None:
    child = under_a_shell(*ECHO, "-i")
    child.expect_exact("type something")
    others = settings(child)
    others[LFLAG] |= termios.ISIG
    termios.tcsetattr(child.child_fd, termios.TCSANOW, others)
    os.kill(recorder_beneath(child), signal.SIGKILL)
    child.expect_exact("Killed")
    time.sleep(0.3)
    assert settings(child)[LFLAG] == others[LFLAG]


def test_a_bug_of_ours_leaves_the_terminal_as_it_was(tmp_path: Path) -> None:
    broken = (
        "import replay.recording as r, replay.commands.recorder as c;"
        "c.record = lambda *a, **k: 1 / 0;"
        "from replay.__main__ import main; main()"
    )
    arguments = ["-c", broken, *ECHO, "-i"]
    child = pexpect.spawn(
        sys.executable, arguments, cwd=str(tmp_path), env=environment(), timeout=PATIENCE
    )
    before = settings(child)
    child.expect_exact("ZeroDivisionError")
    child.expect(pexpect.EOF)
    assert settings(child) == before
    child.close(force=True)


def test_what_a_guest_does_to_the_screen_is_undone(terminal: Spawn) -> None:
    child = terminal(*RAW_ECHO, "-i")
    child.expect_exact("type something")
    child.send("\x1b[?25l\x1b[31m\r")
    child.expect_exact("\x1b[?25l\x1b[31m")
    child.send("\nexit\n")
    child.expect_exact("\x1b[0m\x1b[?25h")
    assert ended(child) == 0


def test_without_i_control_characters_are_shown_and_not_obeyed(terminal: Spawn) -> None:
    child = terminal(*RAW_ECHO)
    child.expect_exact("type something")
    child.send("\x1b[31m\n")
    child.expect_exact("\\x1b[31m")
    child.send(CTRL_C)
    child.expect_exact("ended as you asked")
    assert ended(child) == 0


def test_what_cannot_be_typed_at_is_refused_in_one_line(tmp_path: Path) -> None:
    done = lgreplay("record", "-i", folder=tmp_path)
    assert (done.code, done.err) == (2, "lgreplay: -i: the standard input is not a terminal\n")
    done = lgreplay("record", "-i", "--clock", "virtual", folder=tmp_path)
    assert done.code == 2
    assert "needs the host's clock" in done.err
    assert list(tmp_path.iterdir()) == []


def test_in_the_background_nobody_types(tmp_path: Path) -> None:
    shell = pexpect.spawn(
        "bash", ["--norc", "-i"], cwd=str(tmp_path), env=environment(), timeout=PATIENCE
    )
    shell.sendline(shlex.join(command("record", "-i")) + " & wait")
    shell.expect_exact("-i: in the background there is nobody who types")
    shell.close(force=True)
