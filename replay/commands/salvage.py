"""`lgreplay salvage`: what is good of a damaged trace."""

from __future__ import annotations

import click


@click.command
@click.argument("trace")
@click.option("-o", "--output", metavar="FILE", help="The trace to be made.")
@click.option("--force", is_flag=True, help="Replace what has that name.")
@click.option("--part", metavar="N", type=click.IntRange(1), help="Which part; 1 by default.")
@click.option("--after", is_flag=True, help="The part behind the first damage.")
@click.option(
    "--image",
    "images",
    metavar="FILE",
    multiple=True,
    help="A kernel or ramdisk to replace a damaged one.",
)
def salvage(
    trace: str,
    output: str | None,
    force: bool,
    part: int | None,
    after: bool,
    images: tuple[str, ...],
) -> None:
    """Say what is damaged in TRACE and what is lost, and make a whole trace of what is good.

    Nothing is taken that its checksum and a replay do not prove. TRACE stays as it is.
    """
    from replay.commands.salvaging import run_salvage

    if after and part is not None:
        raise click.UsageError("--after names a part: --part is not wanted then")
    run_salvage(trace, output, None if after else part or 1, images, force=force)


__all__ = ["salvage"]
