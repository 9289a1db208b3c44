"""Names of a Linux's modules.

Modules lie apart from each other, so their names stay once they are known: then a breakpoint in one is met also before
gdb has stopped behind its loading. This file runs in gdb's Python. Read next: gdbstub/module_files.py.
"""

from __future__ import annotations

import gdb

from gdbstub.python.lgreplay_stub import ask, quoted
from gdbstub.python.lgreplay_symbols import KERNELS, Following, forget, known_to_gdb, listed, load


class Modules(Following):
    """The symbols of a Linux's modules, where their files were given."""

    def __init__(self) -> None:
        self._known: dict[str, frozenset[int]] = {}
        self._told: set[str] = set()
        super().__init__()

    def follow(self) -> bool:
        """Know all that are loaded, if files were given."""
        if "modules" not in listed():
            return False
        try:
            self.take("")
        except gdb.GdbError as error:
            self._tell(str(error))
        return True

    def _tell(self, text: str) -> None:
        if text not in self._told:
            self._told.add(text)
            gdb.write(text + "\n")

    def take(self, folders: str) -> int:
        """Know all that are loaded, with the files in these folders besides; how many are known then."""
        for line in ask(f"programs modules {folders}".strip()).splitlines():
            if line.startswith("/"):
                self._take(*line.split())
            elif not line.startswith("module "):
                raise gdb.GdbError(line)
            else:
                self._tell(line)
        return len(self._known)

    def _take(self, file: str, *sections: str) -> None:
        places = dict(section.split("=") for section in sections)
        addresses = frozenset(int(place, 16) for place in places.values())
        at = frozenset(address for address in addresses if address >= KERNELS)
        # What it began with may have been given up since: its names stay.
        if at <= self._known.get(file, frozenset()):
            return
        for other, where in list(self._known.items()):
            if where & at or other == file:
                forget(other)
                del self._known[other]
        load(file, " ".join(f"-s {section} {place}" for section, place in places.items()))
        self._known[file] = at


class ModuleSymbols(gdb.Command):
    """lx-symbols [FOLDER...]: the symbols of the modules that are loaded, from the .ko files below these folders."""

    def __init__(self, modules: Modules) -> None:
        self._modules = modules
        super().__init__("lx-symbols", gdb.COMMAND_FILES, gdb.COMPLETE_FILENAME)

    def invoke(self, argument: str, from_tty: bool) -> None:
        """Called by gdb."""
        self.dont_repeat()
        folders = " ".join(quoted(folder) for folder in gdb.string_to_argv(argument))
        if not folders and "modules" not in listed():
            raise gdb.GdbError("where are the .ko files? `lx-symbols FOLDER`, or --modules FOLDER")
        count = self._modules.take(folders)
        self._modules.start()
        gdb.write(f"symbols of {count} modules\n")


def install() -> None:
    """Have gdb know the modules' names, and `lx-symbols` where a user has no command of that name."""
    modules = Modules()
    if not known_to_gdb("lx-symbols"):
        ModuleSymbols(modules)
