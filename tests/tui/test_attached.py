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
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gdbstub.shared_target import SharedTarget
from replay.log import TraceReader
from replay.shared_position import (
    Hello,
    PositionClient,
    PositionServer,
    SharingError,
    Standing,
    decode,
    decode_hello,
    encode,
    encode_hello,
)
from replay.timeline import Timeline
from tests.gdbstub.dialogue import Client, Dialogue
from tests.tui.sitting import RACE, Sitting
from tui.attached import Attachment

ROOT = Path(__file__).parents[2]


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Dialogue, SharedTarget, Path]]:
    path = tmp_path / "shared"
    with Timeline(TraceReader(RACE)) as timeline:
        hello = Hello(str(RACE), timeline.reader.trace_id.hex(), Standing(timeline.tick))
        with PositionServer(path, hello) as server:
            target = SharedTarget(timeline, server)
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
            await asyncio.sleep(0.1)
            before = gdb.ask(b"g")
            assert target.timeline.tick == 5000
            assert before != []
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
            server.tell(Standing(9, branch=True))
            await user.until(lambda: "branch" in user.message)
            assert user.tick == 7
            server.close()
            await user.until(lambda: "goes on alone" in user.message)
            await user.press("i")
            assert user.tick == 8

    asyncio.run(session())


def test_only_the_last_wish_counts_and_only_once(tmp_path: Path) -> None:
    path = tmp_path / "shared"
    with PositionServer(path, Hello("x", "00", Standing(0))) as server:
        client = PositionClient(path)
        assert client.hello == Hello("x", "00", Standing(0))
        for tick in (1, 2, 3):
            client.ask(tick)
        wanted = None
        while wanted != 3:
            wanted = server.wanted() or wanted
            time.sleep(0.01)
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


@given(st.integers(0, 1 << 60), st.booleans(), st.text(), st.text())
def test_lines_come_back_as_they_were(tick: int, branch: bool, trace: str, name: str) -> None:
    standing = Standing(tick, branch)
    assert decode(encode(standing)) == standing
    hello = Hello(trace, name, standing)
    assert decode_hello(encode_hello(hello)) == hello


def test_rubbish_ends_the_connection_and_not_the_server(tmp_path: Path) -> None:
    path = tmp_path / "shared"
    with PositionServer(path, Hello("x", "00", Standing(0))) as server:
        rude = socket.socket(socket.AF_UNIX)
        rude.connect(str(path))
        rude.recv(1000)
        rude.sendall(b"x" * 100_000)
        rude.settimeout(10)
        with suppress(ConnectionResetError):
            assert rude.recv(1000) == b""
        client = PositionClient(path)
        client.ask(5)
        while server.wanted() != 5:
            time.sleep(0.01)
        client.close()
        rude.close()


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
        assert process.wait(20) == 0
    assert not shared.exists()
