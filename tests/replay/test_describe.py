from __future__ import annotations

import json
from typing import get_args

import pytest
from hypothesis import given

from hostvm.abi import GENERATIONS, Call
from hostvm.units import Nanoseconds, Tick
from replay.describe import (
    HYPERCALL_DESCRIPTIONS,
    KIND_DESCRIPTIONS,
    TRAP_DESCRIPTIONS,
    TRAP_NAMES,
    event_to_json,
    event_to_text,
    hypercall_of,
)
from replay.events import (
    ClockReading,
    ConsoleOutput,
    EndReason,
    Event,
    GuestEnded,
    HostInterrupt,
    Hypercall,
    Kind,
    TrapReflected,
)
from tests.replay.event_strategies import ANY_EVENT
from tests.replay.traces import ONE_OF_EACH


def test_json_has_stable_names_and_hexadecimal_addresses() -> None:
    assert event_to_json(HostInterrupt(Tick(7), 1, 0x20, 0xC0101234, 0x55)) == {
        "tick": 7,
        "guest": 1,
        "event": "host_interrupt",
        "class": "input",
        "vector": 32,
        "name": "TIMER",
        "eip": "0xc0101234",
        "check": "0x55",
    }
    assert event_to_json(Hypercall(Tick(9), 0, 14, (0x1000, 5), queued=True)) == {
        "tick": 9,
        "guest": 0,
        "event": "hypercall",
        "class": "observation",
        "number": 14,
        "name": "SET_PTE",
        "args": ["0x00001000", "0x00000005"],
        "queued": True,
    }


def test_text_says_what_happened_where() -> None:
    page_fault = TrapReflected(Tick(1234), 0, 14, 2, 0xC0001000)
    assert event_to_text(page_fault) == (
        "          1234  guest 0  trap_reflected       "
        "0x0e PF (page fault), error code 0x2, at 0xc0001000"
    )
    reading = ClockReading(Tick(0), 2, Nanoseconds(1_500_000_001))
    assert event_to_text(reading).endswith("guest 2  clock_reading        1.500000001 s")


@pytest.mark.parametrize(
    ("number", "generation", "call"),
    [
        (2, "2.6.24", Call.CRASH),
        (2, "3.2", Call.SHUTDOWN),
        (3, "2.6.24", Call.LOAD_GDT),
        (3, "3.10", None),
        (13, "2.6.23", Call.SEND_DMA),
        (17, "2.6.23", None),
        (17, "2.6.27", Call.NOTIFY),
        (19, "3.2", Call.SEND_INTERRUPTS),
        (19, "2.6.27", None),
        (14, "of tomorrow", Call.SET_PTE),
    ],
)
def test_a_hypercall_is_named_after_the_guests_generation(
    number: int, generation: str, call: Call | None
) -> None:
    assert hypercall_of(number, generation) == call
    event = Hypercall(Tick(0), 1, number, ())
    assert event_to_json(event, ("3.2", generation))["name"] == (call.name if call else None)


def test_numbers_without_a_name_are_shown_as_numbers() -> None:
    assert event_to_text(Hypercall(Tick(0), 0, 99, (1,))).endswith("hypercall 99(0x00000001)")
    assert "0x63, error" in event_to_text(TrapReflected(Tick(0), 0, 99, 0, 0))
    assert event_to_text(HostInterrupt(Tick(0), 0, 0x99, 0, 0)).endswith(
        "0x99 at 0x00000000, check 0x0"
    )


def test_what_a_guest_has_written_cannot_steer_the_terminal() -> None:
    escape = "\x1b[2J\n\udc80\u202e"
    for event in (
        ConsoleOutput(Tick(0), 0, escape.encode("utf-8", "surrogatepass")),
        GuestEnded(Tick(0), 0, EndReason.KILLED, escape),
    ):
        assert event_to_text(event).isprintable()


def test_long_output_is_shown_in_part_and_given_in_full() -> None:
    event = ConsoleOutput(Tick(0), 0, b"x" * 1000)
    assert len(event_to_text(event)) < 150
    assert "(1000 bytes)" in event_to_text(event)
    assert event_to_json(event)["text"] == "x" * 1000


@given(ANY_EVENT)
def test_every_event_is_one_line_and_valid_json(event: Event) -> None:
    assert event_to_text(event).isprintable()
    made = event_to_json(event)
    assert json.loads(json.dumps(made, allow_nan=False)) == made
    json.dumps(made, ensure_ascii=False).encode("utf-8")


def test_everything_that_has_a_number_has_a_description() -> None:
    assert set(KIND_DESCRIPTIONS) == set(Kind)
    assert set(TRAP_DESCRIPTIONS) == set(TRAP_NAMES)
    calls = {call for abi in GENERATIONS.values() for call in abi.hypercalls.values()}
    assert calls <= set(HYPERCALL_DESCRIPTIONS)
    assert {type(event) for event in ONE_OF_EACH} == set(get_args(Event))
