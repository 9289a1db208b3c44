"""The x87 instructions done in integers: the manual's tables, exceptions, the register stack, remainders."""

from __future__ import annotations

import ast
import random
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import pytest

import hostvm.x87
from hostvm.x87 import (
    Float80,
    FpuView,
    StackEffect,
    X87Exception,
    X87Op,
    X87Status,
    apply,
    partial_remainder,
    transcendental,
)
from hostvm.x87_fingerprint import MATHS, maths_fingerprint
from hostvm.x87_format import DEFAULT_NAN, ONE, Kind, Real, kind_of
from hostvm.x87_rounding import round_real
from hostvm.x87_series import Enclosure, settle
from tests.hostvm.x87_numbers import (
    DENORMAL,
    INF,
    LARGEST,
    MASKED,
    MODES,
    N0,
    NINF,
    P0,
    QUIET,
    QUIET_LARGER,
    SIGNALING,
    SIGNALING_LARGER,
    TOP,
    UNNORMAL,
    any_exponent,
    fraction,
    negated,
    number,
    with_rounding,
)

IE, DE, ZE = X87Exception.IE, X87Exception.DE, X87Exception.ZE
OE, UE, PE, SF = X87Exception.OE, X87Exception.UE, X87Exception.PE, X87Exception.SF
NO = X87Exception(0)


# ---- exact results ------------------------------------------------------------------------------


def test_precision_control_does_not_shorten_a_result() -> None:
    long = transcendental(X87Op.FSIN, ONE, P0, 0x37F)
    assert transcendental(X87Op.FSIN, ONE, P0, 0x07F) == long


@pytest.mark.parametrize("mode", MODES, ids=MODES.values())
def test_logarithm_of_a_power_of_two_is_exact_where_it_fits(mode: int) -> None:
    for power in (-16445, -16382, -1000, -1, 1, 2, 63, 16383):
        x = round_real(False, Real(1, power), MASKED).value
        result = transcendental(X87Op.FYL2X, x, number(3), with_rounding(mode))
        assert fraction(result.values[0]) == 3 * power
        assert not result.exceptions & PE


def test_logarithm_of_a_power_of_two_rounds_a_tie_to_even() -> None:
    odd = Float80(0x3FFF, 2 * TOP - 1)
    eight = number(256)
    up = transcendental(X87Op.FYL2X, eight, odd, with_rounding(0))
    assert up.values == (Float80(0x4002, 2 * TOP - 1),)
    three = transcendental(X87Op.FYL2X, number(8), Float80(0x3FFF, TOP + 1), with_rounding(0))
    assert three.values == (Float80(0x4000, 0xC000000000000002),)
    assert three.status_bits == X87Status.C1


# ---- the manual's tables -----------------------------------------------------------------------

# Columns are ST(0), rows ST(1). * is invalid, Z is zero divide; F is a finite result that is not zero.
FPATAN_TABLE = """
        -inf    -F      -0      +0      +F      +inf
-inf    -3pi/4  -pi/2   -pi/2   -pi/2   -pi/2   -pi/4
-F      -pi     -F      -pi/2   -pi/2   -F      -0
-0      -pi     -pi     -pi     -0      -0      -0
+0      +pi     +pi     +pi     +0      +0      +0
+F      +pi     +F      +pi/2   +pi/2   +F      +0
+inf    +3pi/4  +pi/2   +pi/2   +pi/2   +pi/2   +pi/4
"""
FYL2X_TABLE = """
        -inf    -F      -0      +0      +small  +1      +large  +inf
-inf    *       *       +inf    +inf    +inf    *       -inf    -inf
-F      *       *       Z+inf   Z+inf   +F      -0      -F      -inf
-0      *       *       *       *       +0      -0      -0      *
+0      *       *       *       *       -0      +0      +0      *
+F      *       *       Z-inf   Z-inf   -F      +0      +F      +inf
+inf    *       *       -inf    -inf    -inf    *       +inf    +inf
"""
FYL2XP1_TABLE = """
        -inf    -low    -0      +0      +low    +inf
-inf    *       +inf    *       *       -inf    -inf
-F      *       +F      +0      -0      -F      -inf
-0      *       +0      +0      -0      -0      *
+0      *       -0      -0      +0      +0      *
+F      *       -F      -0      +0      +F      +inf
+inf    *       -inf    *       *       +inf    +inf
"""
NAMED = {
    "-inf": NINF,
    "+inf": INF,
    "-0": N0,
    "+0": P0,
    "+1": ONE,
    "-F": number(-3.5),
    "+F": number(2.75),
    "+small": number(0.375),
    "+large": number(10),
    "-low": number(-0.25),
    "+low": number(0.25),
}
PI_PARTS = {
    "pi": Float80(0x4000, 0xC90FDAA22168C235),
    "pi/2": Float80(0x3FFF, 0xC90FDAA22168C235),
    "pi/4": Float80(0x3FFE, 0xC90FDAA22168C235),
    "3pi/4": Float80(0x4000, 0x96CBE3F9990E91A8),
}


def cells(op: X87Op, table: str) -> Iterator[tuple[X87Op, str, str, str]]:
    head, *rows = (line.split() for line in table.strip("\n").splitlines())
    for y, *entries in rows:
        for x, entry in zip(head, entries, strict=True):
            yield op, x, y, entry


TABLES = [
    *cells(X87Op.FPATAN, FPATAN_TABLE),
    *cells(X87Op.FYL2X, FYL2X_TABLE),
    *cells(X87Op.FYL2XP1, FYL2XP1_TABLE),
]


@pytest.mark.parametrize(("op", "x", "y", "entry"), TABLES)
def test_result_is_the_entry_of_the_manuals_table(op: X87Op, x: str, y: str, entry: str) -> None:
    result = transcendental(op, NAMED[x], NAMED[y], MASKED)
    (value,) = result.values
    assert result.effect is StackEffect.POP
    if entry == "*":
        assert (value, result.exceptions) == (DEFAULT_NAN, IE)
        return
    zero_divide, entry = entry.startswith("Z"), entry.removeprefix("Z")
    assert value.negative == entry.startswith("-")
    if entry.endswith("F"):
        assert kind_of(value) is Kind.FINITE
        assert result.exceptions in (PE, NO)
    elif entry[1:] in PI_PARTS:
        part = PI_PARTS[entry[1:]]
        assert (value.exponent, value.significand, result.exceptions) == (*part, PE)
    else:
        assert (value, result.exceptions) == (NAMED[entry], ZE if zero_divide else NO)


ONE_OPERAND = [
    (X87Op.F2XM1, P0, (P0,), NO),
    (X87Op.F2XM1, N0, (N0,), NO),
    (X87Op.F2XM1, ONE, (ONE,), NO),
    (X87Op.F2XM1, number(-1), (number(-0.5),), NO),
    (X87Op.F2XM1, INF, (INF,), NO),
    (X87Op.F2XM1, NINF, (number(-1),), NO),
    (X87Op.FSIN, P0, (P0,), NO),
    (X87Op.FSIN, N0, (N0,), NO),
    (X87Op.FSIN, INF, (DEFAULT_NAN,), IE),
    (X87Op.FCOS, N0, (ONE,), NO),
    (X87Op.FCOS, NINF, (DEFAULT_NAN,), IE),
    (X87Op.FSINCOS, N0, (ONE, N0), NO),
    (X87Op.FSINCOS, INF, (DEFAULT_NAN, DEFAULT_NAN), IE),
    (X87Op.FPTAN, P0, (ONE, P0), NO),
    (X87Op.FPTAN, N0, (ONE, N0), NO),
    (X87Op.FPTAN, INF, (DEFAULT_NAN, DEFAULT_NAN), IE),
    (X87Op.FSIN, DENORMAL, (DENORMAL,), DE | UE | PE),
    (X87Op.FPTAN, DENORMAL, (ONE, DENORMAL), DE | UE | PE),
    (X87Op.FCOS, DENORMAL, (ONE,), DE | PE),
]


@pytest.mark.parametrize(("op", "x", "values", "exceptions"), ONE_OPERAND)
def test_special_operands_of_one_operand_instructions(
    op: X87Op, x: Float80, values: tuple[Float80, ...], exceptions: X87Exception
) -> None:
    result = transcendental(op, x, P0, MASKED)
    assert (result.values, result.exceptions) == (values, exceptions)


@pytest.mark.parametrize("op", [X87Op.FSIN, X87Op.FCOS, X87Op.FSINCOS, X87Op.FPTAN])
@pytest.mark.parametrize("x", [Float80(0x403E, TOP), Float80(0xC03E, TOP), LARGEST])
def test_angle_of_two_to_the_63_or_more_sets_c2_and_changes_nothing(op: X87Op, x: Float80) -> None:
    result = transcendental(op, x, P0, MASKED)
    assert (result.effect, result.values, result.exceptions) == (StackEffect.NONE, (), NO)
    assert result.status_bits == X87Status.C2
    largest_in_range = Float80(0x403D, 2 * TOP - 1)
    assert not transcendental(op, largest_in_range, P0, MASKED).status_bits & X87Status.C2


NANS = [
    (QUIET, ONE, QUIET, NO),
    (QUIET, QUIET_LARGER, QUIET_LARGER, NO),
    (QUIET, negated(QUIET), QUIET, NO),
    (SIGNALING, ONE, Float80(0x7FFF, 0xC000000000000ABC), IE),
    (SIGNALING, SIGNALING_LARGER, Float80(0xFFFF, 0xC000000000000FFF), IE),
    (SIGNALING_LARGER, QUIET, QUIET, IE),
    (QUIET, DENORMAL, QUIET, NO),
    (QUIET, UNNORMAL, DEFAULT_NAN, IE),
    (UNNORMAL, ONE, DEFAULT_NAN, IE),
    (Float80(0x7FFF, 0), ONE, DEFAULT_NAN, IE),
    (Float80(0x7FFF, 77), ONE, DEFAULT_NAN, IE),
]


@pytest.mark.parametrize("op", [X87Op.FPATAN, X87Op.FYL2X, X87Op.FYL2XP1, X87Op.FPREM])
@pytest.mark.parametrize(("one", "other", "value", "exceptions"), NANS)
def test_nan_is_chosen_and_quieted_as_the_manual_says(
    op: X87Op, one: Float80, other: Float80, value: Float80, exceptions: X87Exception
) -> None:
    execute = partial_remainder if op is X87Op.FPREM else transcendental
    for operands in ((one, other), (other, one)):
        result = execute(op, *operands, MASKED)
        assert (result.values, result.exceptions) == ((value,), exceptions)


@pytest.mark.parametrize("op", [X87Op.FSINCOS, X87Op.FPTAN])
def test_instruction_with_two_results_gives_a_nan_twice(op: X87Op) -> None:
    assert transcendental(op, QUIET, P0, MASKED).values == (QUIET, QUIET)


def test_invalid_and_zero_divide_hide_a_denormal_operand() -> None:
    assert transcendental(X87Op.FYL2X, negated(DENORMAL), ONE, MASKED).exceptions == IE
    assert transcendental(X87Op.FYL2X, P0, DENORMAL, MASKED).exceptions == ZE
    assert transcendental(X87Op.FYL2X, ONE, DENORMAL, MASKED).exceptions == DE


# ---- overflow, underflow, unmasked exceptions ---------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "sign", "expected"),
    [
        (0, 1, INF),
        (1, 1, LARGEST),
        (2, 1, INF),
        (3, 1, LARGEST),
        (1, -1, NINF),
        (2, -1, negated(LARGEST)),
    ],
)
def test_masked_overflow_gives_infinity_or_the_largest_number(
    mode: int, sign: int, expected: Float80
) -> None:
    y = LARGEST if sign > 0 else negated(LARGEST)
    result = transcendental(X87Op.FYL2X, number(1e9), y, with_rounding(mode))
    assert (result.values, result.exceptions) == ((expected,), OE | PE)
    assert bool(result.status_bits & X87Status.C1) == (expected in (INF, NINF))


def test_unmasked_overflow_stores_the_result_with_its_exponent_lowered() -> None:
    result = transcendental(X87Op.FYL2X, number(2**20), LARGEST, with_rounding(0, 0x3F & ~OE))
    assert result.exceptions == OE | PE
    scaled = fraction(LARGEST) * 20 / Fraction(2) ** 24576
    assert abs(fraction(result.values[0]) / scaled - 1) < Fraction(1, 1 << 62)


def test_unmasked_underflow_stores_the_result_with_its_exponent_raised() -> None:
    tiny = Float80(1, TOP)
    result = transcendental(X87Op.FPATAN, number(4), tiny, with_rounding(0, 0x3F & ~UE))
    assert result.exceptions & UE
    assert fraction(result.values[0]) == fraction(tiny) / 4 * Fraction(2) ** 24576


def test_exact_denormal_result_is_no_underflow_while_masked() -> None:
    half = number(0.5)
    result = transcendental(X87Op.FYL2X, half, Float80(0, 4), MASKED)
    assert (result.values, result.exceptions) == ((Float80(0x8000, 4),), DE)


@pytest.mark.parametrize(
    ("op", "st0", "st1", "flag"),
    [
        (X87Op.FSIN, INF, P0, IE),
        (X87Op.FSINCOS, SIGNALING, P0, IE),
        (X87Op.FYL2X, P0, ONE, ZE),
        (X87Op.FPATAN, ONE, DENORMAL, DE),
        (X87Op.FPREM, ONE, P0, IE),
    ],
)
def test_unmasked_exception_before_computing_leaves_registers_and_stack(
    op: X87Op, st0: Float80, st1: Float80, flag: X87Exception
) -> None:
    before = unit(st0, st1, control=MASKED & ~flag)
    after = apply(op, before)
    assert after._replace(fpus=0) == before._replace(fpus=0)
    assert after.fpus == flag | X87Status.ES | X87Status.B


def test_unmasked_inexact_result_is_stored_and_sets_the_summary() -> None:
    after = apply(X87Op.FSIN, unit(ONE, control=MASKED & ~PE))
    assert after.read(0) == transcendental(X87Op.FSIN, ONE, P0, MASKED).values[0]
    assert after.fpus & (PE | X87Status.ES | X87Status.B) == PE | X87Status.ES | X87Status.B


# ---- the register stack ------------------------------------------------------------------------


def unit(*stack: Float80 | None, top: int = 6, control: int = MASKED, status: int = 0) -> FpuView:
    """An x87 unit with these registers from ST(0) on; None and the rest are empty."""
    tags, registers = [1] * 8, [P0] * 8
    for index, value in enumerate(stack):
        if value is not None:
            tags[top + index & 7], registers[top + index & 7] = 0, value
    return FpuView(top, tuple(tags), tuple(registers), status, control)


def contents(fpu: FpuView) -> list[Float80 | None]:
    return [None if fpu.is_empty(index) else fpu.read(index) for index in range(8)]


@pytest.mark.parametrize("top", range(8))
def test_instruction_with_two_results_pushes_the_second(top: int) -> None:
    after = apply(X87Op.FPTAN, unit(P0, INF, top=top))
    assert after.fpstt == (top - 1) % 8
    assert contents(after) == [ONE, P0, INF, *[None] * 5]


@pytest.mark.parametrize("top", range(8))
def test_instruction_with_two_operands_pops_one(top: int) -> None:
    after = apply(X87Op.FYL2X, unit(number(8), number(5), INF, top=top))
    assert after.fpstt == (top + 1) % 8
    assert contents(after) == [number(15), INF, *[None] * 6]


@pytest.mark.parametrize("op", X87Op)
def test_missing_operand_is_a_stack_underflow_with_c1_clear(op: X87Op) -> None:
    after = apply(op, unit(status=X87Status.C1))
    assert after.fpus == IE | SF
    assert after.read(0) == DEFAULT_NAN
    assert not after.is_empty(0)


@pytest.mark.parametrize("op", [X87Op.FPATAN, X87Op.FYL2X, X87Op.FYL2XP1])
@pytest.mark.parametrize("stack", [(ONE, None, INF), (None, ONE, INF)])
def test_underflow_of_a_popping_instruction_pops(op: X87Op, stack: tuple[Float80, ...]) -> None:
    after = apply(op, unit(*stack))
    assert contents(after) == [DEFAULT_NAN, INF, *[None] * 6]


@pytest.mark.parametrize("op", [X87Op.FPTAN, X87Op.FSINCOS])
@pytest.mark.parametrize("st0", [ONE, LARGEST, QUIET])
def test_result_without_room_is_a_stack_overflow_with_c1_set(op: X87Op, st0: Float80) -> None:
    after = apply(op, unit(st0, *[INF] * 7))
    assert after.fpus == IE | SF | X87Status.C1
    assert contents(after) == [DEFAULT_NAN, DEFAULT_NAN, *[INF] * 6]


@pytest.mark.parametrize("op", [X87Op.FPTAN, X87Op.FSIN, X87Op.FYL2X])
def test_unmasked_stack_fault_changes_only_the_status(op: X87Op) -> None:
    before = unit(control=MASKED & ~IE)
    after = apply(op, before)
    assert after == before._replace(fpus=IE | SF | X87Status.ES | X87Status.B)


def test_condition_codes_that_an_instruction_does_not_define_stay() -> None:
    codes = X87Status.C0 | X87Status.C1 | X87Status.C2 | X87Status.C3
    assert apply(X87Op.FSIN, unit(P0, status=codes)).fpus == X87Status.C0 | X87Status.C3
    assert apply(X87Op.F2XM1, unit(P0, status=codes)).fpus == codes & ~X87Status.C1


def test_exception_flags_are_sticky() -> None:
    assert apply(X87Op.FSIN, unit(P0, status=ZE)).fpus == ZE


# ---- remainders --------------------------------------------------------------------------------


def quotient_bits(status: X87Status) -> int:
    weights = ((X87Status.C0, 4), (X87Status.C3, 2), (X87Status.C1, 1))
    return sum(weight for code, weight in weights if status & code)


@pytest.mark.parametrize("op", [X87Op.FPREM, X87Op.FPREM1])
def test_remainder_is_exact_and_tells_the_low_bits_of_the_quotient(op: X87Op) -> None:
    rng = random.Random(int(op))
    for _ in range(1000):
        x = any_exponent(rng, -20, 43)
        y = any_exponent(rng, -20, 20)
        result = partial_remainder(op, x, y, MASKED)
        ratio = abs(fraction(x) / fraction(y))
        quotient = round(ratio) if op is X87Op.FPREM1 else ratio.__floor__()
        rest = abs(fraction(x)) - quotient * abs(fraction(y))
        value = result.values[0]
        assert (fraction(value) if value.significand else 0) == (-rest if x.negative else rest)
        assert quotient_bits(result.status_bits) == quotient % 8
        assert result.exceptions == NO


@pytest.mark.parametrize("op", [X87Op.FPREM, X87Op.FPREM1])
def test_remainder_of_distant_numbers_is_reached_in_steps(op: X87Op) -> None:
    x, y = Float80(0x7FFE, 0xDEADBEEFDEADBEEF), Float80(0x3FFF, 0xC0FFEE0123456789)
    whole, steps = fraction(x), 0
    result = partial_remainder(op, x, y, MASKED)
    while result.status_bits & X87Status.C2:
        assert result.values[0].exponent < x.exponent
        x, steps = result.values[0], steps + 1
        result = partial_remainder(op, x, y, MASKED)
    assert 16384 // 64 <= steps <= 16384 // 32
    assert (whole - fraction(result.values[0])) % fraction(y) == 0
    assert abs(fraction(result.values[0])) < fraction(y)


def test_zero_remainder_keeps_the_sign_of_the_dividend() -> None:
    assert partial_remainder(X87Op.FPREM, number(-6), number(3), MASKED).values == (N0,)
    assert partial_remainder(X87Op.FPREM1, number(6), number(-3), MASKED).values == (P0,)


# ---- the mathematics itself --------------------------------------------------------------------


def test_settling_asks_for_more_bits_until_the_gap_is_certain() -> None:
    asked = []

    def just_above_one(precision: int) -> Enclosure:
        asked.append(precision)
        return Enclosure((1 << precision) + (1 << precision >> 200), -precision, 5)

    settled = settle(just_above_one)
    assert asked == [160, 320]
    assert Fraction(settled.mantissa) * Fraction(2) ** settled.exponent > 1


def test_fingerprint_of_the_mathematics_is_the_one_that_traces_carry() -> None:
    assert maths_fingerprint() == MATHS


def test_no_floating_point_and_no_maths_library_is_used() -> None:
    package = Path(hostvm.x87.__file__).parent
    sources = [package / "x87.py", *package.glob("x87_[frst]*.py")]
    assert len(sources) == 9
    for source in sources:
        for node in ast.walk(ast.parse(source.read_text())):
            assert not isinstance(node, ast.Div), source
            assert not (isinstance(node, ast.Constant) and isinstance(node.value, float)), source
            assert not (isinstance(node, ast.Name) and node.id in {"float", "pow"}), source
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            assert not {"math", "cmath", "decimal", "numpy"} & set(names), source
