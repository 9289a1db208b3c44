"""`lgreplay demo`: record, replay, and show that it was the same run."""

from __future__ import annotations

import click


@click.command
def demo() -> None:
    """Record a shipped guest, replay its trace and compare; takes a few seconds and leaves nothing behind."""
    from replay.commands.demonstration import demonstrate

    demonstrate()


__all__ = ["demo"]
