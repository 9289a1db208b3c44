"""`lgreplay tui` at a real terminal: resizing, ^C, leaving, and the terminal as it was after whatever end."""

from __future__ import annotations

import os
import re
import signal
import sys
import termios
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

import pexpect
import pyte
import pytest

from tests.patience import PATIENCE
from tests.tui.moments import fatal, last
from tests.tui.sitting import RACE

pytestmark = pytest.mark.needs_terminal
ROOT = Path(__file__).parents[2]


class Terminal:
    """A pty with `lgreplay tui` on it."""

    def __init__(
        self,
        home: Path,
        *options: str,
        rows: int = 30,
        columns: int = 100,
        trace: tuple[str, ...] = (str(RACE),),
        settings: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.screen = pyte.Screen(columns, rows)
        self._stream = pyte.ByteStream(self.screen)
        self.raw = b""
        environment = {
            **os.environ,
            "TERM": "xterm-256color",
            "PYTHONPATH": str(ROOT),
            "XDG_STATE_HOME": str(home),
            "LC_ALL": "C.UTF-8",
            **settings,
        }
        self.child = pexpect.spawn(
            sys.executable,
            ["-m", "replay", "tui", *trace, *options],
            dimensions=(rows, columns),
            env=environment,
            timeout=PATIENCE,
        )
        self.before = termios.tcgetattr(self.child.child_fd)

    @property
    def text(self) -> str:
        return "\n".join(line.rstrip() for line in self.screen.display)

    def read(self, seconds: float = 0.05) -> None:
        """Take what has come."""
        try:
            data = self.child.read_nonblocking(1 << 16, seconds)
        except (pexpect.TIMEOUT, pexpect.EOF):
            return
        self.raw += data
        self._stream.feed(data)

    def until(self, condition: Callable[[], bool]) -> None:
        """Read until something is so."""
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < deadline, self.text
            self.read()

    def sees(self, text: str) -> None:
        """Read until a text is on the screen."""
        self.until(lambda: text in self.text)

    def send(self, keys: str) -> None:
        self.child.send(keys)

    def ended(self) -> int:
        """Read to the end; the exit code."""
        deadline = time.monotonic() + PATIENCE
        while self.child.isalive():
            assert time.monotonic() < deadline, self.text
            self.read()
        self.read()
        self.child.close()
        return int(self.child.exitstatus if self.child.exitstatus is not None else -1)

    def is_as_before(self) -> bool:
        """Whether the terminal's settings are, and the usual screen and the cursor are back."""
        settings = termios.tcgetattr(self.child.child_fd)
        sequences = re.findall(rb"\x1b\[\?(\d+)([hl])", self.raw)
        last = dict(sequences)
        return settings == self.before and last.get(b"1049") == b"l" and last.get(b"25") == b"h"


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    made = Terminal(tmp_path)
    yield made
    made.child.close(force=True)


def test_q_leaves_the_terminal_as_it_was(terminal: Terminal) -> None:
    terminal.sees("tick 0/")
    terminal.send("q")
    terminal.until(lambda: b"\x1b[?1049l" in terminal.raw)
    terminal.until(terminal.is_as_before)
    assert terminal.ended() == 0


def test_a_resize_is_followed_at_once(terminal: Terminal) -> None:
    terminal.sees("tick 0/")
    terminal.screen.resize(40, 150)
    terminal.child.setwinsize(40, 150)
    terminal.sees("Registers")
    terminal.until(
        lambda: any(line.rstrip().endswith(f"{last():,}") for line in terminal.screen.display)
    )
    terminal.screen.resize(24, 80)
    terminal.child.setwinsize(24, 80)
    terminal.until(lambda: "Registers" not in terminal.text)
    assert max(len(line.rstrip()) for line in terminal.screen.display) <= 80
    terminal.send("q")
    assert terminal.ended() == 0


def test_a_long_search_is_interrupted(terminal: Terminal) -> None:
    terminal.sees("tick 0/")
    terminal.send(":until eax == 0x12345678 and ebx == 0x9abcdef0\r")
    terminal.sees("ebx == 0x9abcd: tick ")
    terminal.send("\x03")
    terminal.sees("interrupted")
    terminal.send("q")
    assert terminal.ended() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_a_killed_screen_leaves_the_terminal_as_it_was(
    terminal: Terminal, number: signal.Signals
) -> None:
    terminal.sees("tick 0/")
    terminal.until(lambda: not terminal.is_as_before())
    os.kill(terminal.child.pid, number)
    terminal.until(terminal.is_as_before)


def test_a_crash_leaves_the_terminal_as_it_was_and_shows_the_traceback(tmp_path: Path) -> None:
    crashing = (
        "import tui.snapshot, sys;"
        " take = tui.snapshot.Camera.take;"
        " calls = [];\n"
        "def broken(self, *arguments):\n"
        "    calls.append(1)\n"
        "    if len(calls) > 6: raise KeyError('a mistake of ours')\n"
        "    return take(self, *arguments)\n"
        "tui.snapshot.Camera.take = broken\n"
        "sys.argv = ['lgreplay', 'tui', sys.argv[1]]\n"
        "from replay.__main__ import main; main()\n"
    )
    made = Terminal(tmp_path)
    made.child.close(force=True)
    environment = {
        **os.environ,
        "TERM": "xterm-256color",
        "PYTHONPATH": str(ROOT),
        "XDG_STATE_HOME": str(tmp_path),
    }
    made.child = pexpect.spawn(
        sys.executable, ["-c", crashing, str(RACE)], dimensions=(30, 100), env=environment
    )
    made.before = termios.tcgetattr(made.child.child_fd)
    made.raw = b""
    made.until(lambda: b"tick" in made.raw)

    def broken() -> bool:
        made.send("s")
        return b"a mistake of ours" in made.raw

    made.until(broken)
    made.until(made.is_as_before)
    assert made.ended() == 1


def test_a_session_is_kept_and_can_be_forgotten(tmp_path: Path) -> None:
    first = Terminal(tmp_path)
    first.sees("tick 0/")
    first.send(f":seek {fatal()}\r")
    first.sees(f"tick {fatal():,}")
    first.send(":break lguest_iret\r")
    first.sees("stop 1")
    first.send("\x1bOQ")
    first.sees("IDT")
    first.send("q")
    assert first.ended() == 0
    second = Terminal(tmp_path)
    second.sees(f"tick {fatal():,}")
    second.sees("IDT")
    second.send(":info b\r")
    second.sees("break lguest_iret")
    second.send("q")
    assert second.ended() == 0
    third = Terminal(tmp_path, "--fresh", "--theme", "light", "--seek", "50%")
    third.sees(f"tick {last() // 2:,}")
    third.send("q")
    assert third.ended() == 0


def test_a_terminal_of_the_locale_c_gets_ascii_and_a_vt_no_colours(tmp_path: Path) -> None:
    terminal = Terminal(tmp_path, settings={"LC_ALL": "C", "TERM": "vt100"})
    terminal.sees("tick 0/")
    terminal.send("\x1bOQ$")
    terminal.sees(f"tick {last():,}")
    terminal.send("q")
    assert terminal.ended() == 0
    assert terminal.raw.isascii()
    styles = re.findall(rb"\x1b\[([0-9;]*)m", terminal.raw)
    assert not any(part[:1] in b"34" and len(part) == 2 for s in styles for part in s.split(b";"))


def test_a_dumb_terminal_is_refused_in_one_line(tmp_path: Path) -> None:
    terminal = Terminal(tmp_path, settings={"TERM": "dumb"})
    assert terminal.ended() == 2
    assert b"TERM=dumb" in terminal.raw
    assert terminal.raw.count(b"\n") == 1


def test_what_is_pasted_is_text_in_the_command_line_and_nothing_elsewhere(tmp_path: Path) -> None:
    terminal = Terminal(tmp_path)
    terminal.sees("tick 0/")
    terminal.send("\x1b[200~qqq$\x1b[201~")
    terminal.send(":\x1b[200~seek 5000\x1b[201~\r")
    terminal.sees("tick 5,000/")
    terminal.send("q")
    assert terminal.ended() == 0


def test_without_a_terminal_it_is_refused_in_one_line() -> None:
    import subprocess

    done = subprocess.run(
        [sys.executable, "-m", "replay", "tui", str(RACE)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "terminal" in done.stderr
