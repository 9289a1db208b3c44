"""docs/gdb.md: the bug that it follows from its end to its cause is found in the same way, word for word."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from gdbstub.monitor import COMMANDS
from gdbstub.serving import GDB_SCRIPT
from tests.gdbstub.debuggers import Gdb, found, normalise

pytestmark = pytest.mark.needs_gdb
ROOT = Path(__file__).parents[2]
DOC = (ROOT / "docs" / "gdb.md").read_text(encoding="utf-8")
TRACE = ROOT / "traces" / "fault-storm" / "fault-storm.lgt"


def walk() -> list[str]:
    """The lines of the walk-through."""
    blocks = re.findall(r"```console\n(.*?)```", DOC, re.DOTALL)
    return "".join(blocks).splitlines()


@pytest.mark.parametrize("gdb", found(), ids=str)
def test_the_walk_through_goes_as_it_is_written(gdb: Gdb) -> None:
    written = normalise("\n".join(line for line in walk() if not line.startswith("$ ")))
    commands = [line.removeprefix("(gdb) ") for line in written if line.startswith("(gdb) ")]
    shown = [words for c in commands for words in (f"echo (gdb) {c}\\n", c)]
    served = f"target remote | {sys.executable} -m replay gdb --stdio {TRACE}"
    lines = gdb.batch(
        ["set pagination off", "set confirm off", f"source {GDB_SCRIPT}", served, *shown], cwd=ROOT
    )
    assert lines[lines.index(written[0]) :] == written


def test_every_command_is_in_the_documentation() -> None:
    script = GDB_SCRIPT.read_text(encoding="utf-8")
    for name in COMMANDS:
        if name not in {"eval", "checkpoints", "delete-checkpoint"}:
            assert name in DOC, name
    for name in re.findall(r'^    \("([a-z -]+)", "', script, re.MULTILINE):
        assert name.split()[-1] in DOC, name
