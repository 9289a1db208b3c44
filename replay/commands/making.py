"""What commands that make a trace of another one show meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import click

from hostvm.units import Tick
from replay.commands.terminal import Terminal
from replay.derived import Progress
from replay.quantities import short_count
from replay.where import BadPlace


@contextmanager
def shown() -> Iterator[Progress]:
    """Show how far things are; words that name no place become a usage error."""
    terminal = Terminal()

    def show(what: str, tick: Tick, end: Tick) -> None:
        share = 100 * tick // max(end, 1)
        terminal.status(f"{what}: {short_count(tick)} ticks, {share}%")

    try:
        yield show
    except BadPlace as error:
        raise click.UsageError(str(error)) from error
    finally:
        terminal.clear()


__all__ = ["shown"]
