"""Real gdbs on a guest that is being recorded: into its past, back to its present, writing there, and on."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from replay.events import DebuggerWrite
from replay.log import TraceReader
from replay.session import Session
from tests.gdbstub.debuggers import Gdb, found
from tests.patience import PATIENCE

pytestmark = pytest.mark.needs_gdb
LGREPLAY = f"{sys.executable} -m replay"
GDBS = found()


@pytest.fixture(params=GDBS, ids=str)
def gdb(request: pytest.FixtureRequest) -> Gdb:
    debugger = request.param
    assert isinstance(debugger, Gdb)
    return debugger


def recorded(gdb: Gdb, path: Path, options: str, *commands: str) -> list[str]:
    """What gdb says to these commands, on a guest that is recorded into `path`."""
    return gdb.batch(
        [
            *("set confirm off", "set pagination off"),
            f"target remote | {LGREPLAY} gdb --stdio --record -o {path} {options}",
            *commands,
            "detach",
        ]
    )


def values(lines: list[str]) -> list[int]:
    return [int(line.partition(" = ")[2]) for line in lines if re.match(r"\$\d+ = ", line)]


def replayed(path: Path) -> tuple[int, list[DebuggerWrite]]:
    """The tick at which a trace ends, once it has been replayed, and what debuggers wrote in it."""
    with TraceReader(path) as reader:
        for _ in Session(reader).verify():
            pass
        assert reader.end is not None
        return reader.end.tick, [e for e in reader.events() if isinstance(e, DebuggerWrite)]


@pytest.mark.parametrize("clock", ["virtual", "host"])
def test_into_the_past_and_back_and_on(gdb: Gdb, tmp_path: Path, clock: str) -> None:
    path = tmp_path / "live.lgt"
    lines = recorded(
        gdb,
        path,
        f"--clock {clock} --append loops=1",
        *("break trap", "continue", "p $tick", "set var $esi = 0x1234", "p $esi"),
        *("delete", "reverse-continue", "p $tick", "monitor seek end", "monitor tick-step 1"),
        *(
            "maintenance flush register-cache",
            "thread 2",
            "p $esi",
            "break mix",
            "continue",
            "p $tick",
        ),
    )
    first, written, start, later, last = values(lines)
    assert (written, later, start) == (0x1234, 0x1234, 0)
    assert first < last
    assert any("hello: in ring 1 under lguest" in line for line in lines)
    end, edits = replayed(path)
    assert end == last
    assert [(edit.tick, edit.data) for edit in edits] == [(first, b"\x34\x12\0\0")]


def test_a_write_to_the_past_leaves_the_recording_alone(gdb: Gdb, tmp_path: Path) -> None:
    path = tmp_path / "live.lgt"
    lines = recorded(
        gdb,
        path,
        "--clock virtual --append loops=1",
        *("break trap", "continue", "p $tick", "continue", "reverse-continue", "p $tick"),
        *("set var $esi = 0x1234", "stepi", "monitor branch", "monitor branch leave"),
        *("monitor seek end", "maintenance flush register-cache", "p $tick"),
    )
    first, back, end = values(lines)
    assert first == back < end
    assert any(line.lstrip().startswith("1  branch at tick") for line in lines)
    assert replayed(path) == (end, [])


def test_to_its_end(gdb: Gdb, tmp_path: Path) -> None:
    path = tmp_path / "live.lgt"
    lines = recorded(
        gdb, path, "--clock virtual --append loops=1", "continue", "p $tick", "reverse-stepi"
    )
    assert "END OF HISTORY" in lines
    assert replayed(path) == (values(lines)[0], [])


@pytest.mark.parametrize(
    "words",
    [
        ("--record", "--keep-last", "1M"),
        ("--record", "--interactive"),
        ("--record", "--salvage"),
        ("--record", "trace.lgt"),
        ("--record", "--nonsense"),
        ("--nonsense", "trace.lgt"),
        (),
        ("a.lgt", "b.lgt"),
    ],
)
def test_wrong_usage_is_one_line_and_no_trace(words: tuple[str, ...], tmp_path: Path) -> None:
    done = subprocess.run(
        [*LGREPLAY.split(), "gdb", "--stdio", *words],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        cwd=tmp_path,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())
