"""`lgreplay sweep`: interrupts at every place of a window."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from replay.commands.options import as_count
from replay.commands.oracle_options import judging

if TYPE_CHECKING:
    from replay.outcomes import Oracle


@click.command
@click.argument("trace")
@click.option("--window", metavar="A..B", help="The ticks from A to before B.")
@click.option("--symbol", metavar="NAME", help="Every tick in this function of the kernel.")
@click.option("--events", metavar="KIND[:N]", help="The ticks around events: irq:1, hypercall:5.")
@click.option(
    "--around",
    metavar="COUNT",
    default="50",
    show_default=True,
    callback=as_count,
    help="How far around events.",
)
@click.option(
    "--sample", metavar="COUNT", callback=as_count, help="Only so many of them, evenly spread."
)
@click.option(
    "--irq",
    "irqs",
    type=click.IntRange(0, 31),
    multiple=True,
    help="Which IRQ [0]; several come at once.",
)
@click.option(
    "--pairs",
    metavar="COUNT",
    callback=as_count,
    help="A second IRQ up to so many ticks later, each in a run of its own.",
)
@click.option(
    "--move", metavar="TICK", help="Move the interrupt of this tick, or `event N`, to the places."
)
@click.option("--force", is_flag=True, help="Also where it cannot be delivered at once.")
@click.option(
    "--world",
    type=click.Choice(["seeded", "punctual", "silent"]),
    default="seeded",
    show_default=True,
    help="What else comes.",
)
@judging("200k")
@click.option("--workers", type=click.IntRange(1), help="Processes; one for each core by default.")
@click.option("--dask", metavar="ADDRESS", help="Have the runs made by this Dask cluster.")
@click.option(
    "--region",
    metavar="ADDRESS+LENGTH",
    help="It fails when this memory is, at the end, another than without the interrupt.",
)
@click.option("--journal", metavar="FILE", help="Keep results here, and go on from those there.")
@click.option("--first", is_flag=True, help="End with the first failure.")
@click.option("--save", metavar="FOLDER", help="Write a trace for each class of outcome.")
@click.option("--html", metavar="FILE", help="Write a report.")
def sweep(
    *,
    trace: str,
    window: str | None,
    symbol: str | None,
    events: str | None,
    around: int,
    sample: int | None,
    irqs: tuple[int, ...],
    pairs: int | None,
    move: str | None,
    force: bool,
    world: str,
    guest: int,
    seed: int,
    oracle: Oracle,
    workers: int | None,
    dask: str | None,
    region: str | None,
    journal: str | None,
    first: bool,
    save: str | None,
    html: str | None,
) -> None:
    """Place an interrupt at every tick of a window of TRACE, and see what becomes of each.

    Each run leaves the history of TRACE at a tick, with the interrupt there, and goes on in a computed World until its
    guest ends, one of the conditions is met, or its ticks are used up. TRACE stays as it is.
    """
    from dataclasses import replace

    from replay.commands.sweeping import Handling, Wanted, run_sweep
    from replay.quantities import parse_region, parse_window
    from replay.sweep_plan import Plan
    from replay.sweep_world import Background

    try:
        where = None if window is None else parse_window(window)
        memory = None if region is None else parse_region(region)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    if window is None and symbol is None and events is None and move is None:
        raise click.UsageError("say where: --window, --symbol, --events or --move")
    if move is not None and (irqs or pairs):
        raise click.UsageError("--move: which interrupt it is, the trace says")
    if dask is not None and workers is not None:
        raise click.UsageError("--dask: the cluster has its own workers")
    plan = Plan(
        irqs=irqs or (0,),
        guest=guest,
        seed=seed,
        force=force,
        oracle=replace(oracle, region=memory),
        background=Background(world),
        pairs=pairs or 0,
    )
    wanted = Wanted(where, symbol, events, around, sample, move)
    run_sweep(trace, plan, wanted, Handling(workers, dask, journal, first, save, html))


__all__ = ["sweep"]
