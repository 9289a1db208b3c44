"""The gdbs to be found here, and what of their words differs without meaning anything.

gdb comes from the system and as a wheel (gdb-for-pwndbg). Of the wheel only one version fits into an environment; more
of them are found in .gdb/VERSION, where `make gdbs` puts them.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.patience import PATIENCE

ROOT = Path(__file__).parents[2]
WHEELS = ROOT / ".gdb"
NO_LLDB = "there is no lldb here: none was tried (`pip install lldb-for-pwndbg`)"


@dataclass(frozen=True)
class Gdb:
    """One gdb: its version, the program, and where the wheel's parts are."""

    version: str
    program: Path
    home: Path | None = None

    def batch(self, commands: Sequence[str], *, cwd: Path | None = None) -> list[str]:
        """Run commands; the lines of what it says, normalised. An error of a command is one of those lines."""
        words = [word for command in commands for word in ("-ex", command)]
        environment = {**os.environ, "TERM": "dumb", "LC_ALL": "C"}
        if self.home:
            environment["PYTHONPATH"] = str(self.home)
        done = subprocess.run(
            [str(self.program), "-nx", "-batch", "-ex", "set width 0", *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=PATIENCE,
            env=environment,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            check=False,
        )
        assert done.returncode in {0, 1}, done.stdout
        return normalise(done.stdout)

    def __str__(self) -> str:
        return f"gdb-{self.version}"


# What versions say differently: pattern and what takes its place. The end of history is a matter of taste, so is who
# is switched to, which is said anyway.
_SAME: tuple[tuple[str, str], ...] = (
    (r"^No more reverse-execution history\.$", "END OF HISTORY"),
    (r"^Reached end of recorded history; stopping\.$", "END OF HISTORY"),
    (r"^Backward execution from here not possible\.$", ""),
    (r"^Following forward execution will be added to history\.$", ""),
    (r"^\[Switching to .*\]$", ""),
    (r"^warning: (\d+\t)", r"\1"),
    (r"No such file or directory\.$", "No such file or directory"),
    (r"^(?:Reading .* from remote target\.\.\.|Reading symbols from .*)$", ""),
    (r"^warning: File transfers from remote targets can be slow.*$", ""),
    (r"^\[Inferior 1 \(Remote target\) detached\]$", ""),
    (r"^warning: .*(?:determining executable|No executable has been specified).*$", ""),
    (r"^determining executable automatically.*$", ""),
    (r"\(([^()]*), crc=\{u32[^)]*\)[^)]*\)", r"(\1, crc=?)"),
    (r"<unavailable> in", "0x00000000 in"),
)


def normalise(said: str) -> list[str]:
    """Lines without what differs between versions and means nothing."""
    lines = []
    for given in said.splitlines():
        line = given.rstrip()
        for pattern, same in _SAME:
            line = re.sub(pattern, same, line)
        if line:
            lines.append(line)
    return lines


def _version(program: Path, home: Path | None) -> str:
    environment = {**os.environ, "PYTHONPATH": str(home)} if home else dict(os.environ)
    said = subprocess.run(
        [program, "--version"], capture_output=True, text=True, env=environment, check=False
    ).stdout
    found = re.search(r"(\d+\.\d+)", said.partition("\n")[0])
    return found[1] if found else ""


def found() -> list[Gdb]:
    """All gdbs here, one of each version."""
    candidates: list[tuple[Path, Path | None]] = []
    system = shutil.which("gdb", path="/usr/bin:/usr/local/bin:/bin")
    if system:
        candidates.append((Path(system), None))
    candidates.append((Path(sys.executable).with_name("gdb"), None))
    candidates += [(home / "bin" / "gdb", home) for home in sorted(WHEELS.glob("*"))]
    gdbs: dict[str, Gdb] = {}
    for program, home in candidates:
        if program.exists():
            version = _version(program, home)
            gdbs.setdefault(version, Gdb(version, program, home))
    gdbs.pop("", None)
    return list(gdbs.values())


def lldb() -> str | None:
    """The lldb here: that of the wheel, or the system's."""
    beside = Path(sys.executable).with_name("lldb")
    return str(beside) if beside.exists() else shutil.which("lldb")


__all__ = ["NO_LLDB", "Gdb", "found", "lldb", "normalise"]
