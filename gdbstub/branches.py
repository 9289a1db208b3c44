"""Writing to the past: each write opens a branch, and the debugger goes on in that (replay/histories.py).

Points and catches hold on whichever branch one is in; they go with the debugger when it opens one or leaves it.

Read next: replay/histories.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from gdbstub.agent import Expression
from gdbstub.commands import Point
from gdbstub.contexts import HOST_THREAD, guest_of
from gdbstub.errors import Errno, TargetFault
from gdbstub.registers import READ_ONLY, REGISTERS
from gdbstub.scene import Scene, scene_of
from hostvm.edits import Edit
from hostvm.edits import Register as Editable
from hostvm.memory_map import SWITCHER_BASE
from hostvm.units import Tick
from replay.branch import set_memory, set_register
from replay.errors import ReplayError
from replay.histories import Histories, NoBranch, Written
from replay.look import GuestSpace
from replay.timeline import Timeline

SETTABLE = frozenset(n for n, r in enumerate(REGISTERS) if r.name.upper() in Editable.__members__)
_FIRST_WORDS = "This is a branch now: the recorded run is as it was, and `monitor branch leave` goes back to it.\n"
_USAGE = "branch [leave | save FILE]: show the branches; go back to where this one began; keep it as a trace"


class Branches:
    """The trace, and on it the branches opened; `top` is where the debugger is."""

    def __init__(self, timeline: Timeline, report: Callable[[Tick], None]) -> None:
        self.histories = Histories(timeline)
        self._report = report
        self._scenes = [self._opened(timeline)]
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
        """Change a register of the thread at work. Raises TargetFault.

        For a `return`, and after a `call`, GDB puts back all registers, those too that nobody can write: these are left
        as they are.
        """
        if register not in SETTABLE and value in self._known(register):
            return
        if register in READ_ONLY:
            raise TargetFault(f"{REGISTERS[register].name} cannot be written", Errno.EPERM)
        if thread == HOST_THREAD or thread != self.top.contexts.current():
            raise TargetFault("only registers of a Guest that runs can be changed", Errno.EPERM)
        name = REGISTERS[register].name
        try:
            edit = set_register(name, int.from_bytes(value, "little"), guest_of(thread))
        except ValueError as error:
            raise TargetFault(str(error), Errno.EPERM) from error
        self._write([edit])

    def _known(self, register: int) -> list[bytes | None]:
        """What a register is, and what it was where the branches were opened."""
        every = [scene.contexts for scene in self._scenes]
        return [contexts.registers(contexts.current())[register] for contexts in every]

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
        try:
            written = self.histories.write(edits)
        except ReplayError as error:
            raise TargetFault(str(error), Errno.EPERM) from error
        if written is Written.OPENED and len(self._scenes) == 1:
            self._unsaid = _FIRST_WORDS
        self.arrange()

    def arrange(self) -> None:
        """Let there be a scene for each history, and points in force in the last one."""
        old, timelines = self.top, self.histories.timelines
        for timeline in timelines[1:]:
            timeline.symbols = timelines[0].symbols
        kept = [s for s, t in zip(self._scenes, timelines, strict=False) if s.timeline is t]
        self._scenes = [*kept, *(self._opened(t) for t in timelines[len(kept) :])]
        if self.top is not old:
            self._move_points(old, self.top)

    # ---- words ----------------------------------------------------------------------------------

    def carry_out(self, words: Sequence[str]) -> str:
        """The command `branch`. Raises TargetFault."""
        try:
            match words:
                case []:
                    lines = enumerate(self.histories.lines())
                    return "".join(f"{number:>3}  {line}\n" for number, line in lines)
                case ["leave"]:
                    self.histories.leave()
                    self.arrange()
                    return f"{self.top.talk.where()}\n"
                case ["save", path]:
                    return f"{self.histories.save(path)}\n"
        except (NoBranch, ReplayError) as error:
            raise TargetFault(str(error), Errno.EINVAL) from error
        raise TargetFault(_USAGE, Errno.EINVAL)


__all__ = ["Branches"]
