"""Sweeps: what becomes of interrupts at all places, whoever makes the runs, and in whatever order."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from hostvm.observations import IrqDelivered
from hostvm.units import Tick
from replay import sweep_places
from replay.log import TraceReader
from replay.outcomes import Oracle, Outcome, Reception, Verdict, classes
from replay.rows import BadJournal
from replay.session import Session
from replay.stops import EventStop, Happening
from replay.sweep import Sweep
from replay.sweep_crew import Crew, Journal, sweep, units_of
from replay.sweep_plan import BadSweep, Plan
from replay.sweep_report import Report, squeezed
from tests.replay.sweeps import PASSING, Made, sweeps

TRACES = Path(__file__).parents[2] / "traces"
FIXED = TRACES / "iret-race" / "fixed.lgt"
RACE = Tick(302_511)
SHORT = Plan(oracle=Oracle(ticks=2_000))
KILLING = Plan(oracle=Oracle(ticks=20_000))


Judged = Callable[[Oracle], Outcome]


@pytest.fixture(scope="module")
def made() -> Iterator[Made]:
    with sweeps() as make:
        yield make


@pytest.fixture(scope="module")
def visits(made: Made) -> list[Tick]:
    return sweep_places.visits(made(SHORT), "lguest_iret", 0, 295_000, 340_000)


@pytest.fixture(scope="module")
def short(made: Made, visits: list[Tick]) -> list[Outcome]:
    return list(made(SHORT).outcomes(visits))


def test_the_race_is_found_in_a_recording_in_which_nothing_went_wrong(
    made: Made, visits: list[Tick]
) -> None:
    found = list(made(KILLING).outcomes([tick for tick in visits if abs(tick - RACE) < 20]))
    failed = [outcome for outcome in found if outcome.verdict.failed]
    assert [outcome.tick for outcome in failed] == [RACE, RACE + 1]
    assert {outcome.verdict for outcome in failed} == {Verdict.CRASHED}
    assert "page fault in the kernel" in failed[0].text


def test_the_kernel_with_a_window_comes_out_clean(made: Made) -> None:
    twin = made(replace(KILLING, force=True), FIXED)
    found = list(twin.outcomes(sweep_places.visits(twin, "lguest_iret", 0, 295_000, 310_000)))
    assert sum(outcome.reception is Reception.HELD for outcome in found) > 5
    assert not [outcome for outcome in found if outcome.verdict.failed]


def test_places_where_lguest_would_hold_it_back_are_passed_over_unless_forced(
    made: Made,
    short: list[Outcome],
) -> None:
    held = [o for o in short if o.reception is Reception.HELD]
    assert held
    assert all(o.verdict is Verdict.SKIPPED for o in held)
    forced = next(made(replace(SHORT, force=True)).outcomes([held[-1].tick]))
    assert forced.verdict is not Verdict.SKIPPED
    assert forced.delivered is None or forced.delivered > held[-1].tick


def test_an_interrupt_is_delivered_soon_after_a_place_where_it_can_be(short: list[Outcome]) -> None:
    tried = [o for o in short if o.reception is Reception.DELIVERED]
    assert tried
    assert all(o.delivered is not None and 0 < o.delivered - o.tick < 100 for o in tried)


def test_the_order_of_the_runs_does_not_matter(
    made: Made, visits: list[Tick], short: list[Outcome]
) -> None:
    back = list(made(SHORT).outcomes(reversed(visits)))
    assert sorted(back, key=lambda outcome: outcome.tick) == short


def test_processes_find_the_same(visits: list[Tick], short: list[Outcome]) -> None:
    found = sweep(PASSING, SHORT, visits, workers=2)
    assert sorted(found, key=lambda outcome: outcome.tick) == short


def test_a_worker_that_dies_costs_no_result(visits: list[Tick], short: list[Outcome]) -> None:
    found: list[Outcome] = []
    with Crew(PASSING, SHORT, 2) as crew:
        for results in crew.results(units_of(visits)):
            if not found:
                crew.workers[0].send_signal(signal.SIGKILL)
            found.extend(results)
    assert sorted(found, key=lambda outcome: outcome.tick) == short


def test_when_all_workers_die_it_says_so(visits: list[Tick]) -> None:
    with Crew(PASSING, SHORT, 1) as crew:
        found = crew.results(units_of(visits) * 1000)
        next(found)
        crew.workers[0].send_signal(signal.SIGKILL)
        with pytest.raises(BadSweep, match="died"):
            list(found)


def test_an_outcome_is_a_trace_that_replays_to_the_same_end(made: Made, tmp_path: Path) -> None:
    its = made(KILLING)
    outcome = next(its.outcomes([RACE]))
    path = tmp_path / "killed.lgt"
    its.branch_of(outcome).save(path)
    with TraceReader(path) as reader:
        session = Session(reader)
        for _ in session.verify():
            pass
        assert session.machine.tick == outcome.end
        assert session.machine.guests[0].lguest.ended is not None
        assert reader.header.branch_tick == RACE


class TestOracle:
    @pytest.fixture
    def judge(self, made: Made) -> Judged:
        return lambda oracle: next(made(Plan(oracle=oracle)).outcomes([RACE]))

    def test_ticks_used_up_is_passing(self, judge: Judged) -> None:
        found = judge(Oracle(ticks=500))
        assert (found.verdict, found.end) == (Verdict.PASSED, RACE + 500)

    def test_what_the_guest_prints_counts(self, judge: Judged) -> None:
        found = judge(Oracle(ticks=20_000, panic="(?i)page fault"))
        assert found.verdict is Verdict.PANIC
        assert "fault" in found.text

    def test_an_assertion_ends_a_run_where_it_is_false(self, judge: Judged) -> None:
        found = judge(Oracle(ticks=2_000, holds=("not in_switcher or eip < 0xffffffff",)))
        assert found.verdict is Verdict.PASSED
        found = judge(Oracle(ticks=2_000, holds=("irq_enabled",)))
        assert found.verdict is Verdict.ASSERTION
        assert found.delivered is not None
        assert found.end < RACE + 200

    def test_a_condition_ends_a_run_where_it_is_true(self, judge: Judged) -> None:
        found = judge(Oracle(ticks=2_000, until=("in_switcher",)))
        assert (found.verdict, found.end) == (Verdict.MET, RACE + 1)

    def test_memory_is_compared_with_a_run_without_the_interrupt(self, judge: Judged) -> None:
        same = judge(Oracle(ticks=500, region=(0xC0100000, 64)))
        assert same.verdict is Verdict.PASSED
        other = judge(Oracle(ticks=500, region=(0xC0109000, 4096)))
        assert other.verdict is Verdict.DIFFERS

    def test_a_judge_names_a_class_of_its_own(self) -> None:
        with TraceReader(PASSING) as reader:
            its = Sweep(reader, SHORT, lambda look: f"in {look.world.value}")
            assert next(its.outcomes([RACE])).kind.startswith("met: in ")


def test_a_device_interrupts_where_nothing_was_waited_for(made: Made) -> None:
    found = next(made(replace(SHORT, irqs=(9,))).outcomes([RACE]))
    assert found.reception in (Reception.HELD, Reception.DELIVERED)
    forced = next(made(replace(SHORT, irqs=(9,), force=True)).outcomes([RACE]))
    assert forced.verdict is Verdict.PASSED


class TestJournal:
    def journal(self, path: Path, plan: Plan = SHORT) -> Journal:
        return Journal(path, b"id", plan)

    def test_it_is_taken_up_where_it_ends_and_a_torn_line_is_made_again(
        self, tmp_path: Path, visits: list[Tick], short: list[Outcome]
    ) -> None:
        path = tmp_path / "journal"
        kept = self.journal(path)
        for outcome in short[:-3]:
            kept.put((outcome,))
        kept.close()
        path.write_bytes(path.read_bytes()[:-9])
        kept = self.journal(path)
        assert kept.done == short[:-4]
        new = list(sweep(PASSING, SHORT, visits, workers=1, journal=kept))
        kept.close()
        assert sorted(new, key=lambda outcome: outcome.tick) == short
        kept = self.journal(path)
        assert sorted(kept.done, key=lambda outcome: outcome.tick) == short
        kept.close()

    def test_that_of_another_sweep_is_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "journal"
        self.journal(path).close()
        before = path.read_bytes()
        with pytest.raises(BadJournal, match="another"):
            self.journal(path, KILLING)
        assert path.read_bytes() == before

    @pytest.mark.parametrize("junk", [b"hello\n", b"{}\n[]\n", b"\xff\n", b"[1]\n"])
    def test_what_is_none_is_refused(self, tmp_path: Path, junk: bytes) -> None:
        path = tmp_path / "journal"
        path.write_bytes(junk)
        with pytest.raises(BadJournal):
            self.journal(path)


@pytest.mark.parametrize(
    "plan",
    [
        Plan(guest=3),
        Plan(irqs=(99,)),
        Plan(oracle=Oracle(panic="(")),
        Plan(oracle=Oracle(holds=("nonsense ==",))),
        Plan(oracle=Oracle(until=("no_such_symbol",))),
    ],
)
def test_a_plan_that_means_nothing_is_refused(made: Made, plan: Plan) -> None:
    with pytest.raises(BadSweep):
        made(plan)


def test_a_worker_says_what_is_wrong(tmp_path: Path) -> None:
    gone = tmp_path / "gone.lgt"
    with pytest.raises(BadSweep, match="gone"):
        list(sweep(gone, SHORT, [Tick(1)], workers=1))


def test_places_around_events_are_the_ticks_near_them(made: Made) -> None:
    its = made(SHORT)
    near = sweep_places.around(its, EventStop(Happening.DELIVERED, 0), 2)
    with TraceReader(PASSING) as reader:
        raised = [
            event.tick
            for event in reader.events()
            if isinstance(event, IrqDelivered) and not event.irq
        ]
    assert near == sorted({Tick(t + d) for t in raised for d in range(-2, 3)})


def test_units_hold_every_tick_once_and_are_small() -> None:
    ticks = [Tick(t) for t in (*range(100), 5_000, 5_001, 90_000)]
    units = units_of(ticks)
    assert sorted(tick for unit in units for tick in unit) == ticks
    assert max(map(len, units)) <= 32


def outcome(tick: int, verdict: Verdict, text: str = "", eip: int = 0xC0100000) -> Outcome:
    return Outcome(
        Tick(tick), eip, Reception.DELIVERED, verdict, text, Tick(tick + 5), code=b"\x90"
    )


class TestReport:
    @pytest.fixture
    def report(self) -> Iterator[Report]:
        found = [
            outcome(1, Verdict.KILLED, "bad address 0x12345678"),
            outcome(2, Verdict.KILLED, "bad address 0xffffffff"),
            outcome(3, Verdict.PASSED),
            outcome(4, Verdict.CRASHED, "<b>\x1b[31m", 0xC0100001),
        ]
        with TraceReader(PASSING) as reader:
            yield Report(found, SHORT, Sweep(reader, SHORT).symbols)

    def test_runs_that_differ_in_an_address_are_of_one_class(self, report: Report) -> None:
        assert [len(found.outcomes) for found in report.classes] == [2, 1, 1]

    def test_the_strip_has_a_mark_for_each_visit(self, report: Report) -> None:
        assert [row.marks for row in report.rows(60)] == ["AA.", "B"]
        assert [row.text for row in report.rows(60)] == ["nop", "nop"]

    def test_nothing_in_it_steers_a_terminal_or_a_browser(self, report: Report) -> None:
        assert all(line.isprintable() for line in (*report.table(), *report.strip(60)))
        page = report.html("<i>")
        assert "\x1b" not in page
        assert "<i>" not in page
        assert "&lt;b&gt;" in page

    def test_where_there_is_too_little_room_a_failure_wins(self) -> None:
        assert squeezed("...A......", 5) == ".A..."
        assert squeezed("-.", 1) == "."


def test_outcomes_and_plans_survive_json() -> None:
    one = replace(outcome(7, Verdict.KILLED, "x"), delivered=Tick(9))
    assert Outcome.from_json(json.loads(json.dumps(one.to_json()))) == one
    plan = Plan((1, 3), 0, 5, force=True, oracle=Oracle(9, "p", ("a",), ("b",), (1, 2)))
    assert Plan.from_json(json.loads(json.dumps(plan.to_json()))) == plan
    assert [c.kind for c in classes([one])] == ["killed: x"]


@pytest.mark.parametrize(
    ("said", "its_class"),
    [
        ("bad read address 0xffffffc8 len 4", "bad read address * len 4"),
        ("unhandled trap 256 at 0xc01027dd (0x0)", "unhandled trap 256 at * (*)"),
        ("unhandled trap -1 at 0x1", "unhandled trap -1 at *"),
        ("[    1.234567] BUG: 17 left, pid 1,234", "BUG: * left, pid *"),
        ("EIP: [<c0101234>] lguest_iret+0x10/0x12", "EIP: [<*>] lguest_iret+0x10/0x12"),
        ("EIP at c0101234, after 22.5 s", "EIP at c0101234, after * s"),
        ("irq 5: nobody cared (try 3)", "irq 5: nobody cared (try *)"),
    ],
)
def test_a_class_keeps_the_numbers_that_say_which_bug_it_is(said: str, its_class: str) -> None:
    assert outcome(7, Verdict.PANIC, said).kind == f"panic: {its_class}"


def test_what_was_asked_for_is_not_mixed_with_what_else_was() -> None:
    asked = (outcome(tick, Verdict.MET, f"eax == {tick}") for tick in (1, 2))
    assert len(classes(asked)) == 2
