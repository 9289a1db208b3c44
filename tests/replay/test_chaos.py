"""Chaos while recording, and many tries: the same seed makes the same trace, and what fails is found and kept."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from hostvm.units import Tick
from replay import cli
from replay.chaos import LONGEST_MOOD, SHORTEST_MOOD, ChaosWorld, Mood, drawn_between
from replay.commands.tries import without_ours
from replay.draws import Draws
from replay.events import HostInterrupt, HostTurnInterrupt
from replay.exit_codes import ExitCode
from replay.log import TraceReader
from replay.session import Session
from tests.patience import PATIENCE, wait_until

GUEST = ["--guest", "kestrel-no-window", "--append", "hz=4000 -- 8"]
SHORT = [*GUEST, "--max-ticks", "600k", "--quiet"]
Capture = pytest.CaptureFixture[str]


def recorded(path: Path, *options: str) -> Path:
    assert cli.run(["record", *SHORT, *options, "-o", str(path)]) == ExitCode.OK
    return path


def ticks_of_interrupts(path: Path) -> list[int]:
    with TraceReader(path) as reader:
        taken = (HostInterrupt, HostTurnInterrupt)
        return [event.tick for event in reader.events() if isinstance(event, taken)]


def test_the_same_seed_makes_the_same_trace_and_another_one_another(tmp_path: Path) -> None:
    one, again, other = (
        recorded(tmp_path / f"{number}.lgt", f"--chaos={seed}")
        for number, seed in enumerate((7, 7, 8))
    )
    with TraceReader(one) as a, TraceReader(again) as b, TraceReader(other) as c:
        assert list(a.events()) == list(b.events())
        assert list(a.events()) != list(c.events())
        assert (a.header.clock, a.header.seed) == ("chaos", 7)


def test_a_trace_of_chaos_replays(tmp_path: Path) -> None:
    with TraceReader(recorded(tmp_path / "x.lgt", "--chaos=3")) as reader:
        assert list(Session(reader).verify())


def test_interrupts_come_closer_together_than_otherwise_or_seldom(tmp_path: Path) -> None:
    plain = ticks_of_interrupts(recorded(tmp_path / "plain.lgt", "--clock", "virtual"))
    usual = [later - earlier for earlier, later in pairwise(plain)]
    counts: list[int] = []
    gaps: list[int] = []
    for seed in range(4):
        found = ticks_of_interrupts(recorded(tmp_path / f"{seed}.lgt", f"--chaos={seed}"))
        gaps += [later - earlier for earlier, later in pairwise(found)]
        counts.append(len(found))
    assert min(gaps) < min(usual) // 4
    assert min(counts) < len(plain) < max(counts)


def test_without_a_seed_one_is_drawn(tmp_path: Path) -> None:
    with TraceReader(recorded(tmp_path / "x.lgt", "--chaos")) as reader:
        assert reader.header.clock == "chaos"
        assert reader.header.seed >= 0


def test_moods_are_those_of_the_tick_however_often_one_asks() -> None:
    asked, seldom = ChaosWorld(5), ChaosWorld(5)
    moods: list[Mood] = []
    for tick in range(0, 4 * LONGEST_MOOD, SHORTEST_MOOD // 2):
        asked.horizon(Tick(tick))
        if not tick % (4 * SHORTEST_MOOD):
            seldom.horizon(Tick(tick))
            moods.append(seldom._mood)
            assert asked._mood is seldom._mood
    assert len(set(moods)) > 1


def test_small_numbers_are_drawn_as_often_as_large_ones() -> None:
    draws = Draws(1)
    found = [drawn_between(draws, 64, 8192) for _ in range(2000)]
    assert min(found) >= 64
    assert max(found) < 8192
    assert 500 < sum(number < 64 * 11 for number in found) < 1500


def test_tries_end_with_a_failure_whose_command_line_makes_it_again(
    tmp_path: Path, capfd: Capture
) -> None:
    path, again = tmp_path / "found.lgt", tmp_path / "again.lgt"
    command = ["record", *GUEST, "--chaos=0", "--tries", "30", "--until-failure"]
    assert cli.run([*command, "-o", str(path)]) == ExitCode.OK
    assert "of 30 fails, seed" in capfd.readouterr().err
    assert [each.name for each in tmp_path.iterdir()] == ["found.lgt"]
    with TraceReader(path) as reader:
        line = list(reader.header.command_line)
        events = list(reader.events())
    assert "--tries" not in line
    line[line.index("-o") + 1] = str(again)
    assert cli.run(line[1:]) == ExitCode.OK
    with TraceReader(again) as reader:
        assert list(reader.events()) == events


def test_what_the_guest_prints_counts_if_asked_and_otherwise_nothing_is_kept(
    tmp_path: Path, capfd: Capture
) -> None:
    path = tmp_path / "found.lgt"
    command = ["record", *SHORT, "--clock", "virtual", "--tries", "2", "--until-failure"]
    assert cli.run([*command, "-o", str(path)]) == ExitCode.OK
    assert "none of 2 tries failed" in capfd.readouterr().err
    assert not list(tmp_path.iterdir())
    assert cli.run([*command, "--panic", "ring 1", "-o", str(path)]) == ExitCode.OK
    assert "try 1 of 2 fails, seed 0: ring 1" in capfd.readouterr().err


def test_after_ctrl_c_nothing_is_left_behind(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "replay", "record", *SHORT, "--chaos=1"]
    command += ["--tries", "9999", "--until-failure", "-o", str(tmp_path / "x.lgt")]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as child:
        wait_until(lambda: bool(list(tmp_path.glob(".tries-*/*"))))
        os.kill(child.pid, signal.SIGINT)
        _, err = child.communicate(timeout=PATIENCE)
    assert child.returncode == ExitCode.INTERRUPTED
    assert err == b"lgreplay: interrupted\n"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--chaos=much"], "not a seed"),
        (["--tries", "3"], "--until-failure"),
        (["--until-failure"], "go with --tries"),
        (["--panic", "x"], "go with --tries"),
        (["--tries", "0", "--until-failure"], "0"),
        (["--tries", "2", "--until-failure", "--panic", "("], "--panic"),
        (["--tries", "2", "--until-failure", "--guest", "nobody"], "neither a shipped guest"),
        (["--tries", "2", "--until-failure", "-o", "missing/x.lgt"], "missing"),
        (["--tries", "2", "--until-failure", "-i"], "do not go together"),
        (["--chaos=1", "-i"], "host's clock"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(
    options: list[str], said: str, tmp_path: Path, capfd: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.run(["record", *options]) == ExitCode.REFUSED
    err = capfd.readouterr().err
    assert said in err
    assert err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_each_try_gets_the_command_without_what_is_its_own() -> None:
    line = "record --tries 9 -ox.lgt --output=y -o z --until-failure --chaos=4 --rng --seed 3"
    kept = list(without_ours([*line.split(), "--init", "p", "--", "-o", "k"]))
    assert kept == ["--rng", "--init", "p", "--", "-o", "k"]
