"""Files of a kernel's modules, and where a Guest's Linux has put each of their sections.

A module's file says nothing of addresses. The kernel puts the sections into one piece of memory by a rule: those with
code first, then what is only read, then what is written, each kind in the order of the file and as aligned as it asks
for; what is for the beginning only, named ".init", lies apart, and is given up later. Some configurations begin each
kind on a page of its own, some leave ".exit" out. `struct module` is one of these sections, and where that lies is
known (replay/linux_modules.py): so each way is tried, and taken only if it lays that section there. A file that no way
fits is not the module that was loaded, and is not used.

Read next: programs.py. Source: System V ABI, chapter 4; where kernels from 2.6.32 to 3.11 were seen to put sections.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from hostvm.elf_image import ELF_MAGIC
from hostvm.errors import ConfigurationError
from replay.linux_modules import Module

_HEADER = struct.Struct("<4sB11xHHIIIIIHHHHHH")
_SECTION = struct.Struct("<10I")
_ADDRESS = 12
_CLASS_32, _RELOCATABLE, _EM_386 = 1, 1, 3
_WRITE, _ALLOC, _CODE = 1, 2, 4
# A kind: flags that it has, flags that it has not.
_KINDS = ((_CODE | _ALLOC, 0), (_ALLOC, _WRITE | _CODE), (_WRITE | _ALLOC, _CODE))
_PAGE = 4096
_SELF = ".gnu.linkonce.this_module"
# Marked as loaded in the file, and yet left out.
_NEVER = frozenset({".modinfo", "__versions"})
_MOST_FILES = 20_000
# Where nothing is: for names of what has been given up.
NOWHERE = 0x1000


@dataclass(frozen=True, slots=True)
class _Section:
    name: str
    flags: int
    size: int
    alignment: int


def module_files(folders: Sequence[str]) -> Mapping[str, Path]:
    """All modules' files in and below these folders, by the name of the module. Raises: OSError, ConfigurationError."""
    found: dict[str, Path] = {}
    for folder in map(Path, folders):
        if not folder.is_dir():
            raise ConfigurationError(f"{folder}: no folder with modules in it")
        for path in sorted(folder.rglob("*.ko")):
            if len(found) >= _MOST_FILES:
                raise ConfigurationError(f"{folder}: more than {_MOST_FILES:,} modules")
            found.setdefault(path.stem.replace("-", "_"), path)
    if not found:
        raise ConfigurationError(f"{', '.join(folders)}: no file there ends in .ko")
    return found


def section_addresses(name: str, content: bytes, module: Module) -> Mapping[str, int]:
    """Where the sections of the file `name` lie in memory, with which it was loaded as `module`.

    Raises: ConfigurationError where it is no module, or another one.
    """
    sections = _sections(name, content)
    for by_pages, leaves_exit in product((False, True), repeat=2):
        offsets = _laid_out(sections, by_pages=by_pages, leaves_exit=leaves_exit)
        if _SELF in offsets and module.core + offsets[_SELF] == module.address:
            early = _laid_out(sections, by_pages=by_pages, early=True)
            init = module.init or NOWHERE
            return {
                **{name: module.core + at for name, at in offsets.items()},
                **{name: init + at for name, at in early.items()},
            }
    raise ConfigurationError(f"{name}: not the file of the module that is loaded")


def for_debuggers(content: bytes) -> bytes:
    """The file without the addresses that an old kernel's build gives to some sections.

    A gdb that sees one takes all sections for placed, and the names of one for those of another.
    """
    try:
        _, *_, start, _, _, _, _, size, count, _ = _HEADER.unpack_from(content)
        plain = bytearray(content)
        for number in range(count):
            struct.pack_into("<I", plain, start + number * size + _ADDRESS, 0)
    except struct.error:
        return content
    return bytes(plain)


def _laid_out(
    sections: Sequence[_Section], *, by_pages: bool, leaves_exit: bool = False, early: bool = False
) -> Mapping[str, int]:
    """Offsets in the lasting part, or in the one for the beginning."""
    offsets: dict[str, int] = {}
    size = 0
    for has, has_not in _KINDS:
        for each in sections:
            fits = each.flags & has == has and not each.flags & has_not
            left_out = each.name in _NEVER or (leaves_exit and each.name.startswith(".exit"))
            if not fits or left_out or each.name.startswith(".init") != early:
                continue
            offsets[each.name] = size = _aligned(size, each.alignment)
            size += each.size
        size = _aligned(size, _PAGE if by_pages else 1)
    return offsets


def _aligned(value: int, alignment: int) -> int:
    return -(-value // max(alignment, 1)) * max(alignment, 1)


def _sections(name: str, content: bytes) -> Sequence[_Section]:
    try:
        return tuple(_read_sections(content))
    except (struct.error, ValueError, IndexError) as error:
        raise ConfigurationError(f"{name}: not a module for 32-bit x86") from error


def _read_sections(content: bytes) -> Iterator[_Section]:
    magic, bits, kind, machine, *_, start, _, _, _, _, size, count, names = _HEADER.unpack_from(
        content
    )
    if (magic, bits, kind, machine, size) != (
        ELF_MAGIC,
        _CLASS_32,
        _RELOCATABLE,
        _EM_386,
        _SECTION.size,
    ):
        raise ValueError(kind)
    headers = [_SECTION.unpack_from(content, start + number * size) for number in range(count)]
    text = headers[names][4]
    for head in headers:
        at = text + head[0]
        called = content[at : content.index(b"\0", at)].decode("ascii", "replace")
        yield _Section(called, head[2], head[5], head[8])


__all__ = ["NOWHERE", "for_debuggers", "module_files", "section_addresses"]
