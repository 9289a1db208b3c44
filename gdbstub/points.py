"""The debugger's points as stops of the timeline, and the timeline's reasons as the debugger's.

A breakpoint is one in any address space: the debugger has one list for all threads, and a user who sets a breakpoint in
a program means the program whenever it runs. A watchpoint is on memory, so it must be said whose: addresses of the
Host's and of the Switcher's are theirs, all others are of the Guest that is at work, and below its kernel's addresses
of the program that is.

`watch` means a change, since the debugger compares the values itself and goes on silently if they are the same.

Read next: timeline_target.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from gdbstub.agent import Expression, View, is_hit
from gdbstub.commands import Point, PointKind
from gdbstub.contexts import HOST_THREAD, Contexts
from gdbstub.registers import register_value
from gdbstub.target import Reason, ReasonKind
from hostvm.memory_map import HOST_AREA, HOST_BASE, HOST_MAPPED_SIZE, SWITCHER_BASE
from replay import stops as s
from replay.look import CURRENT, GuestSpace, Look, MachineSpace
from replay.places import Place, fixed

_GENERAL, _EIP = range(8), 8
_WORD = 0xFFFFFFFF
_TOUCH = {
    PointKind.WRITE: s.Touch.CHANGE,
    PointKind.READ: s.Touch.READ,
    PointKind.ACCESS: s.Touch.ACCESS,
}
_WATCHED = {
    PointKind.WRITE: ReasonKind.WRITTEN,
    PointKind.READ: ReasonKind.READ,
    PointKind.ACCESS: ReasonKind.ACCESSED,
}


class LookView(View):
    """The machine for a condition: the registers that conditions are made of are taken straight from the CPU."""

    def __init__(self, look: Look, contexts: Contexts) -> None:
        self._look = look
        self._contexts = contexts

    def register(self, number: int) -> int | None:
        """Value of a register of the thread at work."""
        cpu = self._look.machine.cpu
        if number in _GENERAL:
            return int(cpu.env.regs[number]) & _WORD
        if number == _EIP:
            return int(cpu.eip)
        return register_value(self._look.cpu, self._look.tick, number)

    def read(self, address: int, length: int) -> bytes:
        """Memory as the thread at work sees it."""
        return self._contexts.read(self._contexts.current(), address, length)


class Points:
    """The points in force, among the stops of `table`."""

    def __init__(self, table: s.StopTable, look: Look, contexts: Contexts) -> None:
        self._table = table
        self._look = look
        self._contexts = contexts
        self._points: dict[int, Point] = {}

    def add(self, point: Point, expressions: Sequence[Expression]) -> int:
        """Put a point in force."""
        number = self._table.add(self._stop(point, self._condition(tuple(expressions))))
        self._points[number] = point
        return number

    def remove(self, number: int) -> None:
        """Take it away."""
        del self._points[number]
        self._table.remove(number)

    def _condition(self, expressions: tuple[Expression, ...]) -> s.Condition | None:
        if not expressions:
            return None
        view = LookView(self._look, self._contexts)
        return lambda _: is_hit(expressions, view)

    def _stop(self, point: Point, condition: s.Condition | None) -> s.Stop:
        touch = _TOUCH.get(point.kind)
        if touch is None:
            return s.Breakpoint(point.address, condition=condition)
        return s.Watchpoint(self.place(point.address, point.length), touch, condition)

    def place(self, address: int, length: int) -> Place:
        """Whose memory an address means here and now."""
        in_host = HOST_BASE <= address < HOST_BASE + HOST_MAPPED_SIZE
        if in_host and self._contexts.current() == HOST_THREAD:
            return Place(address - HOST_BASE + HOST_AREA, length, MachineSpace())
        if address >= SWITCHER_BASE:
            return fixed(Place(address, length, CURRENT), self._look)
        guest = self._look.guest
        shared = address >= guest.tables.kernel_address
        directory = None if shared else self._look.directory
        return Place(address, length, GuestSpace(guest.number, directory))

    def reasons(self, arrival: s.Arrival) -> Iterator[Reason]:
        """What there is to tell the debugger of; that a step was made goes without saying."""
        for reason in arrival.reasons:
            match reason:
                case s.BreakpointHit(number) if number in self._points:
                    hard = self._points[number].kind is PointKind.HARDWARE
                    kind = (
                        ReasonKind.HARDWARE_BREAKPOINT if hard else ReasonKind.SOFTWARE_BREAKPOINT
                    )
                    yield Reason(kind)
                case s.WatchHit(number) if number in self._points:
                    point = self._points[number]
                    yield Reason(_WATCHED[point.kind], point.address)
                case s.HistoryStart():
                    yield Reason(ReasonKind.HISTORY_START)
                case s.HistoryEnd():
                    yield Reason(ReasonKind.HISTORY_END)
                case s.Cancelled():
                    yield Reason(ReasonKind.INTERRUPTED)
                case s.EventMet() | s.BreakpointHit() | s.WatchHit() | s.PredicateTrue():
                    yield Reason(ReasonKind.CAUGHT)


__all__ = ["LookView", "Points"]
