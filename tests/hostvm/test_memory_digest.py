"""The incremental memory digest: always what a digest from scratch would be, whatever was written how."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hostvm.memory import PhysicalMemory
from hostvm.memory_digest import MemoryDigest, Range
from hostvm.units import HostPhysical
from hostvm.x86 import PAGE_SIZE, Pte

BASE = HostPhysical(0x10000000)
PAGES = 48
SIZE = PAGES * PAGE_SIZE
WHOLE = (Range(BASE, BASE + SIZE),)
# Ordinary memory, then page tables, then a page of nobody's, then ordinary memory.
PARTS = (
    Range(BASE, BASE + 20 * PAGE_SIZE),
    Range(BASE + 20 * PAGE_SIZE, BASE + 40 * PAGE_SIZE, masked=True),
    Range(BASE + 41 * PAGE_SIZE, BASE + SIZE),
)


def fresh(memory: PhysicalMemory, ranges: Sequence[Range] = WHOLE) -> bytes:
    """The digest as somebody sees it who has not looked before."""
    return MemoryDigest(memory, ranges).value()


def changed_by(address: int, data: bytes, ranges: Sequence[Range] = WHOLE) -> bool:
    """Whether the digest of a patterned memory notices a write."""
    memory = PhysicalMemory(BASE, SIZE)
    memory.write(BASE, bytes(range(256)) * (SIZE // 256))
    digest = MemoryDigest(memory, ranges)
    before = digest.value()
    memory.write(address, data)
    after = digest.value()
    assert after == fresh(memory, ranges)
    return after != before


WRITES = st.tuples(
    st.integers(0, SIZE - 1), st.one_of(st.binary(min_size=1, max_size=40), st.just(bytes(9000)))
)


@settings(max_examples=40, deadline=None)
@given(rounds=st.lists(st.lists(WRITES, max_size=6), max_size=5))
def test_the_incremental_digest_equals_one_from_scratch(
    rounds: list[list[tuple[int, bytes]]],
) -> None:
    memory = PhysicalMemory(BASE, SIZE)
    digest = MemoryDigest(memory, PARTS)
    for writes in rounds:
        for offset, data in writes:
            memory.write(BASE + offset, data[: SIZE - offset])
        assert digest.value() == fresh(memory, PARTS)


@settings(max_examples=20, deadline=None)
@given(writes=st.lists(WRITES, max_size=8), looks=st.sets(st.integers(0, 8)))
def test_it_does_not_matter_when_anybody_looked(
    writes: list[tuple[int, bytes]], looks: set[int]
) -> None:
    memory = PhysicalMemory(BASE, SIZE)
    digest = MemoryDigest(memory, WHOLE)
    for index, (offset, data) in enumerate(writes):
        memory.write(BASE + offset, data[: SIZE - offset])
        if index in looks:
            digest.value()
    assert digest.value() == digest.value() == fresh(memory)


def test_a_store_behind_python_s_back_is_seen() -> None:
    memory = PhysicalMemory(BASE, SIZE)
    digest = MemoryDigest(memory, WHOLE)
    before = digest.value()
    memory.view[7 * PAGE_SIZE + 123] = 1
    assert digest.value() == fresh(memory) != before


def test_memory_put_back_as_it_was_has_its_old_digest() -> None:
    memory = PhysicalMemory(BASE, SIZE)
    digest = MemoryDigest(memory, WHOLE)
    empty = digest.value()
    memory.write(BASE + 100, b"there")
    there = digest.value()
    memory.clear()
    assert digest.value() == empty
    memory.write(BASE + 100, b"there")
    assert digest.value() == there


@pytest.mark.parametrize("offset", [0, 1, PAGE_SIZE - 1, PAGE_SIZE, 16 * PAGE_SIZE - 1, SIZE - 1])
def test_every_byte_counts(offset: int) -> None:
    assert changed_by(BASE + offset, b"\xee" if offset % 256 != 0xEE else b"\xef")


def test_the_same_content_elsewhere_is_another_memory() -> None:
    one, other = PhysicalMemory(BASE, SIZE), PhysicalMemory(BASE, SIZE)
    one.write(BASE + 3 * PAGE_SIZE, b"content")
    other.write(BASE + 4 * PAGE_SIZE, b"content")
    assert fresh(one) != fresh(other)


def test_two_pages_exchanged_are_noticed() -> None:
    first, second = b"a" * PAGE_SIZE, b"b" * PAGE_SIZE
    memory = PhysicalMemory(BASE, SIZE)
    digest = MemoryDigest(memory, WHOLE)
    memory.write(BASE, first + second)
    before = digest.value()
    memory.write(BASE, second + first)
    assert digest.value() != before


def test_pages_outside_the_ranges_do_not_count() -> None:
    assert not changed_by(BASE + 40 * PAGE_SIZE + 5, b"anything", PARTS)


@pytest.mark.parametrize("bit", [Pte.A, Pte.D])
def test_in_page_tables_accessed_and_dirty_do_not_count(bit: Pte) -> None:
    memory = PhysicalMemory(BASE, SIZE)
    entry = 0x12345000 | Pte.P | Pte.RW
    in_table, elsewhere = BASE + 21 * PAGE_SIZE + 8, BASE + 8
    memory.write_u32(in_table, entry)
    memory.write_u32(elsewhere, entry)
    digest = MemoryDigest(memory, PARTS)
    before = digest.value()
    memory.write_u32(in_table, entry | bit)
    assert digest.value() == before == fresh(memory, PARTS)
    memory.write_u32(elsewhere, entry | bit)
    assert digest.value() == fresh(memory, PARTS) != before


@pytest.mark.parametrize("bit", [Pte.P, Pte.RW, Pte.US, 1 << 9, 1 << 12, 1 << 31])
def test_in_page_tables_all_else_counts(bit: int) -> None:
    memory = PhysicalMemory(BASE, SIZE)
    digest = MemoryDigest(memory, PARTS)
    before = digest.value()
    memory.write_u32(BASE + 21 * PAGE_SIZE + 8, int(bit))
    assert digest.value() == fresh(memory, PARTS) != before


def test_an_entry_that_is_only_accessed_and_dirty_is_as_good_as_empty() -> None:
    memory = PhysicalMemory(BASE, SIZE)
    empty = fresh(memory, PARTS)
    memory.write_u32(BASE + 21 * PAGE_SIZE, int(Pte.A | Pte.D))
    assert fresh(memory, PARTS) == empty


def test_the_digest_does_not_depend_on_what_else_the_process_did() -> None:
    """A fixed value: it must be the same on every machine and in every Python."""
    memory = PhysicalMemory(BASE, SIZE)
    memory.write(BASE + 5000, b"lguest")
    memory.write_u32(BASE + 30 * PAGE_SIZE, int(0x1000 | Pte.P | Pte.A))
    assert fresh(memory, PARTS).hex() == "9ae51eb89c9fba6e44aca216736a06ae"


def test_a_page_that_became_zero_again_counts_as_before() -> None:
    memory = PhysicalMemory(BASE, SIZE)
    digest = MemoryDigest(memory, PARTS)
    empty = digest.value()
    memory.write(BASE + 5 * PAGE_SIZE, b"here")
    assert digest.value() != empty
    memory.clear()
    assert digest.value() == empty
