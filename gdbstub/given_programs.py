"""Programs that the user gives for their symbols: kernels that the trace has without any, and what runs in the Guest.

A kernel of another version is refused, since its names would all be wrong. A program is known by the name of its task,
as the Guest's Linux says it, and by where it begins: another file that runs under the name is not taken for it, and one
that may be loaded anywhere (PIE) is placed where it was. Where the Guest does not say, a file is believed.

Read next: programs.py, module_files.py. Source: System V ABI, chapter 4, "ELF Header".
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from gdbstub.module_files import module_files
from hostvm.elf_image import ELF_MAGIC, SymbolTable, parse_elf
from hostvm.errors import ConfigurationError
from hostvm.kernel_image import linux_version
from replay.linux_programs import RunningProgram
from replay.log import TraceReader

_GUEST = re.compile(r"(\d+)=(.+)", re.DOTALL)
_LONGEST_NAME = 15
_ELF_HEADER = struct.Struct("<4sB11xHHII")
_CLASS_32, _EM_386 = 1, 3
_ANYWHERE = 3
_PAGE = 4096


@dataclass(frozen=True, slots=True)
class Kernel:
    """A file with a kernel's symbols."""

    name: str
    content: bytes = field(repr=False)

    @property
    def symbols(self) -> SymbolTable:
        """Those for lgreplay's own commands."""
        return parse_elf(self.name, self.content).symbols


@dataclass(frozen=True, slots=True)
class UserProgram:
    """A program's ELF file. It begins at `entry`; `anywhere`: counted from where it is loaded."""

    content: bytes = field(repr=False)
    entry: int
    anywhere: bool

    def moved_by(self, running: RunningProgram | None) -> int | None:
        """How far it lies from its own addresses where it is the program that runs; None if it is not."""
        if running is None:
            return None if self.anywhere else 0
        distance = running.entry - self.entry
        fits = not distance if not self.anywhere else distance >= 0 and not distance % _PAGE
        return distance if fits else None


@dataclass(frozen=True, slots=True)
class Given:
    """Kernels by Guest, programs by the name of their task, files of modules by the module's name."""

    kernels: Mapping[int, Kernel] = field(default_factory=lambda: MappingProxyType({}))
    users: Mapping[str, UserProgram] = field(default_factory=lambda: MappingProxyType({}))
    modules: Mapping[str, Path] = field(default_factory=lambda: MappingProxyType({}))


NOTHING_GIVEN = Given()


def read_given(
    kernels: Sequence[str], users: Sequence[str], reader: TraceReader, modules: Sequence[str] = ()
) -> Given:
    """Read what the options --symbols [GUEST=]FILE, --user-symbols NAME=FILE and --modules FOLDER name.

    Raises: OSError; ConfigurationError where something does not fit the trace.
    """
    return Given(
        dict(_kernel(words, reader) for words in kernels),
        dict(_program(words) for words in users),
        module_files(modules) if modules else {},
    )


def _kernel(words: str, reader: TraceReader) -> tuple[int, Kernel]:
    found = _GUEST.fullmatch(words)
    guest, path = (int(found[1]), Path(found[2])) if found else (0, Path(words))
    if guest >= len(reader.header.guests):
        raise ConfigurationError(f"--symbols {words}: the trace has no guest {guest}")
    kernel = Kernel(path.name, path.read_bytes())
    if not len(kernel.symbols):
        raise ConfigurationError(f"{path}: has no symbols")
    name = reader.header.guests[guest].kernel
    runs, has = linux_version(reader.image(name)) if name else "", linux_version(kernel.content)
    if runs and has and runs != has:
        raise ConfigurationError(f"{path}: is Linux {has}, and guest {guest} runs {runs}")
    return guest, kernel


def _program(words: str) -> tuple[str, UserProgram]:
    name, separator, path = words.partition("=")
    if not separator or not name or "/" in name:
        raise ConfigurationError(f"--user-symbols {words}: want NAME=FILE, the name as in lx-tasks")
    content = Path(path).read_bytes()
    if not content.startswith(ELF_MAGIC):
        raise ConfigurationError(f"{path}: not an ELF file")
    # A task's name is cut off.
    return name[:_LONGEST_NAME], _user_program(path, content)


def _user_program(path: str, content: bytes) -> UserProgram:
    if len(content) < _ELF_HEADER.size:
        raise ConfigurationError(f"{path}: cut off within its ELF header")
    _, bits, kind, machine, _, entry = _ELF_HEADER.unpack_from(content)
    if (bits, machine) != (_CLASS_32, _EM_386):
        raise ConfigurationError(f"{path}: not a program for 32-bit x86")
    return UserProgram(content, entry, kind == _ANYWHERE)


__all__ = ["NOTHING_GIVEN", "Given", "Kernel", "UserProgram", "read_given"]
