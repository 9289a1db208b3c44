"""Real gdbs on the small machine of the tests: the same words and the same places from every version."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.gdbstub.debuggers import Gdb, found
from tests.gdbstub.fake_target import COUNTER, HANDLER, SHADOW, SYSCALL, WORK, FakeTarget
from tests.gdbstub.served import served

pytestmark = pytest.mark.needs_gdb
GDBS = found()


@pytest.fixture(params=GDBS, ids=str)
def gdb(request: pytest.FixtureRequest) -> Gdb:
    debugger = request.param
    assert isinstance(debugger, Gdb)
    return debugger


@pytest.fixture
def address() -> Iterator[str]:
    target = FakeTarget()
    target.programs = {"": b""}
    with served(target) as at:
        yield at


def said(gdb: Gdb, address: str, *commands: str) -> list[str]:
    """What it says to these commands, from the line on that says where it is."""
    lines = gdb.batch(
        [
            "set pagination off",
            "set confirm off",
            f"target remote {address}",
            "echo begin\\n",
            *commands,
        ]
    )
    return lines[lines.index("begin") + 1 :]


def test_there_is_a_gdb_to_test_with() -> None:
    assert GDBS, "install gdb, or the package's dev extra"


def test_registers_are_shown_with_their_flags(gdb: Gdb, address: str) -> None:
    assert said(
        gdb,
        address,
        "p $eip",
        "p $eflags",
        "p $cr0",
        "p $cpl",
        "p $tick",
        "p $xmm0.uint128",
        "p $st0",
    ) == [
        "$1 = (void (*)()) 0x8048000",
        "$2 = [ IF IOPL=0 ]",
        "$3 = [ PE ET PG ]",
        "$4 = 3",
        "$5 = 0",
        "$6 = 0",
        "$7 = 0",
    ]


def test_steps_forth_and_back_are_each_others_inverse(gdb: Gdb, address: str) -> None:
    lines = said(
        gdb, address, "stepi 4", "p $tick", "stepi", "p $tick", "reverse-stepi 5", "p $tick"
    )
    assert lines == [
        "0x08048021 in ?? ()",
        "$1 = 4",
        # Over the system call, and back over it.
        "0x08048023 in ?? ()",
        "$2 = 8",
        "0x08048000 in ?? ()",
        "$3 = 0",
    ]


def test_breakpoints_and_both_ends_of_history(gdb: Gdb, address: str) -> None:
    lines = said(
        gdb,
        address,
        f"break *{WORK:#x}",
        *("continue", "p $tick", "continue", "p $tick", "reverse-continue", "p $tick"),
        *("reverse-continue", "p $tick", "delete", "continue", "p $tick"),
    )
    hit = f'Thread 2 "program" hit Breakpoint 1, {WORK:#010x} in ?? ()'
    assert lines == [
        f"Breakpoint 1 at {WORK:#x}",
        *(hit, "$1 = 2", hit, "$2 = 14", hit, "$3 = 2"),
        *("END OF HISTORY", "0x08048000 in ?? ()", "$4 = 0"),
        *("END OF HISTORY", "0x08048013 in ?? ()", "$5 = 120"),
    ]


def test_a_watchpoint_from_a_breakpoint_where_the_kernel_writes(gdb: Gdb, address: str) -> None:
    # gdb steps off the breakpoint alone, into the kernel, where the watchpoint is met at once.
    lines = said(
        gdb,
        address,
        f"break *{SYSCALL:#x}",
        f"break *{HANDLER:#x}",
        "continue",
        f"watch *(int *) {SHADOW:#x}",
        *("continue", "continue", "p $tick", "continue", "delete 2"),
        *("reverse-continue", "p $tick"),
    )
    kernel = 'Thread 1 "kernel" hit'
    watch = f"{kernel} Hardware watchpoint 3: *(int *) {SHADOW:#x}"
    assert lines[2:] == [
        f'Thread 2 "program" hit Breakpoint 1, {SYSCALL:#010x} in ?? ()',
        f"Hardware watchpoint 3: *(int *) {SHADOW:#x}",
        f"{kernel} Breakpoint 2, {HANDLER:#010x} in ?? ()",
        *(watch, "Old value = 0", "New value = 1", f"{HANDLER + 6:#010x} in ?? ()", "$1 = 6"),
        f'Thread 2 "program" hit Breakpoint 1, {SYSCALL:#010x} in ?? ()',
        *(watch, "Old value = 1", "New value = 0", f"{HANDLER:#010x} in ?? ()", "$2 = 5"),
    ]


def test_a_condition_is_the_stubs_to_evaluate(gdb: Gdb, address: str) -> None:
    lines = said(
        gdb,
        address,
        f"break *{WORK:#x} if $ecx == 2 && *(int *) {COUNTER:#x} == 3",
        *("continue", "p $ecx", "p $tick", "info breakpoints"),
    )
    assert lines[1:4] == [
        f'Thread 2 "program" hit Breakpoint 1, {WORK:#010x} in ?? ()',
        "$1 = 2",
        "$2 = 38",
    ]
    assert "\tbreakpoint already hit 1 time" in lines


def test_functions_are_finished_in_both_directions(gdb: Gdb, address: str) -> None:
    lines = said(
        gdb,
        address,
        *(f"break *{SYSCALL:#x}", "continue", "delete", "up", "reverse-stepi", "x/i $pc"),
        *("stepi", "stepi", "stepi", "stepi", "p $tick"),
    )
    assert lines[-2:] == ["0x0804800a in ?? ()", "$1 = 10"]


def test_threads_say_what_they_do(gdb: Gdb, address: str) -> None:
    assert said(gdb, address, "info threads")[1:] == [
        '  1    Thread 2 "kernel" (waiting <&>) 0x00000000 in ?? ()',
        '* 2    Thread 3 "program" (running)    0x08048000 in ?? ()',
    ]


def test_memory_is_searched_and_dumped(gdb: Gdb, address: str) -> None:
    lines = said(
        gdb, address, "find /b 0x08048000, +0x100, 0xcd, 0x80", "x/2xb 0x08048021", "x/b 16"
    )
    assert lines == [
        "0x8048021",
        "1 pattern found.",
        "0x8048021:\t0xcd\t0x80",
        "0x10:\tCannot access memory at address 0x10",
    ]


def test_commands_in_words_reach_the_target(gdb: Gdb, address: str) -> None:
    assert said(gdb, address, "monitor when", "monitor fly") == ["tick 0", "no such command: fly"]


def test_a_session_goes_on_after_a_detach(gdb: Gdb, address: str) -> None:
    said(gdb, address, "stepi 3", "detach")
    assert said(gdb, address, "p $tick", "kill") == [
        "$1 = 3",
        "[Inferior 1 (Remote target) killed]",
    ]
    assert said(gdb, address, "p $tick") == ["$1 = 3"]
