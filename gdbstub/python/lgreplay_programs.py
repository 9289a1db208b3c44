"""Names and breakpoints of the programs that run in a Guest.

All programs lie at the same addresses, so gdb may know one at a time: the one of the current task, where it was given.
A breakpoint in it is out of force while gdb does not know it; `user-break` makes one that is not.
This file runs in gdb's Python. Read next: gdbstub/programs.py.
"""

from __future__ import annotations

import gdb

from gdbstub.python.lgreplay_stub import ask
from gdbstub.python.lgreplay_symbols import KERNELS, Following, forget, listed, load, loaded

# Nothing lies there: see gdbstub/module_files.py.
_NULLS = 0x10000
_FIXED, _ANYWHERE = "program ", "PIE program "
_PROGRAMS = (_FIXED, _ANYWHERE)


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
    return named and any(_NULLS <= place.address < KERNELS for place in places)


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
    try:
        rest, found = gdb.decode_line(place)
    except gdb.error as error:
        raise gdb.GdbError(str(error)) from error
    addresses = [int(sal.pc) for sal in found or () if 0 < int(sal.pc) < KERNELS]
    if rest or not addresses:
        raise gdb.GdbError(f"{place}: not a place in the program")
    return addresses


def install() -> None:
    """Have gdb know the programs' names."""
    Programs()
    UserBreakCommand()
