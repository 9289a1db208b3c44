"""A recorded run as a target that shares its position with a program that shows it (replay/shared_position.py).

The debugger moves when it likes, and the other side is told. When the other side wants to be elsewhere, the debugger is
not asked: at its next request the machine goes there first, and the arrival is announced, so that its next move moves
nothing and is answered with a stop at the new place. What it had cached until then is of the old one.

Read next: timeline_target.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from gdbstub.target import Move, RegisterSet, Stop
from gdbstub.timeline_target import TimelineTarget
from replay.shared_position import PositionServer, Standing
from replay.timeline import Timeline


class SharedTarget(TimelineTarget):
    """The run in `timeline`, whose position `others` are told, and may change."""

    def __init__(self, timeline: Timeline, others: PositionServer) -> None:
        super().__init__(timeline)
        self._trace = timeline
        self._others = others

    def advance(self, move: Move) -> Stop:
        """Go forward."""
        return self._told(lambda: super(SharedTarget, self).advance(move))

    def go_back(self, move: Move) -> Stop:
        """Go backward."""
        return self._told(lambda: super(SharedTarget, self).go_back(move))

    def monitor(self, text: str) -> str:
        """Carry out a command in words."""
        self._follow()
        try:
            return super().monitor(text)
        finally:
            self._tell()

    def restart(self, arguments: Sequence[str]) -> Stop:
        """Go to the beginning, or to the place that the arguments name."""
        return self._told(lambda: super(SharedTarget, self).restart(arguments))

    def read_registers(self, thread: int) -> RegisterSet:
        """Registers, where the other side wants them."""
        self._follow()
        return super().read_registers(thread)

    def read_memory(self, thread: int, address: int, length: int) -> bytes:
        """Memory, where the other side wants it."""
        self._follow()
        return super().read_memory(thread, address, length)

    def _told(self, move: Callable[[], Stop]) -> Stop:
        self._follow()
        try:
            return move()
        finally:
            self._tell()

    def _follow(self) -> None:
        wanted = self._others.wanted()
        if wanted is None or wanted == self.timeline.tick:
            return
        first, end = self.timeline.first_tick, self.timeline.end_tick
        if self.timeline is self._trace and first <= wanted <= end:
            self._scene.travel.to(str(wanted))
            self._scene.travel.announce()
        self._tell()

    def _tell(self) -> None:
        branch = self.timeline is not self._trace
        self._others.tell(Standing(self.timeline.tick, branch))


__all__ = ["SharedTarget"]
