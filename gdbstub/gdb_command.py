"""`lgreplay gdb`: serve a trace to a debugger, or start one on it."""

from __future__ import annotations

from pathlib import Path

import click


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
@click.option("--salvage", is_flag=True, help="Take a damaged trace up to the damage.")
def gdb(
    trace: str,
    port: int | None,
    unix: Path | None,
    stdio: bool,
    launch: bool,
    program: str,
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
    with Timeline(TraceReader(trace, salvage=salvage)) as timeline:
        target = TimelineTarget(timeline)
        if stdio:
            serve_stdio(target)
        elif launch:
            raise click.exceptions.Exit(launch_gdb(target, program))
        else:
            serve_at(target, unix if unix is not None else port or 0)


__all__ = ["gdb"]
