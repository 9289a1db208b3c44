"""Loading modules while Python looks for no garbage."""

from __future__ import annotations

import gc
import subprocess
import sys
from collections.abc import Iterator
from types import ModuleType

import pytest

from replay.loading import loading


@pytest.fixture
def frozen(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What was asked of the collector; nothing is frozen here, where tests leave garbage behind."""
    asked: list[str] = []
    monkeypatch.setattr(gc, "freeze", lambda: asked.append("freeze"))
    yield asked
    gc.enable()


def _load(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    with loading():
        assert not gc.isenabled()
        for number in range(count):
            monkeypatch.setitem(sys.modules, f"made_up_{number}", ModuleType("made_up"))


@pytest.mark.parametrize(("count", "stays"), [(3, []), (300, ["freeze"])])
def test_only_many_modules_are_taken_to_stay(
    monkeypatch: pytest.MonkeyPatch, frozen: list[str], count: int, stays: list[str]
) -> None:
    _load(monkeypatch, count)
    assert frozen == stays
    assert gc.isenabled()


def test_garbage_is_looked_for_again_after_an_error(frozen: list[str]) -> None:
    with pytest.raises(ImportError), loading():
        raise ImportError
    assert gc.isenabled()


def test_whoever_looks_for_no_garbage_goes_on_so(
    monkeypatch: pytest.MonkeyPatch, frozen: list[str]
) -> None:
    gc.disable()
    _load(monkeypatch, 1)
    assert not gc.isenabled()


def test_lgreplay_itself_looks_for_garbage_when_it_is_loaded() -> None:
    program = (
        "import gc, sys; sys.argv[1:] = ['guests']\n"
        "import replay.__main__\n"
        "try:\n    replay.__main__.main()\n"
        "except SystemExit:\n    print(gc.isenabled(), gc.get_freeze_count() > 10_000)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "True True"
