"""A recorded run as a target: the timeline behind the seam of target.py.

Each part of it is a file of its own: which threads there are and what they hold (contexts.py), what stops a move
(points.py), how a move goes (trace_walker.py under stepping.py), what is said in words (monitor.py); these make a scene
(scene.py). Writing opens another one (branches.py). Which programs there are says programs.py.

Going somewhere by a command moves the machine behind the debugger's back: what it has cached is then of another time.
So a command may ask for the arrival to be *announced*: the debugger's next move, whichever it is, moves nothing, and is
answered with a stop at the new place, in the thread that is at work there.

Read next: monitor.py, gdb_command.py.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Mapping, Sequence

from gdbstub.agent import Expression
from gdbstub.branches import Branches
from gdbstub.commands import Point, PointKind
from gdbstub.contexts import HOST_THREAD, guest_of
from gdbstub.description import memory_map, target_description, thread_list
from gdbstub.errors import Errno, TargetFault
from gdbstub.given_programs import Given
from gdbstub.linux import current_modules, current_task
from gdbstub.monitor import ANNOUNCE, carry_out
from gdbstub.programs import Programs
from gdbstub.scene import Scene
from gdbstub.stepping import Scope
from gdbstub.target import Move, RegisterSet, Stop
from gdbstub.words import wrong
from hostvm.errors import ConfigurationError
from hostvm.units import Tick
from replay.linux_programs import RunningProgram, running_program
from replay.look import GuestSpace
from replay.timeline import Timeline

# A debugger that waits for words takes silence for a failure after two seconds.
_ALIVE_EVERY = 0.5
_SAY_FIRST = 2.0
_ALL_MEMORY = ("ram", 0, 1 << 32)


class TimelineTarget:
    """The run in `timeline`."""

    steps_ranges = True
    point_kinds = frozenset(PointKind)
    document_kinds = frozenset({"features", "threads", "memory-map", "exec-file", "libraries"})

    def __init__(self, timeline: Timeline) -> None:
        self.progress: Callable[[str], None] | None = None
        self._alive_at = 0.0
        self._say_at = 0.0
        self._said_for = _SAY_FIRST
        self._programs = Programs(timeline.reader)
        self._seen_at = 0
        self._branches = Branches(timeline, self._report)

    @property
    def _scene(self) -> Scene:
        return self._branches.top

    @property
    def timeline(self) -> Timeline:
        """The history in which the debugger is: the trace's, or a branch's."""
        return self._scene.timeline

    # ---- Target ---------------------------------------------------------------------------------

    def threads(self) -> Sequence[int]:
        """The Host's thread, and two for each Guest."""
        return self._scene.contexts.threads

    def current_thread(self) -> int:
        """The thread at work."""
        return self._scene.contexts.current()

    def read_registers(self, thread: int) -> RegisterSet:
        """Registers; a disguised thread is nowhere."""
        values = self._scene.contexts.registers(thread)
        if thread == self._scene.stepper.disguised and thread != self.current_thread():
            return (*values[:8], bytes(4), *values[9:])
        return values

    def read_memory(self, thread: int, address: int, length: int) -> bytes:
        """Memory as a thread sees it."""
        return self._scene.contexts.read(thread, address, length)

    def advance(self, move: Move) -> Stop:
        """Go forward."""
        return self._move(lambda: self._scene.stepper.advance(move))

    def go_back(self, move: Move) -> Stop:
        """Go backward."""
        return self._move(lambda: self._scene.stepper.go_back(move))

    def cancel(self) -> None:
        """From any thread: break off the move under way."""
        self._scene.walker.cancel()

    def _move(self, move: Callable[[], Stop]) -> Stop:
        self._begin()
        stop = self._scene.walker.whole(move)
        self._scene.travel.arrived()
        note = self._branches.note() + stop.note + self._scene.travel.caught()
        return Stop(stop.thread, stop.reasons, note)

    # ---- points ---------------------------------------------------------------------------------

    def add_point(self, point: Point, conditions: Sequence[Expression]) -> int:
        """Put a point in force."""
        return self._branches.add_point(point, conditions)

    def remove_point(self, number: int) -> None:
        """Take it away."""
        self._branches.remove_point(number)

    # ---- writing --------------------------------------------------------------------------------

    def write_register(self, thread: int, register: int, value: bytes) -> None:
        """Change a register, in a branch."""
        self._branches.write_register(thread, register, value)

    def write_memory(self, thread: int, address: int, data: bytes) -> None:
        """Change memory, in a branch."""
        self._branches.write_memory(thread, address, data)

    # ---- documents and words ----------------------------------------------------------------------

    def document(self, kind: str, annex: str) -> bytes | None:
        """A document for qXfer."""
        match kind, annex:
            case "features", "target.xml":
                return target_description()
            case "threads", "":
                return thread_list(
                    (t, self.thread_name(t), self.thread_state(t)) for t in self.threads()
                )
            case "memory-map", "":
                return memory_map([_ALL_MEMORY])
            case "exec-file", _:
                return self._programs.main_program().encode()
            case "libraries", "":
                return self._programs.libraries()
        return None

    def files(self) -> Mapping[str, Callable[[], bytes]]:
        """The programs in the trace."""
        return self._programs.files()

    def thread_name(self, thread: int) -> str:
        """What a thread is called."""
        return self._scene.contexts.name(thread)

    def thread_state(self, thread: int) -> str:
        """What it does, and which task of a Linux that is."""
        contexts = self._scene.contexts
        state = contexts.state(thread)
        if thread != HOST_THREAD and (task := current_task(self.timeline, guest_of(thread))):
            state += f", task {task}"
        return state

    def give(self, given: Given) -> None:
        """Take symbols that the trace does not have."""
        timeline = self._branches.histories.timelines[0]
        kernels = {guest: kernel.symbols for guest, kernel in given.kernels.items()}
        timeline.symbols = timeline.symbols.with_kernels(kernels)
        self._programs = Programs(timeline.reader, given)

    def monitor(self, text: str) -> str:
        """Carry out a command in words."""
        self._begin()
        match text.split():
            case ["programs", *words]:
                return self._about_programs(words)
            case ["branch", *words]:
                said = self._branches.carry_out([word for word in words if word != ANNOUNCE])
                if ANNOUNCE in words:
                    self._scene.travel.announce()
                return said
        return carry_out(self._scene.talk, text)

    def _about_programs(self, words: Sequence[str]) -> str:
        timeline = self.timeline
        match words:
            case []:
                return self._programs.listing()
            case ["here"]:
                task = current_task(timeline, timeline.look.guest.number)
                return f"{self._programs.of_task(task, self._running)}\n"
            case ["modules", *folders]:
                if folders:
                    self._take_modules(folders)
                return self._programs.of_modules(current_modules(timeline))
        raise wrong(words)

    def _take_modules(self, folders: Sequence[str]) -> None:
        try:
            self._programs.take_modules(shlex.split(" ".join(folders)))
        except (OSError, ConfigurationError, ValueError) as error:
            raise TargetFault(str(error), Errno.EINVAL) from error

    def _running(self) -> RunningProgram | None:
        """The program of the Guest that is at work, or was last."""
        look = self.timeline.look
        space = GuestSpace(look.guest.number)
        top = look.guest.tables.kernel_address
        found = running_program(lambda at, n: look.read(at, n, space), top, self._seen_at)
        self._seen_at = 0 if found is None else found.at
        return found

    def restart(self, arguments: Sequence[str]) -> Stop:
        """Go to the beginning, or to the place that the arguments name."""
        self._scene.travel.to(" ".join(arguments) or "start")
        return Stop(self.current_thread())

    def left(self) -> None:
        """Forget the debugger's catches, and how it wanted to step; its checkpoints may be of use to the next."""
        self._scene.travel.forget_catches()
        self._scene.stepper.forget()
        self._scene.stepper.scope = Scope.THREAD

    def _begin(self) -> None:
        """Something begins that may take long."""
        self._alive_at = time.monotonic()
        self._said_for = _SAY_FIRST
        self._say_at = self._alive_at + _SAY_FIRST

    def console(self, data: bytes) -> None:
        """Let the debugger show what a Guest prints while it is being recorded."""
        if self.progress is not None:
            self._alive_at = time.monotonic()
            self.progress(data.decode(errors="replace"))

    def _report(self, tick: Tick) -> None:
        """Let the debugger know that a long move goes on, and, at growing intervals, show how far it is."""
        now = time.monotonic()
        if self.progress is None or now - self._alive_at < _ALIVE_EVERY:
            return
        self._alive_at = now
        text = ""
        if now >= self._say_at:
            self._said_for *= 2
            self._say_at = now + self._said_for
            text = f"at tick {tick:,} of {self.timeline.end_tick:,}\n"
        self.progress(text)


__all__ = ["TimelineTarget"]
