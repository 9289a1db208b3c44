"""The benchmark's own arithmetic, and that its Guests do what they are measured for. Nothing here asks how fast."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from itertools import count

import pytest

from hostvm.cpu import Exit, ExitKind
from hostvm.launcher import GuestConfig
from hostvm.native import VARIABLE
from hostvm.observations import Hypercall
from hostvm.units import Tick
from hostvm.x86 import PAGE_SHIFT
from tests.bench.__main__ import FIGURES, main
from tests.bench.compute import instructions_to_the_end
from tests.bench.figures import Aim, Figure, Measured, Result, alternate, as_json, summary, table
from tests.bench.programs import (
    COMPUTE,
    COMPUTE_AND_STOP,
    ENTRY,
    HYPERCALL_SETUP_TICKS,
    HYPERCALLS,
    TABLE,
    guest,
)
from tests.bench.rates import (
    Boot,
    Rate,
    demand_zero,
    direct_traps,
    disk_requests,
    hypercalls,
    page_faults,
)
from tests.bench.ways import in_python
from tests.bench.workloads import BUSY, CALM, hello
from tests.hostvm.bare_machine import BareMachine
from tests.hostvm.quiet_world import machine_of


def result(value: float, aim: Aim) -> Result:
    return Result(
        Figure("speed", "x", aim, lambda _: summary([value])), Measured(value, 1, 9, "why")
    )


@pytest.mark.parametrize(
    ("value", "aim", "met"),
    [
        (1.1, Aim(1.1), True),
        (1.11, Aim(1.1), False),
        (0.85, Aim(0.85, at_least=True), True),
        (0.84, Aim(0.85, at_least=True), False),
    ],
)
def test_an_aim_is_met_up_to_its_limit(value: float, aim: Aim, met: bool) -> None:
    assert result(value, aim).met is met
    assert ("MISS" in table([result(value, aim)])) is not met
    assert json.loads(as_json([result(value, aim)]))[0]["met"] is met


def test_the_value_is_the_median_of_the_rounds() -> None:
    assert summary([5.0, 1.0, 2.0]) == Measured(2.0, 1.0, 5.0)


def test_two_things_take_turns_in_going_first_and_the_first_time_does_not_count() -> None:
    clock = count()
    order: list[tuple[str, int]] = []

    def thing(name: str) -> float:
        order.append((name, next(clock)))
        return float(order[-1][1])

    times = alternate(lambda: thing("one"), lambda: thing("other"), 2)
    assert [name for name, _ in order] == ["one", "other", "one", "other", "other", "one"]
    assert times == [(2.0, 3.0), (5.0, 4.0)]


def test_what_has_no_aim_misses_none() -> None:
    figure = Figure("rate", "/s", None, lambda _: summary([12345.0]))
    shown = Result(figure, summary([12345.0]))
    assert shown.met
    assert "12,345 /s" in table([shown])
    assert json.loads(as_json([shown]))[0]["aim"] == ""


def test_every_figure_has_a_name_of_its_own() -> None:
    assert len({figure.name for figure in FIGURES}) == len(FIGURES)


@pytest.mark.parametrize(("strict", "code"), [([], 0), (["--strict"], 1)])
def test_a_missed_aim_is_an_error_only_when_asked_for(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    strict: list[str],
    code: int,
) -> None:
    figures = (result(2, Aim(1)).figure, result(2, Aim(3)).figure)
    monkeypatch.setattr("tests.bench.__main__.FIGURES", figures)
    assert main(strict) == code
    assert capsys.readouterr().out.count("MISS") == 1


def test_the_computing_guest_computes_and_goes_on() -> None:
    machine, world = machine_of(guest(COMPUTE), digest_interval=1 << 40)
    machine.run(Tick(100_000))
    assert world.observations == []
    table_now = machine.memory.read(machine.guests[0].base + TABLE, 4 * 4096)
    assert table_now.count(0) < 8192


def test_the_calling_guest_does_nothing_but_hypercalls() -> None:
    machine, world = machine_of(guest(HYPERCALLS), digest_interval=1 << 40)
    machine.run(Tick(HYPERCALL_SETUP_TICKS))
    world.host_turns.clear()
    world.observations.clear()
    machine.run(Tick(HYPERCALL_SETUP_TICKS + 10_000))
    assert {type(o) for o in world.observations} == {Hypercall}
    assert len(world.observations) == len(world.host_turns) > 100


@pytest.mark.parametrize("kernel", [hello(CALM), hello(BUSY)])
def test_the_runs_measured_are_ordinary_ones(kernel: GuestConfig) -> None:
    machine, world = machine_of(kernel)
    machine.run(Tick(300_000))
    assert b"hello: command line" in world.console


@pytest.mark.parametrize(
    "make", [hypercalls, page_faults, demand_zero, direct_traps, disk_requests]
)
def test_a_guest_whose_rate_is_measured_does_that_and_little_else(
    make: Callable[[], Rate],
) -> None:
    rate = make()
    for _ in range(2):
        rate.work()
        assert rate.number >= rate.ticks // 6000


def test_the_program_that_maps_gets_zeros_and_one_fault_for_each_page() -> None:
    rate = demand_zero()
    rate.work()
    guest = rate.machine.guests[0].lguest
    assert guest.ended is None
    assert 1000 < rate.ticks / rate.number < 2500


def test_the_plain_engine_carries_out_as_many_instructions_as_it_is_credited_with() -> None:
    bare = BareMachine(size=1 << 21)
    for page in range(TABLE >> PAGE_SHIFT, (TABLE >> PAGE_SHIFT) + 4):
        bare.map(page)
    bare.memory.write(ENTRY, COMPUTE_AND_STOP)
    bare.start(0)
    bare.cpu.call_host(ENTRY, 0, 0)
    done = bare.cpu.run(1 << 30)
    assert done == Exit(instructions_to_the_end(), ExitKind.HALT)


def test_a_figure_in_python_is_measured_without_the_compiled_part(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    seen: list[str | None] = []

    def measure(_rounds: int) -> Measured:
        seen.append(os.environ.get(VARIABLE))
        return summary([1.0])

    figure = in_python(Figure("speed", "", Aim(1), measure))
    figure.measure(1)
    assert (figure.name, figure.aim, seen) == ("speed, in Python", None, ["0"])
    assert VARIABLE not in os.environ


def test_a_boot_that_is_measured_comes_to_its_end() -> None:
    boot = Boot("kestrel")
    boot.run()
    assert boot.ticks > 1_000_000
