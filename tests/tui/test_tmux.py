"""End to end, in a terminal multiplexer as people use it: start, look, move, split the window, leave."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.patience import wait_until
from tests.tui.moments import fatal, last
from tests.tui.sitting import RACE

pytestmark = [
    pytest.mark.needs_terminal,
    pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed"),
]
ROOT = Path(__file__).parents[2]


class Tmux:
    """A tmux server of its own with one window, in which a shell runs."""

    def __init__(self, folder: Path, columns: int, rows: int) -> None:
        self._socket = str(folder / "tmux")
        size = ("-x", str(columns), "-y", str(rows))
        settings = {
            "PYTHONPATH": str(ROOT),
            "XDG_STATE_HOME": str(folder),
            "LC_ALL": "C.UTF-8",
            "PS1": "ready> ",
        }
        words = [f"{name}={value}" for name, value in settings.items()]
        shell = shlex.join(["env", *words, "sh"])
        self.run("-f", "/dev/null", "new-session", "-d", *size, shell)

    def run(self, *arguments: str) -> str:
        command = ["tmux", "-u", "-S", self._socket, *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    def send(self, *keys: str) -> None:
        self.run("send-keys", *keys)

    @property
    def text(self) -> str:
        return self.run("capture-pane", "-p")

    def sees(self, text: str) -> None:
        wait_until(lambda: text in self.text, f"{text} is not seen")

    def close(self) -> None:
        self.run("kill-server")


@pytest.fixture
def tmux(tmp_path: Path) -> Iterator[Tmux]:
    made = Tmux(tmp_path, 120, 40)
    yield made
    made.close()


@pytest.mark.needs_gdb
@pytest.mark.skipif(shutil.which("gdb") is None, reason="gdb is not installed")
def test_gdb_and_the_screen_side_by_side(tmux: Tmux, tmp_path: Path) -> None:
    trace = shutil.copy(RACE, tmp_path)
    lgreplay = [sys.executable, "-m", "replay"]
    shared = str(tmp_path / "shared")
    tmux.sees("ready>")
    gdb = [*lgreplay, "gdb", str(trace), "--launch", "--tui-socket", shared]
    tmux.send("-l", f"{shlex.join(gdb)}; echo code $?")
    tmux.send("Enter")
    tmux.sees("host_loop")
    tmux.sees("(gdb)")
    screen = shlex.join([*lgreplay, "tui", "--attach", shared, "--fresh"])
    tmux.run("split-window", "-v", "-l", "24", screen)
    tmux.sees(f"tick 0/{last():,}")
    tmux.send("-l", f":seek {fatal()}")
    tmux.send("Enter")
    tmux.run("select-pane", "-U")
    tmux.sees(f"the screen: tick {fatal():,}")
    tmux.send("-l", "set var $eax = 5")
    tmux.send("Enter")
    tmux.run("select-pane", "-D")
    tmux.sees("[branch at")
    tmux.run("select-pane", "-U")
    tmux.send("-l", "monitor branch leave")
    tmux.send("Enter")
    tmux.send("-l", "stepi")
    tmux.send("Enter")
    tmux.send("-l", "set confirm off")
    tmux.send("Enter")
    tmux.run("select-pane", "-D")
    tmux.send("q")
    tmux.sees("set confirm off")
    tmux.send("-l", "quit")
    tmux.send("Enter")
    tmux.sees("code 0")
    assert not Path(shared).exists()


def test_a_sitting_in_tmux(tmux: Tmux, tmp_path: Path) -> None:
    trace = shutil.copy(RACE, tmp_path)
    tmux.sees("ready>")
    tmux.send("echo before", "Enter")
    tmux.sees("before")
    command = shlex.join([sys.executable, "-m", "replay", "tui", str(trace)])
    tmux.send("-l", f"{command}; echo code $?")
    tmux.send("Enter")
    tmux.sees(f"tick 0/{last():,}")
    tmux.send("-l", f":seek {fatal()}")
    tmux.send("Enter")
    tmux.sees(f"tick {fatal():,}")
    tmux.send("m", "x", "F2")
    tmux.sees("IDT")
    tmux.sees("irq_enabled=1")
    tmux.run("split-window", "-h", "sleep 600")
    tmux.run("select-pane", "-L")
    tmux.sees("IDT")
    assert all(len(line) <= 60 for line in tmux.text.splitlines())
    tmux.run("kill-pane", "-a")
    tmux.send("$", "'", "x")
    tmux.sees(f"tick {fatal():,}")
    tmux.send("q")
    tmux.sees("code 0")
    assert "before" in tmux.text
    assert "IDT" not in tmux.text
    assert (tmp_path / "iret-race.lgt.marks").exists()
