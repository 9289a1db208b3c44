"""What a Linux knows of itself, read from memory: made up here, with two arrangements of the same structures."""

from __future__ import annotations

import struct
from collections.abc import Mapping

import pytest

from replay.linux_memory import NoLinux
from replay.linux_tasks import Linux, Task
from tests.replay.made_up_kernel import BASE, MadeUp

INIT, FIRST, SECOND = BASE, BASE + 0x2000, BASE + 0x4000
STACKS = BASE + 0x8000
LOG = BASE + 0x10000
VARIABLES = BASE + 0x18000


class Memory(MadeUp):
    """Memory and symbols of a kernel; `tasks`, `pid` and `name` say where a task has its fields."""

    def __init__(self, tasks: int = 0x114, pid: int = 0x134, name: int = 0x1E8) -> None:
        super().__init__()
        self.symbols["init_task"] = INIT
        self.tasks, self.pid, self.name = tasks, pid, name

    def variable(self, name: str, value: int) -> None:
        self.symbols[name] = VARIABLES + 8 * len(self.symbols)
        self.words(self.symbols[name], value)

    def task(self, at: int, name: bytes, pid: int, state: int = 1) -> None:
        number = (at - INIT) // 0x2000
        self.words(at, state, STACKS + 0x2000 * number)
        self.words(STACKS + 0x2000 * number, at)
        self.words(at + self.pid, pid, pid, INIT, INIT)
        self.put(at + self.name, name.ljust(16, b"\0"))

    def linked(self, *tasks: int) -> None:
        """On the list, and on another one, of children, that only looks like it."""
        nodes = [task + self.tasks for task in tasks]
        for before, node, after in zip(
            [nodes[-1], *nodes], nodes, [*nodes[1:], nodes[0]], strict=False
        ):
            self.words(node, after, before)
        children = INIT + 0x60
        self.words(children, tasks[-1] + 0x68, tasks[-1] + 0x68)
        self.words(tasks[-1] + 0x68, children, children)

    def linux(self, stack: int = 0) -> Linux:
        return Linux(self.read, self.symbols.get, stack)


def three(**places: int) -> Memory:
    memory = Memory(**places)
    memory.task(INIT, b"swapper", 0, state=0)
    memory.task(FIRST, b"init", 1)
    memory.task(SECOND, b"cat", 300, state=0)
    memory.linked(INIT, FIRST, SECOND)
    return memory


LAYOUTS: tuple[Mapping[str, int], ...] = ({}, {"tasks": 0x200, "pid": 0x230, "name": 0x400})


@pytest.mark.parametrize("places", LAYOUTS, ids=["small", "large"])
def test_tasks_are_found_wherever_their_fields_are(places: Mapping[str, int]) -> None:
    memory = three(**places)
    assert memory.linux().tasks() == [
        Task(INIT, "swapper", 0, 0, STACKS),
        Task(FIRST, "init", 1, 1, STACKS + 0x2000),
        Task(SECOND, "cat", 300, 0, STACKS + 0x4000),
    ]
    assert [task.state_name for task in memory.linux().tasks()] == [
        *("running", "sleeping", "running")
    ]


def test_numbers_may_have_begun_anew() -> None:
    memory = three()
    memory.task(SECOND, b"cat", 30_000)
    memory.task(BASE + 0x6000, b"late", 305)
    memory.linked(INIT, FIRST, SECOND, BASE + 0x6000)
    assert [task.pid for task in memory.linux().tasks()] == [0, 1, 30_000, 305]


@pytest.mark.parametrize("name", ["current_task", "per_cpu__current_task"])
def test_the_current_task_is_in_a_variable(name: str) -> None:
    memory = three()
    memory.variable(name, SECOND)
    assert memory.linux().current() == Task(SECOND, "cat", 300, 0, STACKS + 0x4000)
    assert memory.linux().current_name() == "cat"


def test_that_variable_may_be_one_of_each_processor() -> None:
    memory = three()
    memory.variable("current_task", 0)
    memory.variable("__per_cpu_offset", 0x800)
    memory.words(memory.symbols["current_task"] + 0x800, FIRST)
    assert memory.linux().current().name == "init"


@pytest.mark.parametrize("below", [0, 8, 0x1000])
def test_without_it_the_kernels_stack_tells(below: int) -> None:
    memory = three()
    assert memory.linux(STACKS + 0x6000 - below).current().name == "cat"


def test_while_it_boots_there_is_one_task() -> None:
    memory = Memory()
    memory.task(INIT, b"swapper/0", 0, state=0)
    memory.words(INIT + memory.tasks, INIT + memory.tasks, INIT + memory.tasks)
    (task,) = memory.linux(STACKS + 0x2000).tasks()
    assert (task.name, task.pid) == ("swapper/0", 0)
    assert memory.linux(STACKS + 0x2000).current() == task


@pytest.mark.parametrize("damage", [b"\0\0\0\0", b"\xff\xff\xff\xff", struct.pack("<I", FIRST)])
def test_a_list_that_leads_astray_is_no_list(damage: bytes) -> None:
    memory = three()
    memory.put(SECOND + memory.tasks, damage)
    assert [task.name for task in memory.linux().tasks()] == ["swapper"]


def test_what_is_no_linux_is_said() -> None:
    memory = Memory()
    with pytest.raises(NoLinux, match="init_task has no name here"):
        memory.linux().tasks()
    del memory.symbols["init_task"]
    with pytest.raises(NoLinux, match="no symbol init_task"):
        memory.linux().tasks()
    with pytest.raises(NoLinux, match="no symbol log_buf"):
        memory.linux().messages()
    with pytest.raises(NoLinux, match="current task cannot be told"):
        three().linux().current()


# ---- messages ---------------------------------------------------------------------------------------


def ring(text: bytes, size: int, *, logged: int | None = None) -> Memory:
    memory = Memory()
    for at, character in enumerate(text):
        memory.put(LOG + at % size, bytes((character,)))
    memory.variable("log_buf", LOG)
    memory.variable("log_buf_len", size)
    memory.variable("log_end", len(text))
    if logged is not None:
        memory.variable("logged_chars", logged)
    return memory


def test_old_messages_are_a_ring_of_characters() -> None:
    assert ring(b"<6>one\n<4>two\n", 64, logged=14).linux().messages() == ["one", "two"]
    assert ring(b"<6>one\n<4>two\n", 64).linux().messages() == ["one", "two"]
    assert ring(b"<6>one\n<4>two\n", 64, logged=7).linux().messages() == ["two"]


def test_of_a_ring_gone_around_whole_lines_are_left() -> None:
    assert ring(b"<6>begin\n<6>middle\n<6>end\n", 20).linux().messages() == ["middle", "end"]


def records(*texts: bytes, size: int = 256, start: int = 0) -> Memory:
    """A ring of records; where one does not fit, a length of zero sends the reader to the beginning."""
    memory = Memory()
    at = start
    for number, text in enumerate(texts):
        length = 16 + len(text) + 3 & ~3
        if at + length > size - 16:
            memory.put(LOG + at, bytes(16))
            at = 0
        head = struct.pack("<QHHHBB", number * 1_500_000_000, length, len(text), 0, 0, 6)
        memory.put(LOG + at, head + text)
        at += length
    for name, value in (("log_buf", LOG), ("log_buf_len", size)):
        memory.variable(name, value)
    memory.variable("log_first_idx", start)
    memory.variable("log_next_idx", at)
    return memory


def test_new_messages_are_records_with_a_time() -> None:
    assert records(b"one", b"two\nlines").linux().messages() == [
        "[    0.000000] one",
        "[    1.500000] two",
        "[    1.500000] lines",
    ]
    assert records().linux().messages() == []


def test_records_go_on_at_the_beginning() -> None:
    memory = records(b"a" * 40, b"b" * 40, b"c", start=128)
    said = memory.linux().messages()
    assert [line.partition("] ")[2] for line in said] == ["a" * 40, "b" * 40, "c"]


def test_a_damaged_log_ends() -> None:
    memory = records(b"one", b"two")
    memory.variable("log_next_idx", 7)
    with pytest.raises(NoLinux, match="damaged"):
        memory.linux().messages()
    memory.variable("log_buf_len", 0xFFFFFFFF)
    with pytest.raises(NoLinux, match="cannot be"):
        memory.linux().messages()
