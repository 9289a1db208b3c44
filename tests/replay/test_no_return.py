"""The tick of no return: the interrupt that hit the wrong place, and the edges of where it can be found."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from hostvm.units import Tick
from replay import cli
from replay.events import HostInterrupt
from replay.exit_codes import ExitCode
from replay.log import TraceReader
from replay.no_return import find_no_return
from replay.outcomes import Oracle, Verdict
from replay.sweep import Sweep
from replay.sweep_plan import BadSweep, NoFailure, Plan

TRACES = Path(__file__).parents[2] / "traces"
RACE = TRACES / "iret-race"
STRUCK = Tick(1_357_114)


@pytest.fixture
def made() -> Iterator[Sweep]:
    with TraceReader(RACE / "iret-race.lgt") as reader:
        yield Sweep(reader, Plan(oracle=Oracle(ticks=150_000)))


def test_it_is_the_interrupt_between_two_instructions(made: Sweep) -> None:
    found = find_no_return(made, 2, 1_340_000)
    assert found.tick == STRUCK
    assert any(isinstance(event, HostInterrupt) for event in found.events)
    assert [outcome.verdict for outcome in found.before] == [Verdict.PASSED] * 2
    assert [outcome.verdict for outcome in found.behind] == [Verdict.KILLED] * 2
    assert made.tick == STRUCK


def test_where_everything_fails_already_there_is_none(made: Sweep) -> None:
    with pytest.raises(BadSweep, match=f"all runs from tick {STRUCK + 1} on fail"):
        find_no_return(made, 1, STRUCK + 1)


def test_where_nothing_fails_there_is_none(made: Sweep) -> None:
    with pytest.raises(BadSweep, match="not all runs"):
        find_no_return(made, 1, 1_340_000, 1_341_000)


def test_a_history_that_ends_well_has_nothing_to_look_for() -> None:
    with TraceReader(RACE / "passing.lgt") as reader, pytest.raises(NoFailure):
        find_no_return(Sweep(reader, Plan(oracle=Oracle(ticks=1_000))), 2)


def test_a_continuation_leaves_the_history_as_it_was(made: Sweep) -> None:
    made.go(STRUCK)
    before = made.machine.digest()
    made.continuation(STRUCK, 3)
    assert made.tick == STRUCK
    assert made.machine.digest() == before


# Of each trace, the interrupt that its README.md tells of.
@pytest.mark.parametrize(
    ("trace", "option", "value", "tick", "words"),
    [
        ("sti-and-zero", "--late", "2k", 188_144, "irq 0 waits for more than 2,000 ticks"),
        ("more-always-true", "--calls", "SEND_INTERRUPTS:10", 79_536, "more than 10 times"),
        ("iret-eflags", "--delivered", "irq_enabled & 0x200", 156_675, "irq 0 delivered, and not"),
    ],
)
def test_what_history_has_shown_by_then_counts(
    trace: str, option: str, value: str, tick: int, words: str, capfd: pytest.CaptureFixture[str]
) -> None:
    path = TRACES / trace / f"{trace}.lgt"
    command = ["bisect", str(path), "--ticks", "50k", option, value]
    assert cli.run(command) == ExitCode.OK
    first, *_, before, behind = capfd.readouterr().out.splitlines()
    assert first.startswith(f"no return behind the step at tick {tick}, an interrupt taken before")
    assert "passed" in before
    assert behind.startswith("runs from a tick later: 8 ")
    assert words in behind
