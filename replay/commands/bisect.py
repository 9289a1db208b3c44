"""`lgreplay bisect`: the tick of no return."""

from __future__ import annotations

import click

from replay.commands.options import as_count


@click.command
@click.argument("trace")
@click.option("--window", metavar="A..B", help="Search between these ticks.")
@click.option("--guest", type=click.IntRange(0), default=0, show_default=True, help="Which guest.")
@click.option(
    "--runs", type=click.IntRange(1), default=8, show_default=True, help="From each tick looked at."
)
@click.option(
    "--ticks",
    metavar="COUNT",
    default="500k",
    show_default=True,
    callback=as_count,
    help="How far each run goes on.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of the first run's World.")
@click.option("--panic", metavar="REGEX", help="A run fails when the guest prints this.")
@click.option(
    "--assert", "holds", metavar="EXPR", multiple=True, help="It fails when this is not true."
)
@click.option("--until", metavar="EXPR", multiple=True, help="It fails when this becomes true.")
def bisect(
    trace: str,
    window: str | None,
    guest: int,
    runs: int,
    ticks: int,
    seed: int,
    panic: str | None,
    holds: tuple[str, ...],
    until: tuple[str, ...],
) -> None:
    """Find the step of TRACE, which ends badly, behind which every run fails.

    From a tick several runs go on in computed Worlds. Where not all of them fail, the harm is not done yet.
    """
    from replay.commands.bisecting import show_no_return
    from replay.outcomes import Oracle
    from replay.quantities import parse_window
    from replay.sweep import Plan

    try:
        where = None if window is None else parse_window(window)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    plan = Plan(guest=guest, seed=seed, oracle=Oracle(ticks, panic, holds, until))
    show_no_return(trace, plan, runs, where)


__all__ = ["bisect"]
