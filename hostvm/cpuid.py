"""What CPUID answers: configuration, not the machine this runs on.

The processor shown is a GenuineIntel of family 6 with what lguest's Guests may use: FPU, TSC, CX8, PGE, CMOV, MMX,
FXSR, SSE, SSE2. No RDRAND, no SYSENTER, nothing whose result would differ by host. lguest executes CPUID natively and
its Guest masks the answer, so the masks are the Guest's business. Source: Intel SDM 2A, CPUID.
"""

from __future__ import annotations

from typing import NamedTuple

MODEL_NAME = "lgreplay virtual i686"

_FEATURES = sum(1 << bit for bit in (0, 4, 8, 13, 15, 23, 24, 25, 26))
_SIGNATURE = 0x00000673
_MAX_LEAF = 2
_MAX_EXTENDED = 0x80000004


class CpuidAnswer(NamedTuple):
    """EAX, EBX, ECX, EDX."""

    eax: int
    ebx: int
    ecx: int
    edx: int


def _words(text: bytes) -> tuple[int, ...]:
    return tuple(int.from_bytes(text[at : at + 4], "little") for at in range(0, len(text), 4))


def _table() -> dict[int, CpuidAnswer]:
    first, second, third = _words(b"GenuineIntel")
    brand = _words(MODEL_NAME.encode().ljust(48, b"\0"))
    table = {
        0: CpuidAnswer(_MAX_LEAF, first, third, second),
        1: CpuidAnswer(_SIGNATURE, 0, 0, _FEATURES),
        2: CpuidAnswer(1, 0, 0, 0),
        0x80000000: CpuidAnswer(_MAX_EXTENDED, 0, 0, 0),
        0x80000001: CpuidAnswer(0, 0, 0, 0),
    }
    for index in range(3):
        table[0x80000002 + index] = CpuidAnswer(*brand[index * 4 : index * 4 + 4])
    return table


_ANSWERS = _table()


def cpuid(leaf: int) -> CpuidAnswer:
    """Answer for EAX = `leaf`; leaves beyond the last give that of the last basic one, as Intel's do."""
    return _ANSWERS.get(leaf, _ANSWERS[_MAX_LEAF])


__all__ = ["MODEL_NAME", "CpuidAnswer", "cpuid"]
