"""Agent expressions: right values, and never anything but a value, a Failure or, at first, a PacketError."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gdbstub.agent import (
    MAX_STEPS,
    Expression,
    Failure,
    Op,
    evaluate,
    is_hit,
    parse_expression,
)
from gdbstub.errors import PacketError

MASK = (1 << 64) - 1
WORDS = st.integers(0, MASK)


class Memory:
    """Register n holds n * 0x11; bytes at 0x1000.. are 1, 2, 3 ..."""

    def register(self, number: int) -> int | None:
        return number * 0x11 if number < 50 else None

    def read(self, address: int, length: int) -> bytes:
        return bytes(range(1, 65))[address - 0x1000 :][:length] if address >= 0x1000 else b""


def const(value: int) -> bytes:
    return bytes((Op.CONST64,)) + (value & MASK).to_bytes(8, "big")


def run(code: bytes) -> int | Failure:
    return evaluate(parse_expression(code + bytes((Op.END,))), Memory())


def binary(op: Op, left: int, right: int) -> int | Failure:
    return run(const(left) + const(right) + bytes((op,)))


def signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


@given(WORDS, WORDS)
def test_arithmetic_is_that_of_64_bits(a: int, b: int) -> None:
    assert binary(Op.ADD, a, b) == (a + b) & MASK
    assert binary(Op.SUB, a, b) == (a - b) & MASK
    assert binary(Op.MUL, a, b) == (a * b) & MASK
    assert binary(Op.LESS_SIGNED, a, b) == int(signed(a) < signed(b))
    assert binary(Op.LESS_UNSIGNED, a, b) == int(a < b)
    assert binary(Op.EQUAL, a, b) == int(a == b)
    assert binary(Op.BIT_XOR, a, b) == a ^ b
    if b:
        quotient = binary(Op.DIV_SIGNED, a, b)
        rest = binary(Op.REM_SIGNED, a, b)
        assert isinstance(quotient, int)
        assert isinstance(rest, int)
        assert (signed(quotient) * signed(b) + signed(rest) - signed(a)) & MASK == 0
        assert abs(signed(rest)) < abs(signed(b))
        assert binary(Op.DIV_UNSIGNED, a, b) == a // b


@given(WORDS, st.integers(0, 80))
def test_shifts_beyond_the_width_leave_nothing(a: int, by: int) -> None:
    assert binary(Op.LSH, a, by) == (a << by) & MASK
    assert binary(Op.RSH_UNSIGNED, a, by) == a >> by
    assert binary(Op.RSH_SIGNED, a, by) == (signed(a) >> by) & MASK


@given(WORDS, st.integers(1, 64))
def test_extensions_keep_the_low_bits(a: int, bits: int) -> None:
    low = a & (1 << bits) - 1
    assert run(const(a) + bytes((Op.ZERO_EXT, bits))) == low
    sign = low >> bits - 1
    assert run(const(a) + bytes((Op.EXT, bits))) == (low - (sign << bits)) & MASK


@pytest.mark.parametrize(
    ("code", "value"),
    [
        ("260008 27", 0x88),
        ("26000a 2201 13 27", 0),
        ("231000 17 27", 0x01),
        ("231000 18 27", 0x0201),
        ("231000 19 27", 0x04030201),
        ("231000 1a 27", 0x0807060504030201),
        ("2205 28 02 27", 10),
        ("2201 2202 2b 03 27", 1),
        ("2201 2202 2203 33 29 27", 1),
        ("2207 2208 3201 27", 7),
        ("2200 0e 27", 1),
        ("2200 12 27", MASK),
        # if 1 goto the second constant
        ("2201 200008 2263 27 2205 27", 5),
        ("210005 2263 2205 27", 5),
    ],
)
def test_operations(code: str, value: int) -> None:
    assert evaluate(parse_expression(bytes.fromhex(code)), Memory()) == value


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("2201 2200 05 27", "division"),
        ("2201 2200 08 27", "division"),
        ("2201 2200 07 27", "division"),
        ("02 27", "stack"),
        ("27", "stack"),
        ("2201 3205 27", "deep"),
        ("2210 19 27", "no memory"),
        ("260063 27", "not known"),
        ("210000", "no end"),
        ("2201 210000 27", "too much"),
    ],
)
def test_what_has_no_value_says_why(code: str, text: str) -> None:
    outcome = evaluate(parse_expression(bytes.fromhex(code)), Memory())
    assert isinstance(outcome, Failure)
    assert text in outcome.text


@pytest.mark.parametrize(
    "code", ["", "22", "2201", "ff27", "0c27", "210001 27", "2000ff 27", "221600 27"]
)
def test_what_is_no_code_is_refused_at_once(code: str) -> None:
    with pytest.raises(PacketError):
        parse_expression(bytes.fromhex(code))


@given(st.binary(max_size=40) | st.lists(st.sampled_from(list(Op)), max_size=40).map(bytes))
def test_any_bytes_end_in_a_documented_way(code: bytes) -> None:
    try:
        expression = parse_expression(code)
    except PacketError:
        return
    outcome = evaluate(expression, Memory())
    assert isinstance(outcome, Failure) or 0 <= outcome <= MASK


def test_a_condition_that_fails_stops() -> None:
    true, false, failing = (parse_expression(bytes.fromhex(c)) for c in ("220127", "220027", "27"))
    assert is_hit((), Memory())
    assert is_hit((false, true), Memory())
    assert is_hit((false, failing), Memory())
    assert not is_hit((false, false), Memory())


def test_endless_code_ends_soon() -> None:
    endless = Expression(((Op.GOTO, 0),))
    assert isinstance(evaluate(endless, Memory()), Failure)
    assert MAX_STEPS == 10_000


def test_ten_thousand_conditions_take_less_than_a_second() -> None:
    # What GDB makes of `*(int *) 0x1000 == 3 && $ecx < 5`, more or less.
    code = parse_expression(
        bytes.fromhex("231000 19 1620 2203 13 0e 20001a 260001 1620 2205 14 20001d 2200 27 2201 27")
    )
    begin = time.perf_counter()
    for _ in range(10_000):
        evaluate(code, Memory())
    assert time.perf_counter() - begin < 1.0
