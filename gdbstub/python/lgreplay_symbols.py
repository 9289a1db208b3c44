"""Whose names gdb knows: those of one kernel, of its modules, and of the program that runs.

All programs lie at the same addresses, so gdb may know one at a time: the one of the current task, where it was given.
A breakpoint in it is out of force while gdb does not know it; `user-break` makes one that is not. Modules lie apart, so
their names stay once they are known: then a breakpoint in one is met also before gdb has stopped behind its loading.
This file runs in gdb's Python.
"""

from __future__ import annotations

from contextlib import suppress

import gdb

from gdbstub.python.lgreplay_stub import ask, quoted

_KERNELS = 0xC0000000
# Nothing lies there: see gdbstub/module_files.py.
_NULLS = 0x10000
_FIXED, _ANYWHERE = "program ", "PIE program "
_PROGRAMS = (_FIXED, _ANYWHERE)


def loaded(file: str) -> gdb.Objfile | None:
    """The symbols that come from a file of the stub's, if gdb has them."""
    return next((o for o in gdb.objfiles() if (o.filename or "").endswith(file)), None)


def load(file: str, how: str = "") -> None:
    """Have gdb know a file of the stub's."""
    gdb.execute(f"add-symbol-file target:{file} {how}", to_string=True)


def forget(file: str) -> None:
    """Have gdb forget it."""
    known = loaded(file) if file else None
    if known is not None:
        with suppress(gdb.error):
            gdb.execute(f"remove-symbol-file {known.filename}", to_string=True)


def listed() -> dict[str, str]:
    """What the stub has: files by what they are."""
    return dict(line.partition(": ")[::2] for line in ask("programs").splitlines())


class Following:
    """Something that is looked after at each stop, until it says that there is no need."""

    def __init__(self) -> None:
        self._connected = False
        self.start()

    def start(self) -> None:
        """Look after it from now on."""
        if not self._connected:
            gdb.events.stop.connect(self._at_stop)
            self._connected = True

    def _at_stop(self, _: object) -> None:
        try:
            if not self.follow():
                gdb.events.stop.disconnect(self._at_stop)
                self._connected = False
        except gdb.error:
            # It runs, or is gone.
            return

    def follow(self) -> bool:
        """Look after it; answers whether to do so again."""
        return False


class Kernels(Following):
    """Which Guest's kernel gives the names, where there are several of different kernels."""

    def __init__(self) -> None:
        self.auto = False
        self._files: list[str] | None = None
        self._told: int | None = None
        super().__init__()

    def follow(self) -> bool:
        """Take the names of the Guest at work, or say that they are another's."""
        if self._files is None:
            kernels = (name for what, name in listed().items() if what.startswith("kernel of "))
            self._files = list(kernels)
        if len(set(self._files)) < 2:
            return False
        thread = gdb.selected_thread()
        guest = (thread.num - 2) // 2 if thread is not None and thread.num > 1 else None
        if guest is None or loaded(self._files[guest]) is not None:
            self._told = None
        elif self.auto:
            self.take(self._files[guest])
        elif self._told != guest:
            self._told = guest
            gdb.write(
                f"Guest {guest} runs another kernel than the one that names come from: "
                f"`guest-symbols {guest}` takes its own, `guest-symbols auto` always does.\n"
            )
        return True

    def take(self, file: str) -> None:
        """Take the names of a kernel, and no other's."""
        if not file.startswith("/"):
            # A kernel without symbols: better no names than wrong ones.
            gdb.execute("symbol-file", to_string=True)
        else:
            gdb.execute("symbol-file target:" + file, to_string=self.auto)


class GuestSymbols(gdb.Command):
    """guest-symbols [N] [ramdisk] | auto: let the kernel of Guest N be what names and source lines come from.

    With `ramdisk`, the program that the Guest was given as one. The breakpoints' places are found again by name.
    `auto`: at each stop the kernel of the Guest that is at work.
    """

    def __init__(self, kernels: Kernels) -> None:
        self._kernels = kernels
        super().__init__("guest-symbols", gdb.COMMAND_FILES)

    def invoke(self, argument: str, from_tty: bool) -> None:
        """Called by gdb."""
        words = argument.split()
        self._kernels.auto = words == ["auto"]
        if self._kernels.auto:
            self._kernels.follow()
            return
        kind = "ramdisk" if words[-1:] == ["ramdisk"] else "kernel"
        number = words[0] if words and words[0] != "ramdisk" else "0"
        file = listed().get(f"{kind} of guest {number}", "")
        if not file.startswith("/"):
            raise gdb.GdbError(f"the trace has no {kind} of a guest {number} with symbols")
        self._kernels.take(file)


class Programs(Following):
    """The symbols of the program that runs in the Guest, where they were given."""

    def __init__(self) -> None:
        self._given: bool | None = None
        self._key = ""
        self._known = ""
        self._told: set[str] = set()
        super().__init__()

    def follow(self) -> bool:
        """Know the one of the current task, and no other."""
        if self._given is None:
            self._given = any(what.startswith(_PROGRAMS) for what in listed())
        if not self._given:
            return False
        here = ask("programs here").strip()
        if here and not here.startswith("/"):
            self._tell(here)
            here = ""
        if here != self._key:
            self._leave()
            if here:
                self._known, moved = here.split()
                load(self._known, f"-o {moved}" if moved != "0x0" else "")
            self._key = here
        return True

    def _tell(self, text: str) -> None:
        if text not in self._told:
            self._told.add(text)
            gdb.write(text + "\n")

    def _leave(self) -> None:
        if not self._known:
            return
        held = [b.number for b in gdb.breakpoints() if not isinstance(b, UserBreak) and _in_user(b)]
        name = self._known.rpartition("/")[2]
        for number in held:
            self._tell(
                f"breakpoint {number} is in {name}: it is in force only while that is the current task; "
                f"`user-break {name} PLACE` makes one that always is"
            )
        forget(self._known)
        self._known = ""


def _in_user(breakpoint_: gdb.Breakpoint) -> bool:
    """Whether it is at a place in a program, by a name that will be unknown."""
    named = not str(breakpoint_.location or "*").startswith("*")
    places = getattr(breakpoint_, "locations", ())
    return named and any(_NULLS <= place.address < _KERNELS for place in places)


class UserBreak(gdb.Breakpoint):
    """A breakpoint in a program, whichever task is the current one when it is set: met where the program runs."""

    def __init__(self, file: str, address: int) -> None:
        self._file = file
        super().__init__(f"*{address:#x}", gdb.BP_BREAKPOINT)

    def stop(self) -> bool:
        """Called by gdb at its address."""
        return ask("programs here").startswith(self._file + " ")


class UserBreakCommand(gdb.Command):
    """user-break NAME PLACE: break at a place in the program that --user-symbols NAME=FILE gave.

    It is met only in tasks of that name, and set whichever task is the current one. A program that may be loaded
    anywhere (PIE) must be the current one.
    """

    def __init__(self) -> None:
        super().__init__("user-break", gdb.COMMAND_BREAKPOINTS)

    def invoke(self, argument: str, from_tty: bool) -> None:
        """Called by gdb."""
        self.dont_repeat()
        name, _, place = argument.strip().partition(" ")
        if not place.strip():
            raise gdb.GdbError("want the name of a program's task, and a place in it")
        files = listed()
        file = files.get(_FIXED + name) or files.get(_ANYWHERE + name)
        if file is None:
            raise gdb.GdbError(f"no program {name} was given: --user-symbols {name}=FILE does")
        was_known = loaded(file) is not None
        if not was_known:
            if _ANYWHERE + name in files:
                raise gdb.GdbError(
                    f"{name} may be loaded anywhere: be where it runs (`break start_thread`), then say it again"
                )
            load(file)
        try:
            addresses = _addresses(place.strip())
        finally:
            if not was_known:
                forget(file)
        for address in addresses:
            UserBreak(file, address)


def _addresses(place: str) -> list[int]:
    """The addresses below the kernel's that a place means."""
    rest, found = gdb.decode_line(place)
    addresses = [int(sal.pc) for sal in found or () if 0 < int(sal.pc) < _KERNELS]
    if rest or not addresses:
        raise gdb.GdbError(f"{place}: not a place in the program")
    return addresses


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
        self.take("")
        return True

    def take(self, folders: str) -> int:
        """Know all that are loaded, with the files in these folders besides; how many are known then."""
        for line in ask(f"programs modules {folders}".strip()).splitlines():
            if line.startswith("/"):
                self._take(*line.split())
            elif not line.startswith("module "):
                raise gdb.GdbError(line)
            elif line not in self._told:
                self._told.add(line)
                gdb.write(line + "\n")
        return len(self._known)

    def _take(self, file: str, *sections: str) -> None:
        places = dict(section.split("=") for section in sections)
        addresses = frozenset(int(place, 16) for place in places.values())
        at = frozenset(address for address in addresses if address >= _KERNELS)
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
    """Make all of that known to gdb."""
    GuestSymbols(Kernels())
    Programs()
    UserBreakCommand()
    modules = Modules()
    if not known_to_gdb("lx-symbols"):
        ModuleSymbols(modules)


def known_to_gdb(command: str) -> bool:
    """Whether there is a command of this name already: a user's own is not replaced."""
    try:
        gdb.execute(f"help {command}", to_string=True)
    except gdb.error:
        return False
    return True
