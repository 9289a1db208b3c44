"""What options of several commands share: numbers as people write them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias, TypeVar

import click

from hostvm.quirks import QUIRK_NAMES, corrected_names, quirks_without
from replay.quantities import parse_count, parse_keep, parse_memory

_Parsed = TypeVar("_Parsed")
_Callback: TypeAlias = Callable[[click.Context, click.Parameter, str | None], _Parsed | None]


def _parsed_by(parse: Callable[[str], _Parsed]) -> _Callback[_Parsed]:
    """Make a callback that parses an option's value; a ValueError becomes a usage error."""

    def convert(ctx: click.Context, param: click.Parameter, value: str | None) -> _Parsed | None:
        try:
            return None if value is None else parse(value)
        except ValueError as error:
            raise click.BadParameter(str(error), ctx, param) from error

    return convert


def as_quirks(
    ctx: click.Context, param: click.Parameter, values: tuple[str, ...]
) -> dict[str, bool]:
    """Whether to correct a bug, by its name, out of NAME=correct or NAME=upstream; the last word about one counts."""
    said: dict[str, bool] = {}
    for value in values:
        name, _, how = value.partition("=")
        if name not in QUIRK_NAMES:
            raise click.BadParameter(f"{name!r} is none of {', '.join(QUIRK_NAMES)}", ctx, param)
        if how not in ("correct", "upstream"):
            raise click.BadParameter(f"{value!r}: want {name}=correct or =upstream", ctx, param)
        said[name] = how == "correct"
    return said


def as_corrected(
    ctx: click.Context, param: click.Parameter, values: tuple[str, ...]
) -> tuple[str, ...]:
    """Names of the bugs to correct."""
    said = as_quirks(ctx, param, values)
    return corrected_names(quirks_without(name for name in said if said[name]))


_Command: TypeAlias = Callable[..., None]


def _made(what: str) -> Callable[[_Command], _Command]:
    force = click.option("--force", is_flag=True, help="Replace what has that name.")
    output = click.option("-o", "--output", metavar="FILE", required=True, help=what)
    return lambda command: output(force(command))


new_trace = _made("The trace to be made.")
new_page = _made("The page to be made.")
DRAWN = -1
_LARGEST_SEED = (1 << 64) - 1


def _chaos(text: str) -> int:
    """The seed of `--chaos=SEED`; DRAWN if there is none."""
    if not text:
        return DRAWN
    if not (text.isascii() and text.isdecimal() and int(text) <= _LARGEST_SEED):
        raise ValueError(f"{text!r} is not a seed: --chaos=SEED wants a number")
    return int(text)


as_chaos = _parsed_by(_chaos)
as_count = _parsed_by(parse_count)
as_memory = _parsed_by(parse_memory)
as_keep = _parsed_by(parse_keep)

__all__ = [
    "DRAWN",
    "as_chaos",
    "as_corrected",
    "as_count",
    "as_keep",
    "as_memory",
    "as_quirks",
    "new_page",
    "new_trace",
]
