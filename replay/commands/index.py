"""`lgreplay index`: store states in a trace, from which any place in it is reached at once."""

from __future__ import annotations

import click

from replay.commands.options import as_count, as_memory


@click.command
@click.argument("trace")
@click.option(
    "--every",
    metavar="COUNT",
    default="4M",
    show_default=True,
    callback=as_count,
    help="Ticks from one state to the next, at least.",
)
@click.option(
    "--size",
    metavar="SIZE",
    default="256M",
    show_default=True,
    callback=as_memory,
    help="Let the states be further apart rather than take more.",
)
@click.option("--again", is_flag=True, help="Make the index anew, even if it is there.")
@click.option("--remove", is_flag=True, help="Take the index out of the trace.")
def index(trace: str, every: int, size: int, again: bool, remove: bool) -> None:
    """Store states of the machine in TRACE, so that whoever debugs it is anywhere in it at once.

    The whole trace is replayed and verified for that. What it says stays the same; other versions of lgreplay read it.
    """
    from hostvm.units import Tick
    from replay import index as indexing
    from replay.commands.terminal import Terminal
    from replay.quantities import short_count

    if remove:
        gone = indexing.remove_index(trace)
        click.echo("the index is removed" if gone else "there was no index")
        return
    terminal = Terminal()

    def show(tick: Tick, end: Tick) -> None:
        share = 100 * tick // max(end, 1)
        terminal.status(f"indexing: {short_count(tick)} ticks, {share}%; all as recorded")

    try:
        done = indexing.index(trace, every=every, most=size, again=again, progress=show)
    finally:
        terminal.clear()
    states = f"{done.states:,} state{'' if done.states == 1 else 's'}, {done.bytes:,} bytes"
    click.echo(states if done.fresh else f"{states}: indexed already")


__all__ = ["index"]
