"""From the command's options to a page in its file."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import click

from hostvm.units import Tick
from replay.commands.terminal import Terminal
from replay.errors import one_line
from replay.interruption import put_off
from replay.log import TraceReader
from replay.quantities import short_count
from replay.timeline import Timeline
from tui.report import story_of
from tui.report_page import report


def write_report(reader: TraceReader, path: Path, at: str | None) -> None:
    """Go to the moment and write the page. Raises BadPlace, OSError, and as Timeline does."""
    terminal = Terminal()
    timeline = Timeline(reader)

    def show(tick: Tick) -> None:
        terminal.status(
            f"going there: {short_count(tick)} of {short_count(timeline.end_tick)} ticks"
        )

    timeline.progress = show
    try:
        timeline.seek("failure" if at is None else at)
        story = story_of(timeline)
    finally:
        terminal.clear()
    _write(path, report(story))
    click.echo(one_line(f"{path}: {path.stat().st_size:,} bytes; {story.lead}"))


def _write(path: Path, page: str) -> None:
    """All or nothing."""
    with put_off():
        _replace(path, page)


def _replace(path: Path, page: str) -> None:
    file = tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=path.parent, delete=False)  # noqa: SIM115
    written = False
    try:
        with file:
            file.write(page)
        os.chmod(file.name, 0o666 & ~_umask())  # noqa: PTH101
        Path(file.name).replace(path)
        written = True
    finally:
        if not written:
            Path(file.name).unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


__all__ = ["write_report"]
