"""Writing to the past: each write opens a branch, and one goes on in that.

The recorded run stays as it is; a branch shares it up to the write. Several writes at one place - a debugger makes many
for a `call` - make one branch with several edits. Branches lie on each other like sheets: leaving one leads back to
where it was opened.

Where a run is being recorded, and one is in its present, nothing is past yet: there a write goes into the run.

Since all that a branch does follows from its edits, two programs that open the same sheets on the same trace see the
same (shared_position.py). Read next: branch.py, live.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from os import PathLike

from hostvm.edits import Edit
from hostvm.units import Tick
from replay.branch import Branch
from replay.live import LiveTimeline
from replay.timeline import Timeline


@dataclass(frozen=True, slots=True)
class Sheet:
    """A branch as it was opened: at a tick of the history below it, with these edits."""

    tick: Tick
    edits: tuple[Edit, ...]


class Written(Enum):
    """What a write has done."""

    NOW = auto()
    OPENED = auto()
    ADDED = auto()


class NoBranch(ValueError):
    """One is in the recorded run, where there is no branch to leave or to keep."""

    def __init__(self) -> None:
        super().__init__("this is the recorded run, and no branch")


class Histories:
    """The run in a trace, and on it the branches opened; `top` is where one is."""

    def __init__(self, timeline: Timeline) -> None:
        self.recorded = timeline
        self._branches: list[Branch] = []
        self._sheets: list[Sheet] = []

    @property
    def top(self) -> Timeline:
        """Where one is."""
        return self._branches[-1] if self._branches else self.recorded

    @property
    def timelines(self) -> tuple[Timeline, ...]:
        """The run, and the branches on it."""
        return (self.recorded, *self._branches)

    @property
    def branch(self) -> Branch:
        """The branch where one is. Raises NoBranch."""
        if not self._branches:
            raise NoBranch
        return self._branches[-1]

    @property
    def sheets(self) -> tuple[Sheet, ...]:
        """What makes the branches, the first opened first."""
        return tuple(self._sheets)

    def write(self, edits: Sequence[Edit]) -> Written:
        """Open a branch with these edits, or take them into the one that has just been opened here.

        Raises BadEdit, and as Timeline does; then nothing has changed.
        """
        here = self.top
        if isinstance(here, LiveTimeline) and here.tick == here.end_tick:
            here.write(edits)
            return Written.NOW
        if isinstance(here, Branch) and here.tick == here.branch_tick == here.end_tick:
            below = self.timelines[-2]
            self._open(below, [*self._sheets[-1].edits, *edits], len(self._branches) - 1)
            return Written.ADDED
        self._open(here, edits, len(self._branches))
        return Written.OPENED

    def _open(self, below: Timeline, edits: Iterable[Edit], depth: int) -> None:
        sheet = Sheet(below.tick, tuple(edits))
        branch = below.branch(sheet.edits)
        self._branches[depth:] = [branch]
        self._sheets[depth:] = [sheet]

    def leave(self) -> None:
        """Go back to where the branch was opened. Raises NoBranch."""
        if not self._branches:
            raise NoBranch
        self._branches.pop()
        self._sheets.pop()

    def be_on(self, sheets: Sequence[Sheet]) -> None:
        """Open and leave as is needed for these sheets. Raises as `write`; then one is on as many as there could be."""
        same = 0
        while same < min(len(sheets), len(self._sheets)) and sheets[same] == self._sheets[same]:
            same += 1
        del self._branches[same:], self._sheets[same:]
        for sheet in sheets[same:]:
            self.top.go(sheet.tick)
            self._open(self.top, sheet.edits, len(self._branches))

    def save(self, path: str | PathLike[str], command_line: Iterable[str] = ()) -> str:
        """Keep the branch as a trace of its own; say so in words. Raises NoBranch, TraceWriteError."""
        branch = self.branch
        branch.save(path, command_line)
        return f"{path}: the branch up to tick {branch.end_tick:,}"

    def lines(self) -> list[str]:
        """What there is, in words, the recorded run first."""
        return ["the recorded run", *(_words(branch) for branch in self._branches)]


def _words(branch: Branch) -> str:
    count = len(branch.edits)
    edits = f"{count} edit{'' if count == 1 else 's'}"
    return f"branch at tick {branch.branch_tick:,}: {edits}, known up to tick {branch.end_tick:,}"


__all__ = ["Histories", "NoBranch", "Sheet", "Written"]
