"""`lgreplay replay`: run a trace again, and check that everything happens as it did."""

from __future__ import annotations

import click

from replay.loading import loading


@click.command
@click.argument("trace")
@click.option("--salvage", is_flag=True, help="Replay a damaged trace up to the damage.")
def replay(trace: str, salvage: bool) -> None:
    """Replay TRACE and verify every event and digest in it.

    The first difference ends it with exit code 1. A trace without an end is verified as far as it goes, and the exit
    code is then 2.
    """
    with loading():
        from replay.commands.terminal import Terminal
        from replay.errors import TraceTruncated
        from replay.log import TraceReader
        from replay.quantities import short_count
        from replay.session import Session

    terminal = Terminal()
    with TraceReader(trace, salvage=salvage) as reader:
        session = Session(reader)
        try:
            for tick in session.verify():
                share = 100 * tick // max(session.end_tick, 1)
                terminal.status(f"replaying: {short_count(tick)} ticks, {share}%; all as recorded")
        finally:
            terminal.clear()
        done = session.verified
        if done.torn is not None:
            text = f"{done.torn.text}; up to tick {done.last_tick} all is as recorded"
            raise TraceTruncated(done.torn.path, done.torn.offset, text)
    since = f" since tick {done.first_tick:,}" if done.first_tick else ""
    click.echo(f"{done.last_tick:,} ticks, {done.events:,} events{since}: all as recorded")


__all__ = ["replay"]
