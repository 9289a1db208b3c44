"""The seam: what the stub needs of the thing that is debugged, and what else that thing may offer.

`Target` is compulsory: threads, registers, memory, going forward, being cancelled. Everything else is a capability, a
small Protocol of its own, and a target has it by having its methods. What the stub tells the debugger in qSupported is
computed from that (features.py): a debugger believes what it is told, so nothing may be claimed that is not there, and
what is absent is answered with the empty packet.

(i) *Threads* are contexts of one processor: there is one program counter that moves, and the list of threads never
changes, since a debugger that travels through time would be confused by threads that come and go.
(ii) *Registers* are in target byte order and in the order of registers.py; None means that the value is not known.
(iii) *Memory* is read as a thread sees it, as far as it is readable: fewer bytes are an answer. Looking has no effect.
(iv) *Moves* return where and why the target stopped. Move first, then see whether to stop: a breakpoint where the
target stands does not keep it there, in either direction. Forward, a breakpoint stops before its instruction; backward,
at that very same state. A watchpoint stops behind the access when going forward, before it when going backward.
(v) *Refusals* are TargetFault, with a text for people; the target is then as it was.

All methods are called on one thread, except `cancel`. Two targets exist: timeline_target.py, and the small machine of
the tests. Read next: timeline_target.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol, TypeAlias, runtime_checkable

from gdbstub.agent import Expression
from gdbstub.commands import Motion, Point, PointKind

RegisterSet: TypeAlias = tuple[bytes | None, ...]


class ReasonKind(IntEnum):
    """Why a target stopped; of several reasons the smallest number is the one to tell.

    CAUGHT is what the protocol has no word for; the user learns of it from the stop's note. ARRIVED: a command has
    brought the target here.
    """

    WRITTEN = 0
    READ = 1
    ACCESSED = 2
    SOFTWARE_BREAKPOINT = 3
    HARDWARE_BREAKPOINT = 4
    CAUGHT = 5
    ARRIVED = 6
    HISTORY_START = 7
    HISTORY_END = 8
    INTERRUPTED = 9
    STEPPED = 10


@dataclass(frozen=True, slots=True)
class Reason:
    """One reason; `address` is the address accessed, for the first three kinds."""

    kind: ReasonKind
    address: int = 0


@dataclass(frozen=True, slots=True)
class Stop:
    """The target stands: which thread is at work there, all reasons, and what the user should be told besides."""

    thread: int
    reasons: tuple[Reason, ...] = ()
    note: str = ""


@dataclass(frozen=True, slots=True)
class Move:
    """What a target is to do: `thread` is the one that steps; `start` and `end` (exclusive) belong to RANGE.

    `alone`: the debugger believes that no other thread moves (stepping.py).
    """

    motion: Motion
    thread: int
    start: int = 0
    end: int = 0
    alone: bool = False


class Target(Protocol):
    """What every target can do."""

    def threads(self) -> Sequence[int]:
        """All thread ids, positive, always the same."""
        ...

    def current_thread(self) -> int:
        """The thread at work."""
        ...

    def read_registers(self, thread: int) -> RegisterSet:
        """Values of all registers of registers.py."""
        ...

    def read_memory(self, thread: int, address: int, length: int) -> bytes:
        """Up to `length` bytes."""
        ...

    def advance(self, move: Move) -> Stop:
        """Go forward."""
        ...

    def cancel(self) -> None:
        """From any thread: end the move under way, if there is one, within a tenth of a second."""
        ...


@runtime_checkable
class Reversible(Protocol):
    """Can go back: bs, bc."""

    def go_back(self, move: Move) -> Stop:
        """Go backward; RANGE does not occur."""
        ...


@runtime_checkable
class StepsRanges(Protocol):
    """Can stay in a range of addresses by itself: vCont;r. `advance` is then called with RANGE."""

    steps_ranges: bool


@runtime_checkable
class HasPoints(Protocol):
    """Can stop at points: Z, z. Of a point with conditions, only hits count at which one is true or cannot be told."""

    point_kinds: frozenset[PointKind]

    def add_point(self, point: Point, conditions: Sequence[Expression]) -> int:
        """Watch for a point from now on; return a number for it."""
        ...

    def remove_point(self, number: int) -> None:
        """Forget a point."""
        ...


@runtime_checkable
class WritesRegisters(Protocol):
    """Registers can be changed: P, G."""

    def write_register(self, thread: int, register: int, value: bytes) -> None:
        """Change one register."""
        ...


@runtime_checkable
class WritesMemory(Protocol):
    """Memory can be changed: M, X."""

    def write_memory(self, thread: int, address: int, data: bytes) -> None:
        """Change memory; all of it or nothing."""
        ...


@runtime_checkable
class HasDocuments(Protocol):
    """Has documents for qXfer, by object."""

    document_kinds: frozenset[str]

    def document(self, kind: str, annex: str) -> bytes | None:
        """A document; None if there is none with this annex."""
        ...


@runtime_checkable
class HasFiles(Protocol):
    """Has files for vFile, by absolute name."""

    def files(self) -> Mapping[str, Callable[[], bytes]]:
        """Their names, and how to get what is in them."""
        ...


@runtime_checkable
class TakesCommands(Protocol):
    """Understands commands in words: qRcmd."""

    def monitor(self, text: str) -> str:
        """Carry out a command; return what to show."""
        ...


@runtime_checkable
class Restarts(Protocol):
    """Can begin again: R, vRun."""

    def restart(self, arguments: Sequence[str]) -> Stop:
        """Go to the beginning, or to where the arguments say."""
        ...


@runtime_checkable
class NamesThreads(Protocol):
    """Can say more about a thread: qThreadExtraInfo, and names in the list of threads."""

    def thread_name(self, thread: int) -> str:
        """A short name that does not change."""
        ...

    def thread_state(self, thread: int) -> str:
        """What the thread is doing."""
        ...


@runtime_checkable
class NoticesLeaving(Protocol):
    """Wants to know when a debugger has gone, to forget what was only that one's."""

    def left(self) -> None:
        """The debugger is gone; its points are taken away already."""
        ...


@runtime_checkable
class ReportsProgress(Protocol):
    """Can say during a long move how far it has come."""

    progress: Callable[[str], None] | None


__all__ = [
    "HasDocuments",
    "HasFiles",
    "HasPoints",
    "Move",
    "NamesThreads",
    "NoticesLeaving",
    "Reason",
    "ReasonKind",
    "RegisterSet",
    "ReportsProgress",
    "Restarts",
    "Reversible",
    "StepsRanges",
    "Stop",
    "TakesCommands",
    "Target",
    "WritesMemory",
    "WritesRegisters",
]
