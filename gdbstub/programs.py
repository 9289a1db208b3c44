"""The programs in a trace as files and libraries, so that the debugger needs no local file to know every symbol.

The first Guest's kernel is the program that the debugger debugs. The Switcher and the Host's loop stand beside it as
libraries, at addresses of their own; they come with lgreplay, and which of them a trace was recorded with is part of
what a replay checks. Everything else that the trace contains can be fetched by name.

Source: GDB manual, E.14 Library List Format, E.7 Host I/O Packets. Read next: description.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from importlib.resources import files

from gdbstub.description import library_list
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


class Programs:
    """The programs of the trace in `reader`."""

    def __init__(self, reader: TraceReader) -> None:
        self._reader = reader

    def files(self) -> Mapping[str, Callable[[], bytes]]:
        """All files, by name."""
        ours = {ROOT + name: partial(_shipped, name) for name in _OURS}
        names = (info.name for info in self._reader.header.images)
        return {_path(name): partial(self._reader.image, name) for name in names} | ours

    def main_program(self) -> str:
        """Name of the file that is debugged; empty if the first Guest's kernel is none that debuggers read."""
        kernel = self._reader.header.guests[0].kernel
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
