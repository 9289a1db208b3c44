"""A guest on the screen while it is being recorded: it runs on when it is let, and its past can be visited."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from replay.commands.plan import Wish
from replay.log import TraceReader
from replay.session import Session
from tests.tui.sitting import Sitting
from tests.tui.test_terminal import Terminal
from tui.live import recorded


def wish(path: Path, **changes: object) -> Wish:
    usual: dict[str, object] = {
        "guests": ("hello",),
        "clock": "virtual",
        "command_line": "loops=1",
        "output": str(path),
    }
    return Wish(**{**usual, **changes})  # type: ignore[arg-type]


def verified(path: Path) -> int:
    with TraceReader(path) as reader:
        session = Session(reader)
        for _ in session.verify():
            pass
        return int(session.verified.last_tick)


def test_a_guest_runs_on_is_stopped_and_its_past_is_visited(tmp_path: Path) -> None:
    path = tmp_path / "live.lgt"

    async def session() -> None:
        async with Sitting(timeline, 120, 40) as user:
            assert user.tick == 0
            await user.press(":")
            await user.type("seek 20000")
            assert user.tick == 20_000
            assert "/20,000 100.0%" in user.lines[0]
            shot = user.tui.shot
            assert shot is not None
            assert all(row.tick <= 20_000 for row in shot.events.rows)
            await user.press("i", "S", "^", "$", "c")
            assert "powered off" in user.text
            await user.press("E")
            assert user.tick < timeline.end_tick

    with recorded(wish(path), ("tui", "--record")) as timeline:
        asyncio.run(session())
        end = timeline.end_tick
    assert verified(path) == end


def test_leaving_early_leaves_a_whole_trace_of_what_was_seen(tmp_path: Path) -> None:
    path = tmp_path / "live.lgt"

    async def session() -> None:
        async with Sitting(timeline, 100, 30) as user:
            await user.press(*["e"] * 5)

    with recorded(wish(path), ()) as timeline:
        asyncio.run(session())
        assert 0 < timeline.end_tick < 200_000
        end = timeline.end_tick
    assert verified(path) == end


@pytest.mark.needs_terminal
def test_the_command_records_and_says_where_the_trace_is(tmp_path: Path) -> None:
    path = tmp_path / "live.lgt"
    options = ("--record", "--guest", "hello", "--clock", "virtual", "--append", "loops=1", "-o")
    terminal = Terminal(tmp_path, *options, str(path), trace=())
    terminal.sees("tick 0/0")
    terminal.send("c")
    terminal.sees("powered off")
    terminal.send("q")
    assert terminal.ended() == 0
    assert str(path).encode() in terminal.raw
    assert verified(path) > 0
