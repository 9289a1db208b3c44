"""Short random programs of every opcode, behind something that leaves flags, with operands that fault or do not.

What an instruction does to the flags, and what of them an interrupt frame shows when it faults, must not depend on how
the engine counts; nor on which instructions it has translated together. So these are run in several ways and compared.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b
from random import Random

from hostvm.cpu import Exit, ExitKind
from hostvm.cpu_state import CpuState
from tests.hostvm.bare_machine import CODE, DATA, PRESENT, BareMachine

_MISSING, _READ_ONLY = 0x28000, 0x2A000
_PLACES = (DATA, DATA, _MISSING, _READ_ONLY, _MISSING - 2, _READ_ONLY - 1)
_BIT_TESTS = b"\xa3\xab\xb3\xbb\xba"
_ROTATIONS = b"\xc0\xc1\xd0\xd1\xd2\xd3"
_SETCC = range(0x90, 0xA0)
_REGISTERS = (0, 1, 2, 3, 5, 6, 7)
# pushf; lahf; setb %al; setp %cl; seto %dl; pushf, pop %ebx; aaa; adc $5,%al
_READERS = (
    b"\x9c",
    b"\x9f",
    b"\x0f\x92\xc0",
    b"\x0f\x9a\xc1",
    b"\x0f\x90\xc2",
    b"\x9c\x5b",
    b"\x37",
    b"\x14\x05",
)
_LOCK = b"\xf0"
_HLT = 0xF4


def _flags_left(r: Random) -> bytes:
    """An instruction that leaves flags, in one of the forms that the engine has for them."""
    both = bytes([0xC0 | r.randrange(64)])
    one = r.choice(_REGISTERS)
    shifts = r.choice((0, 1, 2, 3, 6, 7)) << 3
    whole = (
        b"\x01",
        b"\x29",
        b"\x39",
        b"\x21",
        b"\x00",
        b"\x66\x11",
        b"\x19",
        b"\x0f\xaf",
        b"\x0f\xbc",
    )
    counted = (
        bytes([0xC1, 0xC0 | shifts | one, r.randrange(33)]),
        bytes([0xD3, 0xC0 | shifts | one]),
    )
    single = (bytes([0x40 | one]), bytes([0x48 | one]), bytes([0xF7, 0xE0 | one]))
    return r.choice((*(opcode + both for opcode in whole), *counted, *single))


def _opcode(r: Random) -> bytes:
    match r.randrange(8):
        case 0 | 1:
            return bytes([0x0F, r.choice([*_BIT_TESTS, *_SETCC])])
        case 2:
            return bytes([r.choice(_ROTATIONS)])
        case 3 | 4:
            return bytes([0x0F, r.randrange(256)])
        case _:
            first = r.randrange(256)
            return bytes([0x90 if first in (_HLT, 0x0F) else first])


def _instruction(r: Random) -> bytes:
    prefix = r.choice((b"", b"", b"", b"\x66", b"\xf3", b"\xf2", _LOCK))
    opcode = _opcode(r)
    if r.random() < 0.7:
        place = r.choice(_PLACES) + r.choice((0, 0, 4, r.randrange(64)))
        operand = bytes([r.randrange(8) << 3 | 5]) + struct.pack("<I", place)
    else:
        operand = bytes([0xC0 | r.randrange(64)])
        # The engine does not survive a locked bit test of a register.
        prefix = prefix.replace(_LOCK, b"")
    return prefix + opcode + operand + r.randbytes(r.choice((0, 1, 1, 4)))


def _program(r: Random) -> bytes:
    out = b""
    for _ in range(r.randrange(1, 12)):
        out += b"".join(_flags_left(r) for _ in range(r.randrange(3)))
        if r.random() < 0.5:
            out += r.choice(_READERS)
        out += _instruction(r)
    return out.replace(_LOCK + b"\x0f", b"\x0f") + b"\xcd\x80"


@dataclass(frozen=True, slots=True)
class Outcome:
    """All that may be compared."""

    ticks: int
    end: ExitKind
    state: CpuState
    memory: bytes


class InstructionRuns:
    """A machine on which one program after another runs until something stops it."""

    def __init__(self) -> None:
        self.machine = BareMachine()
        self._blank = self.machine.memory.read(0, self.machine.memory.size)

    def run(self, seed: int, cut: Callable[[], int]) -> Outcome:
        """The program of a seed, in pieces."""
        r = Random(seed)
        machine = self.machine
        machine.memory.write(0, self._blank)
        machine.memory.write(CODE, _program(r))
        for page, flags in ((0x28, 0), (0x29, 0), (0x2A, PRESENT & ~2)):
            machine.map(page, flags)
        flags = 0x202 | r.choice((0, r.randrange(4096) & 0x8D5, 0x400))
        values = (r.choice((r.randrange(1 << 32), DATA + r.randrange(64))) for _ in _REGISTERS)
        machine.start(r.choice((1, 3)), dict(zip(_REGISTERS, values, strict=True)), flags)
        limit, ticks = r.choice((3, 7, 20, 60)), 0
        done = Exit(0, ExitKind.BUDGET)
        while ticks < limit and done.kind is ExitKind.BUDGET:
            done = machine.cpu.run(min(cut(), limit - ticks))
            ticks += done.steps
        memory = blake2b(machine.memory.mapping[:], digest_size=16).digest()
        return Outcome(ticks, done.kind, machine.cpu.state(), memory)
