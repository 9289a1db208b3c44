"""Code with the lines that it came of, and the source itself, where that is to be found."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import replay
from replay.catalogue import find_kernel
from tests.tui.goldens import moment
from tests.tui.moments import fatal
from tests.tui.sitting import RACE, Sitting
from tui.panes import PANES, View
from tui.snapshot import Camera
from tui.source_files import SourceFiles
from tui.source_lines import SourceLines
from tui.text import plain
from tui.values import SourceText, TaskRow, Wish

KERNEL_SOURCES = Path(replay.__file__).parents[1] / "hostvm" / "guest"


def test_an_address_leads_to_the_text_of_its_line_and_the_line_back_to_the_address() -> None:
    sources = SourceLines([find_kernel("kestrel-no-window").content])
    while not sources.whole:
        sources.read()
    with replay.open(RACE) as timeline:
        address = timeline.address("lguest_iret")
    place = sources.place(address)
    assert place is not None
    assert place.path == "kestrel/entry.S"
    text = (KERNEL_SOURCES / place.path).read_text().splitlines()[place.line - 1]
    assert sources.text_at(address) == text.strip().expandtabs()
    assert sources.addresses(place.path)[place.line] == address
    assert sources.at(address) == f"entry.S:{place.line}"


def test_without_a_table_of_units_all_are_read_and_say_the_same() -> None:
    content = find_kernel("kestrel-no-window").content
    quick, slow = (
        SourceLines([content]),
        SourceLines([content.replace(b".debug_aranges\0", b".nothing_at_al\0")]),
    )
    steps = []
    for sources in (quick, slow):
        before = 0
        while not sources.whole:
            sources.read()
            before += 1
        steps.append(before)
    assert steps[0] < steps[1]
    with replay.open(RACE) as timeline:
        first, last = timeline.address("lguest_entry"), timeline.address("first_process")
    places = [str(quick.place(address)) for address in range(first, last)]
    assert len(set(places)) > 100
    assert places == [str(slow.place(address)) for address in range(first, last)]


def test_what_is_no_readable_file_is_no_source(tmp_path: Path) -> None:
    found = SourceFiles()
    (tmp_path / "one.c").write_bytes(b"\tint\xff;\nx\n")
    assert found.lines(str(tmp_path / "one.c")) == ("        int\ufffd;", "x")
    for path in ("", ".", "/", "/dev/zero", str(tmp_path), "no/such.c", "a\0b", "/x\0"):
        assert found.lines(path) == ()


def test_mixed_code_has_each_line_above_its_instructions() -> None:
    with replay.open(RACE) as timeline:
        timeline.seek(fatal())
        camera = Camera(timeline)
        camera.sources.read()
        shot = camera.take(Wish(code_as="mixed"))
    rows = [plain(row).rstrip() for row in PANES["code"].draw(shot, 100, 40, View())]
    above = next(at for at, row in enumerate(rows) if "entry.S:" in row and row.endswith("iret"))
    assert "iretd" in rows[above + 1]


def test_the_source_itself_shows_where_this_is_and_where_breakpoints_are() -> None:
    lines = (("one", None), ("two", 0x1000), ("three", 0x1004), ("\x1b[2Jfour", None))
    shot = replace(moment(), source=SourceText("a/b.c", 10, lines, 12), eip=0x1006)
    pane = PANES["code"]
    assert pane.keys(shot) == [0x1000, 0x1004]
    assert pane.selected(shot, None) == 0x1004
    assert "a/b.c" in pane.title(shot)
    rows = [plain(row).rstrip() for row in pane.draw(shot, 40, 4, View())]
    assert rows == ["     10 one", "     11 two", " \u2192   12 three", "     13 ?[2Jfour"]
    assert pane.target(shot, 0x1000).code == 0x1000


def test_the_key_goes_round_and_a_line_can_be_broken_at() -> None:
    async def session() -> None:
        async with Sitting(RACE, 120, 40) as user:
            await user.known()
            await user.press(":")
            await user.type(f"seek {fatal()}")
            await user.press("d")
            assert "entry.S:141  iret" in user.text
            await user.press("d")
            assert "Source kestrel/entry.S" in user.text
            await user.press("j", "b")
            assert "break first_process" in user.message
            await user.press("d")
            assert "Code lguest_iret" in user.text
            await user.press(":")
            await user.type("code source")
            assert "Source kestrel/entry.S" in user.text
            await user.press("^")
            assert "no source here" in user.text, "the Host's loop has none"
            await user.press(":")
            await user.type("code nosuch")
            assert user.tui.refused

    asyncio.run(session())


def test_processes_are_shown_with_the_current_one_marked_and_without_linux_it_is_said_why() -> None:
    async def session() -> None:
        async with Sitting(RACE, 120, 40) as user:
            await user.press(":")
            await user.type("put tasks")
            assert "no symbol init_task" in user.text

    asyncio.run(session())
    rows = (
        TaskRow(0xC114C160, 0, "swapper", "running", 0xC1148000, False),
        TaskRow(0xC34D0990, 34, "busybox\x1b", "running", 0xC359C000, True),
        TaskRow(0xC0089CB0, None, "init", "sleeping", 0xC008C000, False),
    )
    shot = replace(moment(), tasks=rows)
    pane = PANES["tasks"]
    assert pane.title(shot) == "Tasks 3, busybox? is current"
    assert pane.selected(shot, None) == 1
    drawn = [plain(row).rstrip() for row in pane.draw(shot, 80, 4, View())]
    assert drawn[2].split() == ["\u2192", "34", "busybox?", "running", "c34d0990", "c359c000"]
    assert drawn[3].split()[0] == "?"
