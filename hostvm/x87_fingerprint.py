"""A fingerprint of this program's x87 mathematics, for traces and for `lgreplay doctor`.

The routines use integers only, so the fingerprint is the same on every machine. It changes when a routine does, and
then an older trace may not replay. It covers every instruction of x87.py, with the same operands in every rounding
mode.
"""

from __future__ import annotations

from hashlib import sha256
from itertools import product

from hostvm.x87 import Float80, FpuView, X87Op, apply

_SIGNS_AND_EXPONENTS = (
    0x0000,
    0x3F00,
    0x3FBE,
    0x3FFC,
    0xBFFD,
    0x3FFE,
    0x3FFF,
    0xC000,
    0x4018,
    0x403D,
)
_SIGNIFICANDS = (0x8000000000000000, 0x9E3779B97F4A7C15, 0xFFFFFFFFFFFFFFFF)
_EXTREMES = (
    Float80(0x0000, 0x0000000000000000),
    Float80(0x0000, 0x0000000000000001),
    Float80(0x7FFE, 0xFFFFFFFFFFFFFFFF),
    Float80(0x7FFF, 0x8000000000000000),
    Float80(0xFFFF, 0x8000000000000001),
)
_SECOND = (Float80(0x3FFF, 0x8000000000000000), Float80(0xC001, 0xB504F333F9DE6484))
_ALL_MASKED = 0x37F
_EMPTY = Float80(0, 0)
_DIGITS = 12


def _unit(st0: Float80, st1: Float80, rounding: int) -> FpuView:
    registers = (st0, st1, *[_EMPTY] * 6)
    return FpuView(0, (0, 0, *[1] * 6), registers, 0, _ALL_MASKED | rounding << 10)


# What maths_fingerprint() gives for the routines as they are. A trace names it; working it out for
# each trace would cost a tenth of a second, and integers do not vary. `lgreplay doctor` and a test
# do work it out.
MATHS = "bb681782aec4"


def maths_fingerprint() -> str:
    """Twelve hexadecimal digits over the results and flags for a fixed table of operands."""
    firsts = [Float80(*pair) for pair in product(_SIGNS_AND_EXPONENTS, _SIGNIFICANDS)]
    firsts += _EXTREMES
    digest = sha256()
    for op, st0, st1, rounding in product(X87Op, firsts, _SECOND, range(4)):
        after = apply(op, _unit(st0, st1, rounding))
        digest.update(repr((op.value, after.fpus, *map(tuple, after.fpregs))).encode())
    return digest.hexdigest()[:_DIGITS]


__all__ = ["MATHS", "maths_fingerprint"]
