"""The x87 register format: 80-bit values as two integers, their kinds, and how NaNs travel.

An x87 register holds a sign, a 15-bit exponent and a 64-bit significand whose leading bit is written out. That bit
makes encodings possible that no operation produces: pseudo-denormals (leading bit set, exponent zero), which are still
numbers, and unnormals, pseudo-infinities and pseudo-NaNs, which the processor refuses as invalid.

`Real` is the magnitude of a finite number as an exact product of an integer and a power of two: what the mathematics
works on. Read next: x87_rounding.py (from Real back to Float80), x87_transcendental.py.

Source: Intel SDM volume 1, 4.8 (formats and NaNs), 8.1 (registers), 8.2.2 (unsupported encodings).
"""

from __future__ import annotations

from enum import Enum, IntEnum, IntFlag
from typing import NamedTuple

SIGN = 0x8000
EXPONENT_MASK = 0x7FFF
BIAS = 16383
SIGNIFICAND_BITS = 64
INTEGER_BIT = 1 << 63
QUIET_BIT = 1 << 62
LEAST_EXPONENT = 1 - BIAS - 63  # of the last bit of a denormal or of the smallest normal number


class X87Op(IntEnum):
    """Instructions that are computed here, by the byte that follows D9."""

    F2XM1 = 0xF0
    FYL2X = 0xF1
    FPTAN = 0xF2
    FPATAN = 0xF3
    FPREM1 = 0xF5
    FPREM = 0xF8
    FYL2XP1 = 0xF9
    FSINCOS = 0xFB
    FSIN = 0xFE
    FCOS = 0xFF


class X87Exception(IntFlag):
    """Exception flags of the status word, and the masks in the same places of the control word; SDM 1 8.1.3."""

    IE = 1 << 0
    DE = 1 << 1
    ZE = 1 << 2
    OE = 1 << 3
    UE = 1 << 4
    PE = 1 << 5
    SF = 1 << 6


NO_EXCEPTION = X87Exception(0)
MASKABLE = 0x3F
BEFORE_COMPUTING = X87Exception.IE | X87Exception.DE | X87Exception.ZE


class X87Status(IntFlag):
    """The other bits of the status word; SDM 1 8.1.3."""

    ES = 1 << 7
    C0 = 1 << 8
    C1 = 1 << 9
    C2 = 1 << 10
    C3 = 1 << 14
    B = 1 << 15


class Float80(NamedTuple):
    """One x87 register, raw."""

    sign_exponent: int
    significand: int

    @property
    def negative(self) -> bool:
        """The sign bit."""
        return bool(self.sign_exponent & SIGN)

    @property
    def exponent(self) -> int:
        """The biased exponent."""
        return self.sign_exponent & EXPONENT_MASK


class Real(NamedTuple):
    """A positive number, exactly mantissa * 2 ** exponent."""

    mantissa: int
    exponent: int


class Kind(Enum):
    """What an encoding stands for."""

    ZERO = "zero"
    FINITE = "finite"
    INFINITY = "infinity"
    QUIET_NAN = "quiet NaN"
    SIGNALING_NAN = "signaling NaN"
    UNSUPPORTED = "unsupported"


ONE = Float80(BIAS, INTEGER_BIT)
DEFAULT_NAN = Float80(SIGN | EXPONENT_MASK, INTEGER_BIT | QUIET_BIT)


def zero(negative: bool) -> Float80:
    """A signed zero."""
    return Float80(SIGN * negative, 0)


def infinity(negative: bool) -> Float80:
    """A signed infinity."""
    return Float80(SIGN * negative | EXPONENT_MASK, INTEGER_BIT)


def kind_of(value: Float80) -> Kind:
    """What the encoding stands for; denormals and pseudo-denormals are FINITE."""
    if not value.exponent:
        return Kind.FINITE if value.significand else Kind.ZERO
    if not value.significand & INTEGER_BIT:
        return Kind.UNSUPPORTED
    if value.exponent < EXPONENT_MASK:
        return Kind.FINITE
    if value.significand == INTEGER_BIT:
        return Kind.INFINITY
    return Kind.QUIET_NAN if value.significand & QUIET_BIT else Kind.SIGNALING_NAN


def is_denormal(value: Float80) -> bool:
    """Whether the value raises DE as an operand (a pseudo-denormal does, too)."""
    return not value.exponent and value.significand != 0


def magnitude(value: Float80) -> Real:
    """Absolute value of a finite, nonzero number, with a 64-bit mantissa."""
    short = SIGNIFICAND_BITS - value.significand.bit_length()
    return Real(value.significand << short, (value.exponent or 1) - BIAS - 63 - short)


def _quieted(nan: Float80) -> Float80:
    return Float80(nan.sign_exponent, nan.significand | QUIET_BIT)


def _larger_nan(one: Float80, other: Float80) -> Float80:
    """The NaN with the larger significand, of equals the positive one."""
    return max(one, other, key=lambda nan: (nan.significand, not nan.negative))


def invalid_operands(*operands: Float80) -> tuple[Float80, X87Exception] | None:
    """Masked response and exception where an operand is no number; None where all are (SDM 1 table 4-7)."""
    kinds = [kind_of(operand) for operand in operands]
    if Kind.UNSUPPORTED in kinds:
        return DEFAULT_NAN, X87Exception.IE
    signaling = Kind.SIGNALING_NAN in kinds
    pairs = list(zip(operands, kinds, strict=True))
    nans = [operand for operand, kind in pairs if kind is Kind.QUIET_NAN]
    nans = nans or [operand for operand, kind in pairs if kind is Kind.SIGNALING_NAN]
    if not nans:
        return None
    return (
        _quieted(_larger_nan(nans[0], nans[-1])),
        X87Exception.IE if signaling else NO_EXCEPTION,
    )


__all__ = [
    "BEFORE_COMPUTING",
    "BIAS",
    "DEFAULT_NAN",
    "EXPONENT_MASK",
    "INTEGER_BIT",
    "LEAST_EXPONENT",
    "MASKABLE",
    "NO_EXCEPTION",
    "ONE",
    "QUIET_BIT",
    "SIGN",
    "SIGNIFICAND_BITS",
    "Float80",
    "Kind",
    "Real",
    "X87Exception",
    "X87Op",
    "X87Status",
    "infinity",
    "invalid_operands",
    "is_denormal",
    "kind_of",
    "magnitude",
    "zero",
]
