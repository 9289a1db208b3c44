"""`lgreplay export`: a trace for other programs."""

from __future__ import annotations

import click


@click.command
@click.argument("trace")
@click.option("--perfetto", "layout", flag_value="perfetto", help="A timeline for ui.perfetto.dev.")
@click.option("--jsonl", "layout", flag_value="jsonl", help="One JSON object per line.")
@click.option("--pcapng", "layout", flag_value="pcapng", help="What went over the network.")
@click.option("-o", "--output", metavar="FILE", help="Write here, and not to stdout.")
@click.option("--salvage", is_flag=True, help="Read a damaged trace up to the damage.")
def export(trace: str, layout: str | None, output: str | None, salvage: bool) -> None:
    """Write the events of TRACE for other programs.

    With --pcapng a capture for Wireshark, with the tick of each frame as its comment.

    Of a trace without an end all is written that there is, and the exit code is then 2.
    """
    from replay.commands.exporting import write_export

    if layout is None:
        raise click.UsageError("say what for: --perfetto, --jsonl or --pcapng")
    write_export(trace, layout, output, salvage=salvage)


__all__ = ["export"]
