"""What options of several commands share: numbers as people write them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias, TypeVar

import click

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


as_count = _parsed_by(parse_count)
as_memory = _parsed_by(parse_memory)
as_keep = _parsed_by(parse_keep)

__all__ = ["as_count", "as_keep", "as_memory"]
