"""Which line of which source file an address comes from, for kernels whose ELF file has DWARF line tables.

Reading the tables takes a while, so it is done once, when the engine's thread has nothing else to do, and not at all
for tables so large that it would be felt. A kernel without them has no source lines, and that is no error.

Source: DWARF 5, section 6.2. Read next: code_view.py.
"""

from __future__ import annotations

import io
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, TypeAlias

from elftools.common.exceptions import DWARFError, ELFError
from elftools.elf.elffile import ELFFile

from tui.source_files import SourceFiles

LARGEST = 4 << 20
_Row: TypeAlias = "tuple[int, SourcePlace | None]"


@dataclass(frozen=True, slots=True)
class SourcePlace:
    """A line of a file, by the name that the compiler knew the file by."""

    path: str
    line: int

    def __str__(self) -> str:
        return f"{PurePosixPath(self.path).name}:{self.line}"


class SourceLines:
    """Source lines of the Guests' kernels, given as files; `read` one after the other."""

    def __init__(self, kernels: Sequence[bytes]) -> None:
        self._kernels = list(kernels)
        self._tables: list[tuple[list[int], list[SourcePlace | None]]] = []
        self._first: dict[tuple[int, str], dict[int, int]] = {}
        self.files = SourceFiles()

    @property
    def whole(self) -> bool:
        """Whether all have been read."""
        return len(self._tables) == len(self._kernels)

    def read(self) -> None:
        """Read the next kernel's tables."""
        if not self.whole:
            rows = sorted(_rows(self._kernels[len(self._tables)]), key=lambda row: row[0])
            self._tables.append(([address for address, _ in rows], [place for _, place in rows]))

    def place(self, address: int, guest: int = 0) -> SourcePlace | None:
        """Where in the sources an address comes from, if that is known."""
        if guest >= len(self._tables):
            return None
        addresses, places = self._tables[guest]
        index = bisect_right(addresses, address) - 1
        return places[index] if index >= 0 else None

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
        """The first address that came of each line of a file."""
        known = self._first.get((guest, path))
        if known is None:
            known = self._first[guest, path] = {}
            addresses, places = self._tables[guest]
            for address, place in zip(addresses, places, strict=True):
                if place is not None and place.path == path:
                    known.setdefault(place.line, address)
        return known


def _rows(kernel: bytes) -> list[_Row]:
    try:
        return list(_read(kernel))
    except (ELFError, DWARFError, KeyError, IndexError, ValueError, AttributeError, TypeError):
        # Tables that are not as they should be; the file comes from the user.
        return []


def _read(kernel: bytes) -> Iterator[_Row]:
    elf = ELFFile(io.BytesIO(kernel))
    section = elf.get_section_by_name(".debug_line")
    if section is None or section.data_size > LARGEST:
        return
    dwarf = elf.get_dwarf_info()
    for unit in dwarf.iter_CUs():
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
