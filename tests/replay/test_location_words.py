"""Locations in words: both debuggers' spellings mean the same, and what means nothing is said to."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

import replay
from replay.location_words import WORDS, BadLocation, location_of, place_of
from replay.locations import IdtEntry, PendingBit, RealIdtEntry, Register, SharedField
from replay.places import Place
from replay.predicate import BadPredicate
from replay.timeline import Timeline
from tests.tui.sitting import RACE


@pytest.fixture(scope="module")
def timeline() -> Iterator[Timeline]:
    with replay.open(RACE) as opened:
        opened.seek("50%")
        yield opened


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("eax", "$eax"),
        ("irq 0", "pending 0"),
        ("real-idt 14", "realidt 0xe"),
        ("pte eip", "gpte eip"),
        ("irq_enabled", "field irq_enabled"),
        ("noirq_start", "field noirq_start"),
        ("esp+0", "esp,4"),
        ("esp+4 2", "*esp+4,2"),
        ("lguest_iret", "lguest_iret 4"),
        ("esp + 4", "esp+4"),
    ],
)
def test_both_spellings_mean_the_same(timeline: Timeline, one: str, other: str) -> None:
    assert location_of(timeline, one) == location_of(timeline, other)


def test_what_the_words_mean(timeline: Timeline) -> None:
    esp = timeline.address("esp")
    assert location_of(timeline, "eax") == Register("eax")
    assert location_of(timeline, "idt 14", 3) == IdtEntry(14, 3)
    assert location_of(timeline, "irq 2") == PendingBit(2)
    assert location_of(timeline, "real-idt 14") == RealIdtEntry(14)
    assert location_of(timeline, "irq_pending") == SharedField("irq_pending")
    assert location_of(timeline, "esp 8") == Place(esp, 8)


def test_whose_memory_an_address_means_is_for_the_caller_to_say(timeline: Timeline) -> None:
    assert place_of(timeline, "16,2", lambda at, length: Place(at + 1, length)) == Place(17, 2)


@pytest.mark.parametrize(
    "text", ["", " ", "idt", "irq ", "field", "field size", "esp,", "esp,x", "esp 0", "esp,4097"]
)
def test_words_that_mean_no_location_are_refused(timeline: Timeline, text: str) -> None:
    with pytest.raises(BadLocation):
        location_of(timeline, text)


@given(st.sampled_from(["", *WORDS, "eax", "$"]), st.text(max_size=12))
def test_any_text_is_a_location_or_refused_in_one_line(word: str, rest: str) -> None:
    assert "\n" not in refusal(f"{word} {rest}")


def refusal(text: str) -> str:
    try:
        location_of(shared(), text)
    except (BadLocation, BadPredicate) as error:
        return str(error)
    return ""


@cache
def shared() -> Timeline:
    return replay.open(RACE)
