"""A debugger and a screen on one position: either moves, the other follows."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gdbstub.agent import parse_expression
from gdbstub.commands import Point, PointKind
from gdbstub.gdb_command import _shared
from gdbstub.live_session import live_session
from gdbstub.shared_target import SharedTarget
from hostvm.edits import Edit, Target
from hostvm.units import Tick
from replay.following import FollowingTimeline
from replay.histories import Sheet
from replay.log import TraceReader
from replay.shared_position import (
    Hello,
    PositionClient,
    PositionServer,
    SharedStop,
    SharingError,
    Standing,
    decode,
    decode_hello,
    encode,
    encode_hello,
)
from replay.timeline import Timeline
from tests.gdbstub.dialogue import Client, Dialogue
from tests.patience import PATIENCE, wait_until
from tests.tui.moments import fatal
from tests.tui.sitting import RACE, Sitting
from tests.tui.test_live import verified, wish
from tui.attached import Attachment
from tui.values import Point as ScreenPoint

ROOT = Path(__file__).parents[2]


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Dialogue, SharedTarget, Path]]:
    path = tmp_path / "shared"
    with Timeline(TraceReader(RACE)) as timeline:
        hello = Hello(str(RACE), timeline.reader.trace_id.hex(), Standing(timeline.tick))
        with PositionServer(path, hello) as server:
            target = SharedTarget(timeline, server, path)
            yield Dialogue(target), target, path
    assert not path.exists()


def test_gdb_drives_and_the_screen_follows_and_the_other_way_round(
    served: tuple[Dialogue, SharedTarget, Path],
) -> None:
    gdb, target, path = served

    async def session() -> None:
        attachment = Attachment(PositionClient(path))
        async with Sitting(RACE, 100, 30, attachment=attachment) as user:
            for _ in range(3):
                gdb.ask(b"vCont;s")
                await user.until(lambda: user.tick == target.timeline.tick > 0)
            gdb.ask(b"bs")
            await user.until(lambda: user.tick == target.timeline.tick)
            here = user.tick

            await user.press(":")
            await user.type("seek 5000")
            await user.until(lambda: bool(gdb.ask(b"g")) and target.timeline.tick == 5000)
            gdb.ask(b"vCont;s")
            assert target.timeline.tick == 5000, "the arrival is announced, and nothing moves"
            gdb.ask(b"vCont;s")
            assert target.timeline.tick > 5000
            await user.until(lambda: user.tick == target.timeline.tick)
            assert user.tick != here

    asyncio.run(session())


def test_the_screen_goes_on_alone_when_the_debugger_has_gone(tmp_path: Path) -> None:
    path = tmp_path / "shared"
    server = PositionServer(path, Hello(str(RACE), "00", Standing(7)))

    async def session() -> None:
        attachment = Attachment(PositionClient(path))
        async with Sitting(RACE, 100, 30, attachment=attachment) as user:
            await user.until(lambda: user.tick == 7)
            server.tell(Standing(9, None))
            await user.until(lambda: "too large" in user.message)
            assert user.tick == 7
            server.close()
            await user.until(lambda: "goes on alone" in user.message)
            await user.press("i")
            assert user.tick == 8

    asyncio.run(session())


def test_a_branch_that_gdb_opens_is_the_screens_too_and_the_other_way_round(
    served: tuple[Dialogue, SharedTarget, Path],
) -> None:
    gdb, target, path = served

    async def session() -> None:
        attachment = Attachment(PositionClient(path))
        async with Sitting(RACE, 120, 40, attachment=attachment) as user:
            target.monitor(f"seek {fatal()}")
            await user.until(lambda: user.tick == fatal())
            target.write_register(2, 0, (5).to_bytes(4, "little"))
            await user.until(lambda: "[branch at" in user.lines[0])
            await user.settled()
            assert user.tui.shot is not None
            assert user.tui.shot.cpu.regs[0] == 5
            target.monitor("branch leave")
            await user.until(lambda: "[branch at" not in user.lines[0])
            await user.settled()
            await user.press(":")
            await user.type("set $ebx = 7")
            await user.press("s", "s")
            await user.until(
                lambda: (
                    (target.read_registers(target.current_thread())[3] or b"")[:1] == b"\x07"
                    and target.timeline.tick == user.tick
                )
            )
            assert "branch at tick" in target.monitor("branch")
            await user.press(":")
            await user.type("branch leave")
            await user.until(lambda: "branch at tick" not in target.monitor("branch"))
            assert gdb.ask(b"vCont;s"), "the arrival is announced"
            assert target.timeline.tick == user.tick == fatal()

    asyncio.run(session())


def points(user: Sitting) -> tuple[ScreenPoint, ...]:
    return () if user.tui.shot is None else user.tui.shot.points


def test_stops_are_listed_at_both_sides_and_hold_at_both(
    served: tuple[Dialogue, SharedTarget, Path],
) -> None:
    gdb, target, path = served

    async def session() -> None:
        attachment = Attachment(PositionClient(path))
        async with Sitting(RACE, 120, 40, attachment=attachment) as user:
            await user.press(":")
            await user.type("break lguest_iret")
            await user.until(lambda: "break lguest_iret (screen)" in target.monitor("catch"))
            gdb.ask(b"vCont;c")
            iret = target.timeline.address("lguest_iret")
            assert target.timeline.machine.cpu.eip == iret
            await user.until(lambda: user.tick == target.timeline.tick)
            target.monitor("catch delivered 0")
            point = Point(PointKind.SOFTWARE, target.timeline.address("first_process"), 1)
            number = target.add_point(point, ())
            true = parse_expression(bytes.fromhex("220127"))
            conditional = target.add_point(Point(PointKind.WRITE, 0xC0109000, 4), (true,))
            gdb.ask(b"bc")
            target.remove_point(number)
            target.remove_point(conditional)
            # What a page says is not written anew.
            told = {"catch delivered 0", f"break {point.address:#x}", "watch 0xc0109000,4"}
            await user.until(lambda: told <= {each.text for each in points(user)})
            await user.press(":")
            await user.type("info b")
            assert "catch delivered 0  (gdb)" in user.text
            await user.press("escape", ":")
            await user.type("info b")
            assert f"break {point.address:#x}  (gdb)" in user.text
            assert "watch 0xc0109000,4  (gdb, with a condition that only it knows)" in user.text
            await user.press("escape", "c")
            assert "stop" in user.message
            theirs = next(point for point in points(user) if point.whose)
            await user.press(":")
            await user.type(f"delete {theirs.number}")
            assert "debugger's" in user.message
            await user.press(":")
            await user.type("delete")
            await user.until(lambda: "(screen)" not in target.monitor("catch"))
            assert user.tui.kept().stops == ()

    asyncio.run(session())


def test_the_screen_follows_a_guest_that_gdb_records(tmp_path: Path) -> None:
    path, place = tmp_path / "live.lgt", tmp_path / "shared"

    async def session(target: SharedTarget) -> None:
        client = PositionClient(place)
        opened = FollowingTimeline(TraceReader(client.hello.trace))
        gdb = Dialogue(target)
        async with Sitting(opened, 120, 40, attachment=Attachment(client)) as user:
            for tick in (20_000, 20_001, 60_000, 30_000, 150_000):
                target.timeline.go(tick)
                target.monitor("when")
                await user.until(lambda: user.tick == target.timeline.tick)
                await user.settled()
                assert user.timeline.machine.digest() == target.timeline.machine.digest()
            target.write_memory(2, target.timeline.address("esp"), b"\x11\x22\x33\x44")
            gdb.ask(b"vCont;s")
            await user.until(lambda: user.tick == target.timeline.tick)
            await user.settled()
            assert user.timeline.machine.digest() == target.timeline.machine.digest()
            assert "[branch" not in user.lines[0], "in the present a write is an event"
            await user.press("S", "S", "c")
            assert user.tick == target.timeline.tick, "the screen goes as far as gdb has been"
            await user.press(":")
            await user.type("seek 20000")
            await user.until(
                lambda: bool(target.read_registers(1)) and target.timeline.tick == 20_000
            )

    options = wish(path)
    with ExitStack() as stack:
        make = partial(_shared, where=place, stack=stack)
        target = stack.enter_context(live_session(options, (), make, typing=False))
        assert isinstance(target, SharedTarget)
        asyncio.run(session(target))
    assert verified(path) >= 150_000


def test_only_the_last_wish_counts_and_only_once(tmp_path: Path) -> None:
    path = tmp_path / "shared"
    with PositionServer(path, Hello("x", "00", Standing(0))) as server:
        client = PositionClient(path)
        assert client.hello == Hello("x", "00", Standing(0))
        for tick in (1, 2, 3):
            client.ask(Standing(tick))
        wait_until(lambda: server.wanted() == Standing(3))
        assert server.wanted() is None
        server.tell(Standing(12))
        assert client.next() == Standing(12)
        client.close()


@given(st.binary(max_size=200))
def test_whatever_is_no_line_of_ours_is_refused(line: bytes) -> None:
    for read in (decode, decode_hello):
        try:
            read(line)
        except ValueError:
            continue
        assert isinstance(json.loads(line), dict)


_NUMBERS = st.integers(0, 1 << 60)
_EDITS = st.builds(Edit, _NUMBERS, _NUMBERS, _NUMBERS, st.binary(max_size=20))
_SHEETS = st.lists(st.builds(Sheet, _NUMBERS, st.lists(_EDITS, max_size=3).map(tuple)), max_size=3)
_WORDS = st.text(st.characters(codec="ascii", min_codepoint=32, max_codepoint=126))
_STANDINGS = st.builds(
    Standing,
    _NUMBERS,
    st.none() | _SHEETS.map(tuple),
    st.lists(st.builds(SharedStop, _WORDS, st.booleans()), max_size=3).map(tuple),
    st.none() | _NUMBERS,
    _NUMBERS,
)


@given(_STANDINGS, st.text(), st.text())
def test_lines_come_back_as_they_were(standing: Standing, trace: str, name: str) -> None:
    assert decode(encode(standing)) == standing
    hello = Hello(trace, name, standing)
    assert decode_hello(encode_hello(hello)) == hello


def test_a_branch_too_large_to_be_told_is_only_mentioned() -> None:
    edit = Edit(0, Target.LINEAR, 0, bytes(1 << 19))
    standing = Standing(5, (Sheet(Tick(3), (edit,)),), (SharedStop("break 0"),))
    assert decode(encode(standing)) == Standing(5, None)


def test_rubbish_ends_the_connection_and_not_the_server(tmp_path: Path) -> None:
    path = tmp_path / "shared"
    with PositionServer(path, Hello("x", "00", Standing(0))) as server:
        rude = socket.socket(socket.AF_UNIX)
        rude.connect(str(path))
        rude.recv(1000)
        rude.settimeout(PATIENCE)
        with suppress(ConnectionResetError, BrokenPipeError):
            rude.sendall(b"x" * (1 << 19))
            assert rude.recv(1000) == b""
        client = PositionClient(path)
        client.ask(Standing(5))
        wait_until(lambda: server.wanted() == Standing(5))
        client.close()
        rude.close()


def test_the_socket_of_a_server_that_was_killed_is_taken_over_and_that_of_a_living_one_is_not(
    tmp_path: Path,
) -> None:
    path = tmp_path / "shared"
    with socket.socket(socket.AF_UNIX) as abandoned:
        abandoned.bind(str(path))
    hello = Hello("x", "00", Standing(0))
    with PositionServer(path, hello):
        PositionClient(path).close()
        with pytest.raises(SharingError, match="in use"):
            PositionServer(path, hello)
        PositionClient(path).close()
    with pytest.raises(SharingError):
        PositionServer(tmp_path / "no" / "folder", hello)


def test_a_socket_at_which_nobody_is_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(SharingError) as refused:
        PositionClient(tmp_path / "none")
    assert "\n" not in str(refused.value)


def test_a_server_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other"
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()

    def answer() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.sendall(b"HTTP/1.1 400 no\n")

    answering = threading.Thread(target=answer)
    answering.start()
    with pytest.raises(SharingError, match="no lgreplay"):
        PositionClient(path)
    answering.join()
    listener.close()


def test_the_command_shares_its_position(tmp_path: Path) -> None:
    shared, gdb = tmp_path / "shared", tmp_path / "gdb"
    command = [sys.executable, "-m", "replay", "gdb", str(RACE)]
    options = ["--unix", str(gdb), "--tui-socket", str(shared)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [*command, *options], stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stderr is not None
        assert str(gdb) in process.stderr.readline()
        client = PositionClient(shared)
        assert client.hello.trace == str(RACE.resolve())
        client.close()
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(gdb))
            debugger = Client(connection)
            assert debugger.ask(b"qC") == b"QC1"
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 0
    assert not shared.exists()
