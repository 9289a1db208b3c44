"""How one field of an event becomes a msgpack value and comes back, checked in both directions.

A Packing is a pair of small functions and the word for it in docs/trace-format.md. Going out, a value that does not
fit is our own mistake (`ValueError`); coming in, it is a stranger's (`Misfit`, which codec.py turns into a
TraceFormatError that names the place). A bool is not a number here, although Python thinks so.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from hostvm.observations import EndReason

MAX_DATA = 2 << 20
MAX_TEXT = 64 << 10
MAX_DIGEST = 64
MAX_ARGS = 8


class Misfit(ValueError):
    """A value read from a trace is not what its field can hold."""


@dataclass(frozen=True, slots=True)
class Packing:
    """`to_wire` and `from_wire` check and convert. `limit`: any number from 0 to it is packed as itself."""

    text: str
    to_wire: Callable[[Any], object]
    from_wire: Callable[[Any], Any]
    limit: int | None = None


def _uint(text: str, limit: int) -> Packing:
    def check(value: Any) -> int:
        if type(value) is not int or not 0 <= value <= limit:
            raise Misfit(f"{value!r:.40} is not in 0..{limit}")
        return value

    def check_ours(value: Any) -> int:
        if not 0 <= value <= limit:
            raise Misfit(f"{value!r:.40} is not in 0..{limit}")
        return int(value)

    return Packing(text, check_ours, check, limit)


def _bytes(text: str, limit: int) -> Packing:
    def check(value: Any) -> bytes:
        if type(value) is not bytes:
            raise Misfit(f"{type(value).__name__} where bytes belong")
        if len(value) > limit:
            raise Misfit(f"{len(value)} bytes, at most {limit} are allowed")
        return value

    return Packing(text, lambda value: check(bytes(value)), check)


DATA = _bytes("data", MAX_DATA)
DIGEST = _bytes("digest", MAX_DIGEST)
_TEXT = _bytes("text", MAX_TEXT)


def _text_from_wire(value: Any) -> str:
    try:
        # What a Guest says need not be text; Python keeps its stray bytes as lone surrogates.
        return _TEXT.from_wire(value).decode("utf-8", "surrogatepass")  # type: ignore[no-any-return]
    except UnicodeDecodeError as error:
        raise Misfit("text that is not UTF-8") from error


TEXT = Packing(
    "text", lambda value: _TEXT.to_wire(value.encode("utf-8", "surrogatepass")), _text_from_wire
)


def _flag(value: Any) -> bool:
    if type(value) is not bool:
        raise Misfit(f"{value!r:.40} is neither true nor false")
    return value


FLAG = Packing("flag", _flag, _flag)

U4 = _uint("u4", 0xF)
U8 = _uint("u8", 0xFF)
U16 = _uint("u16", 0xFFFF)
U32 = _uint("u32", 0xFFFFFFFF)
U64 = _uint("u64", (1 << 64) - 1)
# Differences to the previous reading in the chunk, modulo 2**64; the limit is that of the reading itself.
DIFFERENCE_63 = _uint("difference63", (1 << 63) - 1)
DIFFERENCE_64 = _uint("difference64", (1 << 64) - 1)


def _args_to_wire(value: Any) -> tuple[int, ...]:
    if len(value) > MAX_ARGS:
        raise Misfit(f"not a list of at most {MAX_ARGS} words")
    if value and not 0 <= min(value) <= max(value) <= 0xFFFFFFFF:
        raise Misfit(f"not all of {value!r:.80} are words")
    return tuple(value)


def _args(value: Any) -> tuple[int, ...]:
    if type(value) is not tuple or len(value) > MAX_ARGS:
        raise Misfit(f"not a list of at most {MAX_ARGS} words")
    return tuple(U32.from_wire(word) for word in value)


ARGS = Packing("args", _args_to_wire, _args)


def _counts_from_wire(value: Any) -> tuple[tuple[int, int], ...]:
    if type(value) is not tuple or len(value) % 2:
        raise Misfit("not a list of vectors and counts in turn")
    vectors = tuple(map(U8.from_wire, value[::2]))
    if any(a >= b for a, b in pairwise(vectors)):
        raise Misfit("vectors that do not ascend")
    return tuple(zip(vectors, map(U64.from_wire, value[1::2]), strict=True))


def _counts_to_wire(value: Any) -> tuple[int, ...]:
    flat = tuple(int(number) for pair in value for number in pair)
    _counts_from_wire(flat)
    return flat


COUNTS = Packing("counts", _counts_to_wire, _counts_from_wire)


def _reason(value: Any) -> EndReason:
    number = U8.from_wire(value)
    try:
        return EndReason(number)
    except ValueError as error:
        raise Misfit(f"no reason for an end has number {number}") from error


REASON = Packing("reason", lambda value: int(EndReason(value)), _reason)

__all__ = [
    "ARGS",
    "COUNTS",
    "DATA",
    "DIFFERENCE_63",
    "DIFFERENCE_64",
    "DIGEST",
    "FLAG",
    "MAX_ARGS",
    "MAX_DATA",
    "MAX_DIGEST",
    "MAX_TEXT",
    "REASON",
    "TEXT",
    "U4",
    "U8",
    "U16",
    "U32",
    "U64",
    "Misfit",
    "Packing",
]
