"""Integers that enclose real numbers: constants, power series, and how far to go until rounding is certain.

An `Enclosure` is an integer, a power of two, and how far off the integer may be, counted in units of its last place.
`settle` asks for a narrower one until rounding to 64 bits can no longer depend on what is unknown (Ziv's strategy),
and then returns an exact number from the same gap between two rounding boundaries. That ends if the number enclosed
is not itself a boundary, which is the caller's care.

(i) Constants; (ii) power series, each with a bound on its rounding errors. No floating point occurs, so that every
machine gets the same bits. Read next: x87_functions.py, which reduces arguments until some thirty terms are enough.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

from hostvm.x87_format import SIGNIFICAND_BITS, Real

PRECISIONS = tuple(160 << doublings for doublings in range(9))
GAP_BITS = SIGNIFICAND_BITS + 2
_GUARD = 16
CONSTANT_ERROR = 2


class Enclosure(NamedTuple):
    """A positive number within `error` units of mantissa * 2 ** exponent."""

    mantissa: int
    exponent: int
    error: int

    def times(self, other: Enclosure) -> Enclosure:
        """The product."""
        a, b = self, other
        error = a.mantissa * b.error + b.mantissa * a.error + a.error * b.error
        return Enclosure(a.mantissa * b.mantissa, a.exponent + b.exponent, error)

    def fixed(self, precision: int) -> Enclosure:
        """The same number with that many fractional bits (and no more significant ones than it had)."""
        places = -precision - self.exponent
        if places <= 0:
            return Enclosure(self.mantissa << -places, -precision, self.error << -places)
        return Enclosure(self.mantissa >> places, -precision, (self.error >> places) + 2)

    def beside(self, base: Enclosure, below: bool) -> Enclosure:
        """This number added to `base`, or taken from it, with the fractional bits of `base`."""
        mine = self.fixed(-base.exponent)
        mantissa = base.mantissa - mine.mantissa if below else base.mantissa + mine.mantissa
        return Enclosure(mantissa, base.exponent, base.error + mine.error)


def exactly(real: Real) -> Enclosure:
    """An enclosure with nothing unknown."""
    return Enclosure(real.mantissa, real.exponent, 0)


def settle(evaluate: Callable[[int], Enclosure]) -> Real:
    """An exact number that rounds, in every mode and to every width up to 64 bits, as the enclosed one does."""
    for precision in PRECISIONS:
        mantissa, exponent, error = evaluate(precision)
        places = mantissa.bit_length() - GAP_BITS
        if places <= 0:
            continue
        gap = mantissa - error >> places
        if gap == mantissa + error >> places:
            return Real(2 * gap + 1, exponent + places - 1)
    raise AssertionError("a value closer to a rounding boundary than any can be")


# (i) Constants, with `precision` fractional bits.


@cache
def arc_tangent_constant(numerator: int, denominator: int, precision: int) -> int:
    """atan of a ratio up to 1, by Euler's series: each term is at most half the one before."""
    square = numerator * numerator
    hypotenuse = square + denominator * denominator
    term = (numerator * denominator << precision + _GUARD) // hypotenuse
    total, index = 0, 1
    while term:
        total += term
        term = term * (2 * index * square) // ((2 * index + 1) * hypotenuse)
        index += 1
    return total >> _GUARD


@cache
def pi(precision: int) -> int:
    """Machin's formula."""
    inner = precision + _GUARD
    total = 16 * arc_tangent_constant(1, 5, inner) - 4 * arc_tangent_constant(1, 239, inner)
    return total >> _GUARD


@cache
def ln2(precision: int) -> int:
    """Twice the inverse hyperbolic tangent of 1/3."""
    power = (2 << precision + _GUARD) // 3
    total, index = 0, 1
    while power:
        total += power // index
        power //= 9
        index += 2
    return total >> _GUARD


@cache
def inverse_ln2(precision: int) -> Enclosure:
    """The binary logarithm of e."""
    inner = precision + _GUARD
    return Enclosure((1 << inner + precision) // ln2(inner), -precision, CONSTANT_ERROR)


def pi_quarters(count: int, precision: int) -> Enclosure:
    """count * pi / 4."""
    return Enclosure(count * pi(precision), -precision - 2, count * CONSTANT_ERROR)


# (ii) Power series. Each step floors twice and hands on less than half of the error before it, so a term is off by
# less than 4; the last omitted terms are together less than another 4.


def odd_series(square: int, precision: int, alternating: bool) -> Enclosure:
    """1 + s/3 + s**2/5 + ... (or with alternating signs) of s <= 1/32, itself off by up to 3."""
    total = power = 1 << precision
    index = 1
    while power:
        power = power * square >> precision
        index += 2
        term = power // index
        total += -term if alternating and index & 2 else term
    return Enclosure(total, -precision, 4 * index)


def sine_series(angle: int, precision: int) -> Enclosure:
    """The sine of an angle in (0, pi/4]."""
    square = angle * angle >> precision
    total = term = angle
    index = 1
    while term:
        term = -(term * square >> precision) // ((index + 1) * (index + 2))
        total += term
        index += 2
    return Enclosure(total, -precision, 4 * index)


def cosine_series(angle: int, precision: int) -> Enclosure:
    """The cosine of an angle in (0, pi/4]."""
    square = angle * angle >> precision
    total = term = 1 << precision
    index = 0
    while term:
        term = -(term * square >> precision) // ((index + 1) * (index + 2))
        total += term
        index += 2
    return Enclosure(total, -precision, 4 * index + 8)


def exponential_series(power: int, precision: int) -> Enclosure:
    """(e ** t - 1) / t for |t| < 1, with t off by up to 3."""
    total = term = 1 << precision
    index = 1
    while term > 1 or term < -1:
        index += 1
        term = (term * power >> precision) // index
        total += term
    return Enclosure(total, -precision, 8 * index)


__all__ = [
    "CONSTANT_ERROR",
    "GAP_BITS",
    "PRECISIONS",
    "Enclosure",
    "arc_tangent_constant",
    "cosine_series",
    "exactly",
    "exponential_series",
    "inverse_ln2",
    "ln2",
    "odd_series",
    "pi",
    "pi_quarters",
    "settle",
    "sine_series",
]
