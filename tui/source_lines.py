"""Which line of which source file an address comes from, for kernels whose ELF file has DWARF line tables.

A Linux kernel's tables take minutes to read, and what is asked for is where one is. So a unit's table is read when an
address in it is asked for; which unit that is says `.debug_aranges`. Where a compiler has left that out, all units are
read, one after the other, when the engine's thread has nothing else to do, and not at all if that would take too long.
A kernel without tables has no source lines, and that is no error.

Source: DWARF 5, sections 6.1.2 and 6.2. Read next: code_view.py.
"""

from __future__ import annotations

import io
from bisect import bisect_right, insort
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, TypeAlias

from elftools.common.exceptions import DWARFError, ELFError
from elftools.elf.elffile import ELFFile

from tui.source_files import SourceFiles

# What is read where there is no telling which unit an address is in.
LARGEST = 4 << 20
_TOP = 1 << 64
_Row: TypeAlias = "tuple[int, SourcePlace | None]"
_Table: TypeAlias = "tuple[list[int], list[SourcePlace | None]]"
_WRONG = (ELFError, DWARFError, KeyError, IndexError, ValueError, AttributeError, TypeError)
_NOTHING: _Table = ([], [])


@dataclass(frozen=True, slots=True)
class SourcePlace:
    """A line of a file, by the name that the compiler knew the file by."""

    path: str
    line: int

    def __str__(self) -> str:
        return f"{PurePosixPath(self.path).name}:{self.line}"


class _Kernel:
    """The tables of one kernel, as far as they have been needed."""

    def __init__(self, content: bytes) -> None:
        self._tables: dict[int, _Table] = {}
        self._ranges: list[tuple[int, int, int]] = []
        self._waiting: Iterator[Any] = iter(())
        self._dwarf: Any = None
        try:
            self._open(content)
        except _WRONG:
            # Tables that are not as they should be; the file comes from the user.
            self._dwarf = None

    def _open(self, content: bytes) -> None:
        elf = ELFFile(io.BytesIO(content))
        lines = elf.get_section_by_name(".debug_line")
        if lines is None:
            return
        # Relocations that a kernel keeps have been carried out: only in a module they would have to be.
        self._dwarf = elf.get_dwarf_info(relocate_dwarf_sections=False)
        found = self._dwarf.get_aranges()
        if found is not None:
            self._ranges = sorted(
                (e.begin_addr, e.begin_addr + e.length, e.info_offset) for e in found.entries
            )
        elif lines.data_size <= LARGEST:
            self._waiting = self._dwarf.iter_CUs()

    def read_on(self) -> bool:
        """Read the next unit, if all must be read; False when there is none any more."""
        try:
            unit = next(self._waiting, None)
            if unit is None:
                return False
            table = self._table(unit.cu_offset)
            # Units do not say what they cover: each piece of code ends with a row that has no place.
            begin: int | None = None
            for address, place in zip(*table, strict=True):
                if place is None and begin is not None:
                    insort(self._ranges, (begin, address, unit.cu_offset))
                    begin = None
                elif place is not None and begin is None:
                    begin = address
        except _WRONG:
            return False
        return True

    def place(self, address: int) -> SourcePlace | None:
        """Where an address comes from."""
        index = bisect_right(self._ranges, (address, _TOP, _TOP)) - 1
        if index < 0 or not self._ranges[index][0] <= address < self._ranges[index][1]:
            return None
        addresses, places = self._table(self._ranges[index][2])
        at = bisect_right(addresses, address) - 1
        return places[at] if at >= 0 else None

    def _table(self, unit: int) -> _Table:
        known = self._tables.get(unit)
        if known is None:
            try:
                rows = sorted(_of_unit(self._dwarf, unit), key=_in_order)
            except _WRONG:
                rows = []
            known = ([address for address, _ in rows], [place for _, place in rows])
            self._tables[unit] = known
        return known

    def count(self) -> int:
        """How many units have been read."""
        return len(self._tables)

    def rows(self) -> Iterator[_Row]:
        """All that has been read."""
        for table in self._tables.values():
            yield from zip(*table, strict=True)


class SourceLines:
    """Source lines of the Guests' kernels, given as files; `read` until all is `whole`."""

    def __init__(self, kernels: Sequence[bytes]) -> None:
        self._files = list(kernels)
        self._kernels: list[_Kernel] = []
        self._reading: _Kernel | None = None
        self._first: dict[tuple[int, str, int], dict[int, int]] = {}
        self.files = SourceFiles()

    @property
    def whole(self) -> bool:
        """Whether nothing more is to be read before it is asked for."""
        return len(self._kernels) == len(self._files) and self._reading is None

    def read(self) -> None:
        """Read a little more."""
        if self._reading is not None:
            self._reading = self._reading if self._reading.read_on() else None
        elif not self.whole:
            self._reading = _Kernel(self._files[len(self._kernels)])
            self._kernels.append(self._reading)

    def place(self, address: int, guest: int = 0) -> SourcePlace | None:
        """Where in the sources an address comes from, if that is known."""
        return self._kernels[guest].place(address) if guest < len(self._kernels) else None

    def at(self, address: int, guest: int = 0) -> str:
        """FILE:LINE, or an empty string where it is not known."""
        place = self.place(address, guest)
        return "" if place is None else str(place)

    def text_at(self, address: int, guest: int = 0) -> str:
        """The line itself, without what is before and behind it; empty where it is not to be found."""
        place = self.place(address, guest)
        lines = () if place is None else self.files.lines(place.path)
        return lines[place.line - 1].strip() if place and 0 < place.line <= len(lines) else ""

    def addresses(self, path: str, guest: int = 0) -> Mapping[int, int]:
        """The first address that came of each line of a file, in the units that have been read."""
        if guest >= len(self._kernels):
            return {}
        kernel = self._kernels[guest]
        key = guest, path, kernel.count()
        known = self._first.get(key)
        if known is None:
            known = self._first[key] = {}
            for address, place in sorted(kernel.rows(), key=_in_order):
                if place is not None and place.path == path:
                    known.setdefault(place.line, address)
        return known


def _in_order(row: _Row) -> int:
    return row[0]


def _of_unit(dwarf: Any, offset: int) -> Iterator[_Row]:
    unit = dwarf.get_CU_at(offset)
    program = dwarf.line_program_for_CU(unit)
    if program is not None:
        yield from _of_program(program, _directory(unit))


def _directory(unit: Any) -> str:
    """Where the compiler stood, if that is said in full."""
    attribute = unit.get_top_DIE().attributes.get("DW_AT_comp_dir")
    name = "" if attribute is None else attribute.value.decode("utf-8", "replace")
    return name if name.startswith("/") else ""


def _of_program(program: Any, directory: str) -> Iterator[_Row]:
    new = program.header["version"] >= 5
    folders = [_text(each) for each in program["include_directory"]]
    if not new:
        folders.insert(0, "")
    paths = [_path(directory, folders, entry) for entry in program["file_entry"]]
    base = 0 if new else 1
    for entry in program.get_entries():
        state = entry.state
        if state is None:
            continue
        if state.end_sequence:
            yield state.address, None
        elif 0 <= state.file - base < len(paths):
            yield state.address, SourcePlace(paths[state.file - base], state.line)


def _path(directory: str, folders: Sequence[str], entry: Any) -> str:
    folder = folders[entry.dir_index] if entry.dir_index < len(folders) else ""
    return str(PurePosixPath(directory, folder, _text(entry.name)))


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")


__all__ = ["SourceLines", "SourcePlace"]
