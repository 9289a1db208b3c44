"""The command `lgreplay` as its users start it, and what there is to see from outside."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.patience import PATIENCE, wait_until

ROOT = Path(__file__).parents[2]
NO_CHANGES: Mapping[str, str] = {}

# Chunks are written a hundred times as often as usual, so that a short recording has many.
HASTY = (
    "import replay.log, replay.recording as r;"
    " replay.log.FLUSH_NS = r.IDLE_FLUSH_NS = 10_000_000;"
    " replay.log.LOOK_EVERY = 16;"
    " from replay.__main__ import main; main()"
)


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str


def command(*arguments: str, hasty: bool = False) -> list[str]:
    start = ["-c", HASTY] if hasty else ["-m", "replay"]
    return [sys.executable, *start, *arguments]


def environment(changes: Mapping[str, str] = NO_CHANGES) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), **changes}


def lgreplay(
    *arguments: str,
    folder: Path,
    changes: Mapping[str, str] = NO_CHANGES,
    prefix: tuple[str, ...] = (),
) -> Outcome:
    """Run to the end."""
    done = subprocess.run(
        [*prefix, *command(*arguments)],
        cwd=folder,
        env=environment(changes),
        capture_output=True,
        text=True,
        errors="backslashreplace",
        timeout=PATIENCE,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    return Outcome(done.returncode, done.stdout, done.stderr)


def start(*arguments: str, folder: Path, hasty: bool = False) -> subprocess.Popen[str]:
    """Begin, and leave it running."""
    return subprocess.Popen(
        command(*arguments, hasty=hasty),
        cwd=folder,
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(path: Path, size: int, process: subprocess.Popen[str]) -> None:
    """Return once the file is at least so large."""

    def is_so_large() -> bool:
        assert process.poll() is None, "ended too early"
        return path.exists() and path.stat().st_size >= size

    wait_until(is_so_large, f"{path} does not grow")


def complaint(outcome: Outcome) -> str:
    """The one line with which a command refuses."""
    assert outcome.code == 2, outcome
    assert outcome.err.count("\n") == 1, outcome.err
    assert outcome.err.startswith("lgreplay: "), outcome.err
    return outcome.err
