"""Guest-physical memory: the limit, in both generations' rules, and what a Guest that exceeds it dies of."""

from __future__ import annotations

import pytest

from hostvm.errors import GuestKilled
from hostvm.memory import BoundedMemory, PhysicalMemory
from hostvm.units import GuestPhysical, HostPhysical

BASE = HostPhysical(0x40000)
PAGES = 4
END = PAGES * 4096


def memory(*, exclusive: bool = True, names_length: bool = True) -> BoundedMemory:
    physical = PhysicalMemory(HostPhysical(0), 1 << 20)
    return BoundedMemory(physical, BASE, PAGES, exclusive, names_length)


def test_an_address_is_an_offset_from_the_guests_base() -> None:
    guest = memory()
    guest.write(0x123, b"abcd")
    assert guest.physical.read(BASE + 0x123, 4) == b"abcd"
    assert guest.read_u32(0x123) == int.from_bytes(b"abcd", "little")
    assert guest.host_address(GuestPhysical(0x123)) == BASE + 0x123


@pytest.mark.parametrize(("exclusive", "allowed"), [(True, False), (False, True)])
def test_only_later_generations_accept_a_range_that_ends_at_the_limit(
    exclusive: bool, allowed: bool
) -> None:
    guest = memory(exclusive=exclusive)
    assert guest.ok(END - 4, 4) is allowed
    assert guest.ok(END - 8, 4)
    assert not guest.ok(END - 3, 4)


@pytest.mark.parametrize("exclusive", [True, False])
def test_a_range_that_wraps_is_refused(exclusive: bool) -> None:
    assert not memory(exclusive=exclusive).ok(0xFFFFFFFE, 4)


def test_the_kill_text_names_address_and_length() -> None:
    guest = memory()
    with pytest.raises(GuestKilled, match=r"^bad read address 0x4000 len 1$"):
        guest.read(END, 1)
    with pytest.raises(GuestKilled, match=r"^bad write address 0x5000 len 3$"):
        guest.write(END + 4096, b"abc")
    with pytest.raises(GuestKilled, match=r"^bad read address 0xffffffff len 4$"):
        guest.read_u32(0xFFFFFFFF)


def test_the_kill_text_of_a_word_had_no_length_in_2_6_23() -> None:
    guest = memory(names_length=False)
    with pytest.raises(GuestKilled, match=r"^bad read address 0x4000$"):
        guest.read_u32(END)
    with pytest.raises(GuestKilled, match=r"^bad write address 0x4000$"):
        guest.write_u32(END, 0)
    with pytest.raises(GuestKilled, match=r"^bad read address 0x4000 len 4$"):
        guest.read(END, 4)


def test_a_refused_write_changes_nothing_and_marks_nothing() -> None:
    guest = memory()
    with pytest.raises(GuestKilled):
        guest.write(END - 2, b"1234")
    assert guest.physical.read(BASE + END - 2, 4) == bytes(4)
    assert not _physical(guest).written


def test_a_word_across_two_pages_marks_both_as_written() -> None:
    guest = memory()
    guest.write_u32(0x0FFE, 0x11223344)
    assert guest.read_u32(0x0FFE) == 0x11223344
    assert _physical(guest).written == {BASE >> 12, (BASE >> 12) + 1}


def _physical(guest: BoundedMemory) -> PhysicalMemory:
    assert isinstance(guest.physical, PhysicalMemory)
    return guest.physical


def test_used_pages_are_those_that_are_not_all_zero_whatever_was_touched() -> None:
    memory = PhysicalMemory(HostPhysical(0x100000), 0x40000)
    memory.write(0x103FFE, b"ab" * 2)
    memory.write(0x110000, bytes(4096))
    memory.read(0x120000, 4096)
    assert [page for page, _ in memory.used_pages()] == [0x103, 0x104]
    assert dict(memory.used_pages())[0x104] == b"ab" + bytes(4094)
    memory.clear()
    assert memory.used_pages() == ()
