"""`lgreplay redact`: what of the user's data is in a trace."""

from __future__ import annotations

import click


@click.command
@click.argument("trace")
@click.option("-o", "--output", metavar="FILE", help="A trace without what no replay needs.")
@click.option("--force", is_flag=True, help="Replace what has that name.")
@click.option(
    "--scrub",
    "scrubs",
    metavar="KIND",
    type=click.Choice(["console", "disk", "random"]),
    multiple=True,
    help="Replace what was typed, read from disks, or drawn, where the run goes the same way without.",
)
def redact(trace: str, output: str | None, force: bool, scrubs: tuple[str, ...]) -> None:
    """Say what of its user's data is in TRACE, and how much; or make a trace without what can go.

    What was written is replayed, and only then gets its name. TRACE stays as it is.
    """
    from replay.commands.redacting import run_redact

    if scrubs and output is None:
        raise click.UsageError("--scrub makes a trace: say where, with -o FILE")
    run_redact(trace, output, scrubs, force=force)


__all__ = ["redact"]
