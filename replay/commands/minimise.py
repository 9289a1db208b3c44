"""`lgreplay minimise`: the fewest interrupts with which it still goes wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from replay.commands.oracle_options import judging

if TYPE_CHECKING:
    from replay.outcomes import Oracle


@click.command
@click.argument("trace")
@click.option("-o", "--output", metavar="FILE", help="The trace to write [TRACE-minimal.lgt].")
@judging("500k")
@click.option("--journal", metavar="FILE", help="Keep attempts here, and go on from those there.")
def minimise(
    *, trace: str, output: str | None, guest: int, seed: int, oracle: Oracle, journal: str | None
) -> None:
    """Leave out interrupts of TRACE, which ends badly, as long as it still ends so; name the critical one.

    The result is a trace of its own. After ^C it is the best that was found so far.
    """
    from replay.commands.minimising import run_minimise
    from replay.sweep_plan import Plan

    run_minimise(trace, Plan(guest=guest, seed=seed, oracle=oracle), output, journal)


__all__ = ["minimise"]
