"""Real gdbs on kestrel: back onto the window without interrupts, and back to the Host's write of irq_pending."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from gdbstub.serving import GDB_SCRIPT
from replay.look import GuestSpace
from tests.gdbstub.debuggers import Gdb, found
from tests.replay.histories import record_guest, timeline_of

pytestmark = pytest.mark.needs_gdb
GDBS = found()
LGREPLAY = f"{sys.executable} -m replay"
PENDING = 0x200


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With lguest's bugs as they are: what is recorded corrects none."""
    path = tmp_path_factory.mktemp("gdb") / "kestrel.lgt"
    return record_guest(path, "kestrel", "init=mix", seed=3)


@pytest.fixture(params=GDBS, ids=str)
def gdb(request: pytest.FixtureRequest) -> Gdb:
    debugger = request.param
    assert isinstance(debugger, Gdb)
    return debugger


def from_the_end(gdb: Gdb, path: Path, *commands: str) -> list[str]:
    return gdb.batch(
        [
            *("set pagination off", "set confirm off", f"source {GDB_SCRIPT}"),
            *(f"target remote | {LGREPLAY} gdb --stdio {path}", "seek end", *commands),
        ]
    )


def values(lines: list[str]) -> list[str]:
    return [line.partition(" = ")[2] for line in lines if re.match(r"\$\d+ = ", line)]


WINDOW = "$pc >= (unsigned) &lguest_noirq_start && $pc < (unsigned) &lguest_noirq_end"


def test_reverse_continue_onto_the_window_without_interrupts(gdb: Gdb, path: Path) -> None:
    lines = from_the_end(
        gdb,
        path,
        *("break lguest_iret", "reverse-continue", "p $tick", f"p {WINDOW}", "p $cpl"),
        *("p $pc == (unsigned) &lguest_iret", "reverse-continue", "p $tick", f"p {WINDOW}"),
        # Up to the iret that ends it, and one further: it is left, and entered again backwards.
        *("delete", "catch when not in_noirq", "continue", "p $tick", f"p {WINDOW}", "uncatch 3"),
        *("catch when in_noirq", "reverse-continue", "p $tick", f"p {WINDOW}"),
    )
    last, inside, ring, iret, earlier, inside_too, left, outside, back, window = values(lines)
    assert (inside, ring, iret, inside_too, outside, window) == ("1", "1", "1", "1", "0", "1")
    assert int(earlier) <= int(back) < int(left) <= int(last)
    with timeline_of(path) as timeline:
        address = timeline.address("lguest_iret")
        for tick in (int(last), int(earlier)):
            timeline.go(tick)
            assert timeline.cpu.eip == address
        timeline.go(int(left))
        assert not timeline.evaluate("in_noirq")


def test_a_watch_on_irq_pending_goes_back_to_the_hosts_write(gdb: Gdb, path: Path) -> None:
    lines = from_the_end(
        gdb,
        path,
        *("catch held", "reverse-continue", "uncatch 1", "p lguest_data.irq_pending", "p $cpl"),
        *("p &lguest_data.irq_pending", "p $tick", "watch -l lguest_data.irq_pending"),
        *("reverse-continue", "p $cpl", "p $tick", "info symbol $pc", "delete"),
        *("tick-step 1", "thread 2", "p lguest_data.irq_pending"),
    )
    pending, ring, place, held, host, written, after = values(lines)
    assert (int(pending), ring, host, int(after)) == (PENDING, "1", "0", PENDING)
    assert any("hit Hardware watchpoint" in line for line in lines)
    assert "host_loop in section .text of target:/lgreplay/host.elf" in lines
    found_place = re.search(r"0x[0-9a-f]+", place)
    assert found_place
    address = int(found_place[0], 16)
    # The Host's turn before this state, and nothing else, has changed it from 0.
    with timeline_of(path) as timeline:
        timeline.go(int(written))
        assert timeline.machine.cpu.cpl == 0
        assert timeline.read(address, 4, GuestSpace(0)) == bytes(4)
        for tick in range(int(written) + 1, int(held) + 1):
            timeline.go(tick)
            assert timeline.read(address, 4, GuestSpace(0)) == PENDING.to_bytes(4, "little")


def test_functions_of_the_guest_can_be_called_and_returned_from_in_a_branch(
    gdb: Gdb, path: Path
) -> None:
    lines = from_the_end(
        gdb,
        path,
        *("break timer_interrupt", "reverse-continue", "p $tick", "p/x $esp", "p block_sectors()"),
        *("p/x $esp", "info symbol $pc", "monitor branch", "branch leave", "branch leave"),
        *("p $tick", "return", "info symbol $pc"),
    )
    tick, stack, sectors, stack_again, back = values(lines)
    assert (sectors, stack_again, back) == ("0", stack, tick)
    assert "timer_interrupt in section .text of target:/lgreplay/kestrel" in lines
    assert any(re.match(r"  2  branch at tick", line) for line in lines)
    assert lines[-1].startswith("trap + ")
