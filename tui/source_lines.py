"""Which line of which source file an address comes from, for kernels whose ELF file has DWARF line tables.

Reading the tables takes a while, so it is done once, when the engine's thread has nothing else to do, and not at all
for tables so large that it would be felt. A kernel without them has no source lines, and that is no error.

Source: DWARF 5, section 6.2. Read next: code_view.py.
"""

from __future__ import annotations

import io
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath
from typing import Any

from elftools.common.exceptions import DWARFError, ELFError
from elftools.elf.elffile import ELFFile

LARGEST = 4 << 20


class SourceLines:
    """Source lines of the Guests' kernels, given as files; `read` one after the other."""

    def __init__(self, kernels: Sequence[bytes]) -> None:
        self._kernels = list(kernels)
        self._tables: list[tuple[list[int], list[str]]] = []

    @property
    def whole(self) -> bool:
        """Whether all have been read."""
        return len(self._tables) == len(self._kernels)

    def read(self) -> None:
        """Read the next kernel's tables."""
        if not self.whole:
            rows = sorted(_rows(self._kernels[len(self._tables)]))
            self._tables.append(([address for address, _ in rows], [text for _, text in rows]))

    def at(self, address: int, guest: int = 0) -> str:
        """FILE:LINE, or an empty string where it is not known."""
        if guest >= len(self._tables):
            return ""
        addresses, texts = self._tables[guest]
        index = bisect_right(addresses, address) - 1
        return texts[index] if index >= 0 else ""


def _rows(kernel: bytes) -> list[tuple[int, str]]:
    try:
        return list(_read(kernel))
    except (ELFError, DWARFError, KeyError, IndexError, ValueError, AttributeError, TypeError):
        # Tables that are not as they should be; the file comes from the user.
        return []


def _read(kernel: bytes) -> Iterator[tuple[int, str]]:
    elf = ELFFile(io.BytesIO(kernel))
    section = elf.get_section_by_name(".debug_line")
    if section is None or section.data_size > LARGEST:
        return
    dwarf = elf.get_dwarf_info()
    for unit in dwarf.iter_CUs():
        program = dwarf.line_program_for_CU(unit)
        if program is not None:
            yield from _of_program(program)


def _of_program(program: Any) -> Iterator[tuple[int, str]]:
    names = [_name(entry.name) for entry in program["file_entry"]]
    base = 0 if program.header["version"] >= 5 else 1
    for entry in program.get_entries():
        state = entry.state
        if state is None:
            continue
        if state.end_sequence:
            yield state.address, ""
        elif 0 <= state.file - base < len(names):
            yield state.address, f"{names[state.file - base]}:{state.line}"


def _name(raw: bytes) -> str:
    return PurePosixPath(raw.decode("utf-8", "replace")).name


__all__ = ["SourceLines"]
