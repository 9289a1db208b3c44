"""Elementary functions of exact numbers, to the last bit: sine, cosine, tangent, arc tangent, 2 ** x - 1, logarithms.

Each function returns an exact number that rounds as the true value does, in every mode (see `settle`). The callers have
taken out the arguments whose result is a number with few bits; elsewhere these functions are transcendental (Lindemann;
Gelfond and Schneider) or, for 2 ** x - 1, irrational, so that no result lies on a rounding boundary.

Angles are reduced by the pi that the processor itself uses, which has 66 bits: the manual gives it, guests have adapted
to it (the sine of FLDPI is not what the true pi would make it), and real processors then agree with us over the whole
range. As that pi is a fraction, reduction is exact. It occurs nowhere else: FPATAN returns parts of the true pi.

Read next: x87_transcendental.py. Source: Intel SDM volume 1, 8.3.8.
"""

from __future__ import annotations

from typing import NamedTuple

from hostvm.x87_format import SIGNIFICAND_BITS, Real
from hostvm.x87_series import (
    CONSTANT_ERROR,
    GAP_BITS,
    PRECISIONS,
    Enclosure,
    arc_tangent_constant,
    cosine_series,
    exactly,
    exponential_series,
    inverse_ln2,
    ln2,
    odd_series,
    pi_quarters,
    settle,
    sine_series,
)

# Half of the processor's pi, which has 66 bits (SDM 1 8.3.8).
_HALF_PI = 0xC90FDAA22168C234C >> 2
_HALF_PI_BITS = 65

# Below 2 ** -34 (2 ** -70 for the arc tangent) the next term of the Taylor series cannot reach a rounding boundary.
_TINY_ANGLE = -34
_TINY_RATIO = -70


def _just_below(real: Real) -> Real:
    """A stand-in for a number below `real` by less than a quarter of its last place."""
    return Real((real.mantissa << 3) - 1, real.exponent - 3)


def _just_above(real: Real) -> Real:
    """A stand-in for a number above `real` by less than a quarter of its last place."""
    return Real((real.mantissa << 3) + 1, real.exponent - 3)


class _Turned(NamedTuple):
    """An angle as a multiple of pi/2 and a remainder: quadrants * pi/2 + (-1) ** negative * remainder."""

    quadrants: int
    negative: bool
    remainder: Enclosure


def _turn(angle: Real, precision: int) -> _Turned:
    """Take the nearest multiple of pi/2 out of an angle, keeping `precision` significant bits."""
    bits = max(-angle.exponent, _HALF_PI_BITS)
    whole = angle.mantissa << bits + angle.exponent
    half_pi = _HALF_PI << bits - _HALF_PI_BITS
    quadrants = (2 * whole + half_pi) // (2 * half_pi)
    rest = whole - quadrants * half_pi
    scale = precision - abs(rest).bit_length()
    remainder = Enclosure(abs(rest), -bits, 0).fixed(bits + scale)
    return _Turned(quadrants, rest < 0, remainder)


def _sine_of(remainder: Enclosure) -> Enclosure:
    series = sine_series(remainder.mantissa, -remainder.exponent)
    return series._replace(error=series.error + remainder.error)


def _cosine_of(remainder: Enclosure) -> Enclosure:
    series = cosine_series(remainder.mantissa, -remainder.exponent)
    return series._replace(error=series.error + remainder.error)


def _quotient(over: Enclosure, under: Enclosure, precision: int) -> Enclosure:
    """The ratio of two enclosures with the same exponent."""
    least = under.mantissa - under.error
    assert least > 0
    mantissa = (over.mantissa << precision) // under.mantissa
    error = ((over.error << precision) + mantissa * under.error) // least + 2
    return Enclosure(mantissa, -precision, error)


def _is_tiny_angle(angle: Real) -> bool:
    """Whether the angle is so small that its functions are known without a series."""
    return angle.mantissa.bit_length() + angle.exponent <= _TINY_ANGLE


def sine(angle: Real) -> tuple[bool, Real]:
    """(negative, magnitude) of the sine of an angle in (0, 2 ** 63)."""
    if _is_tiny_angle(angle):
        return False, _just_below(angle)
    turned = _turn(angle, PRECISIONS[0])
    odd, half_turn = turned.quadrants & 1, bool(turned.quadrants & 2)
    function = _cosine_of if odd else _sine_of
    value = settle(lambda precision: function(_turn(angle, precision).remainder))
    return half_turn != (turned.negative and not odd), value


def cosine(angle: Real) -> tuple[bool, Real]:
    """(negative, magnitude) of the cosine of an angle in (0, 2 ** 63)."""
    if _is_tiny_angle(angle):
        return False, _just_below(Real(1 << GAP_BITS, -GAP_BITS))
    turned = _turn(angle, PRECISIONS[0])
    odd, half_turn = turned.quadrants & 1, bool(turned.quadrants & 2)
    function = _sine_of if odd else _cosine_of
    value = settle(lambda precision: function(_turn(angle, precision).remainder))
    return half_turn != (bool(odd) and not turned.negative), value


def tangent(angle: Real) -> tuple[bool, Real]:
    """(negative, magnitude) of the tangent of an angle in (0, 2 ** 63)."""
    if _is_tiny_angle(angle):
        return False, _just_above(angle)
    turned = _turn(angle, PRECISIONS[0])
    odd = bool(turned.quadrants & 1)

    def evaluate(precision: int) -> Enclosure:
        remainder = _turn(angle, precision).remainder
        over, under = _sine_of(remainder), _cosine_of(remainder)
        if odd:
            over, under = under, over
        return _quotient(over, under, -over.exponent)

    return turned.negative != odd, settle(evaluate)


def exponential_minus_one(negative: bool, power: Real) -> Real:
    """Magnitude of 2 ** x - 1 for 0 < |x| < 1."""

    def evaluate(precision: int) -> Enclosure:
        scaled = Enclosure(
            power.mantissa * ln2(precision),
            power.exponent - precision,
            power.mantissa * CONSTANT_ERROR,
        )
        small = scaled.fixed(precision).mantissa
        return scaled.times(exponential_series(-small if negative else small, precision))

    return settle(evaluate)


def _log2_1p(negative: bool, x: Real, precision: int) -> Enclosure:
    """Magnitude of log2(1 + x) for 1 + x between about sqrt(1/2) and sqrt(2): 2 atanh(x / (2 + x)) / ln 2."""
    width = x.mantissa.bit_length()
    guard = max(precision, width) + 8
    step = exactly(x).fixed(guard).mantissa
    under = (2 << guard) + (-step if negative else step)
    ratio = (x.mantissa << guard + precision - width) // under
    exponent = x.exponent + width - precision
    square = Enclosure(ratio * ratio, 2 * exponent, 0).fixed(precision).mantissa
    series = odd_series(square, precision, alternating=False)
    return Enclosure(ratio, exponent + 1, 2).times(series).times(inverse_ln2(precision))


def _near_one(x: Real) -> tuple[int, bool, Real]:
    """(k, negative, t) with x = 2 ** k * (1 + or - t) and the factor between about sqrt(1/2) and sqrt(2)."""
    width = x.mantissa.bit_length()
    k = x.exponent + width - 1
    unit = 1 << width - 1
    if x.mantissa * 70 > unit * 99:
        k, unit = k + 1, unit << 1
    return k, x.mantissa < unit, Real(abs(x.mantissa - unit), 1 - unit.bit_length())


def power_of_two(x: Real) -> int | None:
    """The binary logarithm of x where it is an integer."""
    if x.mantissa & x.mantissa - 1:
        return None
    return x.exponent + x.mantissa.bit_length() - 1


def times_log2(y: Real, x: Real) -> tuple[bool, Real]:
    """(negative, magnitude) of y * log2(x), x being no power of two."""
    k, below, t = _near_one(x)

    def evaluate(precision: int) -> Enclosure:
        log = _log2_1p(below, t, precision)
        if k:
            whole = Enclosure(abs(k) << precision, -precision, 0)
            log = log.beside(whole, below != (k < 0))
        return log.times(exactly(y))

    return k < 0 or (k == 0 and below), settle(evaluate)


def times_log2_1p(y: Real, negative: bool, x: Real) -> Real:
    """Magnitude of y * log2(1 + x), or of y * log2(1 - x), for x below 0.41 (0.29)."""
    return settle(lambda precision: _log2_1p(negative, x, precision).times(exactly(y)))


def _arc_tangent(over: Real, under: Real, precision: int) -> Enclosure:
    """atan of over/under, which is at most 1: the nearest sixteenth's, corrected by a small angle."""
    drop = over.exponent - under.exponent
    lead = over.mantissa.bit_length() + drop - under.mantissa.bit_length()
    n, d, sixteenths = over.mantissa, under.mantissa, 0
    if lead > -6:
        n, d, drop = n << max(drop, 0), d << max(-drop, 0), 0
        sixteenths = (32 * n + d) // (2 * d)
        n, d = 16 * n - sixteenths * d, 16 * d + sixteenths * n
    places = max(precision + d.bit_length() - abs(n).bit_length(), 0)
    ratio = (abs(n) << places) // d
    square = Enclosure(ratio * ratio, 2 * (drop - places), 0).fixed(precision).mantissa
    small = Enclosure(ratio, drop - places, 2)
    small = small.times(odd_series(square, precision, alternating=True))
    if not sixteenths:
        return small
    nearest = Enclosure(arc_tangent_constant(sixteenths, 16, precision), -precision, CONSTANT_ERROR)
    return small.beside(nearest, n < 0)


def _tiny_ratio(over: Real, under: Real) -> Real:
    """Stand-in for the arc tangent of a tiny ratio, which is less than the ratio by next to nothing."""
    places = GAP_BITS + 2
    ratio, rest = divmod(over.mantissa << places, under.mantissa)
    quotient = Real(ratio, over.exponent - under.exponent - places)
    return _just_above(quotient) if rest else _just_below(quotient)


def arc_tangent(y: Real, x: Real, x_negative: bool) -> Real:
    """The angle in (0, pi) between the positive x axis and the point (x or -x, y)."""
    y_top = y.mantissa.bit_length() + y.exponent
    x_top = x.mantissa.bit_length() + x.exponent
    if not x_negative and y_top - x_top < _TINY_RATIO:
        return _tiny_ratio(y, x)
    steep = (y_top, y.mantissa << SIGNIFICAND_BITS - y.mantissa.bit_length()) > (
        x_top,
        x.mantissa << SIGNIFICAND_BITS - x.mantissa.bit_length(),
    )
    over, under = (x, y) if steep else (y, x)
    quarters = 2 if steep else 4 * x_negative

    def evaluate(precision: int) -> Enclosure:
        angle = _arc_tangent(over, under, precision)
        if not quarters:
            return angle
        return angle.beside(pi_quarters(quarters, precision), steep != x_negative)

    return settle(evaluate)


__all__ = [
    "arc_tangent",
    "cosine",
    "exponential_minus_one",
    "power_of_two",
    "sine",
    "tangent",
    "times_log2",
    "times_log2_1p",
]
