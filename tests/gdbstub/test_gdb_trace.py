"""Real gdbs on a trace: through the Switcher and back, over faults and switches, the same from every version."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pexpect
import pytest

from gdbstub.serving import GDB_SCRIPT
from gdbstub.timeline_target import TimelineTarget
from tests.gdbstub.debuggers import Gdb, found
from tests.gdbstub.served import served
from tests.patience import PATIENCE
from tests.replay.histories import record_guest, timeline_of

pytestmark = pytest.mark.needs_gdb
GDBS = found()
LGREPLAY = f"{sys.executable} -m replay"


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return record_guest(tmp_path_factory.mktemp("gdb") / "hello.lgt", "hello", "loops=1")


@pytest.fixture(params=GDBS, ids=str)
def gdb(request: pytest.FixtureRequest) -> Gdb:
    debugger = request.param
    assert isinstance(debugger, Gdb)
    return debugger


@pytest.fixture(scope="module")
def address(path: Path) -> Iterator[str]:
    """One server for all: each gdb leaves it to the next."""
    with timeline_of(path) as timeline, served(TimelineTarget(timeline)) as at:
        yield at


def said(gdb: Gdb, address: str, *commands: str) -> list[str]:
    """What it says to these commands, from the beginning of the trace."""
    lines = gdb.batch(
        [
            *("set pagination off", "set confirm off", f"source {GDB_SCRIPT}"),
            *(f"target remote {address}", "monitor seek --announce start"),
            *("set suppress-cli-notifications on", "continue"),
            *("set suppress-cli-notifications off", "echo begin\\n", *commands),
        ]
    )
    return lines[lines.index("begin") + 1 :]


def values(lines: list[str]) -> list[str]:
    """What was printed with `p`."""
    return [line.partition(" = ")[2] for line in lines if re.match(r"\$\d+ = ", line)]


def test_symbols_need_no_file_here(gdb: Gdb, address: str) -> None:
    lines = said(
        gdb,
        address,
        "info symbol start_kernel",
        "info symbol switch_to_guest",
        "info symbol host_loop",
    )
    assert lines == [
        "start_kernel in section .text of target:/lgreplay/hello",
        "switch_to_guest in section .text of target:/lgreplay/switcher.elf",
        "host_loop in section .text of target:/lgreplay/host.elf",
    ]


def test_out_of_the_handler_through_the_switcher_into_the_interrupted_instruction(
    gdb: Gdb, address: str
) -> None:
    lines = said(
        gdb,
        address,
        *("break trap_entry_32", "continue", "p $tick", "p $cpl", "info registers cpl"),
        *("delete", "reverse-stepi", "p $pc", "p $cpl", "bt 1"),
        # Behind the Switcher's iret the handler is entered again.
        *("stepi", "p $pc", "p $cpl", "reverse-stepi 60", "p $cpl", "seek +60", "p $pc"),
    )
    _, _, iret, ring0, again, ring1, inside, back = values(lines)
    assert (ring0, ring1, inside) == ("0", "1", "0")
    assert "switch_to_guest" in iret
    assert "trap_entry_32" in again
    assert back


def test_the_whole_way_back_into_the_program(gdb: Gdb, address: str) -> None:
    # `last` instruction of ring 3 before the timer's handler, and every instruction between, forth and back.
    lines = said(
        gdb,
        address,
        *("break mix", "continue", "delete", "catch irq", "continue", "uncatch 2"),
        *(
            "p $cpl",
            "reverse-to-event interrupt",
            "p $cpl",
            "p $tick",
            "stepi",
            "p $cpl",
            "reverse-stepi",
        ),
        *("p $cpl", "p $tick"),
    )
    host, user, at, inside, back, again = values(lines)
    assert (host, user, inside) == ("0", "3", "0")
    # The step back ends where the interrupted instruction's predecessor began.
    assert back == "3"
    assert int(again) < int(at)


def test_steps_in_c_both_ways(gdb: Gdb, address: str) -> None:
    lines = said(
        gdb,
        address,
        *("break schedule", "continue", "p $tick", "next", "p $tick", "next", "p $tick"),
        *(
            "reverse-next",
            "p $tick",
            "reverse-next",
            "p $tick",
            "reverse-finish",
            "x/i $pc",
            "p $cpl",
        ),
    )
    start, first, second, back_first, back_start, cpl = map(int, values(lines))
    assert start < first < second
    assert back_first == first
    # gdb 13 stops once more in the middle of the function's first line.
    assert start <= back_start < first
    assert cpl == 1


def test_a_kernel_function_is_finished_across_a_hypercall(gdb: Gdb, address: str) -> None:
    lines = said(gdb, address, "break timer_tick", "continue", "p $cpl", "finish", "p $cpl")
    assert values(lines) == ["1", "1"]


def test_a_watch_backwards_finds_each_writer(gdb: Gdb, address: str) -> None:
    lines = said(
        gdb,
        address,
        *("seek end", "watch -l ticks", "reverse-continue", "p $tick", "p $cpl"),
        *("continue", "reverse-continue", "p $tick"),
    )
    ticks = values(lines)
    assert any("Old value = " in line for line in lines)
    assert ticks[0] == ticks[2]


def test_a_condition_on_a_hot_breakpoint_is_the_stubs(gdb: Gdb, address: str) -> None:
    lines = said(
        gdb,
        address,
        *(
            "break trap if frame->vector == 128 && $tick > 200000",
            "continue",
            "p frame->vector",
            "p $tick",
        ),
        *("seek end", "reverse-continue", "p $tick"),
    )
    vector, tick, again = values(lines)
    assert vector == "128"
    assert int(tick) > 200_000
    assert int(again) >= int(tick)


def test_both_ends_of_history(gdb: Gdb, address: str) -> None:
    lines = said(
        gdb,
        address,
        *(
            "reverse-stepi",
            "p $tick",
            "continue",
            "p $tick - (long long) $_tick()",
            "stepi",
            "reverse-continue",
        ),
        "p $tick",
    )
    assert lines.count("END OF HISTORY") == 4
    assert values(lines) == ["0", "0", "0"]


def test_writing_to_the_past_opens_a_branch(gdb: Gdb, address: str) -> None:
    lines = said(
        gdb,
        address,
        *("break mix", "continue", "set var $eax = 5", "p $eax", "stepi", "p $eax"),
        *("p $tick", "monitor branch", "monitor branch leave", "maintenance flush register-cache"),
        *("p $eax == 5", "p $tick"),
    )
    assert (
        "This is a branch now: the recorded run is as it was, and `monitor branch leave` goes back to it."
        in lines
    )
    eax, still, ahead, before, tick = values(lines)
    assert (eax, still, before) == ("5", "5", "0")
    assert int(ahead) > int(tick)


def test_a_way_so_long_that_its_progress_is_reported_brings_gdb_along(
    gdb: Gdb, address: str
) -> None:
    report = (
        "python import gdb; its = gdb.execute; gdb.execute = lambda command, *how, **more: ("
        "2 * 'at tick 5 of 9\\n' * command.startswith('monitor') + (its(command, *how, **more) or ''))"
    )
    lines = said(gdb, address, report, "seek 50%", "p $tick", "reverse-stepi", "p $tick")
    there, before = map(int, values(lines))
    assert there - 1 == before


def test_the_same_words_from_every_version(address: str) -> None:
    script = (
        *(
            "break timer_interrupt",
            "continue",
            "bt 2",
            "info threads",
            "stepi 3",
            "reverse-stepi 2",
        ),
        *("p $tick", "p $eflags", "p $cr0", "p $cr4", "info registers tick cpl idtr tr", "delete"),
        *("tbreak mix", "continue", "next", "next", "bt 1", "reverse-stepi", "p $tick", "when"),
        *(
            "seek 40%",
            "back",
            "forward",
            "info irqs",
            "info idt",
            "last-write ticks",
            "tick-step 3",
        ),
        *(
            "reverse-to-event hypercall",
            "list",
            "seek end",
            "tbreak *0xffc00000",
            "reverse-continue",
        ),
        *("p $tick", "x/2i $pc", "info line"),
    )
    said_by = {str(gdb): said(gdb, address, *script) for gdb in GDBS}
    first, *others = said_by
    for other in others:
        assert said_by[other] == said_by[first], other


def test_over_a_pipe_with_nothing_but_the_trace(gdb: Gdb, path: Path, tmp_path: Path) -> None:
    lines = gdb.batch(
        [
            *("set confirm off", f"target remote | {LGREPLAY} gdb --stdio {path}"),
            *("break start_kernel", "continue", "p $cpl", "reverse-continue", "p $tick"),
        ],
        cwd=tmp_path,
    )
    assert values(lines) == ["1", "0"]


def test_a_long_way_that_says_how_far_it_is_still_arrives(gdb: Gdb, address: str) -> None:
    slow = "'at tick 1 of 2\\n' + real(c, **k) if c.startswith('monitor seek') else real(c, **k)"
    lines = said(
        gdb,
        address,
        *("python real = gdb.execute", f"python gdb.execute = lambda c, **k: {slow}"),
        *("seek 70%", "python gdb.execute = real", "p $tick > 1000", "p $pc == 0"),
    )
    assert not any(line.startswith("at tick") for line in lines)
    assert values(lines) == ["1", "0"]


def test_at_a_terminal_a_prompt_follows_each_stop_and_each_step_says_whose_it_is(
    gdb: Gdb, address: str
) -> None:
    # There gdb carries on while the target runs, and so does what is hooked behind a command.
    environment = {**os.environ, "TERM": "dumb", "LC_ALL": "C", "DEBUGINFOD_URLS": ""}
    if gdb.home:
        environment["PYTHONPATH"] = str(gdb.home)
    terminal = pexpect.spawn(
        str(gdb.program),
        ["-nx", "-q", "-ex", "set pagination off", "-ex", "set confirm off"],
        env=environment,
        encoding="utf-8",
        timeout=PATIENCE,
        dimensions=(40, 200),
    )

    def asked(command: str) -> str:
        terminal.sendline(command)
        terminal.expect_exact("(gdb) ")
        return str(terminal.before)

    terminal.expect_exact("(gdb) ")
    asked(f"source {GDB_SCRIPT}")
    asked(f"target remote {address}")
    asked("seek start")
    for step, whose in (
        ("stepi", "CPU"),
        ("stepi", "CPU"),
        ("step", "same thread"),
        ("reverse-stepi", "CPU"),
        ("reverse-next", "same thread"),
    ):
        assert "\t" in asked(step), step
        assert asked("monitor step-scope").rstrip().endswith(whose), step
    asked("detach")
    terminal.close(force=True)
