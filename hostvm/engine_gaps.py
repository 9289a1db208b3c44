"""Instructions that the engine executes wrongly and never reports, found when it translates them.

INS stores a zero before it asks for permission, and OUTS reads memory. LOOPE and LOOPNE lose the flags when they have
counted to the end. IRET goes to virtual-8086 mode from any ring, if the flags that it finds say so. The x87
transcendentals take their last bits from the host's maths library, and the partial remainders are worked out in the
host's double precision. All must be caught before they run.
The engine tells of every block that it translates; a block with such an opcode gets a code hook on that address, which
costs nothing elsewhere. A byte pattern is a cheap first sieve; a disassembly of the block then says whether the
pattern is an instruction. Where the disassembler gives up, the rest of the block is taken as suspect: a hook too many
is harmless, because the hook looks at the instruction again.

Read next: gap_filler.py (hooks), x87.py (the maths).
"""

from __future__ import annotations

import re
from enum import Enum
from functools import cached_property
from typing import Any

from hostvm.cpu_state import ECX
from hostvm.engine_layout import Env

_SUSPECT = re.compile(rb"[\x6c-\x6f\xe0\xe1]|\xd9[\xf0-\xf3\xf5\xf8\xf9\xfb\xfe\xff]|\xcf\Z")
_PREFIXES = frozenset(b"\x26\x2e\x36\x3e\x64\x65\x66\x67\xf0\xf2\xf3")
_PORTS_IN_DX, _PORTS_IN_CODE = b"\x6c\x6d\x6e\x6f\xec\xed\xee\xef", b"\xe4\xe5\xe6\xe7"
_LOOPS, IRET = b"\xe0\xe1", b"\xcf"
_OPERAND_SIZE, _ADDRESS_SIZE, _LOOPE = 0x66, 0x67, 0xE1
_FAST_CALLS = b"\x05\x34"
_X87 = frozenset(b"\xf0\xf1\xf2\xf3\xf5\xf8\xf9\xfb\xfe\xff")
MAX_INSTRUCTION = 15


class Gap(Enum):
    """What kind of instruction stands at an address."""

    PORT = "ports"
    FAST_CALL = "sysenter, syscall"
    LOOP = "loope, loopne"
    IRET = "iret"
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
    if first and first in _LOOPS:
        return Gap.LOOP, first[0], at + 2
    if first == IRET and _OPERAND_SIZE not in code[:at]:
        return Gap.IRET, first[0], at + 1
    if first == b"\xd9" and second and second[0] in _X87:
        return Gap.X87, second[0], at + 2
    return None


def loop(env: Env, code: bytes, *, zero: bool) -> None:
    """Carry out the LOOPE or LOOPNE that `code` starts with; `zero` is ZF."""
    at = skip_prefixes(code)
    mask = 0xFFFF if _ADDRESS_SIZE in code[:at] else 0xFFFFFFFF
    old = env.regs[ECX] & 0xFFFFFFFF
    count = old - 1 & mask
    env.regs[ECX] = old & ~mask | count
    distance = 0
    if count and zero == (code[at] == _LOOPE):
        distance = int.from_bytes(code[at + 1 : at + 2], signed=True)
        if _OPERAND_SIZE in code[:at]:
            env.eip = env.eip + at + 2 + distance & 0xFFFF
            return
    env.eip = env.eip + at + 2 + distance & 0xFFFFFFFF


class GapFinder:
    """Finds suspect instructions in translated blocks."""

    @cached_property
    def _disassembler(self) -> Any:
        # Loading it takes a while, and the compiled part does without.
        import capstone  # noqa: PLC0415

        return capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_32)

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


__all__ = ["IRET", "MAX_INSTRUCTION", "Gap", "GapFinder", "classify", "loop", "skip_prefixes"]
