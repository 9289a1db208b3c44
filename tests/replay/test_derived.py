"""Traces made of traces: none gets its name before it was replayed, and whatever goes wrong, nothing else changes."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from hostvm.units import Tick
from replay import cli, derived
from replay.derived import BadOutput
from replay.errors import Divergence, TraceWriteError
from replay.events import Event, RandomChoice
from replay.pack import pack
from replay.trace_file import UNVERIFIED, TraceDerivate
from tests.end_to_end.commands import lgreplay, start
from tests.patience import PATIENCE, wait_until
from tests.replay.recorded import altered, record_hello, verify

BOOT = 3_000_000


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("derived") / "hello.lgt"
    record_hello(path)
    return path


def another_choice(events: list[Event]) -> list[Event]:
    at = next(i for i, e in enumerate(events) if isinstance(e, RandomChoice) and e.bound > 1)
    event = events[at]
    assert isinstance(event, RandomChoice)
    events[at] = replace(event, value=(event.value + 1) % event.bound)
    return events


def test_what_does_not_happen_again_gets_no_name(trace: Path, tmp_path: Path) -> None:
    wrong = altered(trace, tmp_path / "wrong.lgt", another_choice)
    before = wrong.read_bytes()
    with pytest.raises(Divergence):
        pack(wrong, tmp_path / "out.lgt")
    assert [path.name for path in tmp_path.iterdir()] == ["wrong.lgt"]
    assert wrong.read_bytes() == before


def test_what_has_the_name_stays_until_all_is_verified(trace: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.lgt"
    out.write_bytes(b"mine")
    with pytest.raises(BadOutput, match="--force"):
        pack(trace, out)
    wrong = altered(trace, tmp_path / "wrong.lgt", another_choice)
    with pytest.raises(Divergence):
        pack(wrong, out, force=True)
    assert out.read_bytes() == b"mine"
    pack(trace, out, force=True)
    verify(out)


@pytest.mark.parametrize("link", [None, os.link, os.symlink])
def test_the_original_is_never_replaced(
    trace: Path, tmp_path: Path, link: Callable[[Path, Path], None] | None
) -> None:
    name = trace
    if link is not None:
        name = tmp_path / "other-name.lgt"
        link(trace, name)
    before = trace.read_bytes()
    with pytest.raises(BadOutput, match="made of"):
        pack(trace, name, force=True)
    assert trace.read_bytes() == before


def test_somebody_who_takes_the_name_meanwhile_keeps_it(
    trace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out.lgt"
    real = derived._verify
    monkeypatch.setattr(derived, "_verify", lambda *a: (real(*a), out.write_bytes(b"theirs")))
    with pytest.raises(TraceWriteError):
        pack(trace, out)
    assert out.read_bytes() == b"theirs"
    assert [path.name for path in tmp_path.iterdir()] == ["out.lgt"]


def test_a_full_disk_leaves_nothing(
    trace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    append = TraceDerivate.append

    def full(self: TraceDerivate, *parts: bytes) -> None:
        if self.size > 1000:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        append(self, *parts)

    monkeypatch.setattr(TraceDerivate, "append", full)
    with pytest.raises(TraceWriteError, match="No space left"):
        pack(trace, tmp_path / "out.lgt")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["", "no/such/folder/x.lgt", "/proc/x.lgt"])
def test_a_place_where_nothing_can_be_written_is_one_line(
    trace: Path, tmp_path: Path, name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["pack", str(trace), "-o", str(tmp_path / name), "--force"]) == 2
    said = capfd.readouterr().err
    assert said.count("\n") == 1


def test_a_broken_off_command_leaves_no_name_and_the_next_one_works(
    trace: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.lgt"
    waiting = Path(f"{out}{UNVERIFIED}")
    # Whoever is killed leaves a file of that name; here it is made by hand.
    waiting.write_bytes(b"left over")
    assert lgreplay("pack", str(trace), "-o", str(out), folder=tmp_path).code == 0
    assert not waiting.exists()
    verify(out)


def test_control_c_leaves_nothing_half_done(tmp_path: Path) -> None:
    trace = tmp_path / "long.lgt"
    record_hello(trace, max_ticks=BOOT)
    out = tmp_path / "out.lgt"
    process = start("pack", str(trace), "-o", str(out), folder=tmp_path)
    wait_until(lambda: Path(f"{out}{UNVERIFIED}").exists() or process.poll() is not None)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=PATIENCE)
    # It may have been quicker than we, by so little that it still says that it was interrupted.
    assert process.returncode in (0, 130)
    left = {path.name for path in tmp_path.iterdir()} - {"long.lgt"}
    assert left in ({"out.lgt"}, set() if process.returncode else {"out.lgt"})
    if left:
        verify(out)


STEPS = ("open", "fsync", "replace")


@pytest.mark.parametrize("step", STEPS)
def test_control_c_at_any_moment_leaves_nothing_half_done(
    trace: Path, tmp_path: Path, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The signal comes while the system does it: at the next of Python's steps after it, unless put off."""
    owner: object = Path if step == "replace" else os
    does = getattr(owner, step)

    def interrupted(path: object, *more: object) -> object:
        done = does(path, *more)
        if step == "fsync" or str(path).endswith(UNVERIFIED):
            signal.raise_signal(signal.SIGINT)
        return done

    monkeypatch.setattr(owner, step, interrupted)
    with pytest.raises(KeyboardInterrupt):
        pack(trace, tmp_path / "out.lgt")
    left = [path.name for path in tmp_path.iterdir()]
    assert left == (["out.lgt"] if step == "replace" else [])


def test_the_end_of_a_derived_trace_is_where_it_says(trace: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.lgt"
    pack(trace, out)
    assert verify(out).last_tick == verify(trace).last_tick > Tick(0)
