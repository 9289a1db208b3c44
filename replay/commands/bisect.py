"""`lgreplay bisect`: the tick of no return."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from replay.commands.oracle_options import judging

if TYPE_CHECKING:
    from replay.outcomes import Oracle


@click.command
@click.argument("trace")
@click.option("--window", metavar="A..B", help="Search between these ticks.")
@click.option(
    "--runs", type=click.IntRange(1), default=8, show_default=True, help="From each tick looked at."
)
@judging("500k")
def bisect(
    *, trace: str, window: str | None, runs: int, guest: int, seed: int, oracle: Oracle
) -> None:
    """Find the step of TRACE, which ends badly, behind which every run fails.

    From a tick several runs go on in computed Worlds. Where not all of them fail, the harm is not done yet.
    """
    from replay.commands.bisecting import show_no_return
    from replay.quantities import parse_window
    from replay.sweep_plan import Plan

    try:
        where = None if window is None else parse_window(window)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    show_no_return(trace, Plan(guest=guest, seed=seed, oracle=oracle), runs, where)


__all__ = ["bisect"]
