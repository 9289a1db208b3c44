"""Talking to lgreplay's stub from gdb's Python: asking it, going where it goes, being where it has gone.

gdb must not be left with what it knows of the old place. After a move of its own making the stub answers gdb's next
move with a stop at the new place; so one `continue`, whose text nobody sees, brings gdb there, whatever thread that is
in. This file runs in gdb's Python, so it imports nothing else of lgreplay.
"""

from __future__ import annotations

import re

import gdb

_PROGRESS = re.compile(r"at tick [\d,]+ of [\d,]+$")
_QUIET = "suppress-cli-notifications"


def ask(words: str) -> str:
    """What the stub says to a command. Where there is none, or it is at work, gdb says so in a line."""
    try:
        text = str(gdb.execute("monitor " + words, to_string=True))
    except gdb.error as error:
        raise gdb.GdbError(str(error)) from error
    # How far a long way has got comes with the rest, when it is of no use any more.
    return "".join(line for line in text.splitlines(keepends=True) if not _PROGRESS.match(line))


def arrive() -> None:
    """Have gdb see that it is elsewhere."""
    was_quiet = gdb.parameter(_QUIET)
    gdb.execute(f"set {_QUIET} on")
    try:
        gdb.execute("continue", to_string=True)
    finally:
        gdb.execute(f"set {_QUIET} {'on' if was_quiet else 'off'}")


def go(words: str) -> None:
    """Have the stub go somewhere, and gdb with it."""
    name, _, rest = words.partition(" ")
    said = ask(name + " --announce " + rest)
    if not said.startswith("tick "):
        raise gdb.GdbError(said.strip())
    arrive()
    gdb.write(said)
    gdb.execute("frame")


def quoted(argument: str) -> str:
    """An argument in quotes, as the stub takes them apart."""
    return "'" + argument.replace("'", "'\"'\"'") + "'" if argument else ""
