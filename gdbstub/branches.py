"""Writing to the past: each write opens a branch, and the debugger goes on in that.

Where a run is being recorded, and the debugger is in its present, nothing is past yet: there it writes into the run.

The recorded run stays as it is; a branch shares it up to the write. Several writes at one place - gdb makes many for a
`call` - make one branch with several edits. Branches lie on each other like sheets: leaving one leads back to where it
was opened. Points and catches hold on whichever sheet lies on top.

Read next: replay/branch.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from gdbstub.agent import Expression
from gdbstub.commands import Point
from gdbstub.contexts import HOST_THREAD, guest_of
from gdbstub.errors import Errno, TargetFault
from gdbstub.registers import REGISTERS
from gdbstub.scene import Scene, scene_of
from hostvm.edits import Edit
from hostvm.memory_map import SWITCHER_BASE
from hostvm.units import Tick
from replay.branch import Branch, set_memory, set_register
from replay.errors import ReplayError
from replay.live import LiveTimeline
from replay.look import GuestSpace
from replay.timeline import Timeline

_FIRST_WORDS = "This is a branch now: the recorded run is as it was, and `monitor branch leave` goes back to it.\n"
_USAGE = "branch [leave | save FILE]: show the branches; go back to where this one began; keep it as a trace"


class Branches:
    """The trace, and on it the branches opened; `top` is where the debugger is."""

    def __init__(self, timeline: Timeline, report: Callable[[Tick], None]) -> None:
        self._report = report
        self._scenes = [self._opened(timeline)]
        self._edits: list[list[Edit]] = []
        self._points: dict[int, tuple[Point, tuple[Expression, ...]]] = {}
        self._numbers: dict[int, int] = {}
        self._last = 0
        self._unsaid = ""

    def _opened(self, timeline: Timeline) -> Scene:
        timeline.progress = self._report
        return scene_of(timeline)

    @property
    def top(self) -> Scene:
        """Where the debugger is."""
        return self._scenes[-1]

    def note(self) -> str:
        """What the user must be told, once."""
        text, self._unsaid = self._unsaid, ""
        return text

    # ---- points that outlive a branch -------------------------------------------------------------

    def add_point(self, point: Point, conditions: Sequence[Expression]) -> int:
        """Put a point in force."""
        self._last += 1
        self._points[self._last] = point, tuple(conditions)
        self._numbers[self._last] = self.top.points.add(point, conditions)
        return self._last

    def remove_point(self, number: int) -> None:
        """Take it away."""
        del self._points[number]
        self.top.points.remove(self._numbers.pop(number))

    def _move_points(self, old: Scene, new: Scene) -> None:
        for number, (point, conditions) in self._points.items():
            old.points.remove(self._numbers[number])
            self._numbers[number] = new.points.add(point, conditions)
        stops = dict(old.timeline.stops)
        for number, text in tuple(old.travel.catches.items()):
            new.travel.catch(stops[number], text)
            old.travel.forget_catch(number)
        new.travel.checkpoints.update(old.travel.checkpoints)
        new.stepper.scope = old.stepper.scope

    # ---- writing --------------------------------------------------------------------------------

    def write_register(self, thread: int, register: int, value: bytes) -> None:
        """Change a register of the thread at work. Raises TargetFault."""
        if thread == HOST_THREAD or thread != self.top.contexts.current():
            raise TargetFault("only registers of a Guest that runs can be changed", Errno.EPERM)
        name = REGISTERS[register].name
        try:
            edit = set_register(name, int.from_bytes(value, "little"), guest_of(thread))
        except ValueError as error:
            raise TargetFault(str(error), Errno.EPERM) from error
        self._write([edit])

    def write_memory(self, thread: int, address: int, data: bytes) -> None:
        """Change memory of a Guest. Raises TargetFault."""
        if thread == HOST_THREAD or address + len(data) > SWITCHER_BASE:
            raise TargetFault("only memory of a Guest can be changed", Errno.EPERM)
        try:
            edits = set_memory(self.top.timeline.look, address, data, GuestSpace(guest_of(thread)))
        except ValueError as error:
            raise TargetFault(str(error)) from error
        self._write(edits)

    def _write(self, edits: list[Edit]) -> None:
        """Open a branch with these edits, or take them into the one that has just been opened here."""
        old, parent, all_edits = self.top, self.top.timeline, edits
        if isinstance(parent, LiveTimeline) and parent.tick == parent.end_tick:
            self._write_now(parent, edits)
            return
        again = isinstance(parent, Branch) and parent.tick == parent.branch_tick == parent.end_tick
        if again:
            parent, all_edits = self._scenes[-2].timeline, [*self._edits[-1], *edits]
        try:
            scene = self._opened(parent.branch(all_edits))
        except ReplayError as error:
            raise TargetFault(str(error), Errno.EPERM) from error
        if again:
            del self._scenes[-1], self._edits[-1]
        elif not self._edits:
            self._unsaid = _FIRST_WORDS
        self._move_points(old, scene)
        self._scenes.append(scene)
        self._edits.append(all_edits)

    def _write_now(self, timeline: LiveTimeline, edits: list[Edit]) -> None:
        try:
            timeline.write(edits)
        except ReplayError as error:
            raise TargetFault(str(error), Errno.EPERM) from error

    # ---- words ----------------------------------------------------------------------------------

    def carry_out(self, words: Sequence[str]) -> str:
        """The command `branch`. Raises TargetFault."""
        match words:
            case []:
                return self._list()
            case ["leave"] if self._edits:
                return self._leave()
            case ["save", path] if self._edits:
                return self._save(path)
            case ["leave" | "save", *_]:
                raise TargetFault("this is the recorded run, and no branch", Errno.EINVAL)
        raise TargetFault(_USAGE, Errno.EINVAL)

    def _list(self) -> str:
        lines = ["the recorded run"]
        for scene in self._scenes[1:]:
            branch = scene.timeline
            assert isinstance(branch, Branch)
            count = len(branch.edits)
            edits = f"{count} edit{'' if count == 1 else 's'}"
            lines.append(
                f"branch at tick {branch.branch_tick:,}: {edits}, known up to tick {branch.end_tick:,}"
            )
        return "".join(f"{number:>3}  {line}\n" for number, line in enumerate(lines))

    def _leave(self) -> str:
        old = self._scenes.pop()
        self._edits.pop()
        self._move_points(old, self.top)
        return f"{self.top.talk.where()}\n"

    def _save(self, path: str) -> str:
        branch = self.top.timeline
        assert isinstance(branch, Branch)
        try:
            branch.save(path)
        except ReplayError as error:
            raise TargetFault(str(error)) from error
        return f"{path}: the branch up to tick {branch.end_tick:,}\n"


__all__ = ["Branches"]
