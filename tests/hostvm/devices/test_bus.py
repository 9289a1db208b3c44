"""NOTIFY: status, doorbells and the early console."""

from __future__ import annotations

import pytest

from hostvm.abi import DevicePage
from hostvm.devices.config import BlockConfig, RngConfig
from tests.hostvm.devices.driver import IN, MEMORY, Bench, Driver, block_head
from tests.hostvm.lguest_kit import kills


def test_a_text_below_the_limit_is_for_the_early_console() -> None:
    bench = Bench()
    bench.memory.write(0x1FFA, b"over a page\0not this")
    bench.bus.notify(0x1FFA)
    assert bench.notes.printed == b"over a page"


def test_a_text_ends_with_the_memory() -> None:
    bench = Bench()
    bench.memory.write(bench.limit - 3, b"end")
    bench.bus.notify(bench.limit - 3)
    assert bench.notes.printed == b"end"


def test_a_notify_beyond_the_devices_is_fatal() -> None:
    bench = Bench()
    for address in (bench.limit, 0xFFFFFFFF):
        with kills(f"Bad NOTIFY {address:#x}"):
            bench.bus.notify(address)


def test_ringing_a_device_that_was_not_set_up_is_fatal() -> None:
    bench = Bench()
    with kills("Notification on console before setup!"):
        bench.bus.notify(bench.device("console").queues[1].address)


def test_features_are_settled_once() -> None:
    bench = Bench()
    bench.start("console")
    with kills("Device console features finalized twice"):
        bench.bus.notify(bench.device("console").placed.address)


def test_older_drivers_tell_of_every_status() -> None:
    bench = Bench(drivers=DevicePage.EVERY_STATUS)
    console = bench.device("console")
    bench.bus.notify(console.queues[1].address)
    for status in (0, 1, 3, 7):
        bench.set_status(console.placed, status)
    driver = Driver(bench, console.queues[1])
    driver.add(b"hello")
    driver.ring()
    assert bench.notes.printed == b"hello"


def test_later_drivers_tell_of_every_status_and_begin_when_they_are_ready_or_ring() -> None:
    bench = Bench(drivers=DevicePage.DRIVER_OK)
    console = bench.device("console")
    for status in (0, 1, 3):
        bench.set_status(console.placed, status)
        assert not console.running
    driver = Driver(bench, console.queues[1])
    driver.add(b"early, ")
    driver.ring()
    assert console.running
    bench.set_status(console.placed, 0)
    assert not console.running
    for status in (1, 3, 7, 7):
        bench.set_status(console.placed, status)
    driver = Driver(bench, console.queues[1])
    driver.add(b"hello")
    driver.ring()
    assert bench.notes.printed == b"early, hello"
    bench.set_status(console.placed, 0x87)
    assert not console.running


def test_a_reset_wipes_rings_and_features_and_forgets_what_was_waited_for() -> None:
    bench = Bench(BlockConfig(8))
    (driver,) = bench.start("block")
    device = bench.device("block")
    driver.add(block_head(IN, 0), 512, 1)
    driver.ring()
    bench.memory.write(device.placed.accepted, b"\x04\x02")
    bench.set_status(device.placed, 0)
    assert not any(bench.memory.read(driver.queue.address, 3 * 4096))
    assert bench.memory.read(device.placed.accepted, 2) == b"\0\0"
    before = bench.bus.state()
    bench.complete("block", driver.queue, b"late" * 128)
    assert bench.bus.state() == before
    assert not any(bench.memory.read(driver.queue.address, 3 * 4096))
    assert bench.notes.irqs == []


def test_a_failed_driver_stops_its_device() -> None:
    bench = Bench()
    drivers = bench.start("console")
    bench.set_status(bench.device("console").placed, 0x83)
    with kills("Notification on console before setup!"):
        drivers[1].ring()


def test_what_the_guest_writes_on_the_page_moves_no_ring() -> None:
    bench = Bench()
    _, driver = bench.start("console")
    bench.memory.write(MEMORY, b"\xff" * 4 + b"\x07" + b"\xff" * 100)
    driver.add(b"still here")
    driver.ring()
    assert bench.notes.printed == b"still here"


@pytest.mark.parametrize("number", [0, 2, 255])
def test_a_completion_for_no_queue_is_only_its_interrupt(number: int) -> None:
    bench = Bench(RngConfig())
    bench.bus.complete(number, 9, b"data")
    assert bench.notes.irqs == [9]
