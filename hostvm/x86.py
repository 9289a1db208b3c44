"""Numbers of the i386 architecture under the names that the Intel SDM gives them.

Only numbers and pure packing live here: EFLAGS, control registers, page-table entries, page-fault error codes,
descriptors and gates. Sources: Intel SDM volume 3A, chapters 2 (registers), 3 (segments), 4 (paging), 6 (interrupts).
"""

from __future__ import annotations

from enum import IntEnum, IntFlag

PAGE_SIZE = 4096
PAGE_SHIFT = 12
PAGE_MASK = 0xFFFFF000
WORD_MASK = 0xFFFFFFFF

# In the order in which instructions number them, SDM 2A 2.1.5.
GENERAL_REGISTERS = ("eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi")


class Eflags(IntFlag):
    """SDM 3A 2.3."""

    CF = 1 << 0
    FIXED = 1 << 1
    PF = 1 << 2
    AF = 1 << 4
    ZF = 1 << 6
    SF = 1 << 7
    TF = 1 << 8
    IF = 1 << 9
    DF = 1 << 10
    OF = 1 << 11
    IOPL = 3 << 12
    NT = 1 << 14
    RF = 1 << 16
    VM = 1 << 17
    AC = 1 << 18
    ID = 1 << 21


class Cr0(IntFlag):
    """SDM 3A 2.5."""

    PE = 1 << 0
    MP = 1 << 1
    EM = 1 << 2
    TS = 1 << 3
    ET = 1 << 4
    NE = 1 << 5
    WP = 1 << 16
    AM = 1 << 18
    PG = 1 << 31


class Cr4(IntFlag):
    """SDM 3A 2.5."""

    TSD = 1 << 2
    PSE = 1 << 4
    PAE = 1 << 5
    PGE = 1 << 7
    OSFXSR = 1 << 9
    OSXMMEXCPT = 1 << 10


class Pte(IntFlag):
    """Flags of a 32-bit page-directory or page-table entry, SDM 3A 4.3."""

    P = 1 << 0
    RW = 1 << 1
    US = 1 << 2
    PWT = 1 << 3
    PCD = 1 << 4
    A = 1 << 5
    D = 1 << 6
    PSE = 1 << 7
    G = 1 << 8


class PageFault(IntFlag):
    """Error code of vector 14, SDM 3A 4.7."""

    P = 1 << 0
    WRITE = 1 << 1
    USER = 1 << 2


class Vector(IntEnum):
    """SDM 3A 6.3."""

    DE = 0
    DB = 1
    NMI = 2
    BP = 3
    OF = 4
    BR = 5
    UD = 6
    NM = 7
    DF = 8
    TS = 10
    NP = 11
    SS = 12
    GP = 13
    PF = 14
    MF = 16
    AC = 17
    XM = 19


VECTORS_WITH_ERROR_CODE = frozenset({8, 10, 11, 12, 13, 14, 17})


class GateType(IntEnum):
    """Type field of an IDT entry, SDM 3A 6.11."""

    TASK = 0x5
    INTERRUPT_16 = 0x6
    TRAP_16 = 0x7
    INTERRUPT = 0xE
    TRAP = 0xF


GATE_PRESENT = 0x8000


def gate_offset(lo: int, hi: int) -> int:
    """Handler address of an IDT entry given as two 32-bit words."""
    return (lo & 0xFFFF) | (hi & 0xFFFF0000)


def gate_selector(lo: int) -> int:
    """Code segment selector of an IDT entry."""
    return lo >> 16 & 0xFFFF


def gate_type(hi: int) -> int:
    """Four-bit type of an IDT entry (see GateType)."""
    return hi >> 8 & 0xF


def gate_dpl(hi: int) -> int:
    """Privilege level from which `int n` may use this gate."""
    return hi >> 13 & 3


def gate_present(hi: int) -> bool:
    """Whether the gate may be used at all."""
    return bool(hi & GATE_PRESENT)


def pack_gate(selector: int, offset: int, kind: int, dpl: int) -> tuple[int, int]:
    """Two 32-bit words (lo, hi) of a present gate."""
    lo = selector << 16 | (offset & 0xFFFF)
    return lo, (offset & 0xFFFF0000) | GATE_PRESENT | dpl << 13 | kind << 8


# Second word of a descriptor, without base and limit: present, S=1 and the type, granular, 32-bit.
DESC_CODE = 0x00C09B00
DESC_DATA = 0x00C09300
DESC_DPL_SHIFT = 13
DESC_ACCESSED = 1 << 8
DESC_PRESENT = 1 << 15


def pack_descriptor(base: int, limit: int, access: int, flags: int) -> tuple[int, int]:
    """Two words of a segment descriptor: 20-bit limit, 8-bit access byte, 4-bit flags (G, D/B, L, AVL)."""
    lo = (limit & 0xFFFF) | (base & 0xFFFF) << 16
    hi = (base >> 16 & 0xFF) | access << 8 | (limit & 0xF0000) | flags << 20 | (base & 0xFF000000)
    return lo, hi


def descriptor_base(lo: int, hi: int) -> int:
    """Linear base address of a segment descriptor."""
    return lo >> 16 | (hi & 0xFF) << 16 | (hi & 0xFF000000)


def descriptor_limit(lo: int, hi: int) -> int:
    """Limit in bytes of a segment descriptor (granularity applied)."""
    limit = (lo & 0xFFFF) | (hi & 0xF0000)
    return (limit << 12 | 0xFFF) if hi & 1 << 23 else limit
