"""A real LLDB on a trace: `gdb-remote`, registers, memory, breakpoints, steps, to the end and back.

LLDB comes as a wheel (lldb-for-pwndbg), or from the system.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from tempfile import NamedTemporaryFile

import pytest

from gdbstub.timeline_target import TimelineTarget
from tests.gdbstub.debuggers import lldb
from tests.gdbstub.served import served
from tests.patience import PATIENCE
from tests.replay.histories import record_guest, timeline_of

LLDB = lldb()
pytestmark = [
    pytest.mark.needs_lldb,
    pytest.mark.skipif(LLDB is None, reason="no lldb here"),
]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return record_guest(tmp_path_factory.mktemp("lldb") / "hello.lgt", "hello", "loops=1")


@pytest.fixture
def address(path: Path) -> Iterator[str]:
    with timeline_of(path) as timeline, served(TimelineTarget(timeline)) as at:
        yield at


def said(address: str, *commands: str) -> str:
    lines = ("settings set auto-confirm true", f"gdb-remote {address}", *commands, "process detach")
    # From a file: given as options, what follows an end of history is left out.
    with NamedTemporaryFile("w", suffix=".lldb") as script:
        script.write("\n".join(lines) + "\n")
        script.flush()
        return _run(["--source", script.name])


def _run(arguments: list[str]) -> str:
    assert LLDB
    done = subprocess.run(
        [LLDB, "--no-lldbinit", "--batch", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=PATIENCE,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    return done.stdout


def eips(text: str) -> list[int]:
    return [int(found, 16) for found in re.findall(r"^\s+eip = (0x[0-9a-f]+)", text, re.MULTILINE)]


EIP = "register read eip"


def test_a_breakpoint_steps_and_both_ends_of_history(address: str, path: Path) -> None:
    with timeline_of(path) as timeline:
        trap = timeline.address("trap_entry_32")
    text = said(
        address,
        *(f"breakpoint set -a {trap:#x}", EIP, "process continue", EIP, "thread step-inst", EIP),
        *("breakpoint delete -f", "process continue", "process continue --reverse", EIP),
    )
    start, hit, stepped, back = eips(text)
    assert hit == trap
    assert 0 < stepped - hit < 16
    assert back == start
    assert "stop reason = breakpoint 1" in text
    assert text.count("stop reason = history boundary") == 2


def test_back_to_a_breakpoint(address: str, path: Path) -> None:
    with timeline_of(path) as timeline:
        trap = timeline.address("trap_entry_32")
    text = said(
        address,
        "process continue",
        f"breakpoint set -a {trap:#x}",
        "process continue --reverse",
        EIP,
    )
    assert eips(text) == [trap]


def test_registers_and_memory_are_the_machines(address: str, path: Path) -> None:
    text = said(address, "register read eip esp", "memory read -s1 -fx -c4 $eip")
    with timeline_of(path) as timeline:
        eip, esp = timeline.cpu.eip, timeline.cpu.regs[4]
        code = timeline.read(eip, 4)
    assert f"eip = {eip:#010x}" in text
    assert f"esp = {esp:#010x}" in text
    assert f"{eip:#010x}: " + " ".join(f"{byte:#04x}" for byte in code) in text
