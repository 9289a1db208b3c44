"""A guest on the screen while it is being recorded: it runs on when it is let, and its past can be visited."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from replay.commands.plan import Wish
from replay.events import DeviceCompletion
from replay.log import TraceReader
from replay.session import Session
from tests.tui.sitting import RACE, Sitting
from tests.tui.test_terminal import Terminal
from tui.live import Live, recorded


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

    with recorded(wish(path), ("tui", "--record")) as live:
        timeline = live.timeline
        asyncio.run(session())
        end = timeline.end_tick
    assert verified(path) == end


def test_leaving_early_leaves_a_whole_trace_of_what_was_seen(tmp_path: Path) -> None:
    path = tmp_path / "live.lgt"

    async def session() -> None:
        async with Sitting(timeline, 100, 30) as user:
            await user.press(*["e"] * 5)

    with recorded(wish(path), ()) as live:
        timeline = live.timeline
        asyncio.run(session())
        assert 0 < timeline.end_tick < 200_000
        end = timeline.end_tick
    assert verified(path) == end


def test_what_is_typed_to_the_guest_is_in_the_trace_and_keys_are_the_screens_again_after_that(
    tmp_path: Path,
) -> None:
    path = tmp_path / "live.lgt"
    asked = wish(path, guests=("kestrel",), clock="host", command_line="init=echo")

    def console(user: Sitting) -> str:
        return "" if user.tui.shot is None else user.tui.shot.console.decode()

    async def session(live: Live) -> None:
        async with Sitting(live.timeline, 120, 40, typing=live.typing) as user:
            user.send("!")
            await user.until(lambda: "type something" in console(user))
            assert "Keys go to the guest" in user.text
            user.send("hq:")
            user.send("enter")
            await user.until(lambda: "hq:\n" in console(user))
            user.send("\x1d")
            await user.until(lambda: not user.tui.guest_keys.taken)
            assert user.tui.engine.busy, "the guest runs on"
            await user.press("c-c", "E")
            assert not user.left
            assert "/" in user.lines[0]
            user.send("!")
            await user.until(lambda: user.tui.guest_keys.taken)
            user.send("c-c")
            await user.until(lambda: not user.tui.guest_keys.taken and user.tui.idle)

    with recorded(asked, ()) as live:
        asyncio.run(session(live))
    with TraceReader(path) as reader:
        typed = [e.data for e in reader.events() if isinstance(e, DeviceCompletion)]
    assert b"".join(typed).startswith(b"hq:\n")
    assert verified(path) > 0


def test_where_nothing_can_be_typed_it_is_said_why(tmp_path: Path) -> None:
    async def session(live: Live | None) -> None:
        trace = RACE if live is None else live.timeline
        typing = None if live is None else live.typing
        async with Sitting(trace, 100, 30, typing=typing) as user:
            await user.press("!")
            assert ("--record" if live is None else "host's clock") in user.message
            assert not user.tui.guest_keys.taken

    asyncio.run(session(None))
    with recorded(wish(tmp_path / "live.lgt"), ()) as live:
        asyncio.run(session(live))


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
