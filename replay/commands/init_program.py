"""A user's program as the first process of the shipped guest kestrel: whether it is one, and what it is told.

kestrel loads static ELF programs for the i386, also such as may lie anywhere (static-pie), and there is nobody in it to
load a shared library. Whatever it could not run is refused here in one line, before anything runs. The program is
the guest's ramdisk, and finds name and arguments by way of the kernel's command line, whose words are parted by spaces.

Source: System V ABI, chapter 5; hostvm/guest/kestrel/elf.c, which looks at the same things again.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from hostvm.elf_image import ELF_MAGIC
from hostvm.errors import ConfigurationError

LONGEST_WORD = 63
KERNEL_ROOM = 2 << 20
USER_START, USER_END = 0x1000, 0xBFF00000

_IDENT = struct.Struct("<4sBB10x")
_HEADER = struct.Struct("<HHIIIIIHHHHHH")
_PROGRAM_HEADER = struct.Struct("<8I")
_CLASS_32, _CLASS_64, _LITTLE_ENDIAN = 1, 2, 1
_EXEC, _DYN = 2, 3
_TYPES = {1: "an object file, not yet linked", 4: "a core dump"}
_EM_386 = 3
_PT_LOAD, _PT_INTERP = 1, 3
_PF_X = 1
_MOST_HEADERS = 16


@dataclass(frozen=True, slots=True)
class InitProgram:
    """A program that was found good: what to call it, and its file."""

    name: str
    content: bytes


@dataclass(frozen=True, slots=True)
class _Load:
    """A part of the program that is loaded."""

    offset: int
    start: int
    filesz: int
    memsz: int
    runs: bool


def read_program(path: Path, memory: int) -> InitProgram:
    """Read a program for a guest with so many bytes of memory.

    Raises: OSError; ConfigurationError when kestrel could not run it.
    """
    return checked_program(path, path.read_bytes(), memory)


def checked_program(path: Path, content: bytes, memory: int) -> InitProgram:
    """The program of this content, for a guest with so many bytes of memory.

    Raises: ConfigurationError when kestrel could not run it.
    """
    try:
        _check(content, memory)
    except _Unfit as why:
        raise ConfigurationError(f"{path}: {why}") from why
    return InitProgram(_word(path.name), content)


def words_for(
    program: InitProgram, append: str, arguments: Sequence[str], *, terminal: bool
) -> str:
    """The guest's command line: what `append` says, with the program's name and arguments put in.

    Raises: ConfigurationError for an argument that is no word.
    """
    for argument in arguments:
        if not argument or len(argument.encode()) > LONGEST_WORD or argument.split() != [argument]:
            raise ConfigurationError(
                f"{argument!r:.80}: an argument cannot be empty, have spaces in it or be longer"
                f" than {LONGEST_WORD} bytes"
            )
    options, dashes, rest = append.partition("-- ")
    parts = [f"argv0={program.name}"] if "argv0=" not in options else []
    parts += ["tty"] if terminal and "tty" not in options.split() else []
    parts += options.split()
    if arguments or dashes:
        parts += ["--", *rest.split(), *arguments]
    return " ".join(parts)


def _word(name: str) -> str:
    plain = "".join(c if "!" <= c <= "~" else "_" for c in name)
    return plain[:LONGEST_WORD]


class _Unfit(Exception):
    """Why it cannot run."""


def _check(content: bytes, memory: int) -> None:
    kind, entry, headers = _read_header(content)
    if any(header[0] == _PT_INTERP for header in headers):
        raise _Unfit("linked dynamically, and the guest has no libraries: link it with -static")
    loads = [_load(content, header) for header in headers if header[0] == _PT_LOAD]
    if not loads:
        raise _Unfit("nothing in it is to be loaded")
    if not any(load.runs and load.start <= entry < load.start + load.memsz for load in loads):
        shared = "a shared library, or " if kind == _DYN else ""
        raise _Unfit(f"{shared}no program: it begins at {entry:#x}, where it has no code")
    # One that lies anywhere is put where this room is.
    if kind == _EXEC:
        _check_places(loads)
    needed = KERNEL_ROOM + len(content) + sum(load.memsz for load in loads)
    if needed > memory:
        raise _Unfit(
            f"needs {-(-needed >> 20)} MiB with the kernel, the guest has {memory >> 20}: --memory"
        )


def _check_places(loads: Sequence[_Load]) -> None:
    for load in loads:
        if load.start < USER_START or load.start + load.memsz > USER_END:
            raise _Unfit(
                f"a part is for {load.start:#x}, and a program's place is"
                f" {USER_START:#x} to {USER_END:#x}"
            )


def _read_header(content: bytes) -> tuple[int, int, list[tuple[int, ...]]]:
    """Type, entry and program headers."""
    if not content.startswith(ELF_MAGIC):
        raise _Unfit("a script, not an ELF program" if content[:2] == b"#!" else "not an ELF file")
    if len(content) < _IDENT.size + _HEADER.size:
        raise _Unfit("the ELF header is cut off")
    _, bits, order = _IDENT.unpack_from(content)
    if bits == _CLASS_64:
        raise _Unfit("a 64-bit program, and the guest is an i386: build it with -m32 -static")
    fields = _HEADER.unpack_from(content, _IDENT.size)
    kind, machine, _, entry, start, _, _, _, size, count, *_ = fields
    if bits != _CLASS_32 or order != _LITTLE_ENDIAN or machine != _EM_386:
        raise _Unfit(f"a program for machine {machine}, not for the i386 ({_EM_386})")
    if kind not in (_EXEC, _DYN):
        raise _Unfit(f"not executable: {_TYPES.get(kind, f'an ELF file of type {kind}')}")
    if count and size != _PROGRAM_HEADER.size:
        raise _Unfit(f"program headers of {size} bytes; want {_PROGRAM_HEADER.size}")
    if count > _MOST_HEADERS:
        raise _Unfit(f"{count} program headers; kestrel takes {_MOST_HEADERS}")
    return kind, entry, list(_headers(content, start, count))


def _headers(content: bytes, start: int, count: int) -> Iterator[tuple[int, ...]]:
    for at in range(start, start + count * _PROGRAM_HEADER.size, _PROGRAM_HEADER.size):
        if at + _PROGRAM_HEADER.size > len(content):
            raise _Unfit("the program headers are cut off")
        yield _PROGRAM_HEADER.unpack_from(content, at)


def _load(content: bytes, header: tuple[int, ...]) -> _Load:
    _, offset, start, _, filesz, memsz, flags, _ = header
    if filesz > memsz or offset + filesz > len(content):
        raise _Unfit(f"the part for {start:#x} is cut off")
    return _Load(offset, start, filesz, memsz, bool(flags & _PF_X))


__all__ = ["InitProgram", "checked_program", "read_program", "words_for"]
