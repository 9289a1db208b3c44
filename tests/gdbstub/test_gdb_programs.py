"""Real gdbs: the names of the program that runs and of the modules that are loaded, and breakpoints in them."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack

import pytest

from gdbstub.serving import GDB_SCRIPT
from tests.gdbstub.debuggers import Gdb, found
from tests.gdbstub.fake_target import HANDLER, TEXT, WORK, FakeTarget
from tests.gdbstub.served import served

pytestmark = pytest.mark.needs_gdb
PROGRAM, MODULE = "/lgreplay/user/laps", "/lgreplay/modules/one.ko"
RELOCATABLE, EXECUTABLE = 1, 2
# From here on the program is that of the current task.
BEGIN = 30
Said = Callable[..., list[str]]


def elf(kind: int, address: int, size: int, symbols: Mapping[str, int]) -> bytes:
    """An ELF file with code of `size` bytes in it, and functions at offsets of that."""
    names = b"\0.text\0.symtab\0.strtab\0"
    strings = b"\0" + b"".join(name.encode() + b"\0" for name in symbols)
    base = address if kind == EXECUTABLE else 0
    table = bytes(16) + b"".join(
        struct.pack("<IIIBBH", strings.index(name.encode()), base + at, 4, 0x12, 0, 1)
        for name, at in symbols.items()
    )
    content = [bytes(size), table, strings, names]
    starts = [52 + sum(map(len, content[:number])) for number in range(5)]
    sections = [
        (0,) * 10,
        (1, 1, 6, base, starts[0], size, 0, 0, 1, 0),
        (7, 2, 0, 0, starts[1], len(table), 3, 1, 4, 16),
        (15, 3, 0, 0, starts[2], len(strings), 0, 0, 1, 0),
        (15, 3, 0, 0, starts[3], len(names), 0, 0, 1, 0),
    ]
    head = (b"\x7fELF", 1, 1, 1, kind, 3, 1, base, 0, starts[4], 0, 52, 0, 0, 40, 5, 4)
    header = struct.pack("<4sBBB9xHHIIIIIHHHHHH", *head)
    return header + b"".join(content) + b"".join(struct.pack("<10I", *row) for row in sections)


class Linux(FakeTarget):
    """The machine, as if a Linux ran in it that has tasks and has loaded a module."""

    def __init__(self) -> None:
        super().__init__()
        self.programs = {
            "": b"",
            PROGRAM: elf(EXECUTABLE, TEXT, 0x40, {"main": 0, "work": WORK - TEXT}),
            MODULE: elf(RELOCATABLE, HANDLER, 0x10, {"one_handler": 0}),
        }

    def monitor(self, text: str) -> str:
        match text.split():
            case ["programs"]:
                return f"program laps: {PROGRAM}\nPIE program moved: {PROGRAM}\nmodules: folder\n"
            case ["programs", "here"]:
                return f"{PROGRAM} 0x0\n" if self.tick >= BEGIN else "\n"
            case ["programs", "modules", *_]:
                return f"{MODULE} .text={HANDLER:#x}\nmodule two: no file of that name\n"
        return super().monitor(text)


@pytest.fixture(params=found(), ids=str)
def said(request: pytest.FixtureRequest) -> Iterator[Said]:
    gdb: Gdb = request.param
    setup = ["set pagination off", "set confirm off", f"source {GDB_SCRIPT}"]
    with ExitStack() as stack:

        def lines(*commands: str) -> list[str]:
            address = stack.enter_context(served(Linux()))
            there = [*setup, f"target remote {address}", "echo begin\\n"]
            answers = gdb.batch([*there, *commands])
            return answers[answers.index("begin") + 1 :]

        yield lines


def visits(address: int) -> list[int]:
    """Ticks at which the machine is about to do the instruction at an address."""
    return [tick for tick, state in enumerate(FakeTarget().states) if state.eip == address]


def test_a_breakpoint_in_a_program_is_met_where_that_runs_and_nowhere_else(said: Said) -> None:
    lines = said(
        "info address work", "user-break laps work", "continue", "p $tick", "info symbol $pc"
    )
    assert lines[0] == 'No symbol "work" in current context.'
    assert visits(WORK)[0] < BEGIN
    there = min(tick for tick in visits(WORK) if tick >= BEGIN)
    assert lines[-2:] == [f"$1 = {there}", f"work in section .text of target:{PROGRAM}"]


def test_one_by_name_is_out_of_force_where_another_program_runs_and_gdb_says_so(said: Said) -> None:
    lines = said(
        "user-break laps work",
        "continue",
        "delete",
        "break main",
        "reverse-continue",
        "info address main",
    )
    (told,) = (line for line in lines if line.startswith("breakpoint "))
    assert told == (
        "breakpoint 2 is in laps: it is in force only while that is the current task; "
        "`user-break laps PLACE` makes one that always is"
    )
    assert lines[-1] == 'No symbol "main" in current context.'


@pytest.mark.parametrize("command", ["user-break laps work", "lx-symbols", "seek 5", "info irqs"])
@pytest.mark.parametrize("gdb", found(), ids=str)
def test_without_a_trace_gdb_says_so_in_a_line(gdb: Gdb, command: str) -> None:
    lines = gdb.batch([f"source {GDB_SCRIPT}", command])
    assert lines == ['"monitor" command not supported by this target.']


@pytest.mark.parametrize(
    ("command", "refusal"),
    [
        ("user-break laps", "want the name of a program's task, and a place in it"),
        ("user-break other main", "no program other was given: --user-symbols other=FILE does"),
        ("user-break laps nowhere", 'Function "nowhere" not defined.'),
        ("user-break moved main", "moved may be loaded anywhere: be where it runs"),
    ],
)
def test_a_place_that_is_not_there_is_refused(said: Said, command: str, refusal: str) -> None:
    (line,) = said(command)
    assert line.startswith(refusal)


def test_modules_have_their_names_where_they_were_loaded(said: Said) -> None:
    lines = said("break one_handler", "continue", "p $tick", "info symbol $pc", "lx-symbols")
    first = min(visits(HANDLER))
    assert f"$1 = {first}" in lines
    assert lines[-2].startswith("one_handler in section .text")
    assert lines[-1] == "symbols of 1 modules"
    assert "module two: no file of that name" not in lines
