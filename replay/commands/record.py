"""`lgreplay record`: run a guest and write a trace of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from replay.commands.options import (
    DRAWN,
    as_chaos,
    as_count,
    as_keep,
    as_memory,
    as_quirks,
)
from replay.loading import loading

if TYPE_CHECKING:
    from replay.commands.plan import Wish
    from replay.commands.tries import Tries


@click.command
@click.option(
    "--guest",
    "guests",
    multiple=True,
    metavar="NAME",
    help="Shipped guest or kernel file [hello]; may be repeated.",
)
@click.option(
    "--kernel",
    "kernels",
    multiple=True,
    metavar="FILE",
    help="A kernel built for lguest, vmlinux or bzImage; may be repeated.",
)
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    help="The trace [NAME.lgt, or the next free NAME-2.lgt ...].",
)
@click.option("--memory", callback=as_memory, help="Memory of each guest, such as 64M [64M].")
@click.option("--initrd", metavar="FILE", help="Initial ramdisk.")
@click.option(
    "--init",
    metavar="PROG",
    help="A static i386 program to run in the guest kestrel, with the ARGUMENTS.",
)
@click.option(
    "--append", "command_line", default="", metavar="TEXT", help="The guest's command line."
)
@click.option(
    "--block",
    "--disk",
    "blocks",
    multiple=True,
    metavar="FILE",
    help="A disk image, which stays as it is; may be repeated.",
)
@click.option("--rng", is_flag=True, help="A source of random bytes.")
@click.option("--net", is_flag=True, help="A network card; all guests' are on one Ethernet.")
@click.option(
    "--share-net", is_flag=True, help="A page that guests of lguest 2.6.23 share as a network."
)
@click.option(
    "--net-peer",
    "peer",
    metavar="SOCKET",
    help="And on it who listens at this Unix socket, such as passt.",
)
@click.option("--abi", help="Generation of lguest that the kernel is for [found out].")
@click.option(
    "--clock",
    type=click.Choice(["host", "virtual"]),
    default="host",
    show_default=True,
    help="This computer's time, or one computed from the seed.",
)
@click.option(
    "--seed",
    type=click.IntRange(0, (1 << 64) - 1),
    help="Of all random choices [host: drawn, virtual: 0].",
)
@click.option(
    "--host-hz",
    type=click.IntRange(0, 10_000),
    default=250,
    show_default=True,
    help="Timer interrupts of the Host's own, a second; 0 for none.",
)
@click.option(
    "--max-ticks", callback=as_count, help="End after so many machine steps, such as 20M."
)
@click.option(
    "--keep-last", callback=as_keep, help="Keep only the newest part: 100M of trace, or 5m."
)
@click.option(
    "-i", "--interactive", is_flag=True, help="The terminal is the guest's, ^C too; ^A x ends."
)
@click.option("--no-reboot", is_flag=True, help="A guest that wants to restart ends there.")
@click.option(
    "--syscall-vector",
    type=click.IntRange(0, 255),
    default=0x80,
    help="One more vector for system calls, besides 128.",
)
@click.option(
    "--quirk",
    "quirks",
    multiple=True,
    callback=as_quirks,
    metavar="NAME=correct",
    help="Correct one of lguest's bugs (docs/commands.md has the list); may be repeated.",
)
@click.option(
    "--chaos",
    metavar="[=SEED]",
    is_flag=False,
    flag_value="",
    callback=as_chaos,
    help="A computed World whose interrupts come when they are least expected.",
)
@click.option("--tries", type=click.IntRange(1), help="Record so many times, with other seeds.")
@click.option(
    "--until-failure", is_flag=True, help="With --tries: end with the first that fails; keep that."
)
@click.option("--panic", metavar="REGEX", help="With --tries: it fails when the guest prints this.")
@click.option("--quiet", is_flag=True, help="Do not show the guest's console.")
@click.argument("arguments", nargs=-1)
@click.pass_context
def record(ctx: click.Context, /, **_: object) -> None:
    """Run a guest and record everything that a replay needs.

    The guest's console goes to stdout, progress to stderr; with the host's clock, what is typed goes to the (first)
    guest. ^C ends the recording, and the trace is whole then. A second ^C gives up and leaves FILE.incomplete, readable
    as far as it goes. With -i all keys are the guest's but ^A, and ^A x ends.
    """
    with loading():
        from replay.commands.recorder import run

    if ctx.params["tries"] is not None:
        from replay.commands.tries import run_tries

        run_tries(tries_of(ctx), ctx.find_root().obj or ())
        return
    run(wish_of(ctx), ctx.find_root().obj or ())


def tries_of(ctx: click.Context) -> Tries:
    """What the options of `record` ask for where there are several tries."""
    from replay.commands.tries import Tries

    options = ctx.params
    if not options["until_failure"]:
        raise click.UsageError("--tries wants --until-failure: only a trace that fails is kept")
    for name in ("interactive", "keep_last"):
        if options[name]:
            raise click.UsageError(f"--tries and --{name.replace('_', '-')} do not go together")
    chaos = options["chaos"]
    seed = options["seed"] if chaos in (None, DRAWN) else chaos
    usual = (*options["guests"], *options["kernels"], options["init"] or "hello")[0]
    return Tries(
        options["tries"], seed or 0, chaos is not None, options["output"], usual, options["panic"]
    )


def wish_of(ctx: click.Context) -> Wish:
    """What the options of `record` in a context ask for."""
    from replay.commands.plan import CHAOS, Wish

    options = dict(ctx.params)
    if [options.pop(name) for name in ("tries", "until_failure", "panic")] != [None, False, None]:
        raise click.UsageError("--until-failure and --panic go with --tries")
    chaos = options.pop("chaos")
    if chaos is not None:
        options["clock"] = CHAOS
        options["seed"] = options["seed"] if chaos == DRAWN else chaos
    usual = () if options["kernels"] else ("kestrel" if options["init"] else "hello",)
    options["guests"] = options["guests"] or usual
    options["reboot"] = not options.pop("no_reboot")
    return Wish(**options)
