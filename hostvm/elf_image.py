"""32-bit x86 ELF files: what is loaded where, and which address has which name.

Kernels come from users, so nothing in the file is believed: every offset is checked, counts and names have a limit, and
a file that does not fit is a `ConfigurationError` of one line. Only the parts that a loader and a debugger need are
read: program headers, sections and the symbol table. Source: System V ABI, chapters 4 and 5; Intel386 supplement.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from hostvm.errors import ConfigurationError

_HEADER = struct.Struct("<4sBB10xHHIIIIIHHHHHH")
_PROGRAM_HEADER = struct.Struct("<8I")
_SECTION_HEADER = struct.Struct("<10I")
_SYMBOL = struct.Struct("<IIIBBH")

ELF_MAGIC = b"\x7fELF"
_CLASS_32 = 1
_LITTLE_ENDIAN = 1
_ET_EXEC = 2
_EM_386 = 3
_PT_LOAD = 1
_SHT_SYMTAB = 2
_SHT_NOBITS = 8
_SHF_EXECINSTR = 4
_MAX_PROGRAM_HEADERS = 64
_MAX_NAME = 512
_STT_OBJECT = 1
_STT_FUNC = 2
_STT_NOTYPE = 0
_SHN_UNDEF = 0


@dataclass(frozen=True, slots=True)
class Segment:
    """A part of the file that is loaded: `data` goes to `paddr`, zeroes follow up to `memsz` bytes."""

    paddr: int
    vaddr: int
    data: bytes = field(repr=False)
    memsz: int


@dataclass(frozen=True, slots=True)
class Symbol:
    """A named address; `size` is 0 where the assembler was not told."""

    name: str
    address: int
    size: int


@dataclass(frozen=True, slots=True)
class Section:
    """A named part of the file, at the virtual address where it is loaded, if it is; `data` is its content."""

    name: str
    address: int
    size: int
    is_code: bool
    data: bytes = field(repr=False)


class SymbolTable:
    """Names and addresses of one ELF file, both ways."""

    def __init__(self, symbols: tuple[Symbol, ...]) -> None:
        self.by_name: Mapping[str, Symbol] = {symbol.name: symbol for symbol in symbols}
        self._sorted = sorted(symbols, key=lambda symbol: (symbol.address, symbol.size))
        self._addresses = [symbol.address for symbol in self._sorted]

    def __len__(self) -> int:
        return len(self._sorted)

    def __iter__(self) -> Iterator[Symbol]:
        return iter(self._sorted)

    def address_of(self, name: str) -> int | None:
        """Address of a symbol, None if there is no such name."""
        symbol = self.by_name.get(name)
        return None if symbol is None else symbol.address

    def nearest(self, address: int) -> tuple[Symbol, int] | None:
        """The symbol that `address` lies in or behind, and the distance from its start."""
        index = bisect_right(self._addresses, address) - 1
        if index < 0:
            return None
        symbol = self._sorted[index]
        offset = address - symbol.address
        if symbol.size and offset >= symbol.size:
            return None
        return symbol, offset


@dataclass(frozen=True)
class ElfImage:
    """A validated ET_EXEC file for the i386; `name` is for messages."""

    name: str
    image: bytes = field(repr=False)
    entry: int
    segments: tuple[Segment, ...] = field(repr=False)

    @cached_property
    def symbols(self) -> SymbolTable:
        """Functions, objects and labels; empty for a stripped file."""
        return SymbolTable(tuple(_symbols(self.name, self.image)))

    @cached_property
    def sections(self) -> tuple[Section, ...]:
        """All sections, in the file's order; none if the file has no table of them."""
        return tuple(_sections(self.name, self.image))

    def address_of(self, name: str) -> int:
        """Address of a symbol that must be there.

        Raises ConfigurationError if it is not.
        """
        address = self.symbols.address_of(name)
        if address is None:
            raise ConfigurationError(f"{self.name}: has no symbol {name}")
        return address

    def physical_of(self, vaddr: int) -> int:
        """Physical address at which the byte for a virtual address is loaded.

        Raises ConfigurationError when no segment holds it.
        """
        for segment in self.segments:
            if segment.vaddr <= vaddr < segment.vaddr + segment.memsz:
                return vaddr - segment.vaddr + segment.paddr
        raise ConfigurationError(f"{self.name}: nothing is loaded at {vaddr:#x}")

    def bytes_at(self, vaddr: int, count: int) -> bytes:
        """Bytes of a segment by virtual address.

        Raises ConfigurationError when no single segment holds the range.
        """
        for segment in self.segments:
            start = vaddr - segment.vaddr
            if start >= 0 and start + count <= len(segment.data):
                return segment.data[start : start + count]
        raise ConfigurationError(
            f"{self.name}: nothing is loaded at {vaddr:#x}..{vaddr + count:#x}"
        )


def parse_elf(name: str, image: bytes) -> ElfImage:
    """Validate an ELF file and find its segments.

    Raises ConfigurationError in one line that starts with `name`.
    """
    if not image.startswith(ELF_MAGIC):
        raise ConfigurationError(f"{name}: not an ELF file")
    if len(image) > 4 and image[4] != _CLASS_32:
        raise ConfigurationError(f"{name}: a 64-bit ELF file; lguest runs 32-bit kernels only")
    fields = _unpack(name, image, _HEADER, 0, "ELF header")
    _, _, order, kind, machine, _, entry, phoff, _, _, _, phentsize, phnum, _, _, _ = fields
    if order != _LITTLE_ENDIAN or machine != _EM_386:
        raise ConfigurationError(
            f"{name}: an ELF file for machine {machine}; want i386 ({_EM_386})"
        )
    if kind != _ET_EXEC:
        raise ConfigurationError(f"{name}: an ELF file of type {kind}; want an executable (2)")
    if phnum and phentsize != _PROGRAM_HEADER.size:
        raise ConfigurationError(f"{name}: program headers of {phentsize} bytes; want 32")
    if phnum > _MAX_PROGRAM_HEADERS:
        raise ConfigurationError(f"{name}: {phnum} program headers; a kernel has a handful")
    offsets = (phoff + index * _PROGRAM_HEADER.size for index in range(phnum))
    headers = [_unpack(name, image, _PROGRAM_HEADER, at, "program header") for at in offsets]
    segments = tuple(_segment(name, image, header) for header in headers if header[0] == _PT_LOAD)
    if not segments:
        raise ConfigurationError(f"{name}: nothing in it is to be loaded")
    return ElfImage(name, image, entry, segments)


def _segment(name: str, image: bytes, header: tuple[int, ...]) -> Segment:
    _, offset, vaddr, paddr, filesz, memsz, _, _ = header
    if filesz > memsz or offset + filesz > len(image):
        raise ConfigurationError(f"{name}: the segment for {paddr:#x} is cut off")
    return Segment(paddr, vaddr, image[offset : offset + filesz], memsz)


def _section_headers(name: str, image: bytes) -> list[tuple[int, ...]]:
    header = _HEADER.unpack_from(image)
    shoff, shentsize, shnum = header[8], header[13], header[14]
    if shentsize != _SECTION_HEADER.size:
        return []
    return [
        _unpack(name, image, _SECTION_HEADER, shoff + index * shentsize, "section header")
        for index in range(shnum)
    ]


def _sections(name: str, image: bytes) -> Iterator[Section]:
    headers = _section_headers(name, image)
    names_index = _HEADER.unpack_from(image)[15]
    if names_index >= len(headers):
        return
    names = headers[names_index]
    strings = image[names[4] : names[4] + names[5]]
    for where, kind, flags, address, offset, size, *_ in headers:
        end = strings.find(b"\0", where, where + _MAX_NAME)
        data = b"" if kind == _SHT_NOBITS else image[offset : offset + size]
        text = strings[where:end].decode("ascii", "replace")
        yield Section(text, address, size, bool(flags & _SHF_EXECINSTR), data)


def _symbols(name: str, image: bytes) -> Iterator[Symbol]:
    sections = _section_headers(name, image)
    table = next((section for section in sections if section[1] == _SHT_SYMTAB), None)
    if table is not None and table[6] < len(sections):
        strings = sections[table[6]]
        names = image[strings[4] : strings[4] + strings[5]]
        yield from _symbols_of(image[table[4] : table[4] + table[5]], names)


def _symbols_of(table: bytes, names: bytes) -> Iterator[Symbol]:
    whole = len(table) // _SYMBOL.size * _SYMBOL.size
    for where, address, size, info, _, section in _SYMBOL.iter_unpack(table[:whole]):
        end = names.find(b"\0", where, where + _MAX_NAME)
        wanted = info & 0xF in (_STT_NOTYPE, _STT_OBJECT, _STT_FUNC)
        if wanted and section != _SHN_UNDEF and where < end:
            yield Symbol(names[where:end].decode("ascii", "replace"), address, size)


def _unpack(
    name: str, image: bytes, layout: struct.Struct, offset: int, what: str
) -> tuple[int, ...]:
    if offset + layout.size > len(image):
        raise ConfigurationError(f"{name}: the {what} is cut off")
    return layout.unpack_from(image, offset)


__all__ = [
    "ELF_MAGIC",
    "ElfImage",
    "Section",
    "Segment",
    "Symbol",
    "SymbolTable",
    "parse_elf",
]
