"""Console, random numbers and disk, each through a driver."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hostvm.devices.config import BlockConfig, RngConfig
from hostvm.devices.console import MOST_TYPED
from hostvm.devices.overlay import Overlay
from hostvm.world import Action
from tests.hostvm.devices.driver import (
    FLUSH,
    GET_ID,
    IN,
    OUT,
    SCSI,
    Asked,
    Bench,
    Driver,
    block_head,
)
from tests.hostvm.lguest_kit import kills

SECTORS = 64
IMAGE = b"".join(number.to_bytes(2, "big") * 256 for number in range(SECTORS))


# Console.


def test_typing_waits_for_a_buffer_and_a_buffer_for_typing() -> None:
    bench = Bench()
    keys, _ = bench.start("console")
    bench.complete("console", keys.queue, b"early ")
    (first,) = keys.add(16)
    keys.ring()
    assert bench.memory.read(first, 6) == b"early "
    (second,) = keys.add(4)
    keys.ring()
    assert keys.used == [(0, 6)]
    assert keys.told_to_be_quiet
    bench.complete("console", keys.queue, b"and late")
    assert bench.memory.read(second, 4) == b"and "
    third, fourth = keys.add(2, 14)
    keys.ring()
    assert bench.memory.read(third, 2) + bench.memory.read(fourth, 2) == b"late"
    assert keys.used == [(0, 6), (1, 4), (2, 4)]
    assert bench.notes.irqs == [1, 1, 1]
    assert bench.notes.asked == []


def test_typing_goes_into_as_many_buffers_as_it_needs() -> None:
    bench = Bench()
    keys, _ = bench.start("console")
    buffers = [*keys.add(3), *keys.add(3), *keys.add(3)]
    keys.ring()
    bench.complete("console", keys.queue, b"typed")
    assert [bench.memory.read(at, 3) for at in buffers] == [b"typ", b"ed\xee", b"\xee" * 3]
    assert keys.used == [(0, 3), (1, 2)]


def test_what_is_typed_at_a_guest_that_does_not_listen_is_lost_in_the_end() -> None:
    bench = Bench()
    queue = bench.device("console").queues[0]
    for _ in range(10):
        bench.complete("console", queue, bytes(1000))
    assert len(bench.device("console").state().typed) == MOST_TYPED


def test_buffers_of_the_wrong_direction_are_fatal() -> None:
    bench = Bench(RngConfig())
    keys, screen = bench.start("console")
    (random,) = bench.start("rng")
    keys.add(b"out")
    with kills("Output buffers in console in queue?"):
        keys.ring()
    screen.add(8)
    with kills("Input buffers in console output queue?"):
        screen.ring()
    random.add(b"out")
    with kills("Output buffers in rng?"):
        random.ring()


# Random numbers.


def test_random_bytes_come_from_the_world() -> None:
    bench = Bench(RngConfig())
    (driver,) = bench.start("rng")
    first, second = driver.add(3, 5)
    driver.add(4)
    driver.ring()
    assert bench.notes.asked == [(0, 1, Action.ENTROPY, 0, 8)]
    bench.complete("rng", driver.queue, b"12345678")
    assert bench.memory.read(first, 3) + bench.memory.read(second, 5) == b"12345678"
    assert bench.notes.irqs == [], "there is more to do"
    assert bench.notes.asked[1:] == [(0, 1, Action.ENTROPY, 0, 4)]
    bench.complete("rng", driver.queue, b"abcd too many")
    assert driver.used == [(0, 8), (2, 4)]
    assert bench.notes.irqs == [1]
    assert not driver.told_to_be_quiet


# Disk.


def disk() -> tuple[Bench, Driver]:
    bench = Bench(BlockConfig(SECTORS))
    (driver,) = bench.start("block")
    return bench, driver


def serve(bench: Bench, driver: Driver) -> list[Asked]:
    """Answer from the image until nothing is asked; what was asked."""
    asked: list[Asked] = []
    while bench.notes.asked:
        request = bench.notes.asked.pop(0)
        _, _, action, position, count = request
        data = IMAGE[position : position + count] if action is Action.READ else b""
        bench.complete("block", driver.queue, data)
        asked.append(request)
    return asked


def read(bench: Bench, driver: Driver, sector: int, *rooms: int) -> tuple[bytes, int]:
    """Data and status."""
    _, *pieces, status = driver.add(block_head(IN, sector), *rooms, 1)
    driver.ring()
    serve(bench, driver)
    data = b"".join(bench.memory.read(at, n) for at, n in zip(pieces, rooms, strict=True))
    return data, bench.memory.read(status, 1)[0]


def write(bench: Bench, driver: Driver, sector: int, *parts: bytes) -> int:
    """Status."""
    *_, status = driver.add(block_head(OUT, sector), *parts, 1)
    driver.ring()
    serve(bench, driver)
    return bench.memory.read(status, 1)[0]


def test_a_read_is_answered_by_the_world_and_interrupts() -> None:
    bench, driver = disk()
    assert read(bench, driver, 3, 512, 1024) == (IMAGE[1536:3072], 0)
    assert driver.used == [(0, 1537)]
    assert bench.notes.irqs == [1]


def test_what_was_written_is_read_again_and_the_image_shows_around_it() -> None:
    bench, driver = disk()
    text = b"w" * 512 + b"x" * 512
    assert write(bench, driver, 5, text[:700], text[700:]) == 0
    assert driver.used == [(0, 1)]
    expected = IMAGE[4 * 512 : 5 * 512] + text + IMAGE[7 * 512 : 8 * 512]
    assert read(bench, driver, 4, 4 * 512) == (expected, 0)


def test_requests_are_done_one_after_the_other() -> None:
    bench, driver = disk()
    driver.add(block_head(IN, 0), 512, 1)
    driver.add(block_head(OUT, 1), bytes(512), 1)
    driver.add(block_head(FLUSH, 0), 1)
    driver.ring()
    assert serve(bench, driver) == [
        (0, 1, Action.READ, 0, 512),
        (0, 1, Action.WRITE, 512, 512),
        (0, 1, Action.FLUSH, 0, 0),
    ]
    assert driver.used == [(0, 513), (3, 1), (6, 1)]
    assert bench.notes.irqs == [1]


@pytest.mark.parametrize("kind", [SCSI, GET_ID, SCSI | OUT])
def test_what_was_not_offered_is_unsupported(kind: int) -> None:
    bench, driver = disk()
    *_, status = driver.add(block_head(kind, 0), 20, 1)
    driver.ring()
    assert bench.memory.read(status, 1) == b"\2"
    assert bench.notes.asked == []


def test_a_read_ends_with_the_disk() -> None:
    bench, driver = disk()
    data, status = read(bench, driver, SECTORS - 1, 1024)
    assert (data[:512], data[512:], status) == (IMAGE[-512:], b"\xee" * 512, 0)
    assert driver.used == [(0, 513)]
    assert read(bench, driver, SECTORS + 5, 512) == (b"\xee" * 512, 0)


def test_a_write_past_the_end_is_fatal() -> None:
    bench, driver = disk()
    driver.add(block_head(OUT, SECTORS - 1), bytes(1024), 1)
    with kills(f"Write past end {(SECTORS - 1) * 512}+1024"):
        driver.ring()
    assert bench.bus.state()[0].sectors == ()


def test_a_write_of_part_of_a_sector_is_an_error() -> None:
    bench, driver = disk()
    assert write(bench, driver, 0, bytes(100)) == 1


def test_requests_without_head_or_status_are_fatal() -> None:
    _, driver = disk()
    driver.add(bytes(15), 1)
    with kills("iovec too short!"):
        driver.ring()
    _, driver = disk()
    driver.add(block_head(IN, 0), 0)
    with kills("Bad virtblk cmd with no room for status"):
        driver.ring()
    _, driver = disk()
    driver.add(block_head(IN, 1 << 60), 512, 1)
    with kills(f"Bad seek to sector {1 << 60}"):
        driver.ring()


def test_a_state_taken_while_a_request_waits_goes_on_elsewhere() -> None:
    bench, driver = disk()
    write(bench, driver, 2, b"z" * 512)
    *_, room, status = driver.add(block_head(IN, 1), 1024, 1)
    driver.ring()
    states, memory = bench.bus.state(), bench.memory.read(0, bench.limit)

    other, its = disk()
    other.memory.write(0, memory)
    other.bus.restore(states)
    assert other.bus.digest_bytes() == bench.bus.digest_bytes()
    other.bus.ask_again()
    assert other.notes.asked == bench.notes.asked == [(0, 1, Action.READ, 512, 1024)]
    serve(other, its)
    assert other.memory.read(room, 1024) == IMAGE[512:1024] + b"z" * 512
    assert other.memory.read(status, 1) == b"\0"
    serve(bench, driver)
    assert other.bus.state() == bench.bus.state()
    assert other.memory.read(0, bench.limit) == bench.memory.read(0, bench.limit)


WRITES = st.lists(
    st.tuples(st.integers(0, 7), st.integers(1, 4), st.binary(min_size=1, max_size=3))
)


@settings(max_examples=60, deadline=None)
@given(writes=WRITES, position=st.integers(0, 11), length=st.integers(0, 3000))
def test_an_overlay_is_a_disk_that_was_written(
    writes: list[tuple[int, int, bytes]], position: int, length: int
) -> None:
    overlay, plain = Overlay(), bytearray(IMAGE[: 16 * 512])
    for sector, count, seed in writes:
        data = (seed * 2048)[: count * 512]
        overlay.store(sector * 512, data)
        plain[sector * 512 : (sector + count) * 512] = data
    start = position * 512
    assert overlay.over(start, IMAGE[start : start + length]) == plain[start : start + length]
    again = Overlay(reversed(overlay.sectors()))
    assert again.digest() == overlay.digest()
    overlay.store(0, b"!" * 512)
    assert (again.digest() == overlay.digest()) == (again.sectors() == overlay.sectors())
