"""`lgreplay gdb`: serve a trace to a debugger, or start one on it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from gdbstub.timeline_target import TimelineTarget
    from replay.timeline import Timeline


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("words", nargs=-1, type=click.UNPROCESSED, metavar="TRACE")
@click.option(
    "--record",
    "live",
    is_flag=True,
    help="Debug a guest while it is being recorded; instead of TRACE come the options of `lgreplay record`.",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    help="Listen on this TCP port; any free one by default.",
)
@click.option(
    "--unix", type=click.Path(path_type=Path), help="Listen on a unix socket of this name."
)
@click.option("--stdio", is_flag=True, help="Talk over standard input and output.")
@click.option("--launch", is_flag=True, help="Start gdb on the trace, and end with it.")
@click.option("--gdb", "program", default="gdb", show_default=True, help="The gdb to start.")
@click.option(
    "--tui-socket",
    "shared",
    type=click.Path(path_type=Path),
    help="Share the position at a unix socket of this name: `lgreplay tui --attach` follows it, and leads.",
)
@click.option(
    "--symbols",
    "kernels",
    multiple=True,
    metavar="[GUEST=]FILE",
    help="Take the symbols of a Guest's kernel from this vmlinux; of guest 0 if none is named.",
)
@click.option(
    "--user-symbols",
    "users",
    multiple=True,
    metavar="NAME=FILE",
    help="Take the symbols of the program that runs in tasks of this name from an ELF file.",
)
@click.option(
    "--modules",
    multiple=True,
    metavar="FOLDER",
    help="Take the symbols of a Linux's modules from the .ko files in and below this folder.",
)
@click.option("--salvage", is_flag=True, help="Take a damaged trace up to the damage.")
@click.pass_context
def gdb(
    ctx: click.Context,
    words: tuple[str, ...],
    live: bool,
    port: int | None,
    unix: Path | None,
    stdio: bool,
    launch: bool,
    program: str,
    shared: Path | None,
    kernels: tuple[str, ...],
    users: tuple[str, ...],
    modules: tuple[str, ...],
    salvage: bool,
) -> None:
    """Debug TRACE with gdb, forwards and backwards.

    Serves one debugger after the other on this computer's own address, until ^C. In gdb: `target remote :PORT`.
    """
    from gdbstub.given_programs import read_given
    from gdbstub.serving import launch_gdb, serve_at, serve_stdio
    from gdbstub.timeline_target import TimelineTarget

    if sum((port is not None, unix is not None, stdio, launch)) > 1:
        raise click.UsageError("one of --port, --unix, --stdio and --launch is enough")
    with ExitStack() as stack:
        make = TimelineTarget if shared is None else partial(_shared, where=shared, stack=stack)
        if live:
            if salvage:
                raise click.UsageError("--record: --salvage is for a TRACE")
            target = _live(ctx, words, stack, make, typing=not (stdio or launch))
        else:
            target = make(stack.enter_context(_trace(words, salvage=salvage)))
        if kernels or users or modules:
            target.give(read_given(kernels, users, target.timeline.reader, modules))
        if stdio:
            serve_stdio(target)
        elif launch:
            raise click.exceptions.Exit(launch_gdb(target, program))
        else:
            serve_at(target, unix if unix is not None else port or 0)


def _trace(words: tuple[str, ...], *, salvage: bool) -> Timeline:
    from replay.timeline import open_timeline

    for word in words:
        if word.startswith("-"):
            raise click.NoSuchOption(word)
    if len(words) != 1:
        raise click.UsageError("want one TRACE, or --record with the options of `record`")
    return open_timeline(words[0], salvage=salvage)


def _live(
    ctx: click.Context,
    words: tuple[str, ...],
    stack: ExitStack,
    make: Callable[[Timeline], TimelineTarget],
    *,
    typing: bool,
) -> TimelineTarget:
    """Power a guest on, for a debugger to be there from its first step."""
    from gdbstub.live_session import live_session
    from replay.commands.record import record, wish_of

    options = record.make_context("record", list(words), parent=ctx)
    arguments = ctx.find_root().obj or ()
    return stack.enter_context(live_session(wish_of(options), arguments, make, typing=typing))


def _shared(timeline: Timeline, where: Path, stack: ExitStack) -> TimelineTarget:
    from gdbstub.shared_target import SharedTarget
    from replay.shared_position import Hello, PositionServer, Standing

    reader = timeline.reader
    path = str(Path(reader.path).resolve())
    hello = Hello(path, reader.trace_id.hex(), Standing(timeline.tick))
    return SharedTarget(
        timeline, stack.enter_context(PositionServer(where, hello)), where.resolve()
    )


__all__ = ["gdb"]
