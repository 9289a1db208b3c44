"""What lguest's kill texts print where Python would not: a word as a signed number.

`%#lx` needs no help: the kernel's own printf, unlike C's, gives a zero its prefix too.
"""

from __future__ import annotations

from hostvm.x86 import WORD_MASK

_SIGN_BIT = 1 << 31


def signed(value: int) -> int:
    """The 32-bit word as `%i` or `%li` prints it."""
    return (value & WORD_MASK ^ _SIGN_BIT) - _SIGN_BIT


__all__ = ["signed"]
