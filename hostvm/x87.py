"""The x87 instructions that the CPU engine leaves to the host's maths library or compiler, done here in integers.

A trace must replay to the same bits on another machine, so nothing here uses floating point. `apply` executes one of
the instructions of `X87Op` on a `FpuView`, a copy of the engine's x87 fields, and returns the view after it: registers,
tags, top of stack and status word, with stack faults, masked and unmasked exceptions as the manual says.

The CPU layer copies the fields in and out, and does what concerns the instruction and not the unit: first CR0.EM and
CR0.TS (#NM), then an unmasked exception that is already pending (ES set: #MF); afterwards EIP, and FIP and FCS, which
name this instruction. An exception raised here sets ES and B, and the next waiting x87 instruction reports it.

Parts: x87_format.py (registers as integers), x87_rounding.py, x87_series.py and x87_functions.py (the mathematics),
x87_result.py, x87_transcendental.py and x87_remainder.py (the instructions), x87_fingerprint.py (a check of them all).

Source: Intel SDM volume 1, 8.1.2 to 8.1.7 (stack, status, tags), 8.5.1.1 (stack faults), 8.6 (how exceptions surface).
"""

from __future__ import annotations

from typing import NamedTuple

from hostvm.x87_format import (
    DEFAULT_NAN,
    MASKABLE,
    Float80,
    X87Exception,
    X87Op,
    X87Status,
)
from hostvm.x87_remainder import partial_remainder
from hostvm.x87_result import (
    REMAINDERS,
    StackEffect,
    X87Result,
    abandoned,
    effect_of,
    operand_count,
    response,
)
from hostvm.x87_transcendental import transcendental

_NOTHING = Float80(0, 0)


class FpuView(NamedTuple):
    """The x87 unit as the engine keeps it: `fpregs` and `fptags` by physical number, a tag of 1 meaning empty.

    `fpus` is the status word; its TOP field is not used, `fpstt` is.
    """

    fpstt: int
    fptags: tuple[int, ...]
    fpregs: tuple[Float80, ...]
    fpus: int
    fpuc: int

    def is_empty(self, index: int) -> bool:
        """Whether ST(index) is empty."""
        return bool(self.fptags[self.fpstt + index & 7])

    def read(self, index: int) -> Float80:
        """ST(index)."""
        return self.fpregs[self.fpstt + index & 7]


def apply(op: X87Op, fpu: FpuView) -> FpuView:
    """The x87 unit after the instruction."""
    result = _stack_fault(op, fpu) or _execute(op, fpu)
    return _commit(fpu, result)


def _execute(op: X87Op, fpu: FpuView) -> X87Result:
    st0, st1 = fpu.read(0), fpu.read(1) if operand_count(op) == 2 else _NOTHING
    if op in REMAINDERS:
        return partial_remainder(op, st0, st1, fpu.fpuc)
    return transcendental(op, st0, st1, fpu.fpuc)


def _stack_fault(op: X87Op, fpu: FpuView) -> X87Result | None:
    """Response to an operand that is not there (C1 clear) or a result that has no room (C1 set)."""
    underflow = any(fpu.is_empty(index) for index in range(operand_count(op)))
    overflow = effect_of(op) is StackEffect.PUSH and not fpu.is_empty(7)
    if not underflow and not overflow:
        return None
    flags = X87Exception.IE | X87Exception.SF
    c1 = X87Status(0) if underflow else X87Status.C1
    if not fpu.fpuc & X87Exception.IE:
        return abandoned(op, flags, c1)
    return response(op, DEFAULT_NAN, flags)._replace(status_bits=c1)


def _commit(fpu: FpuView, result: X87Result) -> FpuView:
    """Move the stack, store the values, and note flags and condition codes."""
    top = fpu.fpstt + result.effect & 7
    tags, registers = list(fpu.fptags), list(fpu.fpregs)
    if result.effect is StackEffect.POP:
        tags[fpu.fpstt] = 1
    for index, value in enumerate(result.values):
        tags[top + index & 7] = 0
        registers[top + index & 7] = value
    status = (fpu.fpus & ~result.status_mask | result.status_bits) | result.exceptions
    if status & ~fpu.fpuc & MASKABLE:
        status |= X87Status.ES | X87Status.B
    return FpuView(top, tuple(tags), tuple(registers), int(status), fpu.fpuc)


__all__ = [
    "Float80",
    "FpuView",
    "StackEffect",
    "X87Exception",
    "X87Op",
    "X87Result",
    "X87Status",
    "apply",
    "partial_remainder",
    "transcendental",
]
