"""`lgreplay info`: what a trace says about itself."""

from __future__ import annotations

import click


@click.command
@click.argument("trace")
@click.option("--salvage", is_flag=True, help="Read a damaged trace up to the damage.")
def info(trace: str, salvage: bool) -> None:
    """Show what TRACE is: machine, guests, length, how it ended, and how many events of which kind."""
    from replay.commands.summary import summary
    from replay.log import TraceReader

    with TraceReader(trace, salvage=salvage) as reader:
        for line in summary(reader):
            click.echo(line)


__all__ = ["info"]
