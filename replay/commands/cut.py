"""`lgreplay cut`: a part of a trace."""

from __future__ import annotations

import click

from replay.commands.options import new_trace


@click.command
@click.argument("trace")
@new_trace
@click.option(
    "--from",
    "start",
    metavar="WHERE",
    default="start",
    help="Where the part begins.",
    show_default=True,
)
@click.option("--to", "stop", metavar="WHERE", help="Where it ends; at the end by default.")
def cut(trace: str, output: str, force: bool, start: str, stop: str | None) -> None:
    """Make a trace of a part of TRACE, which begins with the state of the machine there.

    WHERE is a tick, 50%, event 12, end, failure, @bookmark, or one of these and a distance, such as failure-2M. Ticks
    keep their numbers. What was written is replayed, and only then gets its name. TRACE stays as it is.
    """
    from replay.commands.making import shown
    from replay.cut import cut as make
    from replay.errors import one_line

    with shown() as progress:
        part = make(trace, output, start=start, stop=stop, force=force, progress=progress)
    click.echo(one_line(f"{output}: {part.size:,} bytes; {trace} has {part.before:,}"))
    ticks = f"ticks {part.first:,} to {part.last:,}, {part.events:,} events"
    click.echo(f"{ticks}; replayed, all as recorded")


__all__ = ["cut"]
