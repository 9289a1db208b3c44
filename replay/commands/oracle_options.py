"""Options of all commands that make runs and judge them: how far, in what World, and what counts as a failure."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeAlias

import click

from replay.commands.options import as_count
from replay.quantities import parse_count

_Command: TypeAlias = Callable[..., None]


def _as_calls(
    ctx: click.Context, param: click.Parameter, values: tuple[str, ...]
) -> tuple[tuple[str, int], ...]:
    """`SEND_INTERRUPTS:3` as name and number."""
    found: list[tuple[str, int]] = []
    for value in values:
        name, _, times = value.rpartition(":")
        try:
            found.append((name, parse_count(times)))
        except ValueError as error:
            raise click.BadParameter(f"{value!r}: want NAME:N", ctx, param) from error
        if not name:
            raise click.BadParameter(f"{value!r}: want NAME:N", ctx, param)
    return tuple(found)


def _options(ticks: str) -> list[Callable[[_Command], _Command]]:
    return [
        click.option(
            "--guest", type=click.IntRange(0), default=0, show_default=True, help="Of which guest."
        ),
        click.option(
            "--ticks",
            metavar="COUNT",
            default=ticks,
            show_default=True,
            callback=as_count,
            help="How far each run goes on.",
        ),
        click.option(
            "--seed", type=int, default=0, show_default=True, help="Of the World they go on in."
        ),
        click.option("--panic", metavar="REGEX", help="It fails when the guest prints this."),
        click.option(
            "--assert",
            "holds",
            metavar="EXPR",
            help="It fails when this is not true.",
            multiple=True,
        ),
        click.option(
            "--until", metavar="EXPR", help="It fails when this becomes true.", multiple=True
        ),
        click.option(
            "--late",
            metavar="COUNT",
            callback=as_count,
            help="It fails when an IRQ waits for more ticks.",
        ),
        click.option(
            "--calls",
            metavar="NAME:N",
            callback=_as_calls,
            help="It fails when the guest makes this hypercall more than N times.",
            multiple=True,
        ),
        click.option(
            "--delivered",
            metavar="EXPR",
            help="It fails when an IRQ is delivered while this is not true.",
            multiple=True,
        ),
    ]


def judging(ticks: str) -> Callable[[_Command], _Command]:
    """Give a command these options, `ticks` being the usual number; they arrive as `guest`, `seed` and an `oracle`."""

    def decorate(command: _Command) -> _Command:
        @wraps(command)
        def judged(
            *,
            ticks: int,
            panic: str | None,
            holds: tuple[str, ...],
            until: tuple[str, ...],
            late: int | None,
            calls: tuple[tuple[str, int], ...],
            delivered: tuple[str, ...],
            **others: Any,
        ) -> None:
            from replay.outcomes import Oracle

            oracle = Oracle(
                ticks=ticks,
                panic=panic,
                holds=holds,
                until=until,
                late=late,
                calls=calls,
                delivered=delivered,
            )
            command(oracle=oracle, **others)

        decorated: _Command = judged
        for option in reversed(_options(ticks)):
            decorated = option(decorated)
        return decorated

    return decorate


__all__ = ["judging"]
