"""Every result of the x87 transcendentals is the true one, rounded once: mpmath is the judge, with hundreds of bits."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

import pytest

from hostvm.x87 import Float80, StackEffect, X87Exception, X87Op, transcendental
from hostvm.x87_series import odd_series, sine_series
from tests.hostvm.x87_numbers import MODES, P0, TOP, any_exponent, fraction, number, with_rounding

mpmath = pytest.importorskip("mpmath", reason="mpmath, a development dependency, is not installed")

PE, UE = X87Exception.PE, X87Exception.UE
HALF_PI = Fraction(0xC90FDAA22168C234C, 1 << 67)  # the processor's, SDM 1 8.3.8


def near_quadrant(rng: random.Random) -> Float80:
    """The number closest to a multiple of the processor's pi/2."""
    angle = (rng.getrandbits(rng.randrange(1, 62)) | 1) * HALF_PI
    exponent = angle.numerator.bit_length() - angle.denominator.bit_length() - 63
    significand = round(angle / Fraction(2) ** exponent)
    if significand < TOP:
        significand, exponent = round(angle / Fraction(2) ** (exponent - 1)), exponent - 1
    return Float80(exponent + 16383 + 63, min(significand, 2 * TOP - 1))


def angles(rng: random.Random) -> Iterator[tuple[Float80, Float80]]:
    for _ in range(700):
        yield any_exponent(rng, -40, 63), P0
    for _ in range(200):
        yield near_quadrant(rng), P0
    for _ in range(25):
        yield any_exponent(rng, -3000, -33), P0
    for _ in range(3):
        yield any_exponent(rng, -16445, -16300), P0


def powers(rng: random.Random) -> Iterator[tuple[Float80, Float80]]:
    for _ in range(700):
        yield any_exponent(rng, -70, 0), P0
    for _ in range(100):
        yield any_exponent(rng, -16445, -70), P0


def points(rng: random.Random) -> Iterator[tuple[Float80, Float80]]:
    for _ in range(700):
        yield any_exponent(rng, -60, 60), any_exponent(rng, -60, 60)
    for _ in range(100):
        yield any_exponent(rng, -700, 700), any_exponent(rng, -700, 700)
    for _ in range(40):
        yield number(rng.choice([-1, 1]) * rng.randrange(1, 9)), any_exponent(rng, -200, -30)


def logarithms(rng: random.Random) -> Iterator[tuple[Float80, Float80]]:
    for x, y in positive_numbers(rng):
        if x.significand & x.significand - 1:  # powers of two have a test of their own
            yield x, y


def positive_numbers(rng: random.Random) -> Iterator[tuple[Float80, Float80]]:
    for _ in range(150):
        yield any_exponent(rng, -60, 60, signs=False), any_exponent(rng, -60, 60)
    for _ in range(60):
        close = rng.getrandbits(rng.randrange(1, 63)) | 1
        x = Float80(0x3FFF, TOP + close) if rng.getrandbits(1) else Float80(0x3FFE, 2 * TOP - close)
        yield x, any_exponent(rng, -16445, 16300)
    for _ in range(60):
        yield any_exponent(rng, -16445, 16384, signs=False), any_exponent(rng, -16380, 16360)


def increments(rng: random.Random) -> Iterator[tuple[Float80, Float80]]:
    for _ in range(600):
        yield any_exponent(rng, -70, -2), any_exponent(rng, -60, 60)
    for _ in range(200):
        yield any_exponent(rng, -16445, -70), any_exponent(rng, -300, 16300)
    for _ in range(100):
        yield any_exponent(rng, -1, 100, signs=False), any_exponent(rng, -60, 60)


def exactly(value: Fraction) -> Any:
    return mpmath.mpf(value.numerator) / value.denominator


def turned(x: Fraction) -> tuple[Any, int]:
    """The angle without the nearest multiple of the processor's pi/2, and that multiple."""
    quadrants = round(x / HALF_PI)
    return exactly(x - quadrants * HALF_PI), quadrants % 4


def true_sine(x: Fraction, _y: Fraction) -> Any:
    rest, quadrant = turned(x)
    return (mpmath.sin, mpmath.cos, lambda r: -mpmath.sin(r), lambda r: -mpmath.cos(r))[quadrant](
        rest
    )


def true_cosine(x: Fraction, _y: Fraction) -> Any:
    rest, quadrant = turned(x)
    return (mpmath.cos, lambda r: -mpmath.sin(r), lambda r: -mpmath.cos(r), mpmath.sin)[quadrant](
        rest
    )


def true_tangent(x: Fraction, _y: Fraction) -> Any:
    rest, quadrant = turned(x)
    return -1 / mpmath.tan(rest) if quadrant & 1 else mpmath.tan(rest)


def true_power(x: Fraction, _y: Fraction) -> Any:
    return mpmath.expm1(exactly(x) * mpmath.ln2)


def true_angle(x: Fraction, y: Fraction) -> Any:
    return mpmath.atan2(exactly(y), exactly(x))


def true_logarithm(x: Fraction, y: Fraction) -> Any:
    return exactly(y) * mpmath.log(exactly(x)) / mpmath.ln2


def true_increment(x: Fraction, y: Fraction) -> Any:
    return exactly(y) * mpmath.log1p(exactly(x)) / mpmath.ln2


Oracle = Callable[[Fraction, Fraction], Any]
Arguments = Callable[[random.Random], Iterator[tuple[Float80, Float80]]]
ORACLES: list[tuple[X87Op, Arguments, Oracle]] = [
    (X87Op.FSIN, angles, true_sine),
    (X87Op.FCOS, angles, true_cosine),
    (X87Op.FPTAN, angles, true_tangent),
    (X87Op.F2XM1, powers, true_power),
    (X87Op.FPATAN, points, true_angle),
    (X87Op.FYL2X, logarithms, true_logarithm),
    (X87Op.FYL2XP1, increments, true_increment),
]


def reference_bits(*operands: Float80) -> int:
    """How many bits tell a result from its first approximation (x, 1, y/x) and from every boundary."""
    smallest = min(value.exponent - 16383 for value in operands if value.significand)
    distance = abs(operands[0].exponent - operands[1].exponent) if operands[1].significand else 0
    return 500 + 3 * min(-min(smallest, 0), 17000) + 2 * min(distance, 2000)


def rounded(value: Any, mode: int) -> tuple[Fraction, bool]:
    """A nonzero real cut to an x87 register by the definition of the mode, and whether that was inexact."""
    mantissa, power = value.man_exp
    exponent = max(mantissa.bit_length() + power - 64, -16445)
    scaled = Fraction(mantissa) * Fraction(2) ** (power - exponent)
    floor = scaled.numerator // scaled.denominator
    outward = (mode == 1 and value < 0) or (mode == 2 and value > 0)
    rest = scaled - floor
    up = rest > Fraction(1, 2) or (rest == Fraction(1, 2) and floor & 1) if not mode else outward
    kept = floor + bool(up and rest)
    return (-1 if value < 0 else 1) * kept * Fraction(2) ** exponent, rest != 0


@pytest.mark.parametrize(
    ("op", "arguments", "oracle"), ORACLES, ids=[op.name for op, _, _ in ORACLES]
)
def test_result_is_the_true_value_rounded_once_in_every_mode(
    op: X87Op, arguments: Arguments, oracle: Oracle
) -> None:
    for x, y in arguments(random.Random(int(op))):
        with mpmath.workprec(reference_bits(x, y)):
            value = oracle(fraction(x), fraction(y) if y.significand else Fraction(0))
        if not value or mpmath.mag(value) > 16383:
            continue
        for mode, name in MODES.items():
            result = transcendental(op, x, y, with_rounding(mode))
            expected, inexact = rounded(value, mode)
            found = result.values[-1]
            seen = fraction(found) if found.significand else Fraction(0)
            where = f"{op.name} of {x} and {y}, {name}"
            assert seen == expected, where
            assert bool(result.exceptions & PE) == inexact, where
            assert bool(result.exceptions & UE) == (
                inexact and abs(seen) < Fraction(1, 1 << 16382)
            ), where


@pytest.mark.parametrize("mode", MODES, ids=MODES.values())
def test_fsincos_gives_what_fsin_and_fcos_give(mode: int) -> None:
    control = with_rounding(mode)
    for x, _ in angles(random.Random(5)):
        both = transcendental(X87Op.FSINCOS, x, P0, control)
        sine = transcendental(X87Op.FSIN, x, P0, control)
        cosine = transcendental(X87Op.FCOS, x, P0, control)
        assert both.values == cosine.values + sine.values
        assert both.exceptions == sine.exceptions | cosine.exceptions
        assert both.effect is StackEffect.PUSH


@pytest.mark.parametrize("precision", [160, 320])
def test_series_stay_within_the_error_that_they_state(precision: int) -> None:
    rng = random.Random(precision)
    for _ in range(300):
        angle = rng.randrange(1, 785 << precision) // 1000
        square = rng.randrange(1 << precision - 5)
        with mpmath.workprec(2 * precision):
            root = mpmath.sqrt(mpmath.ldexp(mpmath.mpf(square), -precision))
            truths = {
                sine_series(angle, precision): mpmath.sin(
                    mpmath.ldexp(mpmath.mpf(angle), -precision)
                ),
                odd_series(square, precision, True): mpmath.atan(root) / root,
                odd_series(square, precision, False): mpmath.atanh(root) / root,
            }
            for found, truth in truths.items():
                assert abs(mpmath.ldexp(truth, precision) - found.mantissa) <= found.error
