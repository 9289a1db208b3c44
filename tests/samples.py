"""The sample traces: where they are, and how to record them again (`python -m tests.samples [NAME ...]`).

A sample is a folder traces/NAME with NAME.lgt in it and recipe.toml, whose `record` is the arguments of `lgreplay
record`. Other traces to compare it with may lie beside it: a table [OTHER] in the recipe is for OTHER.lgt.

All are to be recorded again when a guest or anything that a digest covers has changed on purpose: a change that was not
meant to show makes tests/replay/test_samples.py fail.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "traces"


@dataclass(frozen=True)
class Sample:
    """A trace, and the arguments of `lgreplay record` that it was made with, but for the output."""

    trace: Path
    arguments: tuple[str, ...]

    @property
    def command(self) -> tuple[str, ...]:
        """The arguments of `lgreplay` as they stand in the trace."""
        return ("record", *self.arguments, "--quiet", "-o", self.trace.name)

    @property
    def command_line(self) -> str:
        """The same as one would type it."""
        return f"lgreplay {shlex.join(self.command)}"


def samples() -> Sequence[Sample]:
    """All that there are, by name."""
    return [one for recipe in sorted(FOLDER.glob("*/recipe.toml")) for one in samples_of(recipe)]


def samples_of(recipe: Path) -> Iterator[Sample]:
    folder = recipe.parent
    content = tomllib.loads(recipe.read_text())
    yield Sample(folder / f"{folder.name}.lgt", tuple(content.pop("record")))
    for name, other in content.items():
        yield Sample(folder / f"{name}.lgt", tuple(other["record"]))


def record(sample: Sample) -> None:
    print(f"{sample.trace.parent.name}: {sample.command_line}", flush=True)
    subprocess.run(
        [sys.executable, "-m", "replay", *sample.command],
        cwd=sample.trace.parent,
        stdin=subprocess.DEVNULL,
        check=True,
    )


def main(names: Sequence[str]) -> None:
    for sample in samples():
        if not names or sample.trace.parent.name in names:
            record(sample)


if __name__ == "__main__":
    main(sys.argv[1:])
