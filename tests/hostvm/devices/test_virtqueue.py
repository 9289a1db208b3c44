"""Rings: what a driver may do, and that a ring of nonsense kills its Guest and nobody else."""

from __future__ import annotations

import os
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hostvm.devices.config import BlockConfig, RngConfig
from hostvm.devices.virtqueue import LONGEST_CHAIN
from hostvm.errors import GuestKilled
from hostvm.world import Action
from hostvm.x86 import PAGE_SIZE
from tests.hostvm.devices.driver import INDIRECT, MEMORY, NEXT, WRITE, Bench, Driver
from tests.hostvm.lguest_kit import kills


def output() -> tuple[Bench, Driver]:
    bench = Bench()
    return bench, bench.start("console")[1]


def test_chains_are_done_in_order_and_one_interrupt_tells_of_all() -> None:
    bench, driver = output()
    driver.add(b"one ", b"two ")
    driver.add(b"three")
    driver.ring()
    assert bench.notes.printed == b"one two three"
    assert driver.used == [(0, 0), (2, 0)]
    assert bench.notes.irqs == [2]
    assert not driver.told_to_be_quiet


def test_ringing_for_nothing_does_nothing() -> None:
    bench, driver = output()
    driver.ring()
    assert (driver.used, bench.notes.irqs) == ([], [])


def test_an_interrupt_that_is_not_wanted_is_not_raised() -> None:
    bench, driver = output()
    driver.suppress_interrupts()
    driver.add(b"quiet")
    driver.ring()
    assert (bench.notes.printed, bench.notes.irqs) == (b"quiet", [])


def test_positions_run_around_at_16_bits_and_rings_at_256_entries() -> None:
    bench, driver = output()
    for _ in range(0x10000 // 256 + 2):
        for _ in range(256):
            driver.descriptor(3, MEMORY - 1, 1, 0, 0)
            driver.offer(3)
        driver.ring()
    assert len(bench.notes.printed) == 0x10200
    assert driver.memory.read_u16(driver.queue.address + 2 * PAGE_SIZE + 2) == 0x200
    assert driver.queue.state().taken == 0x200


@pytest.mark.parametrize("ahead", [257, 0x8000, 0xFFFF])
def test_a_position_that_jumped_is_fatal(ahead: int) -> None:
    _, driver = output()
    driver.memory.write_u16(driver.queue.address + PAGE_SIZE + 2, ahead)
    with kills(f"Guest moved used index from 0 to {ahead}"):
        driver.ring()


def test_a_head_outside_the_ring_is_fatal() -> None:
    _, driver = output()
    driver.offer(256)
    with kills("Guest says index 256 is available"):
        driver.ring()


def test_a_chain_that_leaves_the_ring_is_fatal() -> None:
    _, driver = output()
    driver.descriptor(0, 0, 1, NEXT, 256)
    driver.offer(0)
    with kills("Desc next is 256"):
        driver.ring()


def test_a_chain_that_runs_in_a_circle_is_fatal() -> None:
    _, driver = output()
    driver.descriptor(7, 0, 1, NEXT, 8)
    driver.descriptor(8, 0, 1, NEXT, 7)
    driver.offer(7)
    with kills("Looped descriptor"):
        driver.ring()


def test_a_chain_as_long_as_the_ring_is_none() -> None:
    bench, driver = output()
    for index in range(256):
        driver.descriptor(index, 0x500 + index, 1, NEXT if index < 255 else 0, index + 1)
    driver.offer(0)
    driver.ring()
    assert len(bench.notes.printed) == 256


@pytest.mark.parametrize("address", [1 << 32, (1 << 64) - 1, MEMORY + (1 << 20)])
def test_a_buffer_outside_memory_is_fatal(address: int) -> None:
    bench, driver = output()
    driver.descriptor(0, address, 1, 0, 0)
    driver.offer(0)
    with kills(f"Invalid address {address:#x}"):
        driver.ring()
    assert bench.notes.printed == b""


def test_a_buffer_may_end_with_the_last_ring_and_not_behind_it() -> None:
    bench, driver = output()
    driver.descriptor(0, bench.limit - 4, 4, 0, 0)
    driver.offer(0)
    driver.ring()
    assert len(bench.notes.printed) == 4
    driver.descriptor(0, bench.limit - 4, 5, 0, 0)
    driver.offer(0)
    with kills(f"Invalid address {bench.limit - 4:#x}"):
        driver.ring()


def test_what_is_read_comes_before_what_is_written() -> None:
    _, driver = output()
    driver.add(4, b"late")
    with kills("Descriptor has out after in"):
        driver.ring()


def test_indirect_descriptors_were_not_offered() -> None:
    _, driver = output()
    driver.descriptor(0, 0, 16, INDIRECT, 0)
    driver.offer(0)
    with kills("Indirect descriptor, which was not offered"):
        driver.ring()


def test_a_chain_holds_no_more_than_an_event_of_a_trace() -> None:
    _, driver = output()
    for index in range(3):
        driver.descriptor(index, 0, MEMORY, NEXT if index < 2 else 0, index + 1)
    driver.offer(0)
    with kills(f"Chain of {3 * MEMORY} bytes"):
        driver.ring()
    assert 3 * MEMORY > LONGEST_CHAIN


# Nonsense.

ADDRESSES = st.one_of(
    st.integers(0, MEMORY + 0x20000),
    st.sampled_from([0, MEMORY - 1, MEMORY, MEMORY + 4, MEMORY + 0x1000, (1 << 32) - 1]),
    st.integers(0, (1 << 64) - 1),
)
LENGTHS = st.one_of(
    st.integers(0, 64), st.sampled_from([511, 512, 4096]), st.integers(0, 2**32 - 1)
)
FLAGS = st.one_of(st.sampled_from([0, NEXT, WRITE, NEXT | WRITE]), st.integers(0, 0xFFFF))
INDICES = st.one_of(st.integers(0, 7), st.sampled_from([255, 256, 0xFFFF]))
DESCRIPTORS = st.lists(st.tuples(ADDRESSES, LENGTHS, FLAGS, INDICES), min_size=8, max_size=8)
MOVES = st.one_of(
    st.tuples(st.just("ring"), st.integers(0, 3)),
    st.tuples(st.just("status"), st.integers(0, 2), st.integers(0, 255)),
    st.tuples(st.just("complete"), st.integers(0, 3), st.binary(max_size=600)),
    st.tuples(st.just("fill"), st.integers(0, 3), DESCRIPTORS, st.lists(INDICES, max_size=12)),
    st.tuples(st.just("poke"), st.integers(0, 3), st.integers(0, 10240), st.integers(0, 0xFFFF)),
    st.tuples(st.just("notify"), ADDRESSES),
)
EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "150"))


def apply(bench: Bench, drivers: list[Driver], move: tuple[object, ...]) -> None:
    match move:
        case ("ring", int(queue)):
            drivers[queue].ring()
        case ("status", int(device), int(status)):
            bench.set_status(bench.page.devices[device], status)
        case ("complete", int(queue), bytes(data)):
            names = ["block", "rng", "console", "console"]
            bench.complete(names[queue], drivers[queue].queue, data)
        case ("fill", int(queue), list(descriptors), list(heads)):
            for index, descriptor in enumerate(descriptors):
                drivers[queue].descriptor(index, *descriptor)
            for head in heads:
                drivers[queue].offer(head)
        case ("poke", int(queue), int(offset), int(value)):
            bench.memory.write_u16(drivers[queue].queue.address + offset, value)
        case ("notify", int(address)):
            bench.bus.notify(address & 0xFFFFFFFF)


@settings(max_examples=EXAMPLES, deadline=None)
@given(moves=st.lists(MOVES, max_size=20), started=st.booleans())
def test_whatever_a_guest_does_to_its_rings_only_it_is_hurt(
    moves: list[tuple[object, ...]], started: bool
) -> None:
    bench = Bench(BlockConfig(64), RngConfig())
    drivers = [Driver(bench, queue) for device in bench.bus.devices for queue in device.queues]
    if started:
        for name in ("block", "rng", "console"):
            bench.start(name)
    with suppress(GuestKilled):
        for move in moves:
            apply(bench, drivers, move)
    assert bench.guards_intact
    assert all(action is not Action.INPUT for _, _, action, _, _ in bench.notes.asked)
    assert all(0 < irq <= 4 for irq in bench.notes.irqs)
    states = bench.bus.state()
    other = Bench(BlockConfig(64), RngConfig())
    other.bus.restore(states)
    assert other.bus.state() == states
    assert other.bus.digest_bytes() == bench.bus.digest_bytes()
