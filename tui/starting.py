"""From the command's options to the screen, and back to a terminal as it was. Read next: app.py."""

from __future__ import annotations

import locale
import os
import sys
from dataclasses import replace
from pathlib import Path

import click

from replay.log import TraceReader
from replay.shared_position import PositionClient
from replay.timeline import Timeline
from replay.where import BadPlace, tick_of
from tui.app import Tui
from tui.attached import Attachment
from tui.guarded import guarded_terminal
from tui.state import Kept, load, place_for, save
from tui.theme import theme_for


def start(
    trace: str | None,
    theme: str | None,
    where: str | None,
    *,
    ascii_only: bool,
    fresh: bool,
    salvage: bool,
    attach: Path | None = None,
) -> None:
    """Show a trace until the user leaves. Raises what opening it raises, and click.UsageError."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise click.UsageError("the full screen needs a terminal; lgreplay events lists a trace")
    client = None if attach is None else PositionClient(attach)
    if client is not None:
        trace = trace or client.hello.trace
    if trace is None:
        raise click.UsageError("which trace? or --attach to a program that shows one")
    with Timeline(TraceReader(trace, salvage=salvage)) as timeline:
        if client is not None and client.hello.trace_id != timeline.reader.trace_id.hex():
            raise click.UsageError(f"the program at {attach} shows another trace than {trace}")
        path = place_for(timeline.reader.trace_id)
        kept = _begin(timeline, where, Kept() if fresh else load(path))
        screen = Tui(
            timeline,
            theme=theme_for(theme, os.environ),
            ascii_only=ascii_only or not _knows_blocks(),
            kept=kept,
            attachment=None if client is None else Attachment(client),
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
