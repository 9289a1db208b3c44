"""A run and the branches on it: opened by writing, left, kept, and the same wherever they are opened."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import replay
from replay.branch import BadEdit, set_memory, set_register
from replay.histories import Histories, NoBranch, Written
from replay.look import GuestSpace
from replay.timeline import Timeline
from tests.tui.moments import fatal
from tests.tui.sitting import RACE


@pytest.fixture
def timeline() -> Iterator[Timeline]:
    with replay.open(RACE) as opened:
        opened.go(fatal())
        yield opened


def test_writes_at_one_place_are_one_branch_and_later_ones_lie_on_it(timeline: Timeline) -> None:
    histories = Histories(timeline)
    assert histories.write([set_register("eax", 5)]) is Written.OPENED
    assert histories.write([set_register("ebx", 6)]) is Written.ADDED
    assert histories.top.evaluate("eax") == 5
    assert histories.top.evaluate("ebx") == 6
    histories.top.step(replay.Unit.INSTRUCTION)
    address = timeline.address("lguest_iret")
    edits = set_memory(histories.top.look, address, b"\x90", GuestSpace(0))
    assert histories.write(edits) is Written.OPENED
    assert len(histories.lines()) == 3
    histories.leave()
    assert len(histories.lines()) == 2
    histories.leave()
    assert histories.top is timeline
    assert timeline.tick == fatal()
    assert timeline.evaluate("eax") != 5
    with pytest.raises(NoBranch):
        histories.leave()
    with pytest.raises(NoBranch):
        histories.save("nowhere")


def test_what_cannot_be_written_opens_nothing(timeline: Timeline) -> None:
    histories = Histories(timeline)
    with pytest.raises(BadEdit):
        histories.write([set_register("eax", 5, guest=3)])
    assert histories.sheets == ()


def test_the_same_sheets_are_the_same_history_and_a_saved_one_is_too(
    timeline: Timeline, tmp_path: Path
) -> None:
    one = Histories(timeline)
    one.write([set_register("eip", timeline.address("lguest_iret"))])
    one.top.go(fatal() + 20_000)
    path = tmp_path / "branch.lgt"
    assert "up to tick" in one.save(path)
    with replay.open(RACE) as again, replay.open(path) as saved:
        other = Histories(again)
        other.be_on(one.sheets)
        other.top.go(fatal() + 20_000)
        saved.go(fatal() + 20_000)
        digests = {each.machine.digest() for each in (one.top, other.top, saved)}
        assert len(digests) == 1
        top = other.top
        other.be_on(one.sheets)
        assert other.top is top, "what is there already is not opened again"
        other.be_on(())
        assert other.top is again
