"""The screen as somebody sees it: keys in, characters out, on a real trace."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from hostvm.units import Tick
from tests.tui.moments import fatal, last
from tests.tui.sitting import RACE, Sitting
from tui.keys import keys
from tui.theme import Theme

FATAL = fatal()


def sit(
    scenario: Callable[[Sitting], Awaitable[None]],
    columns: int = 120,
    rows: int = 40,
    **options: object,
) -> None:
    async def session() -> None:
        async with Sitting(RACE, columns, rows, **options) as user:  # type: ignore[arg-type]
            await user.known()
            await scenario(user)

    asyncio.run(session())


def test_the_status_bar_says_when_where_and_what_is_pending() -> None:
    async def look(user: Sitting) -> None:
        await user.press(":")
        await user.type(f"seek {FATAL}")
        assert f"tick {FATAL:,}/{last():,}" in user.lines[0]
        assert (
            f"event {user.timeline.store.ordinal_of(user.timeline.store.position_at(Tick(FATAL))):,}/"
            in user.lines[0]
        )
        assert "next: interrupt 0x20 TIMER" in user.lines[0]
        assert "KERNEL r1" in user.lines[1]
        assert "lguest_iret+0x11" in user.lines[1]
        assert "IF=1" in user.lines[1]
        assert "pending {}" in user.lines[1]

    sit(look, 80, 24)


def test_steps_and_steps_back_give_the_identical_screen() -> None:
    async def walk(user: Sitting) -> None:
        await user.press(":")
        await user.type(f"seek {FATAL - 3}")
        for forth, back in (("s", "S"), ("i", "I"), ("e", "E"), ("x", "X")):
            await user.press(forth, back)
            before = user.text
            await user.press(*[forth] * 5)
            assert user.text != before
            await user.press(*[back] * 5)
            assert user.text == before

    sit(walk)


def test_the_end_is_a_killed_guest_and_the_console_says_what_it_said() -> None:
    async def look(user: Sitting) -> None:
        await user.press("end", "f4")
        assert "was killed: bad read address 0xffffffc8" in user.lines[0]
        assert "kestrel: in ring 1 under lguest" in user.text

    sit(look)


def test_a_breakpoint_set_at_a_gate_is_met() -> None:
    async def look(user: Sitting) -> None:
        await user.press(":")
        await user.type(f"seek {FATAL}")
        await user.press("f2", "tab")
        while user.tui.layout.focus != "idt":
            await user.press("tab")
        await user.press("/")
        await user.type("IRQ 0")
        await user.press("enter")
        assert user.message.startswith("stop 1: break ")
        await user.press("c")
        assert "stop 1" in user.message
        assert user.tick > FATAL
        await user.press("C", "enter")
        assert "is gone" in user.message

    sit(look)


def test_who_wrote_a_register_goes_to_the_writer_and_back() -> None:
    async def look(user: Sitting) -> None:
        await user.press(":")
        await user.type(f"seek {FATAL}")
        await user.press(":")
        await user.type("focus registers")
        await user.press("w")
        assert user.message.startswith("eax: ")
        assert user.tick < FATAL
        await user.press("[")
        assert user.tick == FATAL
        await user.press("]")
        assert user.tick < FATAL

    sit(look)


def test_why_an_interrupt_is_not_delivered_is_told_in_words() -> None:
    async def look(user: Sitting) -> None:
        await user.press(":")
        await user.type(f"seek {FATAL}")
        await user.press(":")
        await user.type("whynot 0")
        assert "it is not raised" in user.text
        assert "until tick" in user.text
        await user.press("escape")
        assert "until tick" not in user.text

    sit(look)


def test_the_event_list_is_searched_and_filtered() -> None:
    async def look(user: Sitting) -> None:
        await user.press("f5", "/")
        await user.type("0xffffff48")
        found = user.message
        await user.press("enter")
        assert FATAL < user.tick < last()
        assert f"{user.tick:,}" in found
        await user.press(":")
        await user.type("filter irq_delivered 2")
        shot = user.tui.shot
        assert shot is not None
        assert {row.details for row in shot.events.rows} == {"irq 2"}

    sit(look)


def test_any_size_of_terminal_will_do() -> None:
    async def look(user: Sitting) -> None:
        for columns, rows in ((80, 24), (200, 60), (40, 12), (12, 4), (1, 1), (300, 20), (80, 24)):
            await user.resize(columns, rows)
            await user.press("j", "tab", "z", "z")
        assert "tick" in user.lines[0]

    sit(look)


def test_every_screen_fits_eighty_columns() -> None:
    async def look(user: Sitting) -> None:
        for key in ("f1", "f2", "f3", "f4", "f5"):
            await user.press(key)
            assert "tick" in user.lines[0]
            assert user.lines[-1]

    sit(look, 80, 24)


def test_what_cannot_be_done_is_said_in_one_line() -> None:
    async def look(user: Sitting) -> None:
        for text in (
            "nonsense",
            "seek nowhere",
            "break nosuch",
            "delete 99",
            "p )",
            "whynot 99",
            "wrote x y",
        ):
            await user.press(":")
            await user.type(text)
            assert user.message, text
            assert user.tui.refused, text
            assert user.tick == 0

    sit(look)


def test_a_long_search_is_interrupted_where_it_began() -> None:
    async def look(user: Sitting) -> None:
        await user.press(":")
        await user.type("seek 500")
        await user.press(":")
        user.send("until eax == 0x12345678 and ebx == 0x9abcdef0\r")
        await user.until(lambda: not user.tui.idle)
        await user.press("c-c")
        assert user.tick == 500
        assert "interrupted" in user.message
        await user.press("i")
        assert user.tick == 501

    sit(look)


def test_the_mouse_seeks_focuses_and_moves() -> None:
    async def look(user: Sitting) -> None:
        def at(pane: str) -> tuple[int, int]:
            place = next(r for r in user.tui.rectangles() if r.pane == pane)
            return place.left + place.width // 2 + 1, place.top + 2

        async def mouse(button: int, place: tuple[int, int]) -> None:
            x, y = place
            await user.press(f"\x1b[<{button};{x};{y}M", f"\x1b[<{button};{x};{y}m")

        await user.press("M")
        await mouse(0, at("timeline"))
        there = user.tick
        assert 0 < there < user.timeline.end_tick
        await mouse(0, at("events"))
        assert user.tui.layout.focus == "events"
        chosen = user.tui.layout.cursors.get("events")
        await mouse(65, at("events"))
        assert user.tui.layout.cursors["events"] != chosen
        assert user.tick == there

    sit(look)


def test_help_has_every_key_of_the_table() -> None:
    async def look(user: Sitting) -> None:
        await user.press("?")
        for key in keys():
            assert key.help in user.text, key

    sit(look, 120, 120)


def test_commands_are_completed() -> None:
    async def look(user: Sitting) -> None:
        await user.press(":")
        user.send("screen inter")
        await user.until(lambda: "interrupts" in user.text)
        user.send("\t")
        await user.until(lambda: ":screen interrupts" in user.text)
        await user.press("enter")
        assert user.tui.layout.name == "interrupts"

    sit(look)


@pytest.mark.parametrize("theme", list(Theme))
def test_without_colour_the_screen_has_the_same_characters(theme: Theme) -> None:
    texts: list[str] = []
    colours: set[str] = set()

    async def look(user: Sitting) -> None:
        await user.press(":")
        await user.type(f"seek {FATAL}")
        await user.press("s")
        texts.append(user.text)
        colours.update(cell.fg for row in user.screen.buffer.values() for cell in row.values())

    sit(look, theme=theme)
    seen, colours_seen = texts[0], set(colours)
    sit(look, theme=Theme.NONE)
    assert texts[1] == seen
    assert (colours_seen == {"default"}) is (theme is Theme.NONE)


def test_ascii_is_enough() -> None:
    async def look(user: Sitting) -> None:
        assert user.text.isascii()

    sit(look, ascii_only=True)


def test_the_ends_of_the_event_list_are_those_of_the_log() -> None:
    async def look(user: Sitting) -> None:
        await user.press("f5", ":")
        await user.type("focus events")
        await user.press("G")
        count = len(user.timeline.store)
        assert user.tui.layout.cursors["events"] >= count - 2
        await user.press("k", "g", "g")
        assert user.tui.layout.cursors["events"] == 0
        await user.press(*["pagedown"] * 20)
        assert user.tui.layout.cursors["events"] == 200

    sit(look)


def test_memory_is_walked_by_bytes_and_lines_and_follows_again() -> None:
    async def look(user: Sitting) -> None:
        await user.press(":")
        await user.type(f"seek {FATAL}")
        await user.press(":")
        await user.type("x lguest_iret")
        await user.press("l", "l", "j")
        target = user.tui.target()
        assert target.location is not None
        assert user.timeline.address("lguest_iret") & ~0xF == user.tui.shot.memory.address  # type: ignore[union-attr]
        first = user.tui.layout.cursors["memory"]
        await user.press("k", "h")
        assert first - user.tui.layout.cursors["memory"] in (5, 9, 17)
        await user.press("k", "k")
        assert user.tui.wish.memory_at != "lguest_iret"
        await user.press("backspace")
        assert user.tui.wish.memory_at == "esp"

    sit(look)
