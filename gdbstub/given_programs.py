"""Programs that the user gives for their symbols: kernels that the trace has without any, and what runs in the Guest.

A kernel of another version is refused, since its names would all be wrong. A program is known by the name of its task,
as the Guest's Linux says it; whether it is the file that runs there, nobody can tell.

Read next: programs.py.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from hostvm.elf_image import ELF_MAGIC, SymbolTable, parse_elf
from hostvm.errors import ConfigurationError
from hostvm.kernel_image import linux_version
from replay.log import TraceReader

_GUEST = re.compile(r"(\d+)=(.+)", re.DOTALL)
_LONGEST_NAME = 15


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
class Given:
    """Kernels by Guest, programs by the name of their task."""

    kernels: Mapping[int, Kernel] = field(default_factory=lambda: MappingProxyType({}))
    users: Mapping[str, bytes] = field(default_factory=lambda: MappingProxyType({}))


NOTHING_GIVEN = Given()


def read_given(kernels: Sequence[str], users: Sequence[str], reader: TraceReader) -> Given:
    """Read what the options --symbols [GUEST=]FILE and --user-symbols NAME=FILE name.

    Raises: OSError; ConfigurationError where something does not fit the trace.
    """
    return Given(
        dict(_kernel(words, reader) for words in kernels), dict(_program(words) for words in users)
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


def _program(words: str) -> tuple[str, bytes]:
    name, separator, path = words.partition("=")
    if not separator or not name or "/" in name:
        raise ConfigurationError(f"--user-symbols {words}: want NAME=FILE, the name as in lx-tasks")
    content = Path(path).read_bytes()
    if not content.startswith(ELF_MAGIC):
        raise ConfigurationError(f"{path}: not an ELF file")
    # A task's name is cut off.
    return name[:_LONGEST_NAME], content


__all__ = ["NOTHING_GIVEN", "Given", "Kernel", "read_given"]
