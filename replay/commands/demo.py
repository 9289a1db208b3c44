"""`lgreplay demo`: record, replay, and show that it was the same run."""

from __future__ import annotations

import click


@click.command
def demo() -> None:
    """Record a guest that dies, replay it, look into the trace; takes seconds and leaves nothing behind."""
    from replay.commands.demonstration import demonstrate

    demonstrate()


__all__ = ["demo"]
