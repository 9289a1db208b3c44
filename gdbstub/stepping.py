"""What a step of a thread means where the threads are worlds of one processor, and take turns on it.

A debugger that steps the user's program over an `int 0x80` wants to be behind it, not in the kernel; if it finds itself
somewhere else in the middle of a `next`, it gives up. So a step of a thread ends where that thread begins its next
instruction, and backwards where it began its last; in between, the other worlds run as they like, and any stop in them
counts. A faulting instruction begins twice. Thus steps back undo steps forward, one by one.

(i) *Scope.* With `Scope.CPU` a step is one instruction of whichever world: so one walks through the Switcher.
(ii) *Alone.* To step off a breakpoint GDB lets one thread go and believes that all others stand still; a stop in
another one is then an internal error of GDB's. So the stop is kept back (`pending`), the step is reported as done, and
with GDB's next move the stop is reported, without anything having moved. Where such a thread's program counter is not
known, or would make GDB believe that it is still on its breakpoint, the thread is `disguised` for one stop; and where
an interrupt or a fault came in between, it is let go on until it has really executed its instruction.

`Walker` is what is needed of a machine for this. Read next: timeline_target.py.
"""

from __future__ import annotations

from enum import Enum
from typing import Protocol, TypeAlias

from gdbstub.commands import Motion
from gdbstub.target import Move, Reason, ReasonKind, Stop

Reasons: TypeAlias = tuple[Reason, ...]
_STEPPED: Reasons = (Reason(ReasonKind.STEPPED),)
_POINTS = frozenset(
    {
        ReasonKind.WRITTEN,
        ReasonKind.READ,
        ReasonKind.ACCESSED,
        ReasonKind.SOFTWARE_BREAKPOINT,
        ReasonKind.HARDWARE_BREAKPOINT,
        ReasonKind.CAUGHT,
    }
)

_EDGES = frozenset({ReasonKind.HISTORY_START, ReasonKind.HISTORY_END})


class Scope(Enum):
    """Whose instruction a step is."""

    THREAD = "thread"
    CPU = "cpu"


class Walker(Protocol):
    """A machine that can be moved by one instruction, or until something happens."""

    def current_thread(self) -> int:
        """The thread at work."""
        ...

    def set_home(self, thread: int) -> None:
        """Remember what makes this thread the one that it is now: a program, for one, is not any other program."""
        ...

    def is_home(self) -> bool:
        """Whether that thread is at work."""
        ...

    def program_counter(self, thread: int) -> int | None:
        """Where a thread is, or will go on; None if that cannot be told."""
        ...

    def step(self, *, backwards: bool) -> Reasons:
        """One instruction of whichever thread. Reasons to stop, if there are any besides that."""
        ...

    def run(self, *, backwards: bool, until_home: bool) -> Reasons:
        """Up to a reason to stop; without any if home was reached."""
        ...

    def run_out(self, start: int, end: int) -> Reasons:
        """Forward to any thread's instruction outside of start..end (exclusive), or up to a reason to stop."""
        ...

    def position(self) -> int:
        """Where in history the machine is."""
        ...

    def return_to(self, position: int) -> None:
        """Be there again."""
        ...


class Stepper:
    """Carries out moves with a walker."""

    def __init__(self, walker: Walker) -> None:
        self.scope = Scope.THREAD
        self.disguised: int | None = None
        self._walker = walker
        self._pending: Stop | None = None
        self._news: Stop | None = None

    def announce(self, stop: Stop) -> None:
        """Answer the next move with this stop: the machine has been moved by somebody else."""
        self._news = stop

    def forget(self) -> None:
        """The machine was moved by somebody else."""
        self._pending = self._news = self.disguised = None

    def advance(self, move: Move) -> Stop:
        """Go forward."""
        self.disguised = None
        pending = self._news or self._pending
        if pending is not None and (not move.alone or pending.thread == move.thread):
            self._pending = self._news = None
            return pending
        if self._news is not None:
            self.disguised = move.thread
            return Stop(move.thread, _STEPPED)
        if move.alone and move.motion is not Motion.CONTINUE:
            return self._step_alone(move.thread)
        self._pending = None
        return self._go(move, backwards=False)

    def go_back(self, move: Move) -> Stop:
        """Go backward."""
        news = self._news
        self.forget()
        return news or self._go(move, backwards=True)

    def _go(self, move: Move, *, backwards: bool) -> Stop:
        if move.motion is Motion.CONTINUE:
            return self._stop(self._walker.run(backwards=backwards, until_home=False))
        step = self._step_cpu if self.scope is Scope.CPU else self._step_thread
        reasons = step(move, backwards=backwards)
        if reasons == _STEPPED and self._walker.current_thread() != move.thread:
            # To GDB a step that ends in another thread is one that has not ended.
            reasons = (Reason(ReasonKind.ARRIVED),)
        return self._stop(reasons)

    def _stop(self, reasons: Reasons) -> Stop:
        return Stop(self._walker.current_thread(), reasons)

    def _step_cpu(self, move: Move, *, backwards: bool) -> Reasons:
        walker = self._walker
        pc = walker.program_counter(walker.current_thread())
        return self._step(move, pc, backwards=backwards) or _STEPPED

    def _step(self, move: Move, pc: int | None, *, backwards: bool) -> Reasons:
        """One instruction of whichever thread, or, within a range, all up to the first outside of it."""
        if _is_inside(move, pc):
            return self._walker.run_out(move.start, move.end)
        return self._walker.step(backwards=backwards)

    def _step_thread(self, move: Move, *, backwards: bool) -> Reasons:
        walker = self._walker
        walker.set_home(move.thread)
        waits_at = None if walker.is_home() else walker.program_counter(move.thread)
        while True:
            if walker.is_home():
                pc = walker.program_counter(move.thread)
                reasons = self._step(move, pc, backwards=backwards)
            else:
                left_at = walker.position()
                reasons = walker.run(backwards=backwards, until_home=True)
                if any(reason.kind in _EDGES for reason in reasons):
                    # It never comes again, or never was before: stay where it went, or came from.
                    walker.return_to(left_at)
                    return _STEPPED
            if reasons:
                return reasons
            pc, waited_at, waits_at = walker.program_counter(move.thread), waits_at, None
            is_only_back = not backwards and pc is not None and pc == waited_at
            if walker.is_home() and not is_only_back and not _is_inside(move, pc):
                return _STEPPED

    # ---- one thread alone -----------------------------------------------------------------------

    def _step_alone(self, thread: int) -> Stop:
        walker = self._walker
        walker.set_home(thread)
        while True:
            was_away = not walker.is_home()
            before = walker.program_counter(thread)
            reasons = self._on(until_home=was_away)
            if walker.is_home() and not (was_away and not reasons):
                return Stop(thread, reasons or _STEPPED)
            if reasons:
                return self._keep_back(thread, reasons)
            if not walker.is_home() and walker.program_counter(thread) != before:
                return self._gone(thread)

    def _on(self, *, until_home: bool) -> Reasons:
        if until_home:
            return self._walker.run(backwards=False, until_home=True)
        return self._walker.step(backwards=False)

    def _keep_back(self, thread: int, reasons: Reasons) -> Stop:
        """Another thread met something."""
        if any(reason.kind in _POINTS for reason in reasons):
            self._pending = self._stop(reasons)
            reasons = _STEPPED
        self.disguised = thread
        return Stop(thread, reasons)

    def _gone(self, thread: int) -> Stop:
        """The thread has executed its instruction, and now another one is at work."""
        if self._walker.program_counter(thread) is None:
            self.disguised = thread
        return Stop(thread, _STEPPED)


def _is_inside(move: Move, pc: int | None) -> bool:
    """Whether a step in a range is to go on."""
    return move.motion is Motion.RANGE and pc is not None and move.start <= pc < move.end


__all__ = ["Reasons", "Scope", "Stepper", "Walker"]
