"""The server over real sockets: one debugger at a time, and no way to leave it dead."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from gdbstub.server import Server, StandardStreams, listen_tcp, listen_unix
from tests.gdbstub.dialogue import Client, framed
from tests.gdbstub.fake_target import LONG_HISTORY, WORK, FakeTarget
from tests.patience import PATIENCE, wait_until

SLOW = 0.02


class Served:
    """A server on a thread of its own."""

    def __init__(self, target: FakeTarget, listener: socket.socket | None = None) -> None:
        self.target = target
        self.listener = listener or listen_tcp(0)
        self.server = Server(target, self.listener)
        self.thread = threading.Thread(target=self.server.serve)
        self.thread.start()

    def connect(self, *, offers: bool = True) -> Client:
        if self.listener.family == socket.AF_UNIX:
            connection = socket.socket(socket.AF_UNIX)
            connection.connect(self.listener.getsockname())
        else:
            connection = socket.create_connection(self.listener.getsockname())
        return Client(connection) if offers else Client(connection, offers=None)

    def end(self) -> None:
        self.server.stop()
        self.thread.join(PATIENCE)
        self.listener.close()
        assert not self.thread.is_alive()


@pytest.fixture
def served() -> Iterator[Served]:
    running = Served(FakeTarget())
    yield running
    running.end()


@pytest.fixture
def slow() -> Iterator[Served]:
    running = Served(FakeTarget(LONG_HISTORY, pace=SLOW))
    yield running
    running.end()


def test_a_debugger_is_served(served: Served) -> None:
    gdb = served.connect()
    gdb.ask(b"Z0,%x,1" % WORK)
    assert gdb.ask(b"vCont;c").endswith(b"swbreak:;")
    gdb.close()


def test_a_unix_socket_will_do(tmp_path: Path) -> None:
    path = tmp_path / "gdb"
    for _ in range(2):
        # The second server finds what the first has left behind.
        running = Served(FakeTarget(), listen_unix(path))
        gdb = running.connect()
        assert gdb.ask(b"qC") == b"QC3"
        gdb.close()
        running.end()


def test_a_unix_socket_in_use_is_not_taken_away(tmp_path: Path) -> None:
    path = tmp_path / "gdb"
    running = Served(FakeTarget(), listen_unix(path))
    with pytest.raises(OSError, match="in use"):
        listen_unix(path)
    running.end()


def test_no_file_is_taken_for_a_socket(tmp_path: Path) -> None:
    path = tmp_path / "gdb"
    path.write_text("precious")
    with pytest.raises(OSError, match="in use"):
        listen_unix(path)
    assert path.read_text() == "precious"


@pytest.mark.parametrize("goodbye", [b"D", b"k", b"vKill;1", b""])
def test_after_any_goodbye_the_next_debugger_finds_the_same_place(
    served: Served, goodbye: bytes
) -> None:
    first = served.connect()
    first.ask(b"Z0,%x,1" % WORK)
    first.ask(b"vCont;c")
    tick = served.target.tick
    if goodbye:
        first.send(goodbye)
    first.close()
    second = served.connect()
    assert served.target.tick == tick > 0
    assert second.ask(b"vCont;c").endswith(b"replaylog:end;")
    second.close()


def test_a_second_debugger_is_told_why_it_cannot_come_in(served: Served) -> None:
    first = served.connect()
    second = served.connect(offers=False)
    second.send(b"qSupported:swbreak+")
    assert b"another debugger" in second.receive()
    with pytest.raises(EOFError):
        second.receive()
    second.close()
    assert first.ask(b"qC") == b"QC3"
    first.close()
    third = served.connect()
    assert third.ask(b"qC") == b"QC3"
    third.close()


def test_debuggers_that_come_and_go_quickly_all_get_in(served: Served) -> None:
    for _ in range(50):
        gdb = served.connect()
        assert gdb.ask(b"qC") == b"QC3"
        gdb.close()


@pytest.mark.parametrize("go", [b"vCont;c", b"c", b"bc"])
def test_an_interrupt_ends_a_long_move_where_it_began(slow: Served, go: bytes) -> None:
    slow.target.tick = LONG_HISTORY // 2
    gdb = slow.connect()
    gdb.send(go)
    wait_until(lambda: slow.target.moves == 1)
    gdb.interrupt()
    assert gdb.answer().startswith(b"T02")
    assert slow.target.tick == LONG_HISTORY // 2
    gdb.close()


def test_an_interrupt_in_the_same_breath_as_the_move_is_not_lost(slow: Served) -> None:
    gdb = slow.connect()
    for _ in range(5):
        gdb.connection.sendall(framed(b"vCont;c") + b"\x03")
        assert gdb.answer().startswith(b"T02")
    gdb.close()


def test_an_interrupt_of_nothing_does_not_hit_the_next_move(slow: Served) -> None:
    gdb = slow.connect()
    for _ in range(5):
        gdb.connection.sendall(b"\x03" + framed(b"vCont;s:3;c"))
        assert gdb.answer().startswith(b"T05")
    gdb.close()


def test_a_debugger_that_vanishes_in_a_long_move_leaves_the_seat_to_the_next(slow: Served) -> None:
    gdb = slow.connect()
    gdb.send(b"vCont;c")
    wait_until(lambda: slow.target.moves == 1)
    gdb.close()
    other = slow.connect()
    assert other.ask(b"qC") == b"QC3"
    other.close()


def test_a_long_move_says_how_far_it_is(slow: Served) -> None:
    gdb = slow.connect()
    gdb.send(b"vCont;c")
    said = gdb.receive()
    assert said.startswith(b"O")
    assert bytes.fromhex(said[1:].decode()) == b"at tick 16\n"
    gdb.interrupt()
    assert gdb.answer().startswith(b"T02")
    gdb.close()


def test_a_server_ends_in_the_middle_of_a_long_move(slow: Served) -> None:
    gdb = slow.connect()
    gdb.send(b"vCont;c")
    wait_until(lambda: slow.target.moves == 1)
    slow.end()
    gdb.close()


def test_bytes_may_come_one_by_one(served: Served) -> None:
    gdb = served.connect()
    for byte in framed(b"qC") + framed(b"vCont;s:3;c"):
        gdb.connection.sendall(bytes((byte,)))
    assert gdb.receive() == b"QC3"
    assert gdb.receive().startswith(b"T05")
    gdb.close()


def test_whatever_is_said_the_next_debugger_is_served(served: Served) -> None:
    for noise in (b"", b"$", b"$g#00", b"\x00\xff" * 5000, b"+++---", framed(b"Z0,zz,1"), b"$" * 9):
        connection = socket.create_connection(served.listener.getsockname())
        connection.sendall(noise)
        connection.close()
    gdb = served.connect()
    assert gdb.ask(b"qC") == b"QC3"
    gdb.close()


def test_standard_streams_will_do_too() -> None:
    program = (
        "from gdbstub.server import Server, StandardStreams\n"
        "from tests.gdbstub.fake_target import FakeTarget\n"
        "Server(FakeTarget(), connection=StandardStreams()).serve()\n"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", program],
        input=framed(b"qC") + framed(b"k"),
        capture_output=True,
        timeout=PATIENCE,
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
        check=True,
    )
    assert done.stdout.startswith(b"+$QC3#")
    assert done.stderr == b""


def test_a_connection_is_what_the_server_needs() -> None:
    assert StandardStreams().fileno() == 0
