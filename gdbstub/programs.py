"""The programs in a trace as files and libraries, so that the debugger needs no local file to know every symbol.

The first Guest's kernel is the program that the debugger debugs. The Switcher and the Host's loop stand beside it as
libraries, at addresses of their own; they come with lgreplay, and which of them a trace was recorded with is part of
what a replay checks. Everything else that the trace contains can be fetched by name, and so can what the user has given
for it (given_programs.py). A ramdisk that is itself a program is not made a library: it lies where the programs lie
that kestrel brings along, and a debugger would take the ones for the others.

Source: GDB manual, E.14 Library List Format, E.7 Host I/O Packets. Read next: given_programs.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from importlib.resources import files

from gdbstub.description import library_list
from gdbstub.given_programs import NOTHING_GIVEN, Given
from hostvm.elf_image import parse_elf
from replay.catalogue import IMAGES
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


class Programs:
    """The programs of the trace in `reader`."""

    def __init__(self, reader: TraceReader, given: Given = NOTHING_GIVEN) -> None:
        self._reader = reader
        self._given = given

    def files(self) -> Mapping[str, Callable[[], bytes]]:
        """All files, by name."""
        ours = {ROOT + name: partial(_shipped, name) for name in _OURS}
        names = (info.name for info in self._reader.header.images)
        theirs = {_path(name): partial(self._reader.image, name) for name in names}
        given = {_path(k.name): partial(bytes, k.content) for k in self._given.kernels.values()}
        users = {_user(name): partial(bytes, u) for name, u in self._given.users.items()}
        return theirs | ours | given | users

    def kernels(self) -> list[str]:
        """For each Guest the file with its kernel's symbols; empty where there is none."""
        return [self._kernel(guest) for guest in range(len(self._reader.header.guests))]

    def main_program(self) -> str:
        """Name of the file that is debugged; empty if the first Guest's kernel is none that debuggers read."""
        return self._kernel(0)

    def of_task(self, name: str) -> str:
        """The file with the symbols of a program that runs in a task of this name; empty if none was given."""
        return _user(name) if name in self._given.users else ""

    def listing(self) -> str:
        """All files, and what they are, as text."""
        kernels = [
            f"kernel of guest {n}: {name or 'no symbols'}" for n, name in enumerate(self.kernels())
        ]
        users = [f"program {name}: {_user(name)}" for name in self._given.users]
        return "".join(f"{line}\n" for line in (*kernels, *self._ramdisks(), *users))

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
