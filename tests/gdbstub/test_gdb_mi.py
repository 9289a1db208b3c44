"""gdb as programs drive it, over its machine interface: moves, places, and ^C in the middle of a long way back."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from pygdbmi.gdbcontroller import GdbController

from gdbstub.server import Server, listen_tcp
from tests.gdbstub.debuggers import Gdb, found
from tests.gdbstub.fake_target import HISTORY, WORK, FakeTarget

pytestmark = pytest.mark.needs_gdb
SECONDS = 20.0


class Driven:
    """A gdb under control, connected to a slow machine."""

    def __init__(self, gdb: Gdb, target: FakeTarget) -> None:
        self.target = target
        self._listener = listen_tcp(0)
        self._server = Server(target, self._listener)
        self._thread = threading.Thread(target=self._server.serve)
        self._thread.start()
        if gdb.home:
            os.environ["PYTHONPATH"] = str(gdb.home)
        command = [str(gdb.program), "-nx", "--quiet", "--interpreter=mi3"]
        self._controller = GdbController(command)
        os.environ.pop("PYTHONPATH", None)
        self.ask("-gdb-set mi-async on")
        self.ask(f"-target-select remote 127.0.0.1:{self._listener.getsockname()[1]}", "connected")

    def _until(self, wanted: str, first: list[dict[str, Any]]) -> dict[str, Any]:
        answers, end = first, time.monotonic() + SECONDS
        while True:
            for answer in answers:
                assert answer["message"] != "error", answer
                if answer["message"] == wanted:
                    payload = answer["payload"]
                    return payload if isinstance(payload, dict) else {}
            assert time.monotonic() < end, f"gdb did not say {wanted}"
            answers = self._controller.get_gdb_response(
                timeout_sec=0.1, raise_error_on_timeout=False
            )

    def ask(self, command: str, wanted: str = "done") -> dict[str, Any]:
        """Give a command and wait for an answer."""
        return self._until(
            wanted, self._controller.write(command, timeout_sec=0.1, raise_error_on_timeout=False)
        )

    def value(self, expression: str) -> str:
        return str(self.ask(f'-data-evaluate-expression "{expression}"')["value"])

    def end(self) -> None:
        self._controller.exit()
        self._server.stop()
        self._thread.join()
        self._listener.close()


@pytest.fixture(params=found(), ids=str)
def driven(request: pytest.FixtureRequest) -> Iterator[Driven]:
    target = FakeTarget(pace=0.02)
    target.programs = {"": b""}
    target.tick = HISTORY // 2
    running = Driven(request.param, target)
    yield running
    running.end()


def test_an_interrupt_ends_the_way_back_where_it_began(driven: Driven) -> None:
    driven.ask("-exec-continue --reverse", "running")
    time.sleep(0.3)
    begin = time.monotonic()
    stopped = driven.ask("-exec-interrupt", "stopped")
    assert stopped["signal-name"] == "SIGINT"
    assert time.monotonic() - begin < 1.0
    assert driven.value("$tick") == str(HISTORY // 2)


def test_moves_end_with_their_reasons(driven: Driven) -> None:
    driven.ask(f"-break-insert *{WORK:#x}")
    stopped = driven.ask("-exec-continue --reverse", "stopped")
    assert stopped["reason"] == "breakpoint-hit"
    tick = driven.value("$tick")
    driven.ask("-exec-step-instruction", "stopped")
    driven.ask("-exec-step-instruction --reverse", "stopped")
    assert driven.value("$tick") == tick
    driven.ask("-break-delete")
    # gdb 13 gives no reason here.
    stopped = driven.ask("-exec-continue --reverse", "stopped")
    assert stopped.get("reason", "no-history") == "no-history"
    assert driven.value("$tick") == "0"
