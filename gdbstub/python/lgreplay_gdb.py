"""Commands for gdb on an lgreplay trace: `source` this file, or let `lgreplay gdb --launch` do it.

Most of them hand their words on to the stub (`monitor help` shows what it knows); those that go somewhere, and how gdb
is taken along, are in lgreplay_stub.py, whose names gdb knows in lgreplay_symbols.py.

This file runs in gdb's Python, so it imports nothing but its neighbours. docs/gdb.md describes the commands.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path

import gdb

# gdb's Python has paths of its own, perhaps to another lgreplay: this is where the one is that this file belongs to.
_HOME = str(Path(__file__).resolve().parents[2])
sys.path.insert(0, _HOME)
try:
    from gdbstub.python import (
        lgreplay_linux,
        lgreplay_modules,
        lgreplay_programs,
        lgreplay_symbols,
    )
    from gdbstub.python.lgreplay_stub import ask, go, quoted
finally:
    sys.path.remove(_HOME)

_SOURCES = Path(_HOME) / "hostvm" / "guest"
_LOCATIONS = frozenset(("idt", "gdt", "real-idt", "pending", "gpte", "spte", "field"))


class Told(gdb.Command):
    """A command whose words go to the stub, and whose answer is shown."""

    def __init__(self, name: str, words: str, text: str) -> None:
        self.__doc__ = text
        self._words = words
        super().__init__(name, gdb.COMMAND_USER)

    def invoke(self, argument: str, from_tty: bool) -> None:
        """Called by gdb."""
        gdb.write(ask((self._words + " " + argument).strip()))


class Going(gdb.Command):
    """A command that goes somewhere."""

    def __init__(self, name: str, words: str, text: str) -> None:
        self.__doc__ = text
        self._words = words
        super().__init__(name, gdb.COMMAND_RUNNING)

    def invoke(self, argument: str, from_tty: bool) -> None:
        """Called by gdb."""
        self.dont_repeat()
        go((self._words + " " + argument).strip())


class Provenance(gdb.Command):
    """A command about a location: an expression of gdb's that has an address, or words that the stub knows."""

    def __init__(self, name: str, text: str) -> None:
        self.__doc__ = text
        self._words = name
        super().__init__(name, gdb.COMMAND_DATA, gdb.COMPLETE_EXPRESSION)

    def invoke(self, argument: str, from_tty: bool) -> None:
        """Called by gdb."""
        gdb.write(ask(self._words + " " + self._location(argument)))

    def _location(self, argument: str) -> str:
        if argument.startswith("$") or argument.partition(" ")[0] in _LOCATIONS:
            return argument
        try:
            value = gdb.parse_and_eval(argument)
        except gdb.error:
            # Perhaps the stub knows a name that gdb does not; if not, it says so.
            return argument
        if value.address is None:
            # A number is an address of four bytes.
            return hex(int(value) & 0xFFFFFFFF)
        return hex(int(value.address) & 0xFFFFFFFF) + " " + str(value.type.sizeof)


class Branch(gdb.Command):
    """branch [leave | save FILE]: what writing has opened: list, go back, keep as a trace."""

    def __init__(self) -> None:
        super().__init__("branch", gdb.COMMAND_RUNNING)

    def invoke(self, argument: str, from_tty: bool) -> None:
        """Called by gdb."""
        self.dont_repeat()
        if argument.strip() == "leave":
            go("branch leave")
        else:
            gdb.write(ask("branch " + argument))


class Checkpoint(gdb.Command):
    """checkpoint [NOTE]: remember this place; `restart N` comes back to it."""

    def __init__(self) -> None:
        super().__init__("checkpoint", gdb.COMMAND_RUNNING)

    def invoke(self, argument: str, from_tty: bool) -> None:
        """Called by gdb."""
        gdb.write(ask("checkpoint " + quoted(argument)))


class TickFunction(gdb.Function):
    """$_tick(): where in the run we are."""

    def __init__(self) -> None:
        super().__init__("_tick")

    def invoke(self) -> object:
        """Called by gdb."""
        return gdb.parse_and_eval("$tick")


_TOLD = (
    ("when", "when", "Say where in the run we are."),
    (
        "whynot",
        "whynot",
        "whynot IRQ [GUEST]: why this interrupt is not being delivered, since when, until when.",
    ),
    ("info idt", "info idt", "The Guest's IDT, and which of its gates the CPU has itself."),
    ("info gdt", "info gdt", "The Guest's GDT as its Host keeps it."),
    ("info irqs", "info irqs", "Virtual interrupts, and what stands in their way."),
    ("info lguest", "info lguest", "What the Host knows of the Guest."),
    (
        "info events",
        "info events",
        "info events [WORDS]: events of the log around us whose text contains WORDS.",
    ),
    ("info checkpoints", "checkpoints", "Places remembered."),
    ("info catches", "catch", "Catches in force."),
    ("delete checkpoint", "delete-checkpoint", "delete checkpoint N: forget a place."),
    ("uncatch", "uncatch", "uncatch N: do not stop there any more."),
    ("catch hypercall", "catch hypercall", "catch hypercall [N]: stop at hypercalls."),
    (
        "catch irq",
        "catch delivered",
        "catch irq [N]: stop where a virtual interrupt enters its handler.",
    ),
    (
        "catch raised",
        "catch raised",
        "catch raised [N]: stop where a virtual interrupt becomes pending.",
    ),
    (
        "catch deliverable",
        "catch deliverable",
        "catch deliverable [N]: stop where nothing forbids it any more.",
    ),
    (
        "catch interrupt",
        "catch interrupt",
        "catch interrupt [VECTOR]: stop at interrupts of the hardware.",
    ),
    (
        "catch trap",
        "catch trap",
        "catch trap [VECTOR]: stop at traps that the Host hands back to the Guest.",
    ),
    (
        "catch delivered",
        "catch delivered",
        "catch delivered [N]: the same as catch irq.",
    ),
    (
        "catch held",
        "catch held",
        "catch held [N]: stop where an interrupt is pending and something holds it back.",
    ),
    ("catch space", "catch space", "Stop where the Guest changes to other page tables."),
    ("catch ring", "catch ring", "catch ring N: stop where that ring is entered."),
    ("catch ended", "catch ended", "Stop where a Guest comes to its end."),
    ("catch switch", "catch switch", "Stop where the Guest is entered."),
    ("catch console", "catch console", "Stop where something is printed."),
    (
        "catch when",
        "catch when",
        "catch when EXPRESSION: stop where it becomes true, as in 'in_noirq and pending'.",
    ),
    ("step-scope", "step-scope", "step-scope [thread|cpu]: whose instruction a step is."),
)
_GOING = (
    ("seek", "seek", "seek TICK | N% | event N | start | end | @BOOKMARK | +N | -N: go there."),
    ("tick-step", "tick-step", "tick-step [N]: make N steps of one tick; back if N < 0."),
    ("to-event", "to-event", "to-event [NAME [N] | when EXPRESSION]: go to the next event."),
    (
        "reverse-to-event",
        "reverse-to-event",
        "reverse-to-event [NAME [N] | when EXPRESSION]: the same, backwards.",
    ),
    ("back", "back", "back [N]: go to where we were N stops ago."),
    ("forward", "forward", "forward [N]: the other way round."),
    ("restart", "restart", "restart [N]: go to checkpoint N."),
)
# One instruction of the CPU, whoever's it is: so one walks through the Switcher. What goes by source line stays with
# its thread. Each says so in front: what is hooked behind a command, gdb carries out while the target still runs.
_SCOPES = {
    "cpu": ("stepi", "reverse-stepi"),
    "thread": (
        *("step", "next", "nexti", "until", "advance", "finish"),
        *("reverse-step", "reverse-next", "reverse-nexti", "reverse-finish"),
    ),
}
_HOOK = """\
define hook-{command}
  python lgreplay_scope("{scope}")
end
"""


def lgreplay_scope(scope: str) -> None:
    """Say whose instruction a step is."""
    # If nothing is connected, the step itself will say so.
    with suppress(gdb.GdbError):
        ask("step-scope " + scope)


def flush() -> None:
    """Forget registers before the next prompt shows: once, after a call."""
    gdb.events.before_prompt.disconnect(flush)
    gdb.execute("maintenance flush register-cache", to_string=True)


def called(event: object) -> None:
    """After a call of a function gdb believes the registers, `tick` among them, to be what they were before it."""
    if isinstance(event, gdb.InferiorCallPostEvent):
        gdb.events.before_prompt.connect(flush)


def install() -> None:
    """Make the commands known to gdb."""
    for name, words, text in _TOLD:
        Told(name, words, text)
    for name, words, text in _GOING:
        Going(name, words, text)
    Provenance("last-write", "last-write EXPRESSION: who changed it last, before here.")
    Provenance("next-write", "next-write EXPRESSION: who changes it next, from here on.")
    Branch()
    Checkpoint()
    TickFunction()
    for name, words, text in lgreplay_linux.commands():
        Told(name, words, text)
    lgreplay_linux.install()
    lgreplay_symbols.install()
    lgreplay_programs.install()
    lgreplay_modules.install()
    for scope, commands in _SCOPES.items():
        for command in commands:
            gdb.execute(_HOOK.format(command=command, scope=scope), to_string=True)
    gdb.events.inferior_call.connect(called)
    gdb.execute(f"directory {_SOURCES}", to_string=True)


install()
