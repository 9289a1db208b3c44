"""Pages about traces: what happened is in them, nothing else is needed, and a guest cannot put HTML into them."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

import replay
from replay import cli
from replay.events import IrqDelivered, IrqRaised
from replay.log import TraceReader
from replay.page import table
from replay.timeline import Timeline
from tui.report import story_of
from tui.report_page import report

TRACES = Path(__file__).parents[2] / "traces"
RACE = TRACES / "iret-race" / "iret-race.lgt"
STORM = TRACES / "fault-storm" / "fault-storm.lgt"
EMPTY_ELEMENTS = {"meta", "rect", "line"}


class Reader(HTMLParser):
    """Somebody's browser: elements that are open, what they contain, and addresses."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()
        self.words: list[str] = []
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        self.addresses += [v or "" for n, v in attrs if n in ("src", "href", "xlink:href")]
        if tag not in EMPTY_ELEMENTS:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def read(html: str) -> Reader:
    reader = Reader()
    reader.feed(html)
    reader.close()
    assert not reader.open
    return reader


def page_of(path: Path, at: int | str) -> str:
    with TraceReader(path) as reader:
        timeline = Timeline(reader)
        timeline.seek(at)
        return report(story_of(timeline))


@pytest.fixture(scope="module")
def race() -> str:
    return page_of(RACE, "failure")


def test_it_is_whole_and_asks_for_nothing_else(race: str) -> None:
    reader = read(race)
    assert not reader.addresses
    assert not reader.seen & {"script", "link", "img", "iframe", "object"}
    assert not re.search(r"https?://|@import|url\(", race)
    assert "default-src 'none'" in race
    assert "prefers-color-scheme: dark" in race


def test_the_last_moments_are_in_it(race: str) -> None:
    words = "\n".join(read(race).words)
    assert "Guest 0 was killed at tick 1,467,686: bad read address 0xffffffc8 len 4" in words
    # The last instruction of the kernel, with its symbol; the register that the debugger shows; the console.
    assert "lguest_iret+0x11" in words
    assert "iretd" in words
    assert "kestrel: cow[11] is done" in words
    assert "NEW_PGTABLE(0xffffff48" in words
    for heading in ("Timeline", "IDT", "Virtual interrupts", "Console", "The trace"):
        assert f"<h2>{heading}</h2>" in race


def test_the_registers_are_those_of_the_guests_last_instruction(race: str) -> None:
    with replay.open(RACE, at=1_467_652) as t:
        shown = re.findall(r">(e[a-z]{2})</span></td><td>([0-9a-f]{8})<", race)
        found = dict(reversed(shown))
        assert int(found["eip"], 16) == t.cpu.eip
        assert int(found["esp"], 16) == t.cpu.regs[4]


def test_an_interrupt_that_waits_is_explained() -> None:
    with TraceReader(RACE) as reader:
        waits = [
            (a.tick, b.tick)
            for a, b in zip(
                (e for e in reader.events() if isinstance(e, IrqRaised) and e.irq == 2),
                (e for e in reader.events() if isinstance(e, IrqDelivered) and e.irq == 2),
                strict=False,
            )
            if b.tick > a.tick + 1
        ]
    raised, delivered = waits[-1]
    words = "\n".join(read(page_of(RACE, (raised + delivered) // 2)).words)
    assert "IRQ 2 is pending and not delivered:" in words
    assert f"until tick {delivered:,}" in words or "since tick" in words


def test_a_guest_cannot_write_html() -> None:
    bad = "<script>alert(1)</script>\x1b[2J</pre>"
    with TraceReader(RACE) as reader:
        story = story_of(Timeline(reader))
    made = report(
        replace(
            story,
            title="<b>&.lgt",
            lead=bad,
            facts=(bad,),
            then=replace(story.then, console=bad.encode()),
            steps=tuple(replace(step, symbol=bad) for step in story.steps),
            events=tuple(replace(row, details=bad) for row in story.events),
        )
    )
    assert "<script" not in made
    assert "\x1b" not in made
    assert "<b>&.lgt" not in made
    assert "alert(1)" in made
    read(made)


def test_the_same_trace_gives_the_same_page(race: str) -> None:
    assert page_of(RACE, "failure") == race


@pytest.mark.parametrize("at", ["start", "end", "50%"])
def test_any_moment_has_its_page(at: str) -> None:
    read(page_of(STORM, at))


def test_a_table_without_rows_is_nothing() -> None:
    assert table([], ("a", "b")) == ""


def test_the_command_makes_a_file(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "x.html"
    assert cli.run(["report", str(STORM), "-o", str(out)]) == 0
    assert "page fault storm" in capfd.readouterr().out
    assert "page fault storm" in out.read_text(encoding="utf-8")
    before = out.read_bytes()
    assert cli.run(["report", str(STORM), "-o", str(out)]) == 2
    assert cli.run(["report", str(STORM), "-o", str(out), "--force", "--at", "nowhere"]) == 2
    assert cli.run(["report", str(STORM), "-o", str(tmp_path / "no" / "x.html")]) == 2
    assert out.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["x.html"]
