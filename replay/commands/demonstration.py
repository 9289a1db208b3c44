"""What `lgreplay demo` does: the commands that a user would type, one after the other, in a folder of its own."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import click

from replay import cli
from replay.exit_codes import ExitCode

STEPS: Sequence[tuple[str, Sequence[str]]] = (
    (
        "Record a guest: a small kernel that writes to a place where nothing is, and dies of it.",
        ("record", "--guest", "kestrel", "--append", "crash=write", "-o", "crash.lgt"),
    ),
    (
        "Replay it: everything is executed again, and every event and digest is compared.",
        ("replay", "crash.lgt"),
    ),
    (
        "What came in from outside was little; the rest of the trace is there to check the replay.",
        ("info", "crash.lgt"),
    ),
    (
        "Each event has its place, to the instruction: here are the last fault, and the end.",
        ("events", "crash.lgt", "--kind", "trap_reflected", "--kind", "guest_ended"),
    ),
)


def demonstrate() -> None:
    """Run the steps, each after its command line.

    Raises: click.exceptions.Exit with the code of a step that failed.
    """
    here = Path.cwd()
    with tempfile.TemporaryDirectory(prefix="lgreplay-") as folder:
        os.chdir(folder)
        try:
            for words, command in STEPS:
                _step(words, command)
        finally:
            os.chdir(here)


def _step(words: str, command: Sequence[str]) -> None:
    click.secho(f"\n# {words}", dim=True)
    click.secho(f"$ lgreplay {' '.join(command)}", bold=True)
    code = cli.run(command)
    if code != ExitCode.OK:
        raise click.exceptions.Exit(code)


__all__ = ["STEPS", "demonstrate"]
