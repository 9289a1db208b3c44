"""Traces for other programs: valid JSON, every event once, and what lasts has its length."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from hostvm.abi import GENERATIONS, Call
from hostvm.units import Tick
from replay import cli
from replay.events import EndReason, GuestEnded, Hypercall, IrqDelivered, IrqRaised, TrapReflected
from replay.export import json_lines, perfetto
from replay.log import LogWriter, TraceReader
from tests.replay.traces import END, HEADER, IMAGES, ONE_OF_EACH

NEW_PGTABLE = next(
    number for number, call in GENERATIONS["3.2"].hypercalls.items() if call is Call.NEW_PGTABLE
)
RACE = Path(__file__).parents[2] / "traces" / "iret-race" / "iret-race.lgt"
Entries = list[dict[str, Any]]


def timeline(path: Path) -> Entries:
    with TraceReader(path) as reader:
        entries: Entries = json.loads("".join(perfetto(reader)))["traceEvents"]
    return entries


def write(path: Path, events: tuple[Any, ...]) -> Path:
    with LogWriter(path, HEADER, IMAGES) as log:
        for event in events:
            log.write(event)
        log.close(END)
    return path


def test_every_kind_of_event_is_shown(tmp_path: Path) -> None:
    events = tuple(sorted(ONE_OF_EACH, key=lambda event: event.tick))
    path = write(tmp_path / "all.lgt", events)
    shown = [entry for entry in timeline(path) if entry["ph"] == "i"]
    lasting = (IrqRaised, IrqDelivered)
    assert len(shown) == sum(not isinstance(event, lasting) for event in events)
    assert all(entry["name"] and isinstance(entry["ts"], int) for entry in shown)


def test_an_interrupt_lasts_from_raised_to_delivered(tmp_path: Path) -> None:
    events = (
        IrqRaised(Tick(10), 0, 1),
        IrqRaised(Tick(12), 0, 1),
        IrqDelivered(Tick(40), 0, 1),
        IrqDelivered(Tick(50), 0, 3),
        IrqRaised(Tick(60), 0, 2),
    )
    path = write(tmp_path / "irq.lgt", events)
    spans = [entry for entry in timeline(path) if entry["ph"] == "X"]
    assert [(s["name"], s["ts"], s["dur"]) for s in spans] == [
        ("irq 1 pending", 10, 30),
        ("irq 3 pending", 50, 0),
        ("irq 2 pending (never delivered)", 60, END.tick - 60),
    ]


def test_an_address_space_lasts_to_the_next_or_to_the_end_of_its_guest(tmp_path: Path) -> None:
    def directory(tick: int, address: int) -> Hypercall:
        return Hypercall(Tick(tick), 0, NEW_PGTABLE, (address, 0, 0, 0), queued=False)

    events = (
        directory(5, 0x1000),
        directory(25, 0x2000),
        TrapReflected(Tick(30), 0, 14, 4, 0xC0100000),
        GuestEnded(Tick(75), 0, EndReason.KILLED, "bad \x1b[2J guess"),
    )
    spans = [e for e in timeline(write(tmp_path / "a.lgt", events)) if e["ph"] == "X"]
    assert [(s["name"], s["ts"], s["dur"]) for s in spans] == [
        ("directory 0x00001000", 5, 20),
        ("directory 0x00002000", 25, 50),
    ]


def test_a_recording_goes_through_whole() -> None:
    entries = timeline(RACE)
    with TraceReader(RACE) as reader:
        names = Counter(type(event).__name__ for event in reader.events())
    irqs = [e for e in entries if e["ph"] == "X" and e["name"].startswith("irq")]
    assert len(irqs) == names["IrqDelivered"]
    assert sum(e["ph"] == "i" and e["cat"] == "hypercalls" for e in entries) == names["Hypercall"]
    tracks = {e["args"]["name"] for e in entries if e["name"] == "thread_name"}
    assert {"hypercalls", "traps", "console"} <= tracks


def test_lines_begin_with_what_the_trace_is() -> None:
    with TraceReader(RACE) as reader:
        lines = [json.loads(line) for line in json_lines(reader)]
        assert lines[0]["trace"] == reader.trace_id.hex()
        assert len(lines) == 1 + reader.event_count
    assert [line["tick"] for line in lines[1:]] == sorted(line["tick"] for line in lines[1:])


class TestCommand:
    def test_it_writes_to_a_file_or_to_stdout(
        self, tmp_path: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        path = tmp_path / "out.json"
        assert cli.run(["export", "--perfetto", str(RACE), "-o", str(path)]) == 0
        assert cli.run(["export", "--perfetto", str(RACE)]) == 0
        assert capfd.readouterr().out == path.read_text()

    def test_it_wants_to_know_what_for(self, capfd: pytest.CaptureFixture[str]) -> None:
        assert cli.run(["export", str(RACE)]) == 2
        assert "--perfetto, --jsonl or --pcapng" in capfd.readouterr().err

    def test_a_trace_without_an_end_is_written_as_far_as_it_goes(
        self, tmp_path: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        torn = tmp_path / "torn.lgt"
        torn.write_bytes(RACE.read_bytes()[:-3000])
        code = cli.run(["export", "--perfetto", "--salvage", str(torn)])
        assert code == 2
        assert json.loads(capfd.readouterr().out)["traceEvents"]
