"""Sweeps with several interrupts, pairs, moved ones and other Worlds; and upstream's bugs, found by what they do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from hostvm.observations import IrqDelivered
from hostvm.units import Tick
from replay import cli
from replay.events import HostInterrupt
from replay.exit_codes import ExitCode
from replay.outcomes import Oracle, Reception, Verdict
from replay.sweep_crew import sweep
from replay.sweep_plan import BadSweep, Plan
from replay.sweep_world import Background
from tests.replay.sweeps import PASSING, Made, sweeps

TRACES = Path(__file__).parents[2] / "traces"
TAKEN = Tick(321_012)
BUSY = Tick(318_000)
SHORT = Oracle(ticks=3_000)
Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def made() -> Iterator[Made]:
    with sweeps() as make:
        yield make


def test_several_interrupts_come_at_the_same_tick(made: Made) -> None:
    its = made(Plan(irqs=(0, 9), oracle=SHORT, force=True))
    branch = its.branch_of(next(its.outcomes([BUSY])))
    own = list(branch.frontier.store.own_events())
    taken = [(event.tick, event.vector) for event in own if isinstance(event, HostInterrupt)]
    assert taken[0] == (BUSY, 0x20)
    assert any(isinstance(event, IrqDelivered) and event.irq == 0 for event in own)


def test_pairs_are_runs_of_their_own_for_each_distance(made: Made) -> None:
    its = made(Plan(oracle=SHORT, pairs=90))
    found = list(its.outcomes([BUSY]))
    assert [outcome.gap for outcome in found] == list(range(1, 91))
    second = its.branch_of(found[-1]).frontier.store.own_events()
    taken = [event.tick for event in second if isinstance(event, HostInterrupt)]
    assert taken[:2] == [BUSY, BUSY + 90]


def test_pairs_are_the_same_from_processes(made: Made) -> None:
    plan = Plan(oracle=SHORT, pairs=4)
    ticks = [BUSY, Tick(BUSY + 7)]
    assert sorted(sweep(PASSING, plan, ticks, workers=2), key=lambda o: (o.tick, o.gap)) == list(
        made(plan).outcomes(ticks)
    )


@pytest.mark.parametrize("distance", [-40, 0, 400])
def test_an_interrupt_of_the_trace_comes_earlier_or_later(made: Made, distance: int) -> None:
    its = made(Plan(oracle=SHORT, move=TAKEN, force=True))
    place = Tick(TAKEN + distance)
    outcome = next(its.outcomes([place]))
    assert outcome.reception is not Reception.UNSET
    branch = its.branch_of(outcome)
    taken = [e.tick for e in branch.frontier.store.own_events() if isinstance(e, HostInterrupt)]
    # Where the CPU is deaf it comes as soon as it is not.
    assert 0 <= taken[0] - place < 200
    assert branch.end_tick == outcome.end


def test_only_a_hardware_interrupt_can_be_moved(made: Made, capfd: Capture) -> None:
    with pytest.raises(BadSweep, match="no hardware interrupt"):
        made(Plan(move=Tick(TAKEN + 1)))
    for where, said in (("7", "no hardware interrupt"), ("@nowhere", "no bookmark"), ("x", "x")):
        assert cli.run(["sweep", str(PASSING), "--move", where]) == ExitCode.REFUSED
        err = capfd.readouterr().err
        assert said in err
        assert err.count("\n") == 1


def test_in_a_silent_world_only_what_is_placed_comes(made: Made) -> None:
    its = made(Plan(oracle=Oracle(ticks=100_000), background=Background.SILENT))
    branch = its.branch_of(next(its.outcomes([BUSY])))
    own = branch.frontier.store.own_events()
    assert [e.tick for e in own if isinstance(e, HostInterrupt)] == [BUSY]


def test_a_sample_is_spread_over_all_places(capfd: Capture) -> None:
    command = ["sweep", str(PASSING), "--window", "317k..320k", "--sample", "3", "--ticks", "1k"]
    assert cli.run(command) == ExitCode.OK
    assert "at 3 of 3 places" in capfd.readouterr().out


def test_the_storm_is_found_in_a_recording_in_which_nothing_went_wrong(capfd: Capture) -> None:
    trace = TRACES / "fault-storm" / "passing.lgt"
    where = ["--window", "990k..1010k", "--sample", "8", "--first"]
    options = [*where, "--ticks", "2500k", "--world", "punctual", "--workers", "1"]
    assert cli.run(["sweep", str(trace), *options]) == ExitCode.OK
    assert "crashed: page fault storm" in capfd.readouterr().out


def kinds(made: Made, name: str, plan: Plan, first: int, last: int, step: int) -> set[str]:
    ticks = map(Tick, range(first, last, step))
    found = made(plan, TRACES / f"{name}.lgt").outcomes(ticks)
    return {outcome.kind for outcome in found if outcome.verdict is not Verdict.SKIPPED}


class TestUpstreamsBugs:
    def test_behind_a_sti_that_never_asks_an_interrupt_waits(self, made: Made) -> None:
        plan = Plan(force=True, oracle=Oracle(ticks=3_000, late=2_000))
        late = "late: irq 0 waits for more than 2,000 ticks"
        assert late in kinds(made, "sti-and-zero/passing", plan, 200_044, 200_060, 4)
        assert kinds(made, "sti-and-zero/fixed", plan, 200_584, 200_600, 4) == {"passed"}

    def test_where_more_is_always_true_each_restore_calls(self, made: Made) -> None:
        plan = Plan(oracle=Oracle(ticks=50_000, calls=(("send_interrupts", 10),)))
        calls = {"calls: more than 10 times SEND_INTERRUPTS"}
        window = (100_000, 200_000, 20_000)
        assert kinds(made, "more-always-true/more-always-true", plan, *window) == calls
        assert kinds(made, "more-always-true/fixed", plan, *window) == {"passed"}

    def test_behind_an_iret_that_stores_all_flags_lguest_interrupts_whom_it_must_not(
        self, made: Made
    ) -> None:
        plan = Plan(force=True, oracle=Oracle(ticks=1_000, delivered=("irq_enabled & 0x200",)))
        window = (100_000, 120_000, 50)
        found = kinds(made, "iret-eflags/passing", plan, *window)
        assert any(kind.startswith("assertion: irq 0 delivered, and not") for kind in found)
        assert kinds(made, "iret-eflags/fixed", plan, *window) == {"passed"}
        assert kinds(made, "iret-eflags/fixed-host", plan, *window) == {"passed"}

    def test_a_hypercall_that_there_is_not_is_refused(self, made: Made) -> None:
        with pytest.raises(BadSweep, match="no hypercall nonsense"):
            made(Plan(oracle=Oracle(calls=(("nonsense", 1),))))
