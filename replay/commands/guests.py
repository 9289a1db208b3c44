"""`lgreplay guests`: the guests that come along."""

from __future__ import annotations

import click


@click.command
def guests() -> None:
    """List the shipped guests, for `record --guest`."""
    from replay.catalogue import SHIPPED

    for name, guest in SHIPPED.items():
        click.echo(f"{name:<10} {guest.summary}")
        click.echo(f"{'':<10} --append: {guest.options}")


__all__ = ["guests"]
