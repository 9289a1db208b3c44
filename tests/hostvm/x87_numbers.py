"""Numbers of the x87 format for tests: names for special ones, exact conversion, seeded random ones."""

from __future__ import annotations

import random
from fractions import Fraction

from hostvm.x87 import Float80
from hostvm.x87_format import infinity, magnitude, zero

MASKED = 0x37F
MODES = {0: "nearest", 1: "down", 2: "up", 3: "chop"}
TOP = 1 << 63

INF, NINF, P0, N0 = infinity(False), infinity(True), zero(False), zero(True)
QUIET = Float80(0x7FFF, 0xC000000000001234)
QUIET_LARGER = Float80(0xFFFF, 0xC000000000005678)
SIGNALING = Float80(0x7FFF, 0x8000000000000ABC)
SIGNALING_LARGER = Float80(0xFFFF, 0x8000000000000FFF)
UNNORMAL = Float80(0x3FFF, 0x0000000000000001)
DENORMAL = Float80(0x0000, 0x0000000000000005)
LARGEST = Float80(0x7FFE, 0xFFFFFFFFFFFFFFFF)


def number(value: float) -> Float80:
    """An exactly representable number."""
    if not value:
        return P0
    mantissa, exponent = abs(Fraction(value)), 0
    while mantissa.denominator > 1 or mantissa.numerator < TOP:
        mantissa, exponent = mantissa * 2, exponent - 1
    return Float80(0x8000 * (value < 0) | exponent + 16383 + 63, mantissa.numerator)


def fraction(value: Float80) -> Fraction:
    real = magnitude(value)
    return (-1 if value.negative else 1) * real.mantissa * Fraction(2) ** real.exponent


def negated(value: Float80) -> Float80:
    return Float80(value.sign_exponent ^ 0x8000, value.significand)


def with_rounding(mode: int, masks: int = 0x3F) -> int:
    return 0x340 & ~0x3F | masks | mode << 10


def any_exponent(rng: random.Random, low: int, high: int, signs: bool = True) -> Float80:
    """A number with an exponent from low to below high, at times with few bits."""
    significand = rng.getrandbits(63) | TOP
    if rng.random() < 0.2:
        significand &= -1 << rng.randrange(64)
    sign = 0x8000 * rng.getrandbits(1) if signs else 0
    exponent = rng.randrange(low, high) + 16383
    if exponent <= 0:
        return Float80(sign, significand >> 1 - exponent or 1)
    return Float80(sign | exponent, significand)
