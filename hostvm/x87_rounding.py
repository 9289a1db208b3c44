"""From an exact real number to an x87 register: rounding, overflow and underflow.

The result always has a 64-bit significand: precision control applies to add, subtract, multiply, divide and square root
only. Tininess is judged after rounding, as if the exponent had no bounds. When overflow or underflow is not masked the
processor stores the result with its exponent moved by 24576, for a handler to work on.

Source: Intel SDM volume 1, 4.8.4 (rounding), 8.5.4 to 8.5.6 (overflow, underflow, inexact).
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

from hostvm.x87_format import (
    BIAS,
    EXPONENT_MASK,
    INTEGER_BIT,
    LEAST_EXPONENT,
    NO_EXCEPTION,
    SIGN,
    SIGNIFICAND_BITS,
    Float80,
    Real,
    X87Exception,
    infinity,
)

_WRAP = 24576
_LARGEST = Float80(EXPONENT_MASK - 1, (1 << SIGNIFICAND_BITS) - 1)


class Rounding(IntEnum):
    """The RC field of the control word; SDM 1 4.8.4."""

    NEAREST = 0
    DOWN = 1
    UP = 2
    CHOP = 3


class Rounded(NamedTuple):
    """A result, the exceptions that it raised, and whether rounding enlarged its magnitude (what C1 tells)."""

    value: Float80
    exceptions: X87Exception = NO_EXCEPTION
    up: bool = False


class _Cut(NamedTuple):
    kept: int
    inexact: bool
    up: bool


def _cut(negative: bool, mantissa: int, places: int, mode: Rounding) -> _Cut:
    """Drop that many low bits of a magnitude."""
    if places <= 0:
        return _Cut(mantissa << -places, inexact=False, up=False)
    kept = mantissa >> places
    rest = mantissa - (kept << places)
    match mode:
        case Rounding.NEAREST:
            half = 1 << places - 1
            up = rest > half or (rest == half and bool(kept & 1))
        case Rounding.CHOP:
            up = False
        case _:
            up = rest != 0 and negative == (mode is Rounding.DOWN)
    return _Cut(kept + up, rest != 0, up)


def _inexact(flag: bool) -> X87Exception:
    return X87Exception.PE if flag else NO_EXCEPTION


def _pack(negative: bool, biased: int, significand: int) -> Float80:
    return Float80(SIGN * negative | biased, significand)


def _overflow(negative: bool, mode: Rounding) -> Rounded:
    """The masked response."""
    inward = mode is Rounding.CHOP or (
        mode is not Rounding.NEAREST and negative != (mode is Rounding.DOWN)
    )
    value = _pack(negative, *_LARGEST) if inward else infinity(negative)
    return Rounded(value, X87Exception.OE | X87Exception.PE, not inward)


def _underflow(negative: bool, real: Real, mode: Rounding) -> Rounded:
    """The masked response: a denormal, or what it rounds to."""
    cut = _cut(negative, real.mantissa, LEAST_EXPONENT - real.exponent, mode)
    flags = X87Exception.UE | X87Exception.PE if cut.inexact else NO_EXCEPTION
    return Rounded(_pack(negative, cut.kept >> 63, cut.kept), flags, cut.up)


def round_real(negative: bool, real: Real, control_word: int) -> Rounded:
    """The register value nearest to a nonzero real in the direction that the control word asks for."""
    mode = Rounding(control_word >> 10 & 3)
    places = real.mantissa.bit_length() - SIGNIFICAND_BITS
    cut = _cut(negative, real.mantissa, places, mode)
    biased = real.exponent + places + 63 + BIAS
    significand = cut.kept
    if significand >> SIGNIFICAND_BITS:
        significand, biased = INTEGER_BIT, biased + 1
    flags = _inexact(cut.inexact)
    if biased >= EXPONENT_MASK:
        if control_word & X87Exception.OE:
            return _overflow(negative, mode)
        flags, biased = flags | X87Exception.OE, biased - _WRAP
    elif biased < 1:
        if control_word & X87Exception.UE:
            return _underflow(negative, real, mode)
        flags, biased = flags | X87Exception.UE, biased + _WRAP
    return Rounded(_pack(negative, biased, significand), flags, cut.up)


__all__ = ["Rounded", "Rounding", "round_real"]
