"""Random i386 programs that do everything that ever made counting go wrong, on a bare machine with a small host.

The programs jump, call and fall over page ends, fault on data and on fetches, store across pages, rewrite their own
code (also the instruction that follows), repeat string moves, use the x87, ports, privileged opcodes and software
interrupts. The host repairs page faults, skips what cannot be repaired, and now and then unmaps a page or overwrites
code from outside. All its decisions are functions of what it sees, so two equal runs get equal treatment.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b
from random import Random

from hostvm.cpu import ExitKind
from hostvm.cpu_state import CpuState
from hostvm.paging import peek
from tests.hostvm.bare_machine import (
    CODE,
    COMMON,
    DATA,
    GDT,
    HANDLERS,
    PAGE_TABLE,
    PRESENT,
    BareMachine,
)

CODE_PAGES = range(0x10, 0x15)
DATA_PAGES = range(0x20, 0x29)
_PROGRAM_BYTES = 0x4000
_VM_FLAG = 0x20000
_READ_ONLY = PRESENT & ~2

Event = tuple[int, ...]


def _word(value: int) -> bytes:
    return struct.pack("<I", value & 0xFFFFFFFF)


def _instruction(r: Random) -> bytes:
    data = _word(DATA + r.randrange(0x8000))
    code = _word(CODE + r.randrange(_PROGRAM_BYTES))
    crossing = _word(DATA + r.randrange(1, 8) * 0x1000 - r.randrange(4))
    small = bytes([r.randrange(40)])
    strings = b"\xb9" + _word(r.randrange(1, 9)) + b"\xbf" + data + b"\xbe" + data
    plain = [
        b"\x40",
        b"\x41",
        b"\x42",
        b"\x4b",
        b"\x4d",
        b"\x46",
        b"\x01\xd8",
        b"\x01\xca",
        b"\x39\xd8",
        b"\x90",
    ]
    stores = [b"\xa3" + data, b"\x89\x1d" + data, b"\xff\x05" + data, b"\xf0\xff\x05" + data]
    stores += [
        b"\xc7\x05" + crossing + code,
        b"\x8f\x05" + data,
        b"\xff\x35" + data,
        b"\xa1" + data,
    ]
    stack = [
        b"\x50",
        b"\x58",
        b"\x9c",
        b"\x9d",
        b"\x68" + code,
        b"\x60",
        b"\x61",
        b"\xc8\x10\0\0",
        b"\xc9",
    ]
    flow = [
        b"\x74" + small,
        b"\x75" + small,
        b"\xeb" + small,
        b"\xc3",
        b"\xe2" + bytes([256 - r.randrange(2, 30)]),
    ]
    flow += [b"\xe9" + _word(r.randrange(-3000, 3000)), b"\xe8" + _word(r.randrange(-300, 3000))]
    repeated = [strings + op for op in (b"\xf3\xa4", b"\xf3\xab", b"\xf3\xa5", b"\xf2\xae")]
    x87 = [
        b"\xd9\xe8",
        b"\xdd\x1d" + data,
        b"\xdb\x05" + data,
        b"\xde\xc1",
        b"\xdf\xe0",
        b"\xd9\xe8\xd9\xfe",
    ]
    traps = [
        b"\xcd\x80",
        b"\xcd\x30",
        b"\xcc",
        b"\x0f\x0b",
        b"\xf7\xf1",
        b"\xf4",
        b"\xfa",
        b"\x8e\xd8",
    ]
    ports = [b"\xe4\x60", b"\xe7\x10", b"\x6d", b"\x6e", b"\x0f\xa2", b"\x0f\x31", b"\x0f\x20\xc0"]
    modifying = [b"\xc6\x05" + code + b"\x90", b"\xc6\x05" + code + b"\x40", b"\xa3" + code]
    modifying += [b"\xb9" + _word(r.randrange(1, 60)) + b"\xbf" + code + b"\xf3\xaa"]
    immediate = [
        b"\xb8" + data,
        b"\x05" + code,
        b"\x66\x05\x34\x12",
        b"\x83\xec" + small,
        b"\xfc",
        b"\xfd",
    ]
    kinds = (plain, stores, stack, flow, repeated, x87, traps, ports, modifying, immediate)
    return r.choice(r.choices(kinds, weights=(6, 5, 4, 4, 2, 3, 3, 2, 2, 4))[0])


def _program(r: Random) -> bytes:
    out = bytearray()
    while len(out) < _PROGRAM_BYTES:
        out += _instruction(r)
    return bytes(out[:_PROGRAM_BYTES])


@dataclass(frozen=True, slots=True)
class Outcome:
    """All that may be compared between two runs: what the host saw, and the final state."""

    events: tuple[Event, ...]
    state: CpuState
    memory: bytes
    tick: int


class RandomRun:
    """One run of the program of a seed. `ring` is 1 or 3; ring-0 code runs in the handlers."""

    def __init__(self, seed: int, ring: int) -> None:
        r = Random(seed)
        self.machine = machine = BareMachine(_program(r))
        machine.memory.write(COMMON, b"\xf4\x83\xc4\x08\xcf")
        for page in (*range(GDT >> 12, 7), HANDLERS >> 12, COMMON >> 12):
            machine.map(page, _READ_ONLY)
        for page in (*CODE_PAGES, *DATA_PAGES):
            if r.random() < 0.7:
                machine.map(page, 0)
        self.tick = 0
        self.turns = 0
        self.events: list[Event] = []
        machine.cpu.read_tsc = lambda: self.tick + machine.cpu.progress
        regs = {index: r.randrange(1 << 32) for index in (0, 1, 2, 3, 5, 6, 7)}
        machine.start(ring, {**regs, 4: 0x30000 - 0x20})

    def advance(self, limit: int) -> bool:
        """Run at most `limit` ticks; False when the CPU has shut down."""
        done = self.machine.cpu.run(limit)
        assert 0 < done.steps <= limit
        self.tick += done.steps
        if done.kind is ExitKind.HALT:
            self._host()
        return done.kind is not ExitKind.SHUTDOWN

    def _host(self) -> None:
        machine, memory = self.machine, self.machine.memory
        esp = machine.cpu.env.regs[4] & 0xFFFFFFFF
        frame = struct.unpack("<7I", machine.cpu.read_linear(esp, 28))
        fault_address = machine.cpu.env.cr[2] & 0xFFFFFFFF
        self.turns += 1
        self.events.append((self.tick, *frame[:5], fault_address))
        r = Random(zlib.crc32(repr((self.turns, frame)).encode()))
        page = fault_address >> 12
        eip = frame[2]
        missing = not memory.read_u32(PAGE_TABLE + 4 * page) & 1 if page < 0x100 else False
        if frame[0] == 14 and missing and page in range(0x10, 0x30):
            machine.map(page)
        elif frame[0] not in (0x80, 3):
            eip = CODE + r.randrange(0x3F00)
        if r.random() < 0.3:
            machine.map(r.choice((*CODE_PAGES, *DATA_PAGES)), 0)
        if r.random() < 0.2:
            memory.write(CODE + r.randrange(0x3FFF), bytes([r.randrange(256)]))
        machine.cpu.flush_tlb()
        self._poke(esp + 8, eip)
        # Virtual-8086 mode cannot be reached under lguest: no ring-0 iret takes its flags from a Guest.
        self._poke(esp + 16, frame[4] & ~_VM_FLAG)

    def _poke(self, linear: int, value: int) -> None:
        physical = peek(self.machine.memory, self.machine.cpu.address_space(), linear)
        if physical is not None:
            self.machine.memory.write_u32(physical, value)

    def outcome(self) -> Outcome:
        """What there is to compare."""
        content = blake2b(self.machine.memory.mapping[:], digest_size=16).digest()
        return Outcome(tuple(self.events), self.machine.cpu.state(), content, self.tick)

    def hand_over(self) -> None:
        """Go on in a fresh engine: state and memory carried as values."""
        old = self.machine
        new = BareMachine()
        new.memory.write(0, old.memory.mapping[:])
        new.cpu.read_tsc = lambda: self.tick + new.cpu.progress
        new.cpu.restore(old.cpu.state())
        self.machine = new


def run(
    seed: int,
    ring: int,
    ticks: int,
    cut: Callable[[], int],
    between: Callable[[RandomRun], None] | None = None,
) -> Outcome:
    """Run for `ticks`, cut into pieces by `cut`, with `between` called before each piece."""
    it = RandomRun(seed, ring)
    while it.tick < ticks:
        if between is not None:
            between(it)
        if not it.advance(min(cut(), ticks - it.tick)):
            break
    return it.outcome()
