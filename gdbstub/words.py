"""What commands in words have in common: what one is, what it works on, and how its arguments are read.

Read next: going.py and asking.py, the commands; monitor.py, which carries them out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from gdbstub.contexts import Contexts
from gdbstub.errors import Errno, TargetFault
from gdbstub.points import Points
from gdbstub.travel import Travel
from replay.timeline import Timeline


@dataclass(frozen=True, slots=True)
class Talk:
    """What commands work on."""

    travel: Travel
    contexts: Contexts
    points: Points

    @property
    def timeline(self) -> Timeline:
        """The run."""
        return self.travel.timeline

    def where(self) -> str:
        """The position in words."""
        timeline = self.timeline
        first, end = timeline.first_tick, timeline.end_tick
        share = 100 * (timeline.tick - first) / max(end - first, 1)
        ordinal = timeline.store.ordinal_of(timeline.store.position_at(timeline.tick))
        pc = timeline.machine.cpu.eip
        name = timeline.symbols.name_of(pc, in_guest=bool(timeline.machine.cpu.cpl))
        return (
            f"tick {timeline.tick:,} of {end:,} ({share:.1f}%), event {ordinal} of {len(timeline.store)}, "
            f"{timeline.look.world.value} at {pc:#010x}{f' <{name}>' if name else ''}"
        )


Run: TypeAlias = Callable[[Talk, Sequence[str]], str]


@dataclass(frozen=True, slots=True)
class Command:
    """One command; `moves` tells that it may go somewhere."""

    usage: str
    summary: str
    run: Run
    moves: bool = False


def wrong(arguments: Sequence[str]) -> TargetFault:
    """The error for arguments that do not fit."""
    given = " ".join(arguments)
    return TargetFault(
        f"{given!a}: that is not what this command takes; `monitor help` says what is", Errno.EINVAL
    )


def number_of(arguments: Sequence[str]) -> int:
    """The only argument, a number; 1 if it is left out."""
    match arguments:
        case []:
            return 1
        case [number] if number.removeprefix("-").isdecimal():
            return int(number)
    raise wrong(arguments)


__all__ = ["Command", "Run", "Talk", "number_of", "wrong"]
