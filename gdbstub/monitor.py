"""Commands in words, for clients without the Python file: `monitor seek 37%`, `monitor whynot 1` and the like.

Each command is an entry of a table (going.py, asking.py, linux.py); `monitor help` shows them all. A command that goes
somewhere says where it has come to; the debugger still shows what it knew of the old place, unless it is told of the
arrival (`--announce`, which the Python file uses) or asked to forget (`maintenance flush register-cache`).

Read next: words.py.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from types import MappingProxyType

from gdbstub.asking import ASKING
from gdbstub.errors import Errno, TargetFault
from gdbstub.going import GOING
from gdbstub.linux import LINUX
from gdbstub.words import Command, Talk

ANNOUNCE = "--announce"
# Carried out elsewhere: one belongs to the trace (programs.py), one changes what all others work on (branches.py).
_PROGRAMS = (
    "programs [here | modules [FOLDER...]]",
    "files with symbols; the one of the program that runs; those of a Linux's modules",
)
_BRANCH = ("branch [leave | save FILE]", "what writing has opened: list, go back, keep as a trace")
COMMANDS: Mapping[str, Command] = MappingProxyType({**GOING, **ASKING, **LINUX})


def carry_out(talk: Talk, text: str) -> str:
    """Do what is asked; return what to show.

    Raises: TargetFault.
    """
    try:
        name, *arguments = shlex.split(text) or ["help"]
    except ValueError as error:
        raise TargetFault(f"{text!a}: {error}", Errno.EINVAL) from error
    if name == "help":
        return _help()
    command = COMMANDS.get(name)
    if command is None:
        raise TargetFault(f"{name!a} is no command; `monitor help` lists them", Errno.EINVAL)
    announced = command.moves and ANNOUNCE in arguments
    shown = command.run(talk, [a for a in arguments if not announced or a != ANNOUNCE])
    if announced:
        talk.travel.announce()
    return f"{shown}\n"


def _help() -> str:
    lines = [(f"{name} {c.usage}".rstrip(), c.summary) for name, c in COMMANDS.items()]
    lines += [_PROGRAMS, _BRANCH]
    width = max(len(head) for head, _ in lines)
    return "".join(f"{head:<{width}}  {summary}\n" for head, summary in lines)


__all__ = ["ANNOUNCE", "COMMANDS", "carry_out"]
