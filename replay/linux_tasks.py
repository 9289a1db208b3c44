"""What a Linux kernel inside a Guest knows of itself: its tasks, which of them is current, and its messages.

Kernels of many generations and configurations are to be read, with symbols and, as a rule, without debugging
information; so the places of fields in `struct task_struct` are found out from the tasks themselves:

(i) *comm* is where the first task, `init_task`, holds its name, which is "swapper", or "swapper/0" from 3.3 on. That is
known before the kernel has run.
(ii) *tasks* is the list on which all processes are: the only one in `init_task` whose other elements, read as if they
lay at the same place in a task, are tasks with names; and it comes back to where it began.
(iii) *pid* stands before *tgid*, equal to it in the leader of a process, and in no two of them the same; init_task has
0, and the first on the list 1, for they are in the order of their birth. Behind it stands a task's parent.

*state* and *stack* are the first two words. The current task is in a variable of the processor's; where symbols do not
tell which, the kernel's stack tells: at its lower end lies the address of its task. While the kernel boots, there is
only the one task, and nothing to find out from others.

Messages: up to 3.4 a ring of characters, later one of records. Of a process only its first thread is listed.

Everything works on two functions, `read` for memory and `address_of` for symbols. Read next: look.py, symbols.py.
Source: what kernels from 2.6.23 to 3.11 were seen to have in memory; the documented interface of dmesg.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from replay.linux_memory import KernelMemory, NoLinux
from replay.look import GuestSpace, Look
from replay.symbols import Symbols

_NAME = b"swapper"
_NAME_BYTES = 16
_TASK_BYTES = 8192
_MOST_TASKS = 4096
_MOST_NUMBERS = 1 << 22
_STACK_SIZES = (8192, 4096)
_CURRENT = ("current_task", "per_cpu__current_task")
_STATES = {0: "running", 1: "sleeping", 2: "waiting for a device", 4: "stopped", 8: "traced"}
_RECORD = struct.Struct("<QHHH2x")
_MOST_TEXT = 1 << 24
_LOWEST_KERNEL = 0x40000000


@dataclass(frozen=True, slots=True)
class Task:
    """A process: `address` of its task_struct, `stack` of its kernel's stack (lower end); `pid` None: not known yet."""

    address: int
    name: str
    pid: int | None
    state: int
    stack: int

    @property
    def state_name(self) -> str:
        """The state in a word, or its number."""
        return _STATES.get(self.state, f"state {self.state:#x}")


@dataclass(frozen=True, slots=True)
class _Layout:
    """Bytes from the beginning of a task to its fields; None: not to be told yet."""

    name: int
    tasks: int | None
    pid: int | None


class Linux(KernelMemory):
    """A Linux kernel in memory.

    `read` gives up to so many bytes of the kernel's memory, `address_of` a symbol's address; `stack` is an address in
    the kernel's stack of the current task, or its upper end, 0 if that is unknown.
    """

    def __init__(
        self,
        read: Callable[[int, int], bytes],
        address_of: Callable[[str], int | None],
        stack: int = 0,
    ) -> None:
        super().__init__(read, address_of)
        self._stack = stack

    # ---- tasks ----------------------------------------------------------------------------------

    def tasks(self) -> list[Task]:
        """All processes, in the order of their birth; before there are others only the first.

        Raises: NoLinux.
        """
        layout = self._layout()
        return [self._task(address, layout) for address in self._listed(layout)]

    def current(self) -> Task:
        """The task at work, or that will be when the kernel goes on.

        Raises: NoLinux.
        """
        init = self.symbol("init_task")
        layout = _Layout(self._name_at(init), None, None)
        for address in self._candidates():
            if self._name(address, layout.name):
                # Only a process is in the list; the place of its number, though, can be told from the others.
                return self._task(address, self._layout())
        raise NoLinux("the current task cannot be told here")

    def current_name(self) -> str:
        """The name of the task at work, quickly.

        Raises: NoLinux.
        """
        at = self._name_at(self.symbol("init_task"))
        found = next(filter(None, (self._name(task, at) for task in self._candidates())), None)
        if found is None:
            raise NoLinux("the current task cannot be told here")
        return found

    def _candidates(self) -> Iterator[int]:
        """Addresses at which the current task may be, the best first."""
        for name in _CURRENT:
            variable = self.address_of(name)
            if variable is not None:
                offsets = self.address_of("__per_cpu_offset")
                first = (self.word(offsets) or 0) if offsets is not None else 0
                for place in dict.fromkeys((variable + first & 0xFFFFFFFF, variable)):
                    yield self.word(place) or 0
        for size in _STACK_SIZES:
            if self._stack:
                yield self.word((self._stack - 1) & -size) or 0

    def _name_at(self, init: int) -> int:
        raw = self.read(init, _TASK_BYTES)
        at = raw.find(_NAME)
        if at < 0:
            raise NoLinux("init_task has no name here: no Linux, or not loaded yet")
        return at

    def _name(self, task: int, at: int) -> str:
        """The name of what may be a task; empty if it is none."""
        if task < _LOWEST_KERNEL or task & 3:
            return ""
        raw = self.read(task + at, _NAME_BYTES)
        name, end, _ = raw.partition(b"\0")
        return name.decode("ascii") if end and name and _is_text(name) else ""

    def _layout(self) -> _Layout:
        init = self.symbol("init_task")
        name = self._name_at(init)
        raw = self.read(init, _TASK_BYTES)
        for tasks in range(0, name, 4):
            following, before = struct.unpack_from("<II", raw, tasks)
            if following == init + tasks or min(following, before) < _LOWEST_KERNEL:
                continue
            listed = list(self._listed(_Layout(name, tasks, None)))
            if len(listed) > 1:
                pid = self._pid_at(listed, name)
                if pid is not None:
                    return _Layout(name, tasks, pid)
        return _Layout(name, None, None)

    def _listed(self, layout: _Layout) -> Iterator[int]:
        """Tasks on the list, or nothing but the first if this is no list of tasks."""
        init = self.symbol("init_task")
        if layout.tasks is None:
            return iter((init,))
        found = [init]
        at = init + layout.tasks
        while (following := self.word(at)) != init + layout.tasks:
            if following is None or self.word(following + 4) != at or len(found) > _MOST_TASKS:
                return iter((init,))
            task = following - layout.tasks
            if not self._name(task, layout.name):
                return iter((init,))
            found.append(task)
            at = following
        return iter(found)

    def _pid_at(self, tasks: list[int], end: int) -> int | None:
        """Where all these tasks have their numbers."""
        known = frozenset(tasks)
        raw = [struct.unpack(f"<{end // 4}I", self.read(task, end & ~3)) for task in tasks]
        for at in range(end // 4 - 3):
            numbers = [words[at] for words in raw]
            if (
                numbers[:2] == [0, 1]
                and all(words[at] == words[at + 1] for words in raw)
                and len(set(numbers)) == len(numbers)
                and max(numbers) < _MOST_NUMBERS
                # A canary may stand between.
                and all(words[at + 2] in known or words[at + 3] in known for words in raw)
            ):
                return 4 * at
        return None

    def _task(self, address: int, layout: _Layout) -> Task:
        pid = 0 if layout.pid is None else self.word(address + layout.pid)
        if layout.pid is None and address != self.symbol("init_task"):
            pid = None
        state, stack = self.word(address) or 0, self.word(address + 4) or 0
        return Task(address, self._name(address, layout.name), pid, state, stack)

    # ---- messages -------------------------------------------------------------------------------

    def messages(self) -> list[str]:
        """The kernel's log as lines, the oldest first, as far as it is still there.

        Raises: NoLinux.
        """
        buffer, size = self.variable("log_buf"), self.variable("log_buf_len")
        if not 0 < size <= _MOST_TEXT:
            raise NoLinux(f"a log of {size:#x} bytes cannot be")
        if self.address_of("log_next_idx") is not None:
            return list(self._records(buffer, size))
        return self._characters(buffer, size)

    def _characters(self, buffer: int, size: int) -> list[str]:
        end = self.variable("log_end")
        count = min(end, size)
        if self.address_of("logged_chars") is not None:
            count = min(count, self.variable("logged_chars"))
        raw = self.read(buffer, size)
        if len(raw) < size:
            raise NoLinux("the log is not mapped here")
        start = (end - count) % size
        text = (raw + raw)[start : start + count]
        # Of a ring gone around the first line has lost its beginning.
        return _lines(text.partition(b"\n")[2] if size <= count < end else text)

    def _records(self, buffer: int, size: int) -> Iterator[str]:
        at, end = self.variable("log_first_idx"), self.variable("log_next_idx")
        seen = 0
        while at != end:
            head = self.read(buffer + at, _RECORD.size)
            if max(at + _RECORD.size, seen) > size or len(head) < _RECORD.size:
                raise NoLinux(f"the log is damaged at its byte {at:#x}")
            nanoseconds, length, text_length, _ = _RECORD.unpack(head)
            if not length:
                # The rest does not fit a record: it goes on at the beginning.
                seen, at = seen + size - at, 0
                continue
            stamp = f"[{nanoseconds // 10**9:5}.{nanoseconds // 1000 % 10**6:06}] "
            for line in _lines(self.read(buffer + at + _RECORD.size, min(text_length, length))):
                yield stamp + line
            seen, at = seen + length, at + length


def _is_text(name: bytes) -> bool:
    return all(0x20 <= character < 0x7F for character in name)


def _lines(raw: bytes) -> list[str]:
    """Lines without the level before each, and with what is no text made visible."""
    text = raw.replace(b"\0", b"").decode("utf-8", "backslashreplace")
    return [_without_level(line) for line in text.splitlines()]


def _without_level(line: str) -> str:
    is_level = len(line) > 2 and line[0] == "<" and line[1].isdigit() and line[2] == ">"
    return line[3:] if is_level else line


def linux_of(look: Look, symbols: Symbols, guest: int) -> Linux:
    """The Linux in a Guest, whoever is at work."""
    space = GuestSpace(guest)
    return Linux(
        lambda address, count: look.read(address, count, space),
        partial(symbols.address_of, guest=guest),
        look.machine.guests[guest].lguest.esp1,
    )


__all__ = ["Linux", "Task", "linux_of"]
