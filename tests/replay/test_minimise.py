"""Minimising: what is left out, what is kept, and that the result still fails."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hostvm.units import Tick
from replay import cli
from replay.attempts import Attempt, Attempts, Step
from replay.events import HostInterrupt, HostTurnInterrupt
from replay.exit_codes import ExitCode
from replay.log import TraceReader
from replay.minimise import Minimiser
from replay.outcomes import Oracle, Verdict
from replay.session import Session
from replay.sweep_plan import BadSweep, Plan
from replay.sweep_world import Background
from tests.patience import PATIENCE, wait_until

TRACES = Path(__file__).parents[2] / "traces"
RACE = TRACES / "iret-race" / "iret-race.lgt"
STRUCK = 1_357_114
Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def made() -> Iterator[Attempts]:
    with TraceReader(RACE) as reader:
        its = Attempts(reader, Plan(oracle=Oracle(ticks=100_000)))
        its.find_failure()
        yield its


def interrupts(path: Path) -> list[int]:
    with TraceReader(path) as reader:
        assert list(Session(reader).verify())
        taken = [e for e in reader.events() if isinstance(e, HostInterrupt | HostTurnInterrupt)]
        return [event.eip if isinstance(event, HostInterrupt) else 0 for event in taken]


def test_one_interrupt_is_enough_for_the_race(tmp_path: Path, capfd: Capture) -> None:
    path = tmp_path / "minimal.lgt"
    assert cli.run(["minimise", str(RACE), "-o", str(path)]) == ExitCode.OK
    said = capfd.readouterr().out
    assert "1 of 44 interrupts, and nothing else comes" in said
    assert "before c01008b6 lguest_iret+0x11: iretd" in said
    assert f"it was at tick {STRUCK}" in said
    assert interrupts(path) == [0xC01008B6]


def test_keeping_all_of_them_is_the_history(made: Attempts) -> None:
    whole = made.attempt(Background.SILENT, len(made.inputs))
    assert made.fails(whole)
    assert whole.outcome.end == made.failed_at + 1


def test_with_none_of_them_it_passes(made: Attempts) -> None:
    none = made.attempt(Background.SILENT, 0)
    assert none.outcome.verdict is Verdict.PASSED
    assert none.outcome.delivered is None


def test_the_shortest_beginning_that_fails_ends_with_the_critical_one(made: Attempts) -> None:
    struck = next(at for at, each in enumerate(made.inputs) if each.tick == STRUCK)
    assert made.fails(made.attempt(Background.PUNCTUAL, struck + 1))
    assert not made.fails(made.attempt(Background.PUNCTUAL, struck))


def test_what_is_kept_comes_at_the_instruction_where_it_was(made: Attempts) -> None:
    last = len(made.inputs) - 1
    attempt = made.attempt(Background.SILENT, last - 1, [Step(last)])
    if attempt.ticks:
        branch = made.branch_with(attempt)
        branch.go(attempt.ticks[0])
        assert branch.machine.cpu.eip == made.inputs[last].eip
        assert branch.machine.cpu.check() == made.inputs[last].check


def test_delta_debugging_drops_what_is_not_needed(
    made: Attempts, monkeypatch: pytest.MonkeyPatch
) -> None:
    search = Minimiser(made)
    wanted = {3, 7}
    tried: list[set[int]] = []

    def fails(_: Background, whole: int, steps: list[Step]) -> bool:
        tried.append({*range(whole), *(step.input for step in steps)})
        return wanted <= tried[-1]

    monkeypatch.setattr(search, "_fails", fails)
    search._ddmin(Background.SILENT, 20)
    assert min((kept for kept in tried if wanted <= kept), key=len) == {3, 7, 19}


def test_what_is_found_by_its_lateness_is_minimised_too(tmp_path: Path, capfd: Capture) -> None:
    trace = TRACES / "sti-and-zero" / "sti-and-zero.lgt"
    path = tmp_path / "minimal.lgt"
    command = ["minimise", str(trace), "--late", "5k", "-o", str(path)]
    assert cli.run(command) == ExitCode.OK
    assert "late: irq 0 waits for more than 5,000 ticks" in capfd.readouterr().out
    assert len(interrupts(path)) < 6


def test_what_is_found_at_a_delivery_is_minimised_too(tmp_path: Path, capfd: Capture) -> None:
    path = tmp_path / "minimal.lgt"
    oracle = ["--delivered", "irq_enabled & 0x200", "--ticks", "50k"]
    command = ["minimise", str(TRACES / "iret-eflags" / "iret-eflags.lgt"), *oracle]
    assert cli.run([*command, "-o", str(path)]) == ExitCode.OK
    found = capfd.readouterr().out
    assert found.startswith("assertion: irq 0 delivered, and not irq_enabled & 0x200, at tick 15")
    assert len(interrupts(path)) == 1
    # The kernel that is mended has interrupts on, whenever one is delivered.
    fixed = ["minimise", str(TRACES / "iret-eflags" / "fixed.lgt"), *oracle]
    assert cli.run([*fixed, "-o", str(tmp_path / "none.lgt")]) == ExitCode.REFUSED
    assert "the trace does not fail" in capfd.readouterr().err


@pytest.mark.parametrize("trace", ["iret-race/passing", "hello/hello"])
def test_a_trace_that_ends_well_is_refused(trace: str, tmp_path: Path, capfd: Capture) -> None:
    path = tmp_path / "minimal.lgt"
    command = ["minimise", str(TRACES / f"{trace}.lgt"), "-o", str(path)]
    assert cli.run(command) == ExitCode.REFUSED
    assert capfd.readouterr().err == "lgreplay: the trace does not fail: nothing to look for\n"
    assert not path.exists()


def test_it_says_so_when_the_failure_does_not_come_again(made: Attempts) -> None:
    search = Minimiser(made)

    class Mended(Attempts):
        def fails(self, attempt: Attempt) -> bool:
            return False

    with TraceReader(RACE) as reader:
        its = Mended(reader, made.plan)
        its.find_failure()
        with pytest.raises(BadSweep, match="does not fail again with all 44 interrupts kept"):
            Minimiser(its).run()
    assert search.best is None


def test_after_ctrl_c_the_best_so_far_is_written_and_the_journal_is_gone_on_from(
    tmp_path: Path,
) -> None:
    journal, path = tmp_path / "journal", tmp_path / "minimal.lgt"
    command = [sys.executable, "-m", "replay", "minimise", str(RACE), "-o", str(path)]
    command += ["--journal", str(journal)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        wait_until(lambda: journal.exists() and journal.read_bytes().count(b"\n") >= 9)
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=PATIENCE)
    # On a busy computer it may have been done before it was told.
    assert child.returncode in {ExitCode.INTERRUPTED, ExitCode.OK}
    if child.returncode:
        assert err == b"lgreplay: interrupted\n"
    assert b"critical" in out
    assert interrupts(path)
    before = journal.read_bytes().splitlines()
    again = subprocess.run(command, capture_output=True, check=True)
    assert b"1 of 44 interrupts" in again.stdout
    after = journal.read_bytes().splitlines()
    # The last row may have been torn off.
    assert after[: len(before) - 1] == before[:-1]
    assert len(set(after)) == len(after)


def test_the_journal_of_another_trace_is_refused(tmp_path: Path, capfd: Capture) -> None:
    journal = tmp_path / "journal"
    journal.write_text('{"minimise": 1}\n')
    command = ["minimise", str(RACE), "--journal", str(journal), "-o", str(tmp_path / "x.lgt")]
    assert cli.run(command) == ExitCode.REFUSED
    assert "the journal of another search" in capfd.readouterr().err


def test_attempts_survive_json(made: Attempts) -> None:
    one = made.attempt(Background.SILENT, 40, [Step(41, Tick(1_400_000))])
    assert Attempt.from_json(json.loads(json.dumps(one.to_json()))) == one
