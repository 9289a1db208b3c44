"""The eight transcendental instructions as functions of their operands: result tables and correctly rounded values.

A result is the mathematically exact one, rounded once as the control word says; processors are allowed an error of one
last place and differ by model. Where the manual leaves a result undefined (F2XM1 outside [-1, 1], FYL2XP1 from -1
down), ST(0) becomes the result, as on the processors that were looked at. PE is set where the result is inexact;
processors also set it for some exact ones.

When an exception that is found before computing (invalid, denormal, zero divide) is not masked, nothing is stored and
the stack does not move. The caller turns the exceptions into status bits: see x87.py, which is what to read next.

Source: Intel SDM volume 2, the instructions' pages; volume 1, 8.3.10 and 8.5 (order of exceptions: 4.9.2).
"""

from __future__ import annotations

from collections.abc import Callable

from hostvm.x87_format import (
    BEFORE_COMPUTING,
    DEFAULT_NAN,
    NO_EXCEPTION,
    ONE,
    SIGN,
    Float80,
    Kind,
    Real,
    X87Exception,
    X87Op,
    X87Status,
    infinity,
    invalid_operands,
    is_denormal,
    kind_of,
    magnitude,
    zero,
)
from hostvm.x87_functions import (
    arc_tangent,
    cosine,
    exponential_minus_one,
    power_of_two,
    sine,
    tangent,
    times_log2,
    times_log2_1p,
)
from hostvm.x87_result import (
    TRIGONOMETRIC,
    X87Result,
    abandoned,
    effect_of,
    operand_count,
    response,
    status_mask_of,
)
from hostvm.x87_rounding import Rounded, round_real
from hostvm.x87_series import pi_quarters, settle

_IE, _DE, _ZE = X87Exception.IE, X87Exception.DE, X87Exception.ZE
_FIRST_WITHOUT_SINE = Float80(0x3FFF + 63, 1 << 63)  # 2 ** 63
_LOG1P_BELOW = (0x3FFD, 0x95F619980C4336F7)  # the last number below 1 - sqrt(1/2)
_LOG1P_ABOVE = (0x3FFD, 0xD413CCCFE7799211)  # about sqrt(2) - 1

_INVALID = Rounded(DEFAULT_NAN, _IE)


def transcendental(op: X87Op, st0: Float80, st1: Float80, control_word: int) -> X87Result:
    """Execute one of the eight; ST(1) is ignored by those that do not read it."""
    operands = (st0, st1)[: operand_count(op)]
    not_numbers = invalid_operands(*operands)
    if not_numbers:
        result = response(op, *not_numbers)
    elif op in TRIGONOMETRIC and _is_out_of_range(st0):
        return abandoned(op, NO_EXCEPTION, X87Status.C2)
    else:
        result = _numeric(op, operands, control_word)
    stopped = result.exceptions & BEFORE_COMPUTING & ~control_word
    if stopped:
        return abandoned(op, result.exceptions & BEFORE_COMPUTING, X87Status(0))
    return result


def _numeric(op: X87Op, operands: tuple[Float80, ...], control_word: int) -> X87Result:
    """Execute with operands that are numbers or infinities."""
    results = _FUNCTIONS[op](operands, control_word)
    exceptions = NO_EXCEPTION
    for result in results:
        exceptions |= result.exceptions
    if any(map(is_denormal, operands)) and not exceptions & (_IE | _ZE):
        exceptions |= _DE
    if _IE in exceptions:
        return response(op, DEFAULT_NAN, exceptions)
    values = tuple(result.value for result in results)
    c1 = X87Status.C1 if results[-1].up else X87Status(0)
    return X87Result(effect_of(op), values, exceptions, status_mask_of(op), c1)


def _is_out_of_range(x: Float80) -> bool:
    """Whether a trigonometric instruction gives up on a number (an infinity is invalid instead)."""
    return x.exponent >= _FIRST_WITHOUT_SINE.exponent and kind_of(x) is Kind.FINITE


_Function = Callable[[tuple[Float80, ...], int], tuple[Rounded, ...]]
_Odd = Callable[[Real], tuple[bool, Real]]


def _odd_function(x: Float80, control_word: int, function: _Odd) -> Rounded:
    """Sine or tangent of an angle in range or of an infinity."""
    match kind_of(x):
        case Kind.ZERO:
            return Rounded(x)
        case Kind.INFINITY:
            return _INVALID
        case _:
            negative, value = function(magnitude(x))
            return round_real(x.negative != negative, value, control_word)


def _fsin(operands: tuple[Float80, ...], control_word: int) -> tuple[Rounded, ...]:
    return (_odd_function(operands[0], control_word, sine),)


def _fcos(operands: tuple[Float80, ...], control_word: int) -> tuple[Rounded, ...]:
    (x,) = operands
    match kind_of(x):
        case Kind.ZERO:
            return (Rounded(ONE),)
        case Kind.INFINITY:
            return (_INVALID,)
        case _:
            return (round_real(*cosine(magnitude(x)), control_word),)


def _fsincos(operands: tuple[Float80, ...], control_word: int) -> tuple[Rounded, ...]:
    return _fcos(operands, control_word) + _fsin(operands, control_word)


def _fptan(operands: tuple[Float80, ...], control_word: int) -> tuple[Rounded, ...]:
    return Rounded(ONE), _odd_function(operands[0], control_word, tangent)


def _f2xm1(operands: tuple[Float80, ...], control_word: int) -> tuple[Rounded, ...]:
    (x,) = operands
    match kind_of(x):
        case Kind.ZERO:
            return (Rounded(x),)
        case Kind.INFINITY:
            return (
                Rounded(Float80(ONE.sign_exponent | SIGN, ONE.significand) if x.negative else x),
            )
    if x.exponent >= ONE.exponent:
        return (_f2xm1_from_one(x),)
    value = exponential_minus_one(x.negative, magnitude(x))
    return (round_real(x.negative, value, control_word),)


def _f2xm1_from_one(x: Float80) -> Rounded:
    """F2XM1 of plus or minus one, and of what is out of range."""
    if x == ONE:
        return Rounded(x)
    if (x.exponent, x.significand) == ONE:
        return Rounded(Float80(x.sign_exponent - 1, x.significand))
    return Rounded(x, X87Exception.PE)


def _pi_quarters(negative: bool, count: int, control_word: int) -> Rounded:
    value = settle(lambda precision: pi_quarters(count, precision))
    return round_real(negative, value, control_word)


def _fpatan(operands: tuple[Float80, ...], control_word: int) -> tuple[Rounded, ...]:
    """The angle of the point (ST(0), ST(1)), with the sign of ST(1)."""
    x, y = operands
    kinds = kind_of(x), kind_of(y)
    sign = y.negative
    match kinds:
        case (Kind.INFINITY, Kind.INFINITY):
            result = _pi_quarters(sign, 3 if x.negative else 1, control_word)
        case (Kind.INFINITY, _) | (_, Kind.ZERO):
            result = _pi_quarters(sign, 4, control_word) if x.negative else Rounded(zero(sign))
        case (_, Kind.INFINITY) | (Kind.ZERO, _):
            result = _pi_quarters(sign, 2, control_word)
        case _:
            value = arc_tangent(magnitude(y), magnitude(x), x.negative)
            result = round_real(sign, value, control_word)
    return (result,)


def _product(
    y: Float80, negative: bool, log_is_zero: bool, log_is_infinite: bool
) -> Rounded | None:
    """y times a logarithm of known sign where one of them is zero or infinite; None where neither is."""
    kind = kind_of(y)
    sign = y.negative != negative
    if kind is Kind.INFINITY or log_is_infinite:
        return _INVALID if kind is Kind.ZERO or log_is_zero else Rounded(infinity(sign))
    if kind is Kind.ZERO or log_is_zero:
        return Rounded(zero(sign))
    return None


def _times_integer(y: Float80, factor: int, control_word: int) -> Rounded:
    """y times a logarithm that is an integer other than zero."""
    mantissa, exponent = magnitude(y)
    return round_real(
        y.negative != (factor < 0), Real(mantissa * abs(factor), exponent), control_word
    )


def _log_product(y: Float80, x: Real, control_word: int) -> Rounded:
    """y * log2(x), y being finite and not zero, x being not one."""
    exact = power_of_two(x)
    if exact is not None:
        return _times_integer(y, exact, control_word)
    negative, value = times_log2(magnitude(y), x)
    return round_real(y.negative != negative, value, control_word)


def _fyl2x(operands: tuple[Float80, ...], control_word: int) -> tuple[Rounded, ...]:
    x, y = operands
    kind = kind_of(x)
    if kind is Kind.ZERO:
        zero_divide = _ZE if kind_of(y) is Kind.FINITE else NO_EXCEPTION
        result = _product(y, negative=True, log_is_zero=False, log_is_infinite=True)
        assert result is not None
        return (result._replace(exceptions=result.exceptions | zero_divide),)
    if x.negative:
        return (_INVALID,)
    special = _product(y, x.exponent < ONE.exponent, x == ONE, kind is Kind.INFINITY)
    return (special or _log_product(y, magnitude(x), control_word),)


def _one_plus(x: Float80) -> Real:
    """1 + x, which is positive, exactly."""
    mantissa, exponent = magnitude(x)
    if x.negative:
        mantissa = -mantissa
    if exponent > 0:
        return Real((mantissa << exponent) + 1, 0)
    return Real((1 << -exponent) + mantissa, exponent)


def _fyl2xp1(operands: tuple[Float80, ...], control_word: int) -> tuple[Rounded, ...]:
    x, y = operands
    kind = kind_of(x)
    if kind is Kind.INFINITY and x.negative:
        return (_INVALID,)
    special = _product(y, x.negative, kind is Kind.ZERO, kind is Kind.INFINITY)
    if special:
        return (special,)
    if x.negative and x.exponent >= ONE.exponent:
        return (Rounded(x, X87Exception.PE),)
    limit = _LOG1P_BELOW if x.negative else _LOG1P_ABOVE
    if (x.exponent, x.significand) > limit:
        return (_log_product(y, _one_plus(x), control_word),)
    value = times_log2_1p(magnitude(y), x.negative, magnitude(x))
    return (round_real(y.negative != x.negative, value, control_word),)


_FUNCTIONS: dict[X87Op, _Function] = {
    X87Op.F2XM1: _f2xm1,
    X87Op.FYL2X: _fyl2x,
    X87Op.FPTAN: _fptan,
    X87Op.FPATAN: _fpatan,
    X87Op.FYL2XP1: _fyl2xp1,
    X87Op.FSINCOS: _fsincos,
    X87Op.FSIN: _fsin,
    X87Op.FCOS: _fcos,
}

__all__ = ["transcendental"]
