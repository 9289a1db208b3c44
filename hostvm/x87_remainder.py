"""FPREM and FPREM1: exact remainders, which need no mathematics but big integers.

The CPU engine computes them in the host's 53-bit floating point, where the compiler may fuse a multiplication with the
subtraction after it: other bits on another processor, and wrong ones beyond 53 bits everywhere. When the exponents
differ by 64 or more, the instruction reduces the difference by 32 to 63 (the manual leaves the number open; this one is
AMD's) and sets C2 to be called again.

Source: Intel SDM volume 2, FPREM and FPREM1; AMD64 manual volume 5, FPREM.
"""

from __future__ import annotations

from hostvm.x87_format import (
    BEFORE_COMPUTING,
    DEFAULT_NAN,
    Float80,
    Kind,
    Real,
    X87Exception,
    X87Op,
    X87Status,
    invalid_operands,
    is_denormal,
    kind_of,
    magnitude,
    zero,
)
from hostvm.x87_result import StackEffect, X87Result, abandoned, status_mask_of
from hostvm.x87_rounding import Rounded, round_real

_ALL_CODES = X87Status.C0 | X87Status.C1 | X87Status.C2 | X87Status.C3
_NO_CODE = X87Status(0)
_TOO_FAR = 64


def partial_remainder(op: X87Op, st0: Float80, st1: Float80, control_word: int) -> X87Result:
    """Execute FPREM or FPREM1."""
    not_numbers = invalid_operands(st0, st1)
    if not not_numbers and (kind_of(st0) is Kind.INFINITY or kind_of(st1) is Kind.ZERO):
        not_numbers = DEFAULT_NAN, X87Exception.IE
    if not_numbers:
        value, exceptions = not_numbers
        mask, codes = status_mask_of(op), _NO_CODE
    else:
        rounded, codes = _remainder(op, st0, st1, control_word)
        value, exceptions, mask = rounded.value, rounded.exceptions, _ALL_CODES
        if is_denormal(st0) or is_denormal(st1):
            exceptions |= X87Exception.DE
    if exceptions & BEFORE_COMPUTING & ~control_word:
        return abandoned(op, exceptions & BEFORE_COMPUTING, _NO_CODE)
    return X87Result(StackEffect.NONE, (value,), exceptions, mask, codes)


def _remainder(
    op: X87Op, st0: Float80, st1: Float80, control_word: int
) -> tuple[Rounded, X87Status]:
    """Remainder of a finite dividend and a divisor that is not zero, with the condition codes."""
    if kind_of(st0) is Kind.ZERO:
        return Rounded(st0), _NO_CODE
    dividend = magnitude(st0)
    if kind_of(st1) is Kind.INFINITY:
        return round_real(st0.negative, dividend, control_word), _NO_CODE
    divisor = magnitude(st1)
    distance = dividend.exponent - divisor.exponent
    if distance >= _TOO_FAR:
        divisor = Real(divisor.mantissa, dividend.exponent - 32 - distance % 32)
    quotient, rest = _divide(dividend, divisor, op is X87Op.FPREM1 and distance < _TOO_FAR)
    codes = X87Status.C2 if distance >= _TOO_FAR else _quotient_codes(quotient)
    if not rest.mantissa:
        return Rounded(zero(st0.negative)), codes
    negative = st0.negative != (rest.mantissa < 0)
    return round_real(negative, Real(abs(rest.mantissa), rest.exponent), control_word), codes


def _divide(dividend: Real, divisor: Real, nearest: bool) -> tuple[int, Real]:
    """Integer quotient, cut or rounded to nearest even, and the remainder, whose mantissa may be negative."""
    if dividend.exponent - divisor.exponent < -1:
        return 0, dividend
    unit = min(dividend.exponent, divisor.exponent)
    over = dividend.mantissa << dividend.exponent - unit
    under = divisor.mantissa << divisor.exponent - unit
    quotient, rest = divmod(over, under)
    if nearest and (2 * rest > under or (2 * rest == under and quotient & 1)):
        quotient, rest = quotient + 1, rest - under
    return quotient, Real(rest, unit)


def _quotient_codes(quotient: int) -> X87Status:
    """The three lowest bits of the quotient."""
    bits = ((4, X87Status.C0), (2, X87Status.C3), (1, X87Status.C1))
    codes = _NO_CODE
    for weight, code in bits:
        if quotient & weight:
            codes |= code
    return codes


__all__ = ["partial_remainder"]
