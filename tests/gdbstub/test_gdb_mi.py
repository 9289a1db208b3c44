"""gdb as programs drive it, over its machine interface: moves, places, and ^C in the middle of a long way back."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from pygdbmi.gdbcontroller import GdbController

from tests.gdbstub.debuggers import Gdb, found
from tests.gdbstub.fake_target import HISTORY, LONG_HISTORY, WORK, FakeTarget
from tests.gdbstub.served import served
from tests.patience import PATIENCE, wait_until

pytestmark = pytest.mark.needs_gdb


class Driven:
    """A gdb under control, connected to a slow machine."""

    def __init__(self, gdb: Gdb, address: str) -> None:
        where = ["env", f"PYTHONPATH={gdb.home}"] if gdb.home else []
        command = [*where, str(gdb.program), "-nx", "--quiet", "--interpreter=mi3"]
        self._controller = GdbController(command)
        self.ask("-gdb-set mi-async on")
        self.ask(f"-target-select remote {address}", "connected")

    def _until(self, wanted: str, first: list[dict[str, Any]]) -> dict[str, Any]:
        answers, end = first, time.monotonic() + PATIENCE
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


@pytest.fixture(params=found(), ids=str)
def drive(request: pytest.FixtureRequest) -> Iterator[Callable[[FakeTarget], Driven]]:
    with ExitStack() as stack:

        def driven(target: FakeTarget) -> Driven:
            target.programs = {"": b""}
            running = Driven(request.param, stack.enter_context(served(target)))
            stack.callback(running.end)
            return running

        yield driven


def test_an_interrupt_ends_the_way_back_where_it_began(
    drive: Callable[[FakeTarget], Driven],
) -> None:
    target = FakeTarget(LONG_HISTORY, pace=0.02)
    target.tick = LONG_HISTORY // 2
    driven = drive(target)
    driven.ask("-exec-continue --reverse", "running")
    wait_until(lambda: target.moves == 1)
    stopped = driven.ask("-exec-interrupt", "stopped")
    assert stopped["signal-name"] == "SIGINT"
    assert driven.value("$tick") == str(LONG_HISTORY // 2)


def test_moves_end_with_their_reasons(drive: Callable[[FakeTarget], Driven]) -> None:
    target = FakeTarget()
    target.tick = HISTORY // 2
    driven = drive(target)
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
