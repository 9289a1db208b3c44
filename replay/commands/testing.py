"""What `lgreplay test` does and shows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape, quoteattr

import click

from replay.catalogue import find_kernel
from replay.derived import check_output
from replay.errors import one_line
from replay.exit_codes import ExitCode
from replay.outcomes import Oracle
from replay.regression import Change, Played, Result, rerun


@dataclass(frozen=True, slots=True)
class Files:
    """What is to be another, as the user named it."""

    kernel: str | None
    abi: str | None
    initrd: str | None
    append: str | None
    switcher: str | None
    quirks: tuple[str, ...]

    def change(self) -> Change:
        """The same, read. Raises OSError, ConfigurationError."""
        kernel = None if self.kernel is None else find_kernel(self.kernel, self.abi)
        return Change(
            kernel=None if kernel is None else kernel.content,
            abi=self.abi if kernel is None else kernel.abi,
            initrd=None if self.initrd is None else Path(self.initrd).read_bytes(),
            command_line=self.append,
            quirks=self.quirks,
            switcher=b"" if self.switcher is None else Path(self.switcher).read_bytes(),
        )

    def words(self) -> Iterator[str]:
        """In words."""
        named = ("kernel", self.kernel), ("initrd", self.initrd), ("Switcher", self.switcher)
        yield from (f"{what} {name}" for what, name in named if name is not None)
        if self.append is not None:
            yield f"command line {self.append!r}"
        yield from (f"{quirk} corrected" for quirk in self.quirks)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What it takes to pass (`fixed`: no failure; else the same one), and what to write."""

    fixed: bool
    output: str | None
    force: bool
    junit: str | None


def run_test(trace: str, files: Files, oracle: Oracle, seed: int, wanted: Wanted) -> ExitCode:
    """Make the test and say how it went. Raises as `rerun` does, and BadOutput."""
    target = None
    if wanted.output is not None:
        target = check_output(wanted.output, trace, force=wanted.force)
    result = rerun(trace, files.change(), oracle, seed)
    passed = result.fixed if wanted.fixed else result.same
    lines = list(_lines(files, result, passed=passed, fixed=wanted.fixed))
    for line in lines:
        click.echo(one_line(line))
    if target is not None:
        size = result.save(target, force=wanted.force)
        click.echo(one_line(f"{target}: {size:,} bytes, the run as a trace"))
    if wanted.junit is not None:
        text = _junit(trace, lines, passed=passed)
        Path(wanted.junit).write_text(text, encoding="utf-8")
    return ExitCode.OK if passed else ExitCode.DIVERGED


def _lines(files: Files, result: Result, *, passed: bool, fixed: bool) -> Iterator[str]:
    yield f"as it was: {_said(result.recorded)}"
    changes = ", ".join(files.words()) or "nothing"
    yield f"changed: {changes}"
    yield f"now: {_said(result.changed)}"
    played = result.changed
    if played.by_time:
        yield f"{played.by_time:,} of {played.came:,} interrupts did not find their place, and came by time"
    if played.unknown_sectors:
        yield f"{played.unknown_sectors:,} sectors were read that are not in the trace; they were zeros"
    word = "PASS" if passed else "FAIL"
    yield f"{word}: {_verdict(result, fixed=fixed)}"


def _said(played: Played) -> str:
    outcome = played.outcome
    text = f": {outcome.text}" if outcome.text else ""
    place = f"at tick {outcome.end:,}, behind {played.came:,} of {played.of:,} interrupts"
    return f"{outcome.verdict.value}{text} ({place})"


def _verdict(result: Result, *, fixed: bool) -> str:
    if result.same:
        return "it fails as it did"
    if result.fixed:
        return "it does not fail" if fixed else "it does not fail any more"
    return "it fails in another way"


def _junit(trace: str, lines: list[str], *, passed: bool) -> str:
    """One test case in the form that CI systems read."""
    said = escape(one_line(" | ".join(lines)))
    failure = (
        "" if passed else f"<failure message={quoteattr(one_line(lines[-1]))}>{said}</failure>"
    )
    name = quoteattr(one_line(trace))
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f'<testsuite name="lgreplay test" tests="1" failures="{int(not passed)}">'
        f'<testcase classname="lgreplay" name={name}>{failure}</testcase></testsuite>\n'
    )


__all__ = ["Files", "Wanted", "run_test"]
