"""From the command's options to the screen, and back to a terminal as it was. Read next: app.py."""

from __future__ import annotations

import locale
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import click

from replay.commands.plan import Wish
from replay.following import FollowingTimeline
from replay.log import TraceReader
from replay.shared_position import PositionClient
from replay.timeline import Timeline
from replay.where import BadPlace, tick_of
from tui.app import Tui
from tui.attached import Attachment
from tui.guarded import guarded_terminal
from tui.live import Typing, recorded
from tui.state import Kept, load, place_for, save
from tui.theme import knows_blocks, theme_for


@dataclass(frozen=True, slots=True)
class Options:
    """How the screen is to be."""

    theme: str | None = None
    where: str | None = None
    ascii_only: bool = False
    fresh: bool = False


def show_trace(trace: str | None, options: Options, *, salvage: bool, attach: Path | None) -> None:
    """Show a trace until the user leaves. Raises what opening it raises, and click.UsageError."""
    _check_terminal()
    client = None if attach is None else PositionClient(attach)
    if client is not None:
        trace = trace or client.hello.trace
    if trace is None:
        raise click.UsageError("which trace? or --attach to a program that shows one, or --record")
    with _opened(trace, client, salvage=salvage) as timeline:
        if client is not None and client.hello.trace_id != timeline.reader.trace_id.hex():
            raise click.UsageError(f"the program at {attach} shows another trace than {trace}")
        _show(timeline, options, None if client is None else Attachment(client))


def _opened(trace: str, client: PositionClient | None, *, salvage: bool) -> Timeline:
    if client is not None and client.hello.standing.end is not None:
        return FollowingTimeline(TraceReader(trace))
    return Timeline(TraceReader(trace, salvage=salvage))


def show_recording(wish: Wish, arguments: Sequence[str], options: Options) -> None:
    """Record a guest and show it. Raises as above."""
    _check_terminal()
    with recorded(wish, arguments) as live:
        _show(live.timeline, options, None, live.typing)


def _check_terminal() -> None:
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise click.UsageError("the full screen needs a terminal; lgreplay events lists a trace")
    if os.environ.get("TERM") == "dumb":
        raise click.UsageError("TERM=dumb: that terminal has no place for a full screen")


def _show(
    timeline: Timeline,
    options: Options,
    attachment: Attachment | None,
    typing: Typing | None = None,
) -> None:
    path = place_for(_key(timeline.reader))
    kept = _begin(timeline, options.where, Kept() if options.fresh else load(path))
    screen = Tui(
        timeline,
        theme=theme_for(options.theme, os.environ),
        ascii_only=options.ascii_only
        or not knows_blocks(os.environ, locale.getpreferredencoding(False)),
        kept=kept,
        attachment=attachment,
        typing=typing,
    )
    with guarded_terminal():
        screen.run()
    save(path, screen.kept())


def _key(reader: TraceReader) -> bytes:
    """What a session is kept under; a packed trace has the id of its original, and its own place to begin."""
    opens_at = reader.opens_at
    return reader.trace_id + (b"" if opens_at is None else opens_at.to_bytes(8, "big"))


def _begin(timeline: Timeline, where: str | None, kept: Kept) -> Kept:
    if where is None:
        opens_at = timeline.reader.opens_at
        return kept if kept.tick is not None else replace(kept, tick=opens_at)
    try:
        return replace(kept, tick=tick_of(timeline, where))
    except BadPlace as error:
        raise click.UsageError(str(error)) from error


__all__ = ["Options", "show_recording", "show_trace"]
