"""Agent expressions: conditions of breakpoints as bytecode, evaluated here instead of in GDB.

A condition on a hot breakpoint costs GDB a stop, several packets and a resumption each time; here it costs some
microseconds. The code comes from the peer, so it is taken apart and checked once, before anything runs: unknown
operations, jumps into the middle of something and missing ends are a PacketError. What can only go wrong later - an
empty stack, a division by zero, unreadable memory, no end in sight - is a value, `Failure`, and the one who asks
decides what it means.

The stack holds 64-bit values; they are kept as unsigned integers, and read as signed where an operation says so.

Source: GDB manual, appendix F (The GDB Agent Expression Mechanism). Read next: session.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from types import MappingProxyType
from typing import Protocol, TypeAlias

from gdbstub.errors import PacketError

MAX_STEPS = 10_000
MAX_STACK = 256
MAX_CODE = 1 << 14
_MASK = (1 << 64) - 1
_SIGN = 1 << 63


class View(Protocol):
    """The machine at the moment for which an expression is evaluated."""

    def register(self, number: int) -> int | None:
        """Value of a register; None if it is not known."""
        ...

    def read(self, address: int, length: int) -> bytes:
        """Up to `length` bytes of memory."""
        ...


@dataclass(frozen=True, slots=True)
class Failure:
    """An expression that has no value, and why."""

    text: str


class Op(IntEnum):
    """Operations that GDB makes conditions of; those for tracing and floating point are not among them."""

    ADD = 0x02
    SUB = 0x03
    MUL = 0x04
    DIV_SIGNED = 0x05
    DIV_UNSIGNED = 0x06
    REM_SIGNED = 0x07
    REM_UNSIGNED = 0x08
    LSH = 0x09
    RSH_SIGNED = 0x0A
    RSH_UNSIGNED = 0x0B
    LOG_NOT = 0x0E
    BIT_AND = 0x0F
    BIT_OR = 0x10
    BIT_XOR = 0x11
    BIT_NOT = 0x12
    EQUAL = 0x13
    LESS_SIGNED = 0x14
    LESS_UNSIGNED = 0x15
    EXT = 0x16
    REF8 = 0x17
    REF16 = 0x18
    REF32 = 0x19
    REF64 = 0x1A
    IF_GOTO = 0x20
    GOTO = 0x21
    CONST8 = 0x22
    CONST16 = 0x23
    CONST32 = 0x24
    CONST64 = 0x25
    REG = 0x26
    END = 0x27
    DUP = 0x28
    POP = 0x29
    ZERO_EXT = 0x2A
    SWAP = 0x2B
    PICK = 0x32
    ROT = 0x33


_OPERAND_BYTES: Mapping[Op, int] = MappingProxyType(
    {
        Op.EXT: 1,
        Op.IF_GOTO: 2,
        Op.GOTO: 2,
        Op.CONST8: 1,
        Op.CONST16: 2,
        Op.CONST32: 4,
        Op.CONST64: 8,
        Op.REG: 2,
        Op.ZERO_EXT: 1,
        Op.PICK: 1,
    }
)


@dataclass(frozen=True, slots=True)
class Expression:
    """Checked code: operations with their operands; the operand of a jump is an index into this."""

    steps: tuple[tuple[Op, int], ...]


class _Failed(Exception):
    """Leaves the evaluation; never the module."""


def _signed(value: int) -> int:
    return value - (value << 1 & _SIGN << 1)


def _divide(left: int, right: int) -> int:
    """As C does: towards zero."""
    if not right:
        raise _Failed("division by zero")
    quotient = abs(left) // abs(right)
    return quotient if (left < 0) == (right < 0) else -quotient


def _shift_left(left: int, right: int) -> int:
    return left << right if right < 64 else 0


def _extend(value: int, bits: int) -> int:
    sign = 1 << bits - 1
    return ((value & (sign << 1) - 1) ^ sign) - sign


_BINARY: Mapping[Op, Callable[[int, int], int]] = MappingProxyType(
    {
        Op.ADD: lambda a, b: a + b,
        Op.SUB: lambda a, b: a - b,
        Op.MUL: lambda a, b: a * b,
        Op.DIV_SIGNED: lambda a, b: _divide(_signed(a), _signed(b)),
        Op.DIV_UNSIGNED: _divide,
        Op.REM_SIGNED: lambda a, b: _signed(a) - _divide(_signed(a), _signed(b)) * _signed(b),
        Op.REM_UNSIGNED: lambda a, b: a - _divide(a, b) * b,
        Op.LSH: _shift_left,
        Op.RSH_SIGNED: lambda a, b: _signed(a) >> min(b, 63),
        Op.RSH_UNSIGNED: lambda a, b: a >> min(b, 64),
        Op.BIT_AND: lambda a, b: a & b,
        Op.BIT_OR: lambda a, b: a | b,
        Op.BIT_XOR: lambda a, b: a ^ b,
        Op.EQUAL: lambda a, b: a == b,
        Op.LESS_SIGNED: lambda a, b: _signed(a) < _signed(b),
        Op.LESS_UNSIGNED: lambda a, b: a < b,
    }
)
_UNARY: Mapping[Op, Callable[[int, int], int]] = MappingProxyType(
    {
        Op.LOG_NOT: lambda a, _: not a,
        Op.BIT_NOT: lambda a, _: ~a,
        Op.EXT: _extend,
        Op.ZERO_EXT: lambda a, bits: a & (1 << bits) - 1,
    }
)
_CONSTANTS = frozenset({Op.CONST8, Op.CONST16, Op.CONST32, Op.CONST64})
_LOADS: Mapping[Op, int] = MappingProxyType({Op.REF8: 1, Op.REF16: 2, Op.REF32: 4, Op.REF64: 8})


# ---- taking code apart ------------------------------------------------------------------------------


def _operations(code: bytes) -> dict[int, tuple[Op, int]]:
    """Operations by their offsets."""
    found: dict[int, tuple[Op, int]] = {}
    at = 0
    while at < len(code):
        if code[at] not in set(Op):
            raise PacketError(f"operation {code[at]:#04x} in a condition is not supported")
        op = Op(code[at])
        size = _OPERAND_BYTES.get(op, 0)
        operand = code[at + 1 : at + 1 + size]
        if len(operand) < size:
            raise PacketError("a condition ends in the middle of an operation")
        found[at] = op, int.from_bytes(operand, "big")
        at += 1 + size
    return found


def parse_expression(code: bytes) -> Expression:
    """Check code and make it fit for evaluation.

    Raises: PacketError.
    """
    if len(code) > MAX_CODE:
        raise PacketError(f"a condition of {len(code)} bytes is too long")
    operations = _operations(code)
    indexes = {offset: index for index, offset in enumerate(operations)}
    steps: list[tuple[Op, int]] = []
    for op, given in operations.values():
        operand = given
        if op in {Op.IF_GOTO, Op.GOTO}:
            if given not in indexes:
                raise PacketError(f"a condition jumps to {given:#x}, where no operation begins")
            operand = indexes[given]
        if op in {Op.EXT, Op.ZERO_EXT} and not 1 <= given <= 64:
            raise PacketError(f"a condition extends {given} bits")
        steps.append((op, operand))
    if not steps or steps[-1][0] not in {Op.END, Op.GOTO}:
        raise PacketError("a condition has no end")
    return Expression(tuple(steps))


# ---- evaluation -----------------------------------------------------------------------------------


def _load(view: View, address: int, length: int) -> int:
    data = view.read(address & 0xFFFFFFFF, length)
    if len(data) < length:
        raise _Failed(f"no memory at {address:#x}")
    return int.from_bytes(data, "little")


def _register(view: View, number: int) -> int:
    value = view.register(number)
    if value is None:
        raise _Failed(f"register {number} is not known")
    return value & _MASK


def _rearrange(op: Op, operand: int, stack: list[int]) -> None:
    match op:
        case Op.DUP:
            stack.append(stack[-1])
        case Op.POP:
            stack.pop()
        case Op.SWAP:
            stack[-1], stack[-2] = stack[-2], stack[-1]
        case Op.ROT:
            stack[-3], stack[-2], stack[-1] = stack[-1], stack[-3], stack[-2]
        case Op.PICK if operand < len(stack):
            stack.append(stack[-1 - operand])
        case _:
            raise _Failed("the stack is not that deep")


def _operate(op: Op, operand: int, stack: list[int], view: View) -> None:
    """One operation that is no jump."""
    if op in _CONSTANTS:
        stack.append(operand)
    elif op in _BINARY:
        right = stack.pop()
        stack[-1] = _BINARY[op](stack[-1], right) & _MASK
    elif op in _LOADS:
        stack[-1] = _load(view, stack[-1], _LOADS[op])
    elif op in _UNARY:
        stack[-1] = _UNARY[op](stack[-1], operand) & _MASK
    elif op is Op.REG:
        stack.append(_register(view, operand))
    else:
        _rearrange(op, operand, stack)


def _run(expression: Expression, view: View) -> int:
    stack: list[int] = []
    at = 0
    for _ in range(MAX_STEPS):
        op, operand = expression.steps[at]
        at += 1
        if op is Op.END:
            return stack[-1]
        if op is Op.GOTO:
            at = operand
        elif op is Op.IF_GOTO:
            at = operand if stack.pop() else at
        else:
            _operate(op, operand, stack, view)
        if len(stack) > MAX_STACK:
            raise _Failed("too much on the stack")
    raise _Failed(f"no end after {MAX_STEPS} steps")


def evaluate(expression: Expression, view: View) -> int | Failure:
    """The value, an unsigned 64-bit number, or why there is none."""
    try:
        return _run(expression, view)
    except _Failed as failed:
        return Failure(str(failed))
    except IndexError:
        return Failure("the stack is empty")


Conditions: TypeAlias = tuple[Expression, ...]


def is_hit(conditions: Conditions, view: View) -> bool:
    """Whether a stop with these conditions counts: there are none, one is true, or one has no value.

    A condition without a value stops, because the debugger will then evaluate it too and can say what is wrong.
    """
    if not conditions:
        return True
    values = (evaluate(condition, view) for condition in conditions)
    return any(isinstance(value, Failure) or value for value in values)


__all__ = [
    "Conditions",
    "Expression",
    "Failure",
    "Op",
    "View",
    "evaluate",
    "is_hit",
    "parse_expression",
]
