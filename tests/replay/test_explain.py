"""Explanations: each fact in them is one that the trace's README found by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from replay import cli
from replay.exit_codes import ExitCode
from replay.locations import Register
from replay.origin import chain
from replay.timeline import open_timeline

TRACES = Path(__file__).parents[2] / "traces"
RACE = TRACES / "iret-race" / "iret-race.lgt"
Capture = pytest.CaptureFixture[str]


def explained(capfd: Capture, *arguments: str) -> str:
    assert cli.run(["explain", *arguments]) == ExitCode.OK
    return " ".join(capfd.readouterr().out.split())


def as_json(capfd: Capture, *arguments: str) -> Any:
    assert cli.run(["explain", "--json", *arguments]) == ExitCode.OK
    return json.loads(capfd.readouterr().out)


def test_the_race_is_told_from_the_interrupt_to_the_death(capfd: Capture) -> None:
    said = explained(capfd, str(RACE), "--runs", "2")
    facts = (
        "killed by its Host at tick 1467686: bad read address 0xffffffc8 len 4",
        "no return is at tick 1357114, c01008b6 lguest_iret+0x11: iretd",
        "That step takes a hardware interrupt",
        "interrupts on (irq_enabled 0x200)",
        "the noirq window is empty",
        "lguest interrupted it at tick 1357154",
        "At tick 1357202 c0100a90 trap: push ebp put bfffff48 over c0245000 at c0147ce4",
        "hypercall NEW_PGTABLE(0xffffff48",
        "110,572 ticks",
    )
    assert [fact for fact in facts if fact not in said] == []
    places = [said.index(fact) for fact in facts]
    assert places == sorted(places)


def test_a_cause_that_is_long_gone_is_found(capfd: Capture) -> None:
    trace = TRACES / "fault-storm" / "fault-storm.lgt"
    found = as_json(capfd, str(trace), "--runs", "2")
    assert found["text"] == "page fault storm: 08048ca0 wants 0804d000"
    wrote = found["overwrote"]
    assert (wrote["tick"], wrote["where"]) == (2_388_931, "ring_alarms+0x2a")
    assert (wrote["address"], wrote["old"], wrote["new"]) == (0xC0246134, "00237065", "00237061")
    assert found["interrupt"]["tick"] == 2_388_659
    assert found["interrupt"]["delivered"] == 2_388_699


def test_an_interrupt_of_a_kernel_that_has_them_off_is_called_that(capfd: Capture) -> None:
    trace = TRACES / "iret-eflags" / "iret-eflags.lgt"
    said = explained(capfd, str(trace), "--runs", "1")
    assert "The kernel had interrupts off (irq_enabled 0x886)" in said
    assert "Still lguest interrupted it" in said
    assert "the trace does not tell" in said


@pytest.mark.parametrize("trace", ["hello/hello", "iret-race/passing", "iret-race/fixed"])
def test_of_a_trace_that_ends_well_it_says_so(trace: str, capfd: Capture) -> None:
    path = str(TRACES / f"{trace}.lgt")
    assert "powered off at tick" in explained(capfd, path)
    assert as_json(capfd, path)["failed"] is False


def test_the_origin_goes_through_registers_the_switcher_and_the_stack() -> None:
    with open_timeline(RACE) as timeline:
        timeline.go(1_467_276)
        links = list(chain(timeline, Register("eax"), 1_357_114))
    assert [(link.write.tick, link.text.split()[0]) for link in links] == [
        (1_467_275, "mov"),
        (1_357_202, "push"),
        (1_357_177, "pop"),
        (1_357_122, "push"),
    ]
    # What the program had in EBP reached the process's page directory unchanged.
    assert {link.write.new for link in links} == {(0xBFFFFF48).to_bytes(4, "little")}
