"""^C that comes while something is half done."""

from __future__ import annotations

import signal
import sys
import threading
from types import FrameType, SimpleNamespace

import pytest

from hostvm.engine_stop import guarded
from replay.interruption import handle_interrupts, interrupt, put_off
from tests.hostvm.quiet_world import hello, machine_of


def interrupted(done: list[str], error: type[Exception] | None = None) -> None:
    with put_off():
        signal.raise_signal(signal.SIGINT)
        done.append("the rest")
        if error is not None:
            raise error


def test_it_comes_at_the_end() -> None:
    done: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        interrupted(done)
    assert done == ["the rest"]


def test_it_does_not_hide_an_error() -> None:
    with pytest.raises(KeyboardInterrupt) as raised:
        interrupted([], OSError)
    assert isinstance(raised.value.__context__, OSError)


def test_without_one_nothing_happens_and_the_next_is_as_before() -> None:
    with put_off():
        pass
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_whoever_ignores_it_goes_on_ignoring_it() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with put_off():
            signal.raise_signal(signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_other_threads_have_nothing_to_put_off() -> None:
    seen = []

    def other() -> None:
        with put_off():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert seen == [signal.getsignal(signal.SIGINT)]


def test_where_the_engine_calls_python_it_comes_a_moment_later_and_is_not_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # It may come while a file is being opened, which then closes itself; that is not what is looked for.
    lost: list[type[BaseException] | None] = []
    met: list[str] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda one: lost.append(one.exc_type))

    def make_and_wait() -> None:
        machine_of(hello())
        threading.Event().wait(60)

    def at_the_first_callback(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and frame.f_code.co_name == "wrapper":
            sys.setprofile(None)
            met.append(frame.f_code.co_filename)
            signal.raise_signal(signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        handle_interrupts()
        assert signal.getsignal(signal.SIGINT) is interrupt
        sys.setprofile(at_the_first_callback)
        with pytest.raises(KeyboardInterrupt):
            make_and_wait()
    finally:
        sys.setprofile(None)
        signal.signal(signal.SIGINT, before)
    assert met
    assert KeyboardInterrupt not in lost


def test_a_hook_of_ours_is_known_as_a_place_where_it_would_be_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    began: list[object] = []
    later = SimpleNamespace(start=lambda: began.append("later"))
    monkeypatch.setattr(threading, "Timer", lambda *_: later)

    def hook(_: object) -> None:
        interrupt(signal.SIGINT, sys._getframe())

    guarded(hook)(None)
    assert began == ["later"]


def test_whoever_has_decided_about_it_keeps_that() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        handle_interrupts()
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
