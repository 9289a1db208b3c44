"""The screen on the kestrel of every generation: gates and saved registers are where its Switcher has them."""

from __future__ import annotations

from pathlib import Path

import pytest

import replay
from tests.gdbstub.test_gdb_generations import GENERATIONS
from tests.replay.histories import record_guest
from tui.panes import PANES, View
from tui.panes.pane import saved_register
from tui.snapshot import Camera
from tui.text import plain
from tui.values import Wish


@pytest.mark.parametrize("guest", GENERATIONS)
def test_gates_and_saved_registers_of_each_generation_are_found(guest: str, tmp_path: Path) -> None:
    path = record_guest(tmp_path / "t.lgt", guest, "init=mix -- 1", seed=3)
    with replay.open(path) as timeline:
        timeline.seek(timeline.end_tick * 3 // 4)
        camera = Camera(timeline)
        shot = camera.take(Wish(columns=67, rows=40))
        regs = timeline.machine.guests[0].regs
        assert {word.name: word.value for word in shot.saved} == {
            name: int(getattr(regs, name)) for name in regs.addresses
        }
        for word in shot.saved:
            assert saved_register(shot, word.name).address == regs.addresses[word.name]
    ways = {gate.vector: gate.way for gate in shot.gates}
    assert (ways[0x80], ways[14]) == ("direct", "default")
    for pane in PANES.values():
        assert all(plain(line).isprintable() for line in pane.draw(shot, 100, 30, View()))
