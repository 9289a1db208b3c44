"""Which program a process runs, and where it was put: told by what the kernel wrote on its stack when it began.

At the upper end of the stack of every ELF program lies the auxiliary vector, pairs of words in an order and with
meanings that are an interface, so there is one in all kernels, and no debugging information is needed. The address
where the program begins tells whether it is the file that one has in mind, and how far a program was moved that may be
anywhere. It is looked for from the end of the program's addresses downwards: the stack begins near there, at random.

Source: System V ABI, Intel386 supplement, "Process Initialization"; getauxval(3). Read next: gdbstub/given_programs.py.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain

_PAGE = 4096
_HEADER_BYTES = 32
_VECTOR_BYTES = 256
_FARTHEST = 20 << 20
_END, _HEADER_SIZE, _PAGE_SIZE, _ENTRY, _FILE = 0, 4, 6, 9, 31
_MARK = struct.pack("<2I", _PAGE_SIZE, _PAGE)
_LONGEST_NAME = 4096


@dataclass(frozen=True, slots=True)
class RunningProgram:
    """A program in memory: `at` is where that was found, `entry` where it begins, `file` how it was named, if known."""

    at: int
    entry: int
    file: str


def running_program(
    read: Callable[[int, int], bytes], top: int, hint: int = 0
) -> RunningProgram | None:
    """The program of the process that `read` reads, whose addresses end at `top`; None where there is none yet.

    `hint`: where it was found before, perhaps.
    """
    places = chain((hint,) if hint else (), _places(read, top))
    return next(filter(None, (_vector(read, at) for at in places)), None)


def _places(read: Callable[[int, int], bytes], top: int) -> Iterator[int]:
    """Addresses at which the mark stands, from above."""
    for page in range(top - _PAGE, max(top - _FARTHEST, 0), -_PAGE):
        # A mark may lie across the end of its page.
        raw = read(page, _PAGE + 4)
        at = raw.rfind(_MARK)
        while at >= 0:
            yield page + at
            at = raw.rfind(_MARK, 0, at)


def _vector(read: Callable[[int, int], bytes], at: int) -> RunningProgram | None:
    """The vector of which this is a part."""
    if at % 4 or read(at, len(_MARK)) != _MARK:
        return None
    raw = read(at, _VECTOR_BYTES)
    values: dict[int, int] = {}
    for kind, value in struct.iter_unpack("<2I", raw[: len(raw) & ~7]):
        if kind == _END:
            break
        values[kind] = value
    if values.get(_HEADER_SIZE) != _HEADER_BYTES or _ENTRY not in values:
        return None
    name = read(values[_FILE], _LONGEST_NAME).partition(b"\0")[0] if _FILE in values else b""
    return RunningProgram(at, values[_ENTRY], name.decode("utf-8", "backslashreplace"))


__all__ = ["RunningProgram", "running_program"]
