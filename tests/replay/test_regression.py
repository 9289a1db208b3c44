"""Traces as regression tests: exact where nothing changed, and sharp where something did."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import pytest

from hostvm.errors import ConfigurationError
from hostvm.machine import MachineConfig
from hostvm.memory_map import SWITCHER_BASE
from hostvm.switcher import load_switcher, shipped_image
from replay import cli
from replay.catalogue import find_kernel
from replay.cut import cut
from replay.log import TraceReader
from replay.machine_header import machine_of
from replay.moved_code import MovedCode
from replay.outcomes import Oracle, Verdict
from replay.regression import Change, Player, rerun
from replay.script import WINDOW, BadTest, Script, Start, Way, script_of
from replay.symbols import Named
from tests.replay.recorded import hello, record_hello, verify

TRACES = Path(__file__).parents[2] / "traces"
RACE = TRACES / "iret-race" / "iret-race.lgt"
PASSING = TRACES / "hello" / "hello.lgt"
EFLAGS = TRACES / "iret-eflags" / "iret-eflags.lgt"
STORM = TRACES / "fault-storm" / "fault-storm.lgt"


@pytest.mark.parametrize("path", [RACE, EFLAGS, PASSING], ids=lambda path: path.stem)
def test_with_nothing_changed_the_run_is_the_recorded_one(path: Path) -> None:
    with TraceReader(path) as reader:
        script, config = script_of(reader), machine_of(reader)
        recorded = list(reader.events())
        assert reader.end is not None
        end = reader.end
    played = Player(script, config, config, 0, Oracle(ticks=0), 0).play()
    assert list(played.events) == recorded
    assert (played.end.tick, played.end.digest) == (end.tick, end.digest)
    assert played.by_time == 0
    assert played.came == played.of == len(script.stimuli)


def test_the_kernel_with_its_window_passes_and_those_without_do_not() -> None:
    outcomes = {
        name: rerun(RACE, Change(kernel=find_kernel(name).content), Oracle(ticks=1000))
        for name in ("kestrel", "kestrel-short-window")
    }
    assert [each.fixed for each in outcomes.values()] == [True, False]
    assert [each.same for each in outcomes.values()] == [False, True]
    assert outcomes["kestrel"].changed.by_time == 0


def test_another_switcher_is_used_and_a_file_that_is_none_is_refused() -> None:
    image = files("hostvm").joinpath("guest", "images", "switcher.elf").read_bytes()
    found = rerun(EFLAGS, Change(switcher=image))
    assert found.same
    with pytest.raises(BadTest, match="no Switcher in it"):
        found.save("x.lgt")
    with pytest.raises(ConfigurationError):
        rerun(EFLAGS, Change(switcher=b"no ELF file"))
    with pytest.raises(ConfigurationError):
        rerun(EFLAGS, Change(switcher=find_kernel("hello").content))


def test_a_switcher_that_goes_in_circles_is_stuck() -> None:
    raw = files("hostvm").joinpath("guest", "images", "switcher.elf").read_bytes()
    image = shipped_image("switcher.elf")
    at = raw.index(load_switcher(image).text) + image.address_of("switch_to_guest") - SWITCHER_BASE
    jump_to_itself = b"\xeb\xfe"
    circling = raw[:at] + jump_to_itself + raw[at + 2 :]
    outcome = rerun(EFLAGS, Change(switcher=circling)).changed.outcome
    assert outcome.verdict is Verdict.STUCK
    assert re.fullmatch(r"an interrupt is not taken for [\d,]+ ticks", outcome.text)


def test_an_oracle_makes_a_test_of_a_run_that_ends_well() -> None:
    with pytest.raises(BadTest, match="nothing fails"):
        rerun(PASSING)
    found = rerun(PASSING, oracle=Oracle(ticks=0, panic="."))
    assert found.recorded.outcome.verdict is Verdict.PANIC
    assert found.same


def test_what_cannot_be_run_anew_is_refused(tmp_path: Path) -> None:
    cut(EFLAGS, tmp_path / "x.lgt", start="-10k")
    with pytest.raises(BadTest, match="power-on"):
        rerun(tmp_path / "x.lgt")
    with pytest.raises(BadTest, match="does not fail"):
        rerun(PASSING, oracle=Oracle(ticks=0, panic="never printed"))
    with pytest.raises(BadTest):
        rerun(EFLAGS, oracle=Oracle(panic="("))
    with pytest.raises(BadTest):
        rerun(EFLAGS, oracle=Oracle(holds=("no such thing",)))


# ---- scripts ---------------------------------------------------------------------------------------


def test_a_script_says_where_interrupts_came_in_words_of_the_kernel(tmp_path: Path) -> None:
    path = tmp_path / "x.lgt"
    record_hello(path, config=hello("loops=1 hz=20000"))
    with TraceReader(path) as reader:
        script = script_of(reader)
    ways = {each.way for each in script.stimuli}
    assert Way.GUEST in ways
    spots = [each.spot for each in script.stimuli if each.spot is not None]
    assert any(spot.in_program for spot in spots)
    assert any(spot.named is not None and not spot.in_program for spot in spots)


def test_an_instruction_is_found_again_in_another_build() -> None:
    old, new = find_kernel("kestrel-no-window"), find_kernel("kestrel-2.6.27")
    with TraceReader(RACE) as reader:
        kernel = machine_of(reader).guests[0].kernel
    moved = MovedCode(kernel, new.content)
    # iretd is the last instruction of lguest_iret in every build.
    place = moved.address(0xC01008B6, Named("lguest_iret", 0x11))
    assert place is not None
    assert place != 0xC01008B6
    assert MovedCode(kernel, kernel).address(0xC01008B6, None) == 0xC01008B6
    assert moved.address(0xC01008B6, Named("no_such_function", 1)) is None
    assert moved.address(0xC01008B6, None) is None
    assert MovedCode(old.content, b"a bzImage").address(1, Named("lguest_iret", 0x11)) is None


def often_counted(path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Script, MachineConfig]:
    """The script of a trace where 1,000 beginnings of an instruction are already too many to be counted."""
    monkeypatch.setattr("replay.script.OFTEN", 1_000)
    with TraceReader(path) as reader:
        return script_of(reader), machine_of(reader)


def starts_of(script: Script) -> list[Start]:
    spots = [each.spot for each in script.stimuli if each.spot is not None]
    return [spot.start for spot in spots if spot.start is not None]


def test_where_an_instruction_begins_often_only_the_last_of_it_is_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    script, config = often_counted(PASSING, monkeypatch)
    starts = starts_of(script)
    assert any(start.turned.turns for start in starts)
    assert 0 < len(starts) < len(script.stimuli)
    for each in script.stimuli:
        if each.spot is not None and each.spot.start is not None:
            start = each.spot.start
            assert each.ticks - start.turned.ticks - start.after == WINDOW
            assert each.spot.visits <= WINDOW
    with TraceReader(PASSING) as reader:
        recorded = list(reader.events())
    assert list(Player(script, config, config, 0, Oracle(ticks=0), 0).play().events) == recorded


def test_counting_starts_by_time_where_the_turn_of_the_host_does_not_come(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    script, config = often_counted(PASSING, monkeypatch)
    exact = Player(script, config, config, 0, Oracle(ticks=0), 0).play()
    for number, each in enumerate(script.stimuli):
        if each.spot is not None and each.spot.start is not None:
            start = replace(each.spot.start, turned=replace(each.spot.start.turned, turns=1 << 30))
            script.stimuli[number] = replace(each, spot=replace(each.spot, start=start))
    late = Player(script, config, config, 0, Oracle(ticks=0), 0).play()
    assert late.events != exact.events
    assert late.outcome.kind == exact.outcome.kind
    assert late.by_time < late.came // 2


# ---- the command -----------------------------------------------------------------------------------


def test_the_exit_code_says_whether_it_passed(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    junit, out = tmp_path / "x.xml", tmp_path / "x.lgt"
    words = ["test", str(RACE), "--guest", "kestrel", "--ticks", "1k"]
    assert cli.run([*words, "--junit", str(junit), "-o", str(out)]) == 0
    assert "PASS: it does not fail" in capfd.readouterr().out
    suite = ET.parse(junit).getroot()
    assert (suite.get("tests"), suite.get("failures")) == ("1", "0")
    verify(out)
    words = ["test", str(EFLAGS), "--ticks", "1k"]
    assert cli.run([*words, "--junit", str(junit)]) == 1
    assert "FAIL: it fails as it did" in capfd.readouterr().out
    assert cli.run([*words, "--expect", "same"]) == 0
    assert ET.parse(junit).getroot().find("testcase/failure") is not None


@pytest.mark.parametrize(
    "words",
    [
        ["--guest", "kestrel", "--kernel", "x"],
        ["--kernel", "/no/such/file"],
        ["--switcher", "/no/such/file"],
        ["--quirk", "no-such-bug=correct"],
        ["--panic", "("],
        ["-o", "/no/such/folder/x.lgt", "--guest", "kestrel"],
    ],
)
def test_what_is_no_test_is_one_line(words: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["test", str(EFLAGS), *words, "--ticks", "1"]) == 2
    assert capfd.readouterr().err.count("\n") == 1
