"""`lgreplay report`: a page about a trace."""

from __future__ import annotations

import click

from replay.commands.options import new_page


@click.command
@click.argument("trace")
@new_page
@click.option("--at", metavar="WHERE", help="The moment, if not the failure.")
@click.option("--salvage", is_flag=True, help="Read a damaged trace up to the damage.")
def report(trace: str, output: str, force: bool, at: str | None, salvage: bool) -> None:
    """Make a page of HTML about TRACE: its last moments, for any browser.

    It shows a timeline, the last instructions and events, registers, IDT, interrupts, console, and what the trace is.
    """
    from replay.derived import check_output
    from replay.log import TraceReader
    from replay.where import BadPlace
    from tui.reporting import write_report

    with TraceReader(trace, salvage=salvage) as reader:
        path = check_output(output, reader.path, force=force)
        try:
            write_report(reader, path, at)
        except BadPlace as error:
            raise click.UsageError(str(error)) from error


__all__ = ["report"]
