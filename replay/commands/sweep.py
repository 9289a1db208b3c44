"""`lgreplay sweep`: an interrupt at every place of a window."""

from __future__ import annotations

import click

from replay.commands.options import as_count


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
@click.option("--irq", type=click.IntRange(0, 31), default=0, show_default=True, help="Which IRQ.")
@click.option(
    "--guest", type=click.IntRange(0), default=0, show_default=True, help="Of which guest."
)
@click.option("--force", is_flag=True, help="Also where it cannot be delivered at once.")
@click.option(
    "--ticks",
    metavar="COUNT",
    default="200k",
    show_default=True,
    callback=as_count,
    help="How far each run goes on.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of the World they go on in.")
@click.option("--panic", metavar="REGEX", help="It fails when the guest prints this.")
@click.option(
    "--assert", "holds", metavar="EXPR", multiple=True, help="It fails when this is not true."
)
@click.option("--until", metavar="EXPR", multiple=True, help="It fails when this becomes true.")
@click.option(
    "--region",
    metavar="ADDRESS+LENGTH",
    help="It fails when this memory is, at the end, another than without the interrupt.",
)
@click.option("--workers", type=click.IntRange(1), help="Processes; one for each core by default.")
@click.option("--journal", metavar="FILE", help="Keep results here, and go on from those there.")
@click.option("--first", is_flag=True, help="End with the first failure.")
@click.option("--save", metavar="FOLDER", help="Write a trace for each class of outcome.")
@click.option("--html", metavar="FILE", help="Write a report.")
def sweep(
    trace: str,
    window: str | None,
    symbol: str | None,
    events: str | None,
    around: int,
    irq: int,
    guest: int,
    force: bool,
    ticks: int,
    seed: int,
    panic: str | None,
    holds: tuple[str, ...],
    until: tuple[str, ...],
    region: str | None,
    workers: int | None,
    journal: str | None,
    first: bool,
    save: str | None,
    html: str | None,
) -> None:
    """Place an interrupt at every tick of a window of TRACE, and see what becomes of each.

    Each run leaves the history of TRACE at a tick, with the interrupt there, and goes on in a computed World until its
    guest ends, one of the conditions is met, or its ticks are used up. TRACE stays as it is.
    """
    from replay.commands.sweeping import Wanted, run_sweep
    from replay.outcomes import Oracle
    from replay.quantities import parse_region, parse_window
    from replay.sweep import Plan

    try:
        where = None if window is None else parse_window(window)
        memory = None if region is None else parse_region(region)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    if window is None and symbol is None and events is None:
        raise click.UsageError("say where: --window, --symbol or --events")
    plan = Plan(irq, guest, seed, force, Oracle(ticks, panic, holds, until, memory))
    wanted = Wanted(where, symbol, events, around)
    run_sweep(
        trace, plan, wanted, workers=workers, journal=journal, first=first, save=save, html=html
    )


__all__ = ["sweep"]
