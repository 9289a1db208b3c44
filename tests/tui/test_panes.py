"""Panes are pure functions: pictures of a known moment, and what must hold at any size."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import replay
from hostvm.lguest_data import IRQ_ON
from hostvm.x86 import Eflags
from tests.tui.goldens import FOLDER, drawn, moment, pictures
from tests.tui.moments import last
from tests.tui.sitting import RACE, SHIPPED
from tui.arrangement import SCREENS, exchanged, place, resized
from tui.code_view import branch_taken
from tui.focus import beside
from tui.guest_view import numbers
from tui.panes import PANES, View
from tui.panes.status import draw as draw_status
from tui.screen import Layout, compose
from tui.snapshot import Camera
from tui.text import clean, fit, length, plain
from tui.theme import ASCII, STYLES
from tui.values import Wish

PICTURES = dict(pictures())


@pytest.mark.parametrize("name", PICTURES)
def test_a_pane_draws_what_it_drew_before(name: str) -> None:
    kept = (FOLDER / f"{name}.txt").read_text(encoding="utf-8")
    assert PICTURES[name] == kept, "make them anew with python -m tests.tui.goldens"


def test_no_picture_is_of_a_pane_that_is_gone() -> None:
    assert {path.stem for path in FOLDER.glob("*.txt")} == set(PICTURES)


@given(
    st.sampled_from(sorted(PANES)),
    st.integers(1, 250),
    st.integers(1, 80),
    st.none() | st.integers(-5, 1 << 32),
    st.booleans(),
)
@settings(max_examples=200)
def test_a_pane_fills_its_place_exactly(
    name: str, width: int, height: int, cursor: int | None, focused: bool
) -> None:
    lines = PANES[name].draw(moment(), width, height, View(cursor, focused))
    assert [length(line) for line in lines] == [width] * height


@given(
    st.sampled_from(sorted(SCREENS)),
    st.sampled_from(sorted(PANES)),
    st.integers(20, 250),
    st.integers(5, 80),
    st.booleans(),
)
@settings(max_examples=100)
def test_a_screen_fills_the_terminal_exactly(
    screen: str, focus: str, width: int, height: int, zoomed: bool
) -> None:
    layout = Layout(SCREENS[screen], screen, focus, zoomed)
    lines = compose(moment(), layout, width, height)
    assert [length(line) for line in lines] == [width] * height


@given(
    st.sampled_from(sorted(SCREENS)),
    st.integers(20, 250),
    st.integers(4, 80),
    st.lists(st.tuples(st.integers(-9, 9), st.integers(-9, 9)), max_size=5),
)
@settings(max_examples=100)
def test_panes_do_not_overlap_and_the_one_with_the_focus_is_there(
    screen: str, width: int, height: int, changes: list[tuple[int, int]]
) -> None:
    arrangement = SCREENS[screen]
    for focus in arrangement.panes:
        for higher, wider in changes:
            arrangement = resized(arrangement, focus, higher, wider)
        places = place(arrangement, width, height, focus, zoomed=False)
        cells = [
            (x, y)
            for r in places
            for x in range(r.left, r.left + r.width)
            for y in range(r.top, r.top + r.height)
        ]
        assert len(cells) == len(set(cells))
        assert all(0 <= x < width and 0 <= y < height for x, y in cells)
        assert focus in {r.pane for r in places}


def test_every_style_that_is_used_has_a_look() -> None:
    used = set()
    for pane in PANES.values():
        for line in pane.draw(moment(), 120, 40, View(focused=True)):
            used |= {
                part for style, _ in line for part in style.split() if part.startswith("class:")
            }
    assert {style.removeprefix("class:") for style in used} <= STYLES


def test_what_changed_is_marked_with_a_character_too() -> None:
    for line in PANES["registers"].draw(moment(), 120, 20, View()):
        text = plain(line)
        for style, part in line:
            if "changed" in style:
                at = text.index(part)
                assert "*" in text[max(0, at - 9) : at]


def test_ascii_glyphs_are_enough_for_every_pane() -> None:
    for pane in PANES.values():
        assert drawn(pane.draw(moment(), 100, 30, View(glyphs=ASCII))).isascii()


def test_the_pane_of_interrupts_shows_the_window_and_where_in_it_one_stands() -> None:
    text = drawn(PANES["irq"].draw(moment(), 100, 20, View()))
    assert "no noirq window" in text


def test_text_of_a_guest_cannot_steer_the_terminal() -> None:
    assert clean("a\x1b[31m\u4e2d") == "a?[31m?"
    assert all(c.isprintable() for c in clean("\x1b]0;x\x07\x9b\u202e"))
    assert length(fit((("", "abc"),), 2)) == 2


def test_bits_are_named_in_runs() -> None:
    assert numbers(0) == "{}"
    assert numbers(0b1) == "{0}"
    assert numbers(0b1011) == "{0-1,3}"
    assert numbers(0xFFFFFFF8) == "{3-31}"


@pytest.mark.parametrize(
    ("mnemonic", "flags", "taken"),
    [
        ("je", Eflags.ZF, True),
        ("jne", Eflags.ZF, False),
        ("jb", Eflags.CF, True),
        ("jae", Eflags.CF, False),
        ("ja", Eflags.FIXED, True),
        ("jbe", Eflags.CF, True),
        ("jl", Eflags.SF, True),
        ("jl", Eflags.SF | Eflags.OF, False),
        ("jge", Eflags.SF | Eflags.OF, True),
        ("jg", Eflags.ZF, False),
        ("jle", Eflags.ZF, True),
        ("js", Eflags.SF, True),
        ("jnp", Eflags.PF, False),
        ("jmp", Eflags.FIXED, None),
        ("call", Eflags.FIXED, None),
    ],
)
def test_a_coming_branch_is_told_from_the_flags(
    mnemonic: str, flags: int, taken: bool | None
) -> None:
    assert branch_taken(mnemonic, int(flags), 0) is taken


def test_panes_change_places() -> None:
    main = SCREENS["main"]
    assert exchanged(main, "code", "idt").panes == (
        "timeline",
        "idt",
        "events",
        "registers",
        "stack",
        "callers",
    )
    swapped = exchanged(main, "code", "events").panes
    assert swapped == ("timeline", "events", "code", "registers", "stack", "callers")


def test_the_focus_goes_to_the_pane_that_one_sees_there() -> None:
    places = place(SCREENS["main"], 160, 48, "code", zoomed=False)
    assert beside(places, "code", 1, 0) == "registers"
    assert beside(places, "code", 0, 1) == "events"
    assert beside(places, "code", 0, -1) == "timeline"
    assert beside(places, "events", 1, 0) in ("stack", "callers")
    assert beside(places, "code", -1, 0) == "code"


def test_page_tables_that_lie_where_the_guest_has_no_memory_are_said_to() -> None:
    """The trace ends as the Guest has named a garbled directory, 0xffffff48."""
    with replay.open(RACE) as timeline:
        timeline.seek(last())
        shots = [Camera(timeline).take(Wish(table_at=at)) for at in ("0x08048172", "0xc0004001")]
    rows = [[plain(row) for row in PANES["tables"].draw(shot, 80, 6, View())] for shot in shots]
    assert "ffffffc8: the guest has no memory there" in rows[0][0]
    assert "00000b48: 00000000 not present" in rows[1][0]
    assert "no table" in rows[0][2]


def test_no_table_of_the_hosts_is_shown_as_code() -> None:
    with replay.open(RACE) as timeline:
        host_loop = timeline.address("host_loop")
        for tick in (0, last()):
            timeline.seek(tick)
            code = Camera(timeline).take(Wish()).code
            assert code[0].address == host_loop
            assert code[0].text == "hlt"


def test_irq_pending_that_the_host_has_left_behind_is_no_interrupt_that_waits() -> None:
    """lguest does not clear it where it believes that there is always one more."""
    with replay.open(SHIPPED / "more-always-true" / "more-always-true.lgt") as timeline:
        timeline.seek(timeline.end_tick)
        shot = Camera(timeline).take(Wish())
    (word,) = (word for word in shot.shared if word.name == "irq_pending")
    assert not shot.position.pending
    assert word.value == IRQ_ON
    assert word.meaning == "none is waiting"


def test_why_the_guest_has_ended_is_read_before_what_comes_next() -> None:
    """Nothing comes any more, and 80 columns do not hold both."""
    with replay.open(RACE) as timeline:
        timeline.seek(last())
        when = plain(draw_status(Camera(timeline).take(Wish()), 80)[0])
    assert "was killed: bad read" in when
