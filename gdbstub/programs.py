"""The programs in a trace as files and libraries, so that the debugger needs no local file to know every symbol.

The first Guest's kernel is the program that the debugger debugs. The Switcher and the Host's loop stand beside it as
libraries, at addresses of their own; they come with lgreplay, and which of them a trace was recorded with is part of
what a replay checks. Everything else that the trace contains can be fetched by name, and so can what the user has given
for it (given_programs.py). A ramdisk that is itself a program is not made a library: it lies where the programs lie
that kestrel brings along, and a debugger would take the ones for the others.

Source: GDB manual, E.14 Library List Format, E.7 Host I/O Packets. Read next: given_programs.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from importlib.resources import files
from pathlib import Path

from gdbstub.description import library_list
from gdbstub.given_programs import NOTHING_GIVEN, Given
from gdbstub.module_files import for_debuggers, module_files, section_addresses
from hostvm.elf_image import parse_elf
from hostvm.errors import ConfigurationError
from replay.catalogue import IMAGES
from replay.linux_modules import Module
from replay.linux_programs import RunningProgram
from replay.log import TraceReader

ROOT = "/lgreplay/"
_OURS = ("switcher.elf", "host.elf")
_ELF = b"\x7fELF"


def _shipped(name: str) -> bytes:
    return files(IMAGES).joinpath(name).read_bytes()


def _path(name: str) -> str:
    """A file name for an image, whatever its name contains."""
    return ROOT + name.replace("/", "_").replace("\0", "_")


def _user(name: str) -> str:
    return f"{ROOT}user/{name}"


def _module(name: str) -> str:
    return f"{ROOT}modules/{name}.ko"


def _content(path: Path) -> bytes:
    """A file's content; nothing if it is not there any more."""
    try:
        return path.read_bytes()
    except OSError:
        return b""


def _module_content(path: Path) -> bytes:
    return for_debuggers(_content(path))


class Programs:
    """The programs of the trace in `reader`."""

    def __init__(self, reader: TraceReader, given: Given = NOTHING_GIVEN) -> None:
        self._reader = reader
        self._given = given
        self._placed: dict[Module, str] = {}

    def files(self) -> Mapping[str, Callable[[], bytes]]:
        """All files, by name."""
        ours = {ROOT + name: partial(_shipped, name) for name in _OURS}
        names = (info.name for info in self._reader.header.images)
        theirs = {_path(name): partial(self._reader.image, name) for name in names}
        given = {_path(k.name): partial(bytes, k.content) for k in self._given.kernels.values()}
        users = {_user(name): partial(bytes, u.content) for name, u in self._given.users.items()}
        modules = {
            _module(name): partial(_module_content, path)
            for name, path in self._given.modules.items()
        }
        return theirs | ours | given | users | modules

    def kernels(self) -> list[str]:
        """For each Guest the file with its kernel's symbols; empty where there is none."""
        return [self._kernel(guest) for guest in range(len(self._reader.header.guests))]

    def main_program(self) -> str:
        """Name of the file that is debugged; empty if the first Guest's kernel is none that debuggers read."""
        return self._kernel(0)

    def of_task(self, name: str, running: Callable[[], RunningProgram | None]) -> str:
        """What was given for tasks of this name: file, and how far it was moved; else why not, or nothing.

        `running`: which program it really is, where that can be told.
        """
        program = self._given.users.get(name)
        if program is None:
            return ""
        found = running()
        moved = program.moved_by(found)
        if moved is not None:
            return f"{_user(name)} {moved:#x}"
        if found is None:
            return ""
        called = f" ({found.file})" if found.file else ""
        return (
            f"task {name} runs another program{called} than the file given for it: "
            f"it begins at {found.entry:#010x}, that file at {program.entry:#010x}"
        )

    def of_modules(self, modules: Iterable[Module]) -> str:
        """For each module that is loaded a line: its file and where the sections are, or why there is none."""
        modules = tuple(modules)
        self._placed = {each: self._placed.get(each) or self._place(each) for each in modules}
        return "".join(f"{line}\n" for line in self._placed.values())

    def _place(self, module: Module) -> str:
        path = self._given.modules.get(module.name)
        if path is None:
            return f"module {module.name}: no file was given"
        try:
            at = section_addresses(str(path), _content(path), module)
        except ConfigurationError as error:
            return f"module {module.name}: {error}"
        sections = " ".join(f"{section}={address:#x}" for section, address in at.items())
        return f"{_module(module.name)} {sections}"

    def take_modules(self, folders: Sequence[str]) -> None:
        """Take the modules' files in these folders besides. Raises: OSError, ConfigurationError."""
        self._given = replace(self._given, modules={**self._given.modules, **module_files(folders)})
        self._placed = {}

    def listing(self) -> str:
        """All files, and what they are, as text."""
        kernels = [
            f"kernel of guest {n}: {name or 'no symbols'}" for n, name in enumerate(self.kernels())
        ]
        users = [
            f"{'PIE ' if program.anywhere else ''}program {name}: {_user(name)}"
            for name, program in self._given.users.items()
        ]
        count = len(self._given.modules)
        modules = [f"modules: {count:,} files"] if count else []
        return "".join(f"{line}\n" for line in (*kernels, *self._ramdisks(), *users, *modules))

    def _ramdisks(self) -> Iterator[str]:
        for number, guest in enumerate(self._reader.header.guests):
            if guest.initrd and self._reader.image(guest.initrd).startswith(_ELF):
                yield f"ramdisk of guest {number}: {_path(guest.initrd)}"

    def _kernel(self, guest: int) -> str:
        if guest in self._given.kernels:
            return _path(self._given.kernels[guest].name)
        kernel = self._reader.header.guests[guest].kernel
        if not kernel or not self._reader.image(kernel).startswith(_ELF):
            return ""
        return _path(kernel)

    def libraries(self) -> bytes:
        """The list of what is there besides."""
        return library_list(
            (ROOT + name, tuple(s.vaddr for s in parse_elf(name, _shipped(name)).segments))
            for name in _OURS
        )


__all__ = ["ROOT", "Programs"]
