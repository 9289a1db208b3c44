"""A run as a target that shares its place, its branches and its stops with a screen (replay/shared_position.py).

The debugger moves when it likes, and the screen is told. When the screen wants to be elsewhere, the debugger is not
asked: at its next request the machine goes there first, and the arrival is announced, so that its next move moves
nothing and is answered with a stop at the new place. What it had cached until then is of the old one. A debugger that
listens itself (python/lgreplay_follow.py) asks at once: `monitor shared follow`.

The screen's stops are catches here, which say whose they are. The debugger's are told as they were when it last let the
machine run: gdb takes them out at every stop. A condition of gdb's is known to gdb alone; such a stop is only listed.

Read next: timeline_target.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from gdbstub.agent import Expression
from gdbstub.commands import Motion, Point, PointKind
from gdbstub.errors import Errno, TargetFault
from gdbstub.target import Move, RegisterSet, Stop
from gdbstub.timeline_target import TimelineTarget
from replay.branch import Branch
from replay.errors import ReplayError
from replay.live import LiveTimeline
from replay.location_words import BadLocation
from replay.named_stops import NoSuchStop
from replay.predicate import BadPredicate
from replay.shared_position import PositionServer, SharedStop, Standing
from replay.stop_words import BadStop, stop_of
from replay.timeline import Timeline

_WORDS = {
    PointKind.WRITE: "watch",
    PointKind.READ: "rwatch",
    PointKind.ACCESS: "awatch",
}
_SCREENS = " (screen)"


class SharedTarget(TimelineTarget):
    """The run in `timeline`, whose place `others` are told, and may change; `where` is the socket at which they are."""

    def __init__(self, timeline: Timeline, others: PositionServer, where: Path) -> None:
        super().__init__(timeline)
        self._others = others
        self._where = where
        self._points: dict[int, SharedStop] = {}
        self._last_points: tuple[SharedStop, ...] = ()
        self._wanted_stops: tuple[SharedStop, ...] = ()
        self._brought: str = ""
        self._tell()

    def advance(self, move: Move) -> Stop:
        """Go forward."""
        return self._told(move, lambda: super(SharedTarget, self).advance(move))

    def go_back(self, move: Move) -> Stop:
        """Go backward."""
        return self._told(move, lambda: super(SharedTarget, self).go_back(move))

    def monitor(self, text: str) -> str:
        """Carry out a command in words."""
        self._follow()
        try:
            return (
                self._shared(text.split()[1:])
                if text.split()[:1] == ["shared"]
                else (super().monitor(text))
            )
        finally:
            self._tell()

    def _shared(self, words: Sequence[str]) -> str:
        """`shared`: where screens can be attached; `shared follow`: where one has brought us, once."""
        match words:
            case []:
                return f"{self._where}\n"
            case ["follow"]:
                brought, self._brought = self._brought, ""
                return brought
        raise TargetFault("shared [follow]", Errno.EINVAL)

    def restart(self, arguments: Sequence[str]) -> Stop:
        """Go to the beginning, or to the place that the arguments name."""
        self._follow()
        try:
            return super().restart(arguments)
        finally:
            self._tell()

    def read_registers(self, thread: int) -> RegisterSet:
        """Registers, where the other side wants them."""
        self._follow()
        return super().read_registers(thread)

    def read_memory(self, thread: int, address: int, length: int) -> bytes:
        """Memory, where the other side wants it."""
        self._follow()
        return super().read_memory(thread, address, length)

    def write_register(self, thread: int, register: int, value: bytes) -> None:
        """Change a register, and tell of the branch that this has opened."""
        super().write_register(thread, register, value)
        self._tell()

    def write_memory(self, thread: int, address: int, data: bytes) -> None:
        """Change memory, and tell of the branch that this has opened."""
        super().write_memory(thread, address, data)
        self._tell()

    def add_point(self, point: Point, conditions: Sequence[Expression]) -> int:
        """Put a point in force."""
        number = super().add_point(point, conditions)
        self._points[number] = SharedStop(_text(point), holds=not conditions)
        return number

    def remove_point(self, number: int) -> None:
        """Take it away."""
        super().remove_point(number)
        del self._points[number]

    def left(self) -> None:
        """The debugger goes, and its stops with it; the screen's stay."""
        super().left()
        self._last_points = ()
        self._arrange_stops()
        self._tell()

    # ---- the other side ---------------------------------------------------------------------------

    def _told(self, move: Move, go: Callable[[], Stop]) -> Stop:
        self._follow()
        self._brought = ""
        if move.motion is Motion.CONTINUE:
            self._last_points = tuple(dict.fromkeys(self._points.values()))
        try:
            return go()
        finally:
            self._tell()

    def _follow(self) -> None:
        """Be where the screen wants us."""
        wanted = self._others.wanted()
        if wanted is None:
            return
        before = self._place
        try:
            self._take_branches(wanted)
            self._take_place(wanted.tick)
        except (ReplayError, TargetFault):
            # What the other side has is not to be had here: stay, and say where that is.
            self._branches.arrange()
        self._wanted_stops = wanted.stops
        self._arrange_stops()
        if self._place != before:
            self._scene.travel.announce()
            self._brought = f"{self._scene.talk.where()}\n"
        self._tell()

    @property
    def _place(self) -> tuple[int, Timeline]:
        return self.timeline.tick, self.timeline

    def _take_branches(self, wanted: Standing) -> None:
        histories = self._branches.histories
        if wanted.sheets is not None and wanted.sheets != histories.sheets:
            histories.be_on(wanted.sheets)
            self._branches.arrange()

    def _take_place(self, tick: int) -> None:
        timeline = self.timeline
        if isinstance(timeline, Branch) and tick > timeline.end_tick:
            timeline.extend(tick)
        if tick != timeline.tick and timeline.first_tick <= tick <= timeline.end_tick:
            self._scene.travel.to(str(tick))

    def _arrange_stops(self) -> None:
        """Let the screen's stops be catches."""
        travel = self._scene.travel
        wanted = {stop.text + _SCREENS: stop.text for stop in self._wanted_stops if stop.holds}
        for number, text in tuple(travel.catches.items()):
            if text.endswith(_SCREENS) and wanted.pop(text, None) is None:
                travel.forget_catch(number)
        for shown, text in wanted.items():
            try:
                travel.catch(stop_of(self.timeline, text), shown)
            except (BadStop, BadLocation, BadPredicate, NoSuchStop):
                # It means something to the screen alone: a symbol of another Guest's, for instance.
                continue

    def _tell(self) -> None:
        recorded = self._branches.histories.recorded
        end, events = None, 0
        if isinstance(recorded, LiveTimeline):
            recorded.publish()
            end, events = int(recorded.end_tick), recorded.events_logged
        sheets = self._branches.histories.sheets
        stops = tuple(self._own_stops())
        self._others.tell(Standing(int(self.timeline.tick), sheets, stops, end, events))

    def _own_stops(self) -> Iterator[SharedStop]:
        yield from self._last_points
        for text in self._scene.travel.catches.values():
            if not text.endswith(_SCREENS):
                yield SharedStop(text if text.startswith("when ") else f"catch {text}")


def _text(point: Point) -> str:
    word = _WORDS.get(point.kind)
    return (
        f"break {point.address:#x}" if word is None else f"{word} {point.address:#x},{point.length}"
    )


__all__ = ["SharedTarget"]
