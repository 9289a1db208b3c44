"""docs/tui.md shows what there really is to see."""

from __future__ import annotations

import asyncio

from tests.tui.documented import COLUMNS, DOCUMENT, ROWS, sat_again, screens
from tui.keys import keys


def test_the_documented_sitting_goes_as_it_is_documented() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    again = asyncio.run(sat_again(text))
    assert again == text, "make it anew with python -m tests.tui.documented"


def test_by_keys_alone_one_finds_the_interrupt_in_the_iret_window_and_who_raised_it() -> None:
    shown = [screen for _, screen in screens()]
    assert "was killed: bad read address 0xf" in shown[0]
    assert "\u2192c01008b6 iretd" in shown[2] or "iretd" in shown[2]
    assert "next: interrupt 0x20 TIMER" in shown[2]
    assert "irq_raised        irq 0" in shown[3]
    assert "SET_CLOCKEVENT" in shown[4]
    assert "not now: the guest is in its noirq window" in shown[5]
    assert all(len(line) <= COLUMNS for screen in shown for line in screen.splitlines())
    assert all(len(screen.splitlines()) == ROWS for screen in shown)


def test_the_keys_that_the_document_names_are_in_the_table() -> None:
    table = {key for entry in keys() for sequence in entry.keys for key in sequence.split()}
    for line in DOCUMENT.read_text(encoding="utf-8").splitlines():
        if line.startswith("| `") and line.count("|") == 3:
            named = line.split("|")[1].replace("`", " ").replace(",", " ").replace(";", " ").split()
            assert set(named) - {"a"} <= table, line
