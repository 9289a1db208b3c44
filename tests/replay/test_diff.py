"""Comparing two histories: where they part, what is different there, and that equal ones are."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from hostvm.units import Tick
from replay.branch import set_memory, set_register
from replay.diff import Aspect, CannotCompare, Comparison
from replay.events import IrqDelivered
from replay.log import TraceReader
from replay.look import GuestSpace
from replay.timeline import open_timeline
from tests.replay.recorded import record_hello

Compare = Callable[[Path, Path], Comparison]
RACE = Path(__file__).parents[2] / "traces" / "iret-race"


@pytest.fixture(scope="module")
def hello(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("diff") / "hello.lgt"
    record_hello(path)
    return path


@pytest.fixture
def compare() -> Iterator[Compare]:
    with ExitStack() as open_ones:

        def make(one: Path, other: Path) -> Comparison:
            timelines = [open_ones.enter_context(open_timeline(path)) for path in (one, other)]
            return Comparison(*timelines)

        yield make


def branched(path: Path, to: Path, edit: str) -> Path:
    """A trace that leaves the one at `path` in the middle, with one edit."""
    with open_timeline(path) as timeline:
        timeline.seek("50%")
        while timeline.machine.cpu.cpl != 1:
            timeline.seek("+1")
        if edit == "register":
            edits = [set_register("eax", timeline.cpu.regs[0] ^ 0x1000)]
        else:
            at = timeline.cpu.regs[4] - 256
            old = timeline.read(at, 4, GuestSpace())
            edits = set_memory(timeline.look, at, bytes(b ^ 1 for b in old), GuestSpace())
        child = timeline.branch(edits)
        child.extend(timeline.tick + 200)
        child.save(to)
    return to


def test_a_history_does_not_differ_from_itself(compare: Compare, hello: Path) -> None:
    both = compare(hello, hello)
    assert both.parting.first == (None, None)
    assert [both.since(aspect) for aspect in Aspect] == [None, None, None]


@pytest.mark.parametrize(("edit", "aspect"), [("register", Aspect.CPU), ("memory", Aspect.MEMORY)])
def test_an_edit_is_found_at_its_tick(
    compare: Compare, hello: Path, tmp_path: Path, edit: str, aspect: Aspect
) -> None:
    child = branched(hello, tmp_path / "child.lgt", edit)
    with TraceReader(child) as reader:
        left = reader.header.branch_tick
    both = compare(hello, child)
    assert both.since(aspect) == left
    both.at(Tick(left))
    assert both.differs(aspect)
    if edit == "register":
        assert [value.name for value in both.registers()] == ["eax"]
    else:
        (stretch,) = both.stretches()
        assert len(stretch.sides[0]) == 4
        assert bytes(b ^ 1 for b in stretch.sides[0]) == stretch.sides[1]
    both.at(Tick(left - 1))
    assert not any(both.differs(each) for each in Aspect)


def test_two_kernels_part_where_one_gets_its_interrupt(compare: Compare) -> None:
    both = compare(RACE / "fixed.lgt", RACE / "iret-race.lgt")
    assert isinstance(both.parting.first[1], IrqDelivered)
    assert both.since(Aspect.MEMORY) == both.first_tick
    since = both.since(Aspect.CPU)
    assert since is not None
    assert 1_357_154 < since < 1_357_200
    known = both.since(Aspect.HOST)
    assert known is not None
    both.at(known)
    assert [value.name for value in both.knowledge()] == ["noirq_end"]


def test_machines_with_different_numbers_of_guests_are_not_compared(
    compare: Compare, hello: Path, tmp_path: Path
) -> None:
    two = tmp_path / "two.lgt"
    arguments = ["record", "--guest", "hello", "--guest", "hello", "--clock", "virtual", "--quiet"]
    command = [sys.executable, "-m", "replay", *arguments, "--max-ticks", "5000", "-o", str(two)]
    subprocess.run(command, check=True, capture_output=True)
    with pytest.raises(CannotCompare, match="1 guests, the other 2"):
        compare(hello, two)


def test_the_command_shows_all_of_it() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "replay", "diff", "fixed.lgt", "iret-race.lgt", "--lines", "2"],
        cwd=RACE,
        capture_output=True,
        text=True,
        check=True,
    )
    lines = done.stdout.splitlines()
    assert lines[:2] == ["A  fixed.lgt", "B  iret-race.lgt"]
    assert any(line.split() == ["at", "tick", "1357184", "A", "B"] for line in lines)
    assert any("lguest_iret+0x11" in line and "trap_entry_32" in line for line in lines)
