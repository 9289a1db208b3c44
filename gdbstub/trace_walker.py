"""A timeline as something to walk in: by one instruction, to a stop, or until a thread is at work again.

A thread of programs is home again when the program that runs is the one that ran: another program of the same Guest is
recognised by its page directory. Looking for that means looking at instructions of the right world only, which is a
range of addresses.

A move can be cancelled from another thread at any moment; the position is then that of its beginning, also where the
move had several parts - unless a run that is being recorded has gone on in it. A cancel that the timeline hears of too
late, when the move is over, it takes for one of the next move: so a cancelled part that nobody has asked for is done
again.

Read next: stepping.py, timeline_target.py.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from gdbstub.contexts import HOST_THREAD, Contexts, is_user
from gdbstub.errors import TargetFault
from gdbstub.points import Points
from gdbstub.stepping import Reasons
from gdbstub.target import Reason, ReasonKind, Stop
from hostvm.memory_map import SWITCHER_BASE
from replay.errors import ReplayError
from replay.live import LiveTimeline
from replay.look import Look
from replay.moves import Unit
from replay.stops import Arrival, Cancelled, Instructions
from replay.timeline import Timeline

_HOME, _OUT = 0, -1
_TOP = 0xFFFFFFFF


class TraceWalker:
    """Walks in `timeline`; what stops it is what `points` knows."""

    def __init__(self, timeline: Timeline, contexts: Contexts, points: Points) -> None:
        self._timeline = timeline
        self._contexts = contexts
        self._points = points
        self._home = HOST_THREAD
        self._directory: int | None = None
        self._cancelled = threading.Event()
        self.arrival = Arrival(timeline.tick)

    # ---- Walker ---------------------------------------------------------------------------------

    def current_thread(self) -> int:
        """The thread at work."""
        return self._contexts.current()

    def program_counter(self, thread: int) -> int | None:
        """Where a thread is, or will go on."""
        return self._contexts.program_counter(thread)

    def set_home(self, thread: int) -> None:
        """Remember a thread, and which program it is running."""
        self._home = thread
        self._directory = self._timeline.look.directory if is_user(thread) else None

    def is_home(self) -> bool:
        """Whether it is at work."""
        return self._is_home(self._timeline.look)

    def _is_home(self, look: Look) -> bool:
        if self._contexts.current() != self._home:
            return False
        return self._directory is None or look.directory == self._directory

    def step(self, *, backwards: bool) -> Reasons:
        """One instruction."""
        return self.told(lambda: self._timeline.step(Unit.INSTRUCTION, backwards=backwards))

    def run(self, *, backwards: bool, until_home: bool) -> Reasons:
        """To the next stop."""
        stops = tuple(self._timeline.stops)
        if until_home:
            stops += ((_HOME, Instructions(self._is_home, self._domain())),)
        return self.told(lambda: self._timeline.resume_with(stops, backwards=backwards))

    def run_out(self, start: int, end: int) -> Reasons:
        """Forward, at full speed within start..end (exclusive)."""
        outside = tuple(
            (_OUT, Instructions(lambda _: True, (first, last)))
            for first, last in ((0, start - 1), (end, _TOP))
            if first <= last
        )
        stops = (*self._timeline.stops, *outside)
        return self.told(lambda: self._timeline.resume_with(stops, backwards=False))

    def position(self) -> int:
        """The tick."""
        return self._timeline.tick

    def return_to(self, position: int) -> None:
        """Be at a tick where one has been; a cancel does not keep one away from it."""
        while self._timeline.tick != position:
            self._timeline.go(position)

    def _domain(self) -> tuple[int, int]:
        """Addresses outside of which the thread is not at work."""
        if self._home == HOST_THREAD:
            return (0, _TOP)
        kernel = self._timeline.look.guest.tables.kernel_address
        if not kernel:
            return (0, SWITCHER_BASE - 1)
        return (0, kernel - 1) if is_user(self._home) else (kernel, SWITCHER_BASE - 1)

    def told(self, move: Callable[[], Arrival]) -> Reasons:
        """Make a part of a move; what it ended with, in the debugger's terms."""
        while True:
            if self._cancelled.is_set():
                return (Reason(ReasonKind.INTERRUPTED),)
            self.arrival = move()
            if Cancelled() not in self.arrival.reasons or self._cancelled.is_set():
                break
        return tuple(self._points.reasons(self.arrival))

    def _ran_on(self, end: int) -> bool:
        """Whether a run that is being recorded has gone on since its present was at `end`; that cannot be undone."""
        return isinstance(self._timeline, LiveTimeline) and self._timeline.end_tick > end

    # ---- whole moves ----------------------------------------------------------------------------

    def cancel(self) -> None:
        """From any thread: break off the move under way."""
        self._cancelled.set()
        self._timeline.cancel()

    def whole(self, move: Callable[[], Stop]) -> Stop:
        """Make a move of several parts, or none of them.

        Raises: TargetFault where the replay goes wrong.
        """
        origin, end = self._timeline.tick, self._timeline.end_tick
        self._cancelled.clear()
        try:
            stop = move()
            interrupted = any(reason.kind is ReasonKind.INTERRUPTED for reason in stop.reasons)
            if interrupted and not self._ran_on(end):
                self.return_to(origin)
                stop = Stop(self.current_thread(), stop.reasons, stop.note)
        except ReplayError as error:
            self.return_to(origin)
            raise TargetFault(str(error)) from error
        return stop


__all__ = ["TraceWalker"]
