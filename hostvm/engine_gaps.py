"""Instructions that the engine executes wrongly and never reports, found when it translates them.

INS stores a zero before it asks for permission. The x87 transcendentals take their last bits from the host's maths
library, and the partial remainders are worked out in the host's double precision. Both must be caught before they run.
The engine tells of every block that it translates; a block with such an opcode gets a code hook on that address, which
costs nothing elsewhere. A byte pattern is a cheap first sieve; a disassembly of the block then says whether the
pattern is an instruction. Where the disassembler gives up, the rest of the block is taken as suspect: a hook too many
is harmless, because the hook looks at the instruction again.

Read next: cpu.py (hooks), x87.py (the maths).
"""

from __future__ import annotations

import re
from enum import Enum

import capstone

_SUSPECT = re.compile(rb"[\x6c-\x6f]|\xd9[\xf0-\xf3\xf5\xf8\xf9\xfb\xfe\xff]")
_PREFIXES = frozenset(b"\x26\x2e\x36\x3e\x64\x65\x66\x67\xf0\xf2\xf3")
_PORTS_IN_DX, _PORTS_IN_CODE = b"\x6c\x6d\x6e\x6f\xec\xed\xee\xef", b"\xe4\xe5\xe6\xe7"
_FAST_CALLS = b"\x05\x34"
_X87 = frozenset(b"\xf0\xf1\xf2\xf3\xf5\xf8\xf9\xfb\xfe\xff")
MAX_INSTRUCTION = 15


class Gap(Enum):
    """What kind of instruction stands at an address."""

    PORT = "ports"
    FAST_CALL = "sysenter, syscall"
    X87 = "x87 by the host's maths"


def skip_prefixes(code: bytes) -> int:
    """Number of prefix bytes at the start of an instruction."""
    at = 0
    while at < len(code) and code[at] in _PREFIXES:
        at += 1
    return at


def classify(code: bytes) -> tuple[Gap, int, int] | None:
    """(kind, opcode byte, length) of the instruction that `code` starts with, or None when it is none of ours.

    For ports there is, instead of the length, the port that the instruction names, or -1 when DX does.
    """
    at = skip_prefixes(code)
    first, second = code[at : at + 1], code[at + 1 : at + 2]
    if first and first in _PORTS_IN_DX:
        return Gap.PORT, first[0], -1
    if first and second and first in _PORTS_IN_CODE:
        return Gap.PORT, first[0], second[0]
    if first == b"\x0f" and second and second in _FAST_CALLS:
        return Gap.FAST_CALL, second[0], at + 2
    if first == b"\xd9" and second and second[0] in _X87:
        return Gap.X87, second[0], at + 2
    return None


class GapFinder:
    """Finds suspect instructions in translated blocks."""

    def __init__(self) -> None:
        self._disassembler = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_32)

    def find(self, pc: int, code: bytes) -> list[int]:
        """Linear addresses in the block at `pc` where a hook is needed."""
        if _SUSPECT.search(code) is None:
            return []
        found, end = [], pc
        for address, size, _, _ in self._disassembler.disasm_lite(code, pc):
            end = address + size
            if classify(code[address - pc : end - pc]):
                found.append(address)
        for match in _SUSPECT.finditer(code, end - pc):
            at = match.start()
            found.append(pc + at)
            while at > end - pc and code[at - 1] in _PREFIXES:
                at -= 1
                found.append(pc + at)
        return found


__all__ = ["MAX_INSTRUCTION", "Gap", "GapFinder", "classify", "skip_prefixes"]
