"""`lgreplay gdb`: serve a trace to a debugger, or start one on it."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from gdbstub.timeline_target import TimelineTarget
    from replay.timeline import Timeline


@click.command
@click.argument("trace")
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
@click.option("--salvage", is_flag=True, help="Take a damaged trace up to the damage.")
def gdb(
    trace: str,
    port: int | None,
    unix: Path | None,
    stdio: bool,
    launch: bool,
    program: str,
    shared: Path | None,
    salvage: bool,
) -> None:
    """Debug TRACE with gdb, forwards and backwards.

    Serves one debugger after the other on this computer's own address, until ^C. In gdb: `target remote :PORT`.
    """
    from gdbstub.serving import launch_gdb, serve_at, serve_stdio
    from gdbstub.timeline_target import TimelineTarget
    from replay.log import TraceReader
    from replay.timeline import Timeline

    if sum((port is not None, unix is not None, stdio, launch)) > 1:
        raise click.UsageError("one of --port, --unix, --stdio and --launch is enough")
    with ExitStack() as stack:
        timeline = stack.enter_context(Timeline(TraceReader(trace, salvage=salvage)))
        target = _shared(timeline, shared, stack) if shared else TimelineTarget(timeline)
        if stdio:
            serve_stdio(target)
        elif launch:
            raise click.exceptions.Exit(launch_gdb(target, program))
        else:
            serve_at(target, unix if unix is not None else port or 0)


def _shared(timeline: Timeline, where: Path, stack: ExitStack) -> TimelineTarget:
    from gdbstub.shared_target import SharedTarget
    from replay.shared_position import Hello, PositionServer, Standing

    reader = timeline.reader
    path = str(Path(reader.path).resolve())
    hello = Hello(path, reader.trace_id.hex(), Standing(timeline.tick))
    return SharedTarget(timeline, stack.enter_context(PositionServer(where, hello)))


__all__ = ["gdb"]
