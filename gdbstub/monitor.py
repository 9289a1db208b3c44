"""Commands in words, for clients without the Python file: `monitor seek 37%`, `monitor whynot 1` and the like.

Each command is an entry of a table: what it takes, what it does in a line, and the function. `monitor help` shows the
table. A command that goes somewhere says where it has come to; the debugger still shows what it knew of the old place,
unless it is told (`--announce`, which the Python file uses) or asked to forget (`maintenance flush register-cache`).

Read next: travel.py; tables.py for what `info` shows.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TypeAlias

from gdbstub.contexts import Contexts
from gdbstub.errors import Errno, TargetFault
from gdbstub.stepping import Scope
from gdbstub.travel import Checkpoint, Travel

_ANNOUNCE = "--announce"

_Run: TypeAlias = "Callable[[Monitor, Sequence[str]], str]"


@dataclass(frozen=True, slots=True)
class Command:
    """One command; `moves` tells that it may go somewhere."""

    usage: str
    summary: str
    run: _Run
    moves: bool = False


class Monitor:
    """Carries out commands."""

    def __init__(self, travel: Travel, contexts: Contexts) -> None:
        self.travel = travel
        self.contexts = contexts

    def carry_out(self, text: str) -> str:
        """Do what is asked; return what to show.

        Raises: TargetFault.
        """
        try:
            name, *arguments = shlex.split(text) or ["help"]
        except ValueError as error:
            raise TargetFault(f"{text!a}: {error}", Errno.EINVAL) from error
        command = COMMANDS.get(name)
        if command is None:
            raise TargetFault(f"{name!a} is no command; `monitor help` lists them", Errno.EINVAL)
        announced = command.moves and _ANNOUNCE in arguments
        arguments = [argument for argument in arguments if not announced or argument != _ANNOUNCE]
        shown = command.run(self, arguments)
        if announced:
            self.travel.announce()
        return shown if shown.endswith("\n") else f"{shown}\n"

    def where(self) -> str:
        """The position in words."""
        timeline = self.travel.timeline
        first, end = timeline.first_tick, timeline.end_tick
        share = 100 * (timeline.tick - first) / max(end - first, 1)
        ordinal = timeline.store.ordinal_of(timeline.store.position_at(timeline.tick))
        thread = self.contexts.current()
        return (
            f"tick {timeline.tick:,} of {end:,} ({share:.1f}%), event {ordinal} of {len(timeline.store)}, "
            f"{self.contexts.name(thread)}: {timeline.look.world.value} at {timeline.machine.cpu.eip:#010x}"
        )


def wrong(name: str) -> TargetFault:
    """The error for arguments that do not fit."""
    command = COMMANDS[name]
    return TargetFault(
        f"{name} {command.usage}: {command.summary}".replace(" :", ":"), Errno.EINVAL
    )


def count_of(arguments: Sequence[str], name: str) -> int:
    """The only argument, a number, 1 by default."""
    match arguments:
        case []:
            return 1
        case [number] if number.lstrip("-").isdecimal():
            return int(number)
    raise wrong(name)


# ---- going about -----------------------------------------------------------------------------------


def _when(monitor: Monitor, _: Sequence[str]) -> str:
    return monitor.where()


def _seek(monitor: Monitor, arguments: Sequence[str]) -> str:
    if not arguments:
        raise wrong("seek")
    monitor.travel.to(" ".join(arguments))
    return monitor.where()


def _tick_step(monitor: Monitor, arguments: Sequence[str]) -> str:
    monitor.travel.ticks(count_of(arguments, "tick-step"))
    return monitor.where()


def _back(monitor: Monitor, arguments: Sequence[str]) -> str:
    monitor.travel.back(count_of(arguments, "back"))
    return monitor.where()


def _forward(monitor: Monitor, arguments: Sequence[str]) -> str:
    monitor.travel.back(-count_of(arguments, "forward"))
    return monitor.where()


def _checkpoint(monitor: Monitor, arguments: Sequence[str]) -> str:
    checkpoints = monitor.travel.checkpoints
    number = max(checkpoints, default=0) + 1
    checkpoints[number] = Checkpoint(monitor.travel.timeline.tick, " ".join(arguments))
    return f"checkpoint {number} at tick {checkpoints[number].tick:,}"


def _checkpoints(monitor: Monitor, _: Sequence[str]) -> str:
    known = monitor.travel.checkpoints.items()
    lines = (f"{number:>4}  tick {c.tick:,}  {c.note}".rstrip() for number, c in known)
    return "\n".join(lines) or "no checkpoints"


def _restart(monitor: Monitor, arguments: Sequence[str]) -> str:
    number = count_of(arguments, "restart")
    checkpoint = monitor.travel.checkpoints.get(number)
    if checkpoint is None:
        raise TargetFault(f"there is no checkpoint {number}", Errno.EINVAL)
    monitor.travel.to(str(checkpoint.tick))
    return monitor.where()


def _delete_checkpoint(monitor: Monitor, arguments: Sequence[str]) -> str:
    number = count_of(arguments, "delete-checkpoint")
    if monitor.travel.checkpoints.pop(number, None) is None:
        raise TargetFault(f"there is no checkpoint {number}", Errno.EINVAL)
    return f"checkpoint {number} deleted"


def _step_scope(monitor: Monitor, arguments: Sequence[str]) -> str:
    stepper = monitor.travel.stepper
    match arguments:
        case []:
            pass
        case ["thread" | "cpu" as scope]:
            stepper.scope = Scope(scope)
        case _:
            raise wrong("step-scope")
    return f"a step is an instruction of the {'same thread' if stepper.scope is Scope.THREAD else 'CPU'}"


def _help(_monitor: Monitor, _: Sequence[str]) -> str:
    heads = {name: f"{name} {command.usage}".rstrip() for name, command in COMMANDS.items()}
    width = max(map(len, heads.values()))
    return "\n".join(f"{heads[name]:<{width}}  {c.summary}" for name, c in COMMANDS.items())


COMMANDS: Mapping[str, Command] = MappingProxyType(
    {
        "help": Command("", "this list", _help),
        "when": Command("", "where in the run we are", _when),
        "seek": Command(
            "PLACE",
            "go to a tick, PERCENT%, event N, start, end, +N or -N ticks",
            _seek,
            moves=True,
        ),
        "tick-step": Command(
            "[N]", "make N steps of one tick; back if N < 0", _tick_step, moves=True
        ),
        "back": Command("[N]", "go to where we were N stops ago", _back, moves=True),
        "forward": Command("[N]", "the other way round", _forward, moves=True),
        "checkpoint": Command("[NOTE]", "remember this place", _checkpoint),
        "checkpoints": Command("", "places remembered", _checkpoints),
        "restart": Command("[N]", "go to checkpoint N", _restart, moves=True),
        "delete-checkpoint": Command("N", "forget a checkpoint", _delete_checkpoint),
        "step-scope": Command("[thread|cpu]", "whose instruction a step is", _step_scope),
    }
)

__all__ = ["COMMANDS", "Command", "Monitor", "count_of", "wrong"]
