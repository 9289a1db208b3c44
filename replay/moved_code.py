"""Where an instruction of one build of a kernel is in another build.

A symbol and an offset say where it was. The two functions of that name are compared instruction by instruction, without
the addresses in them; an instruction that is gone is where the next one is that is not. Where the function itself is
gone there is nothing to say.

Read next: regression.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from difflib import SequenceMatcher

from hostvm.elf_image import ElfImage, parse_elf
from hostvm.errors import ConfigurationError
from replay.instructions import LONGEST, length_of, text_of
from replay.symbols import Named

_ADDRESS = re.compile(r"0x[0-9a-f]{5,}")
_LONGEST_FUNCTION = 1 << 16


class MovedCode:
    """Two builds of a kernel, as ELF files; of anything else only the addresses are known."""

    def __init__(self, old: bytes, new: bytes) -> None:
        self._same = old == new
        self._old, self._new = _parsed(old), _parsed(new)

    def address(self, address: int, named: Named | None) -> int | None:
        """Where an instruction is in the new build; None where nobody can tell."""
        if self._same:
            return address
        if named is None or self._old is None or self._new is None:
            return None
        begin = self._new.symbols.address_of(named.name)
        if begin is None:
            return None
        before = list(_instructions(self._old, address - named.offset, named.name))
        after = list(_instructions(self._new, begin, named.name))
        offset = _offset(before, after, named.offset)
        return None if offset is None else begin + offset


def _parsed(kernel: bytes) -> ElfImage | None:
    try:
        return parse_elf("kernel", kernel)
    except ConfigurationError:
        return None


def _instructions(image: ElfImage, begin: int, name: str) -> Iterator[tuple[int, str]]:
    """Offset and text of each instruction of a function."""
    size = _size(image, begin, name)
    try:
        code = image.bytes_at(begin, size)
    except (ConfigurationError, KeyError, ValueError):
        return
    at = 0
    while at < len(code):
        piece = code[at : at + LONGEST]
        yield at, _ADDRESS.sub("*", text_of(piece, begin + at))
        at += length_of(piece) or 1


def _size(image: ElfImage, begin: int, name: str) -> int:
    symbol = image.symbols.by_name.get(name)
    if symbol is not None and symbol.size:
        return int(symbol.size)
    behind = min((s.address for s in image.symbols if s.address > begin), default=begin)
    return min(behind - begin, _LONGEST_FUNCTION)


def _offset(before: list[tuple[int, str]], after: list[tuple[int, str]], offset: int) -> int | None:
    """The offset behind that corresponds to an offset before."""
    at = next((n for n, (where, _) in enumerate(before) if where == offset), None)
    if at is None:
        return None
    matcher = SequenceMatcher(None, [t for _, t in before], [t for _, t in after], autojunk=False)
    for old, new, count in matcher.get_matching_blocks():
        if count and old + count > at:
            return after[new + max(0, at - old)][0]
    return None


__all__ = ["MovedCode"]
