"""Checks for named fields: what a map from a trace must contain before anything is made of it.

A Shape takes a plain value and returns what the program wants instead (a tuple for a list, an enum for its number), or
raises Misfit. `record` builds a frozen dataclass out of a map: every field of the class has a shape, fields with a
default may be absent, and names that nobody knows are passed over, since a newer minor version may have added them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from enum import IntEnum
from typing import Any, TypeAlias, TypeVar, cast

from replay.packings import Misfit
from replay.wire import Value

Shape: TypeAlias = Callable[[Any], Any]
T = TypeVar("T")
E = TypeVar("E", bound=IntEnum)


def number(limit: int) -> Callable[[Any], int]:
    """Accept an integer from 0 to `limit`."""

    def check(value: Any) -> int:
        if type(value) is not int or not 0 <= value <= limit:
            raise Misfit(f"{value!r:.40} is not in 0..{limit}")
        return value

    return check


def text(limit: int) -> Callable[[Any], str]:
    """Accept text of at most `limit` characters."""

    def check(value: Any) -> str:
        if type(value) is not str or len(value) > limit:
            raise Misfit(f"{value!r:.40} is not text of at most {limit} characters")
        return value

    return check


def flag(value: Any) -> bool:
    """Accept a truth value."""
    if type(value) is not bool:
        raise Misfit(f"{value!r:.40} is neither true nor false")
    return value


def blob(limit: int) -> Callable[[Any], bytes]:
    """Accept at most `limit` bytes."""

    def check(value: Any) -> bytes:
        if type(value) is not bytes or len(value) > limit:
            raise Misfit(f"{value!r:.40} is not binary of at most {limit} bytes")
        return value

    return check


def listing(shape: Shape, limit: int, at_least: int = 0) -> Callable[[Any], tuple[Any, ...]]:
    """Accept a list of `at_least` to `limit` things of one shape."""

    def check(value: Any) -> tuple[Any, ...]:
        if type(value) is not list or not at_least <= len(value) <= limit:
            raise Misfit(f"{value!r:.40} is not a list of {at_least} to {limit}")
        return tuple(map(shape, value))

    return check


def member(enum: type[E]) -> Callable[[Any], E]:
    """Accept a number that `enum` gives a name."""

    def check(value: Any) -> E:
        try:
            return enum(number(255)(value))
        except ValueError as error:
            raise Misfit(f"{value!r:.40} is no {enum.__name__}") from error

    return check


def record(made: type[T], shapes: Mapping[str, Shape]) -> Callable[[Any], T]:
    """Accept a map with the fields of the dataclass `made`, each of its shape."""
    optional = {f.name for f in fields(cast(Any, made)) if f.default is not MISSING}

    def check(value: Any) -> T:
        if type(value) is not dict:
            raise Misfit(f"{value!r:.40} is not a map")
        absent = shapes.keys() - value.keys() - optional
        if absent:
            raise Misfit(f"no field {min(absent)!r}")
        known: dict[str, Any] = {}
        for name, shape in shapes.items():
            if name in value:
                known[name] = _named(name, shape, value[name])
        return made(**known)

    return check


def _named(name: str, shape: Shape, value: Any) -> Any:
    try:
        return shape(value)
    except Misfit as error:
        raise Misfit(f"field {name!r}: {error}") from error


def to_value(made: Any) -> Value:
    """Turn a frozen dataclass, and what it consists of, into plain values for a map."""
    match made:
        case tuple() | list():
            return [to_value(item) for item in made]
        case str():
            # Arguments of a command line need not be text; they are kept for people to read.
            return made.encode("utf-8", "backslashreplace").decode("utf-8")
        case IntEnum():
            return int(made)
        case None | bool() | int() | bytes():
            return made
        case _ if is_dataclass(made) and not isinstance(made, type):
            return {f.name: to_value(getattr(made, f.name)) for f in fields(made)}
        case _:
            raise Misfit(f"a trace cannot hold a {type(made).__name__}")


__all__ = [
    "Shape",
    "blob",
    "flag",
    "listing",
    "member",
    "number",
    "record",
    "text",
    "to_value",
]
