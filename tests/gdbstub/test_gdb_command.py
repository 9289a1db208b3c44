"""`lgreplay gdb`: its ways of serving, and what it refuses."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from gdbstub.server import listen_tcp
from tests.gdbstub.debuggers import found
from tests.gdbstub.dialogue import Client
from tests.patience import PATIENCE
from tests.replay.histories import record_guest

ROOT = Path(__file__).parents[2]
LGREPLAY = (sys.executable, "-m", "replay", "gdb")
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return record_guest(tmp_path_factory.mktemp("gdb") / "hello.lgt", "hello", "loops=1")


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*LGREPLAY, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        env=ENVIRONMENT,
        check=False,
    )


@contextmanager
def serving(arguments: Sequence[str | Path]) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A running server, and what it says first."""
    words = [*LGREPLAY, *map(str, arguments)]
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT) as process:
        assert process.stderr is not None
        try:
            yield process, process.stderr.readline()
        finally:
            process.kill()


def test_it_listens_at_a_free_port_and_ends_by_control_c(path: Path) -> None:
    with serving([path]) as (process, said):
        port = re.search(r"127\.0\.0\.1:(\d+)", said)
        assert port
        gdb = Client(socket.create_connection(("127.0.0.1", int(port[1]))))
        assert gdb.ask(b"qC") == b"QC1"
        gdb.close()
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 0


def test_it_listens_at_a_unix_socket_and_takes_it_away(path: Path, tmp_path: Path) -> None:
    name = tmp_path / "gdb.sock"
    with serving(["--unix", name, path]) as (process, said):
        assert str(name) in said
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(str(name))
        gdb = Client(connection)
        assert gdb.ask(b"qC") == b"QC1"
        gdb.close()
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 0
    assert not name.exists()


def test_a_port_in_use_is_one_line(path: Path) -> None:
    with listen_tcp(0) as taken:
        done = run("--port", str(taken.getsockname()[1]), path)
    assert done.returncode == 2
    assert done.stderr.startswith("lgreplay: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "arguments", [("--port", "1", "--stdio"), ("--launch", "--stdio"), ("--port", "70000")]
)
def test_wrong_usage_is_one_line(path: Path, arguments: Sequence[str]) -> None:
    done = run(*arguments, path)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1


def test_no_trace_is_one_line(tmp_path: Path) -> None:
    done = run("--stdio", tmp_path / "none.lgt")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1


@pytest.mark.needs_gdb
def test_a_gdb_is_started_with_everything_set(path: Path) -> None:
    gdb = next(gdb for gdb in found() if not gdb.home)
    done = run("--launch", "--gdb", f"{gdb.program} -nx -batch", path)
    assert done.returncode == 0
    assert "host_loop ()" in done.stdout


def test_a_gdb_that_does_not_exist_is_one_line(path: Path) -> None:
    done = run("--launch", "--gdb", "/nowhere/gdb", path)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
