"""`lgreplay diff`: where two traces part, and what is different there."""

from __future__ import annotations

import click

from replay.commands.options import as_count


@click.command
@click.argument("a")
@click.argument("b")
@click.option("--tick", callback=as_count, metavar="TICK", help="Compare the states here instead.")
@click.option(
    "--lines", type=click.IntRange(1), default=8, show_default=True, help="Show so many of each."
)
def diff(a: str, b: str, tick: int | None, lines: int) -> None:
    """Say where the histories of the traces A and B part: the first events and the first states that differ."""
    from replay.commands.differences import show_diff

    show_diff(a, b, tick, lines)


__all__ = ["diff"]
