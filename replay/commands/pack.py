"""`lgreplay pack`: a trace for a bug report."""

from __future__ import annotations

import click

from replay.commands.options import new_trace


@click.command
@click.argument("trace")
@new_trace
@click.option("--at", metavar="WHERE", help="Where it opens, if not at the failure.")
@click.option("--smallest", is_flag=True, help="No state to open it from, however far that is.")
def pack(trace: str, output: str, force: bool, at: str | None, smallest: bool) -> None:
    """Make a small trace of TRACE that opens where it failed, on any computer.

    What was written is replayed, and only then gets its name. TRACE stays as it is.
    """
    from replay.codec import MAX_TICK
    from replay.commands.making import shown
    from replay.errors import one_line
    from replay.pack import FAR_AWAY
    from replay.pack import pack as make

    with shown() as progress:
        far = MAX_TICK if smallest else FAR_AWAY
        done = make(trace, output, at=at, far_away=far, force=force, progress=progress)
    share = 100 * done.size // done.before
    click.echo(one_line(f"{output}: {done.size:,} bytes, {share}% of {trace}"))
    state = "" if done.state is None else f", from a stored state at tick {done.state:,}"
    click.echo(f"opens at tick {done.opens_at:,}{state}; replayed, all as recorded")


__all__ = ["pack"]
