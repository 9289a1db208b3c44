"""Whose names gdb knows: what all of them share, and those of the Guests' kernels.

What the stub has are files, which gdb is told to load and to forget; which of them are wanted is looked after at each
stop. This file runs in gdb's Python. Read next: lgreplay_programs.py, lgreplay_modules.py.
"""

from __future__ import annotations

from contextlib import suppress

import gdb

from gdbstub.python.lgreplay_stub import ask

# Where kernels begin.
KERNELS = 0xC0000000


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
        except (gdb.error, gdb.GdbError):
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


def known_to_gdb(command: str) -> bool:
    """Whether there is a command of this name already: a user's own is not replaced."""
    try:
        gdb.execute(f"help {command}", to_string=True)
    except gdb.error:
        return False
    return True


def install() -> None:
    """Have gdb know the kernels' names."""
    GuestSymbols(Kernels())
