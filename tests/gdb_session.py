"""The gdb sessions in a sample's README, run again. `python -m tests.gdb_session FILE ...` puts the real output in.

A session is a ```console block whose first line is `$ lgreplay gdb --launch TRACE`: commands after `(gdb) `, and below
each what gdb says, without the lines in which versions differ and that mean nothing (tests/gdbstub/debuggers.py).
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from gdbstub.serving import GDB_SCRIPT
from tests.gdbstub.debuggers import Gdb, found

LAUNCH = "$ lgreplay gdb --launch "
SESSION = re.compile(
    rf"(?<=^```console\n){re.escape(LAUNCH)}(?P<trace>\S+)\n(?P<said>.*?)(?=^```$)",
    re.MULTILINE | re.DOTALL,
)
PROMPT = "(gdb) "


def replayed(text: str, folder: Path, gdb: Gdb) -> str:
    """`text` with its gdb sessions as they go now, on the traces in this folder."""

    def again(block: re.Match[str]) -> str:
        lines = block["said"].splitlines()
        commands = [line.removeprefix(PROMPT) for line in lines if line.startswith(PROMPT)]
        said = "\n".join(_said(gdb, folder / block["trace"], commands))
        return f"{LAUNCH}{block['trace']}\n{said}\n"

    return SESSION.sub(again, text)


def _said(gdb: Gdb, trace: Path, commands: list[str]) -> list[str]:
    served = f"target remote | {sys.executable} -m replay gdb --stdio {trace.resolve()}"
    start = ["set pagination off", "set confirm off", f"source {GDB_SCRIPT}", served]
    shown = [words for c in commands for words in (f"echo {PROMPT}{c}\\n", c)]
    lines = gdb.batch([*start, *shown], cwd=trace.parent)
    return lines[lines.index(PROMPT + commands[0]) :]


if __name__ == "__main__":
    for path in map(Path, sys.argv[1:]):
        path.write_text(replayed(path.read_text(encoding="utf-8"), path.parent, found()[0]))
