"""A bare i386 for CPU tests: flat segments for rings 0, 1 and 3, paging, an IDT whose handlers stop at a hlt.

No assembler is needed: programs are bytes. Every vector's handler pushes its number (after a zero where the CPU pushed
no error code) and jumps to a hlt, so a test sees the frame as words on the ring-0 stack; behind the hlt stand
`add $8,%esp; iret`, for tests that go on.
"""

from __future__ import annotations

import struct
from dataclasses import replace

from hostvm.cpu import Cpu, Exit
from hostvm.cpu_state import CpuState, Segment
from hostvm.memory import PhysicalMemory
from hostvm.units import HostPhysical
from hostvm.x86 import (
    DESC_CODE,
    DESC_DATA,
    PAGE_SIZE,
    VECTORS_WITH_ERROR_CODE,
    pack_descriptor,
    pack_gate,
)

GDT, TSS, IDT, PAGE_DIRECTORY, PAGE_TABLE = 0x1000, 0x1800, 0x2000, 0x4000, 0x5000
STACK0, STACK1, STACK3 = 0x8000, 0xA000, 0x30000
HANDLERS, COMMON = 0xC000, 0xD000
CODE, DATA = 0x10000, 0x20000
PRESENT = 0x67
USER_GATES = 0x80

CODE_SELECTOR = {0: 0x08, 1: 0x19, 3: 0x2B}
DATA_SELECTOR = {0: 0x10, 1: 0x21, 3: 0x33}
STACKS = {0: STACK0, 1: STACK1, 3: STACK3}


def _descriptors() -> bytes:
    table = [(0, 0)]
    for ring in (0, 1, 3):
        table.append(pack_descriptor(0, 0xFFFFF, 0x9B | ring << 5, 0xC))
        table.append(pack_descriptor(0, 0xFFFFF, 0x93 | ring << 5, 0xC))
    table.append(pack_descriptor(TSS, 0x67, 0x89, 0))
    return b"".join(struct.pack("<II", *entry) for entry in table)


def _handler(vector: int) -> bytes:
    start = b"\x90\x90" if vector in VECTORS_WITH_ERROR_CODE else b"\x6a\x00"
    here = HANDLERS + 16 * vector + 12
    return (
        start + b"\x68" + vector.to_bytes(4, "little") + b"\xe9" + struct.pack("<i", COMMON - here)
    )


class BareMachine:
    """Memory, a CPU, and a program at CODE."""

    def __init__(self, program: bytes = b"", size: int = 1 << 20) -> None:
        self.memory = PhysicalMemory(HostPhysical(0), size)
        self.cpu = Cpu(self.memory)
        write = self.memory.write
        write(GDT, _descriptors())
        write(
            TSS, struct.pack("<IIIII", 0, STACK0, 0x10, STACK1, 0x21).ljust(102, b"\0") + b"\x68\0"
        )
        for vector in range(256):
            write(HANDLERS + 16 * vector, _handler(vector))
            dpl = 3 if vector >= USER_GATES or vector in (3, 4) else 0
            self.set_gate(vector, HANDLERS + 16 * vector, dpl=dpl)
        write(COMMON, b"\xf4\x83\xc4\x08\xcf")
        self.memory.write_u32(PAGE_DIRECTORY, PAGE_TABLE | PRESENT)
        for page in range(size // PAGE_SIZE):
            self.map(page)
        write(CODE, program)

    def set_gate(
        self, vector: int, handler: int, *, kind: int = 0xE, dpl: int = 0, cs: int = 8
    ) -> None:
        """Write one IDT entry."""
        self.memory.write(IDT + 8 * vector, struct.pack("<II", *pack_gate(cs, handler, kind, dpl)))

    def map(self, page: int, flags: int = PRESENT) -> None:
        """Map a page at its own address; flags 0 unmaps it. The caller flushes the TLB after the first run."""
        self.memory.write_u32(PAGE_TABLE + 4 * page, page << 12 | flags if flags else 0)

    def start(self, ring: int, regs: dict[int, int] | None = None, eflags: int = 0x202) -> None:
        """Put the CPU at CODE in `ring`; `regs` by index (EAX ECX EDX EBX ESP EBP ESI EDI)."""
        self.cpu.restore(initial_state(ring, regs or {}, eflags))

    def run_to_handler(self, budget: int = 1000) -> tuple[Exit, tuple[int, ...]]:
        """Run until a handler's hlt; returns the exit and (vector, error code, eip, cs, eflags, esp, ss)."""
        done = self.cpu.run(budget)
        esp = self.cpu.state().regs[4]
        return done, struct.unpack("<7I", self.cpu.read_linear(esp, 28))


def initial_state(ring: int, regs: dict[int, int], eflags: int) -> CpuState:
    """A state at CODE with flat segments for `ring`."""
    null = Segment(0, 0, 0, 0)
    code_flags, data_flags = (kind | 0xF0000 | ring << 13 for kind in (DESC_CODE, DESC_DATA))
    code = Segment(CODE_SELECTOR[ring], 0, 0xFFFFFFFF, code_flags)
    data = Segment(DATA_SELECTOR[ring], 0, 0xFFFFFFFF, data_flags)
    values = [0] * 8
    values[4] = STACKS[ring]
    for index, value in regs.items():
        values[index] = value
    blank = CpuState(
        regs=tuple(values),
        eip=CODE,
        eflags=eflags,
        segs=(data, code, data, data, null, null),
        tables=(
            null,
            Segment(0x38, TSS, 0x67, 0x8B00),
            Segment(0, GDT, 63, 0),
            Segment(0, IDT, 2047, 0),
        ),
        cr=(0x80010033, 0, PAGE_DIRECTORY, 0x600),
        dr=(0, 0, 0, 0, 0, 0, 0xFFFF0FF0, 0x400),
        fpu=(0, 0, 0x37F, b"\1" * 8, bytes(80), 0, 0, 0, 0, 0),
        mxcsr=0x1F80,
        xmm=bytes(128),
        sysenter_cs=0,
        shadow=False,
        nmi_blocked=False,
    )
    return replace(blank, regs=tuple(values))
