"""`lgreplay events`: list what is in a trace."""

from __future__ import annotations

import click

from replay.commands.options import as_count


@click.command
@click.argument("trace")
@click.option(
    "--kind",
    "kinds",
    multiple=True,
    metavar="KIND",
    help="Only this kind, such as hypercall; may be repeated.",
)
@click.option("--from", "first", callback=as_count, metavar="TICK", help="Begin at this tick.")
@click.option("--to", "last", callback=as_count, metavar="TICK", help="End with this tick.")
@click.option(
    "--format",
    "layout",
    type=click.Choice(["text", "jsonl"]),
    default="text",
    show_default=True,
    help="Lines for people, or one JSON object per line.",
)
@click.option("--salvage", is_flag=True, help="Read a damaged trace up to the damage.")
def events(
    trace: str,
    kinds: tuple[str, ...],
    first: int | None,
    last: int | None,
    layout: str,
    salvage: bool,
) -> None:
    """List the events of TRACE: what came into the run, and what the machine did.

    A trace without an end is listed as far as it goes, and the exit code is then 2.
    """
    from replay.commands.listing import Selection, list_events

    list_events(trace, Selection.of(kinds, first, last), layout, salvage=salvage)


__all__ = ["events"]
