"""What an x87 instruction does to the unit, as a value: stack effect, results, exceptions, condition codes.

Here stand also the few facts about instructions that do not depend on operands. Read next: x87_transcendental.py.

Source: Intel SDM volume 2, the instructions' pages; volume 1, 8.5.1 (masked and unmasked responses).
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

from hostvm.x87_format import Float80, X87Exception, X87Op, X87Status

TRIGONOMETRIC = frozenset({X87Op.FPTAN, X87Op.FSINCOS, X87Op.FSIN, X87Op.FCOS})
REMAINDERS = frozenset({X87Op.FPREM, X87Op.FPREM1})


class StackEffect(IntEnum):
    """How far the top of the register stack moves."""

    PUSH = -1
    NONE = 0
    POP = 1


class X87Result(NamedTuple):
    """What an instruction does to the x87 unit.

    After the stack has moved by `effect`, `values` go to ST(0), ST(1), ... (none: the registers stay as they are).
    `status_bits` replace the condition codes in `status_mask`; the exceptions are added to the status word.
    """

    effect: StackEffect
    values: tuple[Float80, ...]
    exceptions: X87Exception
    status_mask: X87Status
    status_bits: X87Status


def effect_of(op: X87Op) -> StackEffect:
    """How an instruction moves the stack when it completes."""
    match op:
        case X87Op.FPTAN | X87Op.FSINCOS:
            return StackEffect.PUSH
        case X87Op.FPATAN | X87Op.FYL2X | X87Op.FYL2XP1:
            return StackEffect.POP
        case _:
            return StackEffect.NONE


def operand_count(op: X87Op) -> int:
    """How many registers an instruction reads."""
    return 2 if effect_of(op) is StackEffect.POP or op in REMAINDERS else 1


def status_mask_of(op: X87Op) -> X87Status:
    """Condition codes that an instruction defines even where it yields no number; the others stay as they are."""
    if op in TRIGONOMETRIC or op in REMAINDERS:
        return X87Status.C1 | X87Status.C2
    return X87Status.C1


def abandoned(op: X87Op, exceptions: X87Exception, status_bits: X87Status) -> X87Result:
    """The result of an instruction that leaves its operands alone."""
    return X87Result(StackEffect.NONE, (), exceptions, status_mask_of(op), status_bits)


def response(op: X87Op, value: Float80, exceptions: X87Exception) -> X87Result:
    """The masked response of an instruction whose result, or both results, are a NaN."""
    effect = effect_of(op)
    values = (value, value) if effect is StackEffect.PUSH else (value,)
    return X87Result(effect, values, exceptions, status_mask_of(op), X87Status(0))


__all__ = [
    "REMAINDERS",
    "TRIGONOMETRIC",
    "StackEffect",
    "X87Result",
    "abandoned",
    "effect_of",
    "operand_count",
    "response",
    "status_mask_of",
]
