"""Commands for gdb about the Linux in a Guest.

Linux comes with commands of this kind, which some people load from their own kernel's tree (vmlinux-gdb.py) and which
need its debugging information. Ours have the same names where they do the same, besides being `info` commands, and give
way to those: they do not replace what gdb knows already, and what is loaded later replaces them. This file runs in
gdb's Python.
"""

from __future__ import annotations

from collections.abc import Iterator

import gdb

from gdbstub.python.lgreplay_stub import ask
from gdbstub.python.lgreplay_symbols import known_to_gdb

_COMMANDS = (
    ("lx-tasks", "the processes of a Linux guest, * the current one."),
    ("lx-dmesg", "its messages, from its memory."),
    ("lx-modules", "its modules, and where they are."),
    ("lx-version", "its version."),
    ("lx-cmdline", "its command line."),
    ("lx-iomem", "who has which memory."),
    ("lx-ioports", "who has which ports."),
)
_ALIASES = {"lx-ps": "lx-tasks", "lx-lsmod": "lx-modules"}


def commands() -> Iterator[tuple[str, str, str]]:
    """Commands that show what the stub says: name, words to the stub, help."""
    texts = dict(_COMMANDS)
    for words, text in _COMMANDS:
        yield f"info {words}", words, f"info {words} [GUEST]: {text}"
    for name in (*texts, *_ALIASES):
        words = _ALIASES.get(name, name)
        if not known_to_gdb(name):
            yield name, words, f"{name} [GUEST]: {texts[words]}"


class CurrentFunction(gdb.Function):
    """$lx_current(): the current task of a Linux guest; its address where the kernel's types are not known."""

    def __init__(self) -> None:
        super().__init__("lx_current")

    def invoke(self, *_: object) -> object:
        """Called by gdb; a processor's number, which Linux's own function takes, changes nothing."""
        said = ask("lx-current")
        if not said.startswith("0x"):
            raise gdb.GdbError(said.strip())
        address = said.split()[0]
        try:
            return gdb.parse_and_eval(f"*(struct task_struct *) {address}")
        except gdb.error:
            return gdb.parse_and_eval(address)


def install() -> None:
    """Make the function known to gdb."""
    CurrentFunction()
