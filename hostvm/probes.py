"""Probes: being told when the CPU comes to an instruction or touches memory, without changing what it does.

What a debugger's breakpoints and watchpoints are made of. A code probe is a range of linear addresses, a memory probe a
range of host-physical ones, so that a page seen through two mappings is one page. What they report:

(i) *Code*: called before an instruction in the range is executed, with the CPU's state as it then is. If the answer is
true the run ends there, before the instruction. A REP string instruction reports each of its iterations.

(ii) *Memory*: called in the middle of an instruction, so the run can end only behind it. The engine reports where an
access begins; so ranges are stretched downwards by the longest access, and each report is checked for overlap here.
What Python stores (the Host, devices, interrupt frames) comes by the same door, see memory.py.

A probe that is installed costs time even where it never reports: all loads, or all stores, then take the engine's
slow path. So memory probes are split by direction. Read next: probe_hooks.py, which installs them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

Span: TypeAlias = tuple[int, int]
LONGEST_ACCESS = 64
EVERYWHERE: Span = (0, 0xFFFFFFFF)


@dataclass(frozen=True, slots=True)
class Access:
    """Memory was touched: first host-physical address and number of bytes; `by_cpu` or by Python code of the Host."""

    address: int
    count: int
    is_write: bool
    by_cpu: bool


OnCode: TypeAlias = Callable[[int], bool]
OnAccess: TypeAlias = Callable[[Access], bool]


def _never(_address: int) -> bool:
    return False


def _ignore(_access: Access) -> bool:
    return False


@dataclass(frozen=True, slots=True)
class Probes:
    """What to report, and to whom; ranges are (first, last), both included.

    `on_code(linear address)` answers whether to stop before the instruction; `on_access` whether to stop behind it.
    Neither may change anything.
    """

    code: tuple[Span, ...] = ()
    reads: tuple[Span, ...] = ()
    writes: tuple[Span, ...] = ()
    on_code: OnCode = _never
    on_access: OnAccess = _ignore

    def __bool__(self) -> bool:
        return bool(self.code or self.reads or self.writes)


def stretched(span: Span) -> Span:
    """The addresses at which an access that touches `span` may begin."""
    return max(1, span[0] - LONGEST_ACCESS + 1), span[1]


def touches(spans: Sequence[Span], address: int, count: int) -> bool:
    """Whether an access of `count` bytes at `address` overlaps one of `spans`."""
    last = address + count - 1
    return any(begin <= last and address <= end for begin, end in spans)


NO_PROBES = Probes()

__all__ = [
    "EVERYWHERE",
    "NO_PROBES",
    "Access",
    "OnAccess",
    "OnCode",
    "Probes",
    "Span",
    "stretched",
    "touches",
]
