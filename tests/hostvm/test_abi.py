"""The generations as data: complete, consistent with themselves, and refused where the Host is not complete."""

from __future__ import annotations

from dataclasses import fields

import pytest

from hostvm.abi import GENERATIONS, Abi, Call, generation
from hostvm.errors import ConfigurationError
from hostvm.hypercalls import CallTable
from hostvm.lguest_data import RING_SLOTS
from hostvm.x86 import PAGE_SIZE

ALL = tuple(GENERATIONS.values())


def names(abi: Abi) -> str:
    return abi.name


def test_the_generations_are_these() -> None:
    assert [abi.name for abi in ALL] == [
        "2.6.23",
        "2.6.24",
        "2.6.27",
        "2.6.29",
        "2.6.30",
        "2.6.32",
        "2.6.37",
        "3.2",
        "3.10",
        "4.1",
        "vmi",
    ]


def test_an_unknown_generation_is_refused_with_the_known_ones() -> None:
    with pytest.raises(
        ConfigurationError, match=r"'4\.14'; there are 2\.6\.23, 2\.6\.24, 2\.6\.27"
    ):
        generation("4.14")


@pytest.mark.parametrize("abi", ALL, ids=names)
def test_fields_of_the_shared_page_do_not_overlap(abi: Abi) -> None:
    data = abi.data
    sizes = {"hcall_status": RING_SLOTS, "hcalls": RING_SLOTS * data.slot_words * 4, "time": 8}
    taken: dict[int, str] = {}
    for each in fields(data):
        offset = getattr(data, each.name)
        if each.name in ("size", "slot_words") or offset is None:
            continue
        for byte in range(offset, offset + sizes.get(each.name, 4)):
            assert byte not in taken, f"{each.name} lies over {taken[byte]}"
            taken[byte] = each.name
    assert max(taken) + 1 == data.size
    assert set(range(data.size)) == set(taken)


@pytest.mark.parametrize("abi", ALL, ids=names)
def test_a_ring_slot_holds_as_many_words_as_a_call_has_registers(abi: Abi) -> None:
    assert sorted(abi.slot_order) == list(range(abi.data.slot_words))
    assert len(abi.hypercall_registers) == abi.data.slot_words


@pytest.mark.parametrize(
    ("name", "words", "args"),
    [("2.6.24", (10, 12, 13, 11), (10, 11, 12, 13)), ("3.2", (1, 2, 3, 4, 5), (1, 2, 3, 4, 5))],
)
def test_a_ring_slot_lies_as_the_registers_do_in_memory(
    name: str, words: tuple[int, ...], args: tuple[int, ...]
) -> None:
    table = CallTable(generation(name))
    assert table.in_order(table.slot.unpack(table.slot.pack(*words))) == args


@pytest.mark.parametrize("abi", ALL, ids=names)
def test_every_hypercall_of_a_supported_generation_has_somebody_to_carry_it_out(abi: Abi) -> None:
    assert set(CallTable(abi).handlers) == set(abi.hypercalls)


@pytest.mark.parametrize("abi", ALL, ids=names)
def test_the_words_that_say_why_the_guest_came_out_lie_where_the_switcher_puts_them(
    abi: Abi,
) -> None:
    start = PAGE_SIZE - 4 * len(abi.regs_order)
    assert start == 4024
    assert start + 4 * abi.regs_order.index("trapnum") == 4068
    assert abi.regs_order[-5:] == ("eip", "cs", "eflags", "esp", "ss")


@pytest.mark.parametrize(
    ("name", "number", "call"),
    [
        ("2.6.24", 2, Call.CRASH),
        ("2.6.27", 2, Call.SHUTDOWN),
        ("2.6.24", 3, Call.LOAD_GDT),
        ("3.2", 3, None),
        ("3.2", 18, Call.LOAD_GDT_ENTRY),
        ("2.6.27", 18, None),
        ("3.2", 19, Call.SEND_INTERRUPTS),
        ("2.6.23", 17, None),
        ("3.2", 13, None),
    ],
)
def test_a_number_means_what_its_generation_says(name: str, number: int, call: Call | None) -> None:
    assert GENERATIONS[name].hypercalls.get(number) is call


def test_the_guest_is_told_to_leave_four_mebibytes_to_the_switcher() -> None:
    assert {abi.reserve_mem for abi in ALL} == {0x400000}
