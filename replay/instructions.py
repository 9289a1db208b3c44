"""The few kinds of instruction that moving through time must tell apart: calls, returns, REP strings.

Source: Intel SDM volume 2, opcode map. Read next: timeline.py.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from capstone import Cs

    from hostvm.cpu import Cpu

LONGEST = 15
_PREFIXES = frozenset(b"\x26\x2e\x36\x3e\x64\x65\x66\x67\xf0\xf2\xf3")
_REP = frozenset(b"\xf2\xf3")
_STRING = frozenset(b"\x6c\x6d\x6e\x6f\xa4\xa5\xa6\xa7\xaa\xab\xac\xad\xae\xaf")
_RETURNS = frozenset(b"\xc2\xc3\xca\xcb\xcf")
_NEAR_CALL, _FAR_CALL, _GROUP_5 = 0xE8, 0x9A, 0xFF


def _without_prefixes(code: bytes) -> tuple[bytes, bytes]:
    at = 0
    while at < len(code) and code[at] in _PREFIXES:
        at += 1
    return code[:at], code[at:]


def is_rep_string(code: bytes) -> bool:
    """Whether `code` begins with a string instruction that a REP prefix repeats."""
    prefixes, rest = _without_prefixes(code)
    return bool(rest) and rest[0] in _STRING and not _REP.isdisjoint(prefixes)


def stands_at_rep(cpu: Cpu) -> bool:
    """Whether the instruction at hand is one that a REP prefix repeats."""
    return is_rep_string(cpu.read_linear(cpu.eip, LONGEST))


def goes_on_with_rep(cpu: Cpu, before: int) -> bool:
    """Whether the instruction at hand goes on with a REP, given the EIP one step before."""
    return cpu.eip == before and stands_at_rep(cpu)


def is_call(code: bytes) -> bool:
    """Whether `code` begins with a CALL, near or far, direct or not."""
    _, rest = _without_prefixes(code)
    if not rest:
        return False
    if rest[0] == _GROUP_5 and len(rest) > 1:
        return rest[1] >> 3 & 7 in (2, 3)
    return rest[0] in (_NEAR_CALL, _FAR_CALL)


def is_return(code: bytes) -> bool:
    """Whether `code` begins with RET, far RET or IRET."""
    _, rest = _without_prefixes(code)
    return bool(rest) and rest[0] in _RETURNS


@cache
def _decoder() -> Cs:
    # Loading it takes a while, and most runs need no text.
    import capstone  # noqa: PLC0415

    return capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_32)


def length_of(code: bytes) -> int:
    """Bytes of the instruction at the beginning of `code`; 0 if it is none."""
    for _, size, _, _ in _decoder().disasm_lite(code, 0, 1):
        return int(size)
    return 0


def text_of(code: bytes, address: int) -> str:
    """The instruction at the beginning of `code` as an assembler has it; "?" if it is none."""
    for _, _, name, operands in _decoder().disasm_lite(code, address, 1):
        return f"{name} {operands}".rstrip()
    return "?"


__all__ = [
    "LONGEST",
    "goes_on_with_rep",
    "is_call",
    "is_rep_string",
    "is_return",
    "length_of",
    "stands_at_rep",
    "text_of",
]
