"""`lgreplay test`: a trace as a regression test."""

from __future__ import annotations

import click

from replay.commands.options import as_corrected, as_count


@click.command
@click.argument("trace")
@click.option("--guest", metavar="NAME", help="Another kernel: a shipped guest, or a file.")
@click.option("--kernel", metavar="FILE", help="Another kernel, a file.")
@click.option("--abi", metavar="NAME", help="The generation of lguest that it is for.")
@click.option("--initrd", metavar="FILE", help="Another initial ramdisk.")
@click.option("--append", metavar="TEXT", help="Another command line.")
@click.option("--switcher", metavar="FILE", help="Another build of the Switcher.")
@click.option(
    "--quirk",
    "quirks",
    metavar="NAME=correct",
    multiple=True,
    callback=as_corrected,
    help="Correct a bug of lguest.",
)
@click.option(
    "--expect",
    type=click.Choice(["fixed", "same"]),
    default="fixed",
    show_default=True,
    help="What it takes to pass.",
)
@click.option("--panic", metavar="REGEX", help="It fails when the guest prints this.")
@click.option(
    "--assert", "holds", metavar="EXPR", multiple=True, help="It fails when this is not true."
)
@click.option("--until", metavar="EXPR", multiple=True, help="It fails when this becomes true.")
@click.option(
    "--late", metavar="COUNT", callback=as_count, help="It fails when an IRQ waits for more ticks."
)
@click.option(
    "--ticks",
    metavar="COUNT",
    default="500k",
    show_default=True,
    callback=as_count,
    help="How far it goes on behind what was recorded.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of the World there.")
@click.option("-o", "--output", metavar="FILE", help="Keep the run as a trace.")
@click.option("--force", is_flag=True, help="Replace what has that name.")
@click.option("--junit", metavar="FILE", help="Write the result as JUnit's XML.")
def test(
    trace: str,
    guest: str | None,
    kernel: str | None,
    abi: str | None,
    initrd: str | None,
    append: str | None,
    switcher: str | None,
    quirks: tuple[str, ...],
    expect: str,
    panic: str | None,
    holds: tuple[str, ...],
    until: tuple[str, ...],
    late: int | None,
    ticks: int,
    seed: int,
    output: str | None,
    force: bool,
    junit: str | None,
) -> None:
    """Run what came into TRACE once more, with another kernel or another Host, and see whether it fails.

    Interrupts come at the same places in the code, and not at the same ticks. Exit code 0: the test has passed; 1: not.
    """
    from replay.commands.testing import Files, Wanted, run_test
    from replay.outcomes import Oracle

    if guest is not None and kernel is not None:
        raise click.UsageError("--guest and --kernel: one kernel is enough")
    files = Files(guest or kernel, abi, initrd, append, switcher, quirks)
    oracle = Oracle(ticks, panic, holds, until, late=late)
    wanted = Wanted(expect == "fixed", output, force, junit)
    raise click.exceptions.Exit(run_test(trace, files, oracle, seed, wanted))


__all__ = ["test"]
