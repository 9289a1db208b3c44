"""The session in a README.md, run again. `python -m tests.readme_session [FILE ...]` puts the real output into it.

A session is what stands in ```console blocks: commands after `$ `, and below each what it shows, on stdout and stderr
alike. One in which a gdb is started is left as it is (gdb_session.py). Sizes of files and durations differ from run to
run; they are the only things that may.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"
BLOCK = re.compile(r"(?<=^```console\n)\$ .*?(?=^```$)", re.MULTILINE | re.DOTALL)
VARIES = re.compile(r"[\d,]+(?= bytes)|[\d.]+(?= s;)")


def commands(session: str) -> list[str]:
    """The command lines of a session."""
    return [line[2:] for line in session.splitlines() if line.startswith("$ ")]


def run(command: str, folder: Path) -> str:
    """What a command shows."""
    program, *arguments = shlex.split(command)
    assert program == "lgreplay"
    done = subprocess.run(
        [sys.executable, "-m", "replay", *arguments],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=True,
    )
    return done.stdout


def replayed(text: str, traces: Iterable[Path] = ()) -> str:
    """`text` with its sessions as they go now, in a folder with these traces."""
    with tempfile.TemporaryDirectory() as folder:
        for trace in traces:
            shutil.copy(trace, folder)

        def again(block: re.Match[str]) -> str:
            if "\n(gdb) " in block[0]:
                return block[0]
            return "".join(f"$ {c}\n{run(c, Path(folder))}" for c in commands(block[0]))

        return BLOCK.sub(again, text)


def comparable(text: str) -> str:
    """`text` without what may differ."""
    return VARIES.sub("N", text)


if __name__ == "__main__":
    for path in [Path(name) for name in sys.argv[1:]] or [README]:
        text = replayed(path.read_text(encoding="utf-8"), path.parent.glob("*.lgt"))
        path.write_text(text, encoding="utf-8")
