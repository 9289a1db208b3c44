"""From the command's options to the screen, and back to a terminal as it was. Read next: app.py."""

from __future__ import annotations

import locale
import os
import sys
from dataclasses import replace

import click

from replay.log import TraceReader
from replay.timeline import Timeline
from replay.where import BadPlace, tick_of
from tui.app import Tui
from tui.guarded import guarded_terminal
from tui.state import Kept, load, place_for, save
from tui.theme import theme_for


def start(
    trace: str,
    theme: str | None,
    where: str | None,
    *,
    ascii_only: bool,
    fresh: bool,
    salvage: bool,
) -> None:
    """Show a trace until the user leaves. Raises what opening it raises, and click.UsageError."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise click.UsageError("the full screen needs a terminal; lgreplay events lists a trace")
    with Timeline(TraceReader(trace, salvage=salvage)) as timeline:
        path = place_for(timeline.reader.trace_id)
        kept = _begin(timeline, where, Kept() if fresh else load(path))
        screen = Tui(
            timeline,
            theme=theme_for(theme, os.environ),
            ascii_only=ascii_only or not _knows_blocks(),
            kept=kept,
        )
        with guarded_terminal():
            screen.run()
        save(path, screen.kept())


def _begin(timeline: Timeline, where: str | None, kept: Kept) -> Kept:
    if where is None:
        return kept
    try:
        return replace(kept, tick=tick_of(timeline, where))
    except BadPlace as error:
        raise click.UsageError(str(error)) from error


def _knows_blocks() -> bool:
    return "utf" in (locale.getpreferredencoding(False) or "").lower()


__all__ = ["start"]
