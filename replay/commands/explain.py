"""`lgreplay explain`: what killed a guest, in plain words."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from replay.commands.oracle_options import judging

if TYPE_CHECKING:
    from replay.outcomes import Oracle


@click.command
@click.argument("trace")
@click.option("--json", "as_json", is_flag=True, help="Say it as JSON.")
@click.option(
    "--runs", type=click.IntRange(1), default=4, show_default=True, help="From each tick looked at."
)
@judging("500k")
def explain(*, trace: str, as_json: bool, runs: int, guest: int, seed: int, oracle: Oracle) -> None:
    """Say what went wrong in TRACE: the interrupt in question, what it overwrote, what died of it and when.

    What cannot be found out from the trace is not said. Takes some seconds: many runs go on from many ticks.
    """
    from replay.commands.explaining import show_explanation
    from replay.sweep_plan import Plan

    plan = Plan(guest=guest, seed=seed, oracle=oracle)
    show_explanation(trace, plan, runs, as_json=as_json)


__all__ = ["explain"]
