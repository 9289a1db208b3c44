"""Devices on PCI: what the specifications say of them, and what a driver that does not keep to them is told."""

from __future__ import annotations

import struct
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from random import Random

import pytest

from hostvm.devices import pci_bus
from hostvm.devices.config import BlockConfig, NetConfig, RngConfig
from hostvm.devices.pci_placing import lay_out_pci
from hostvm.errors import ConfigurationError, GuestKilled
from hostvm.x86 import PAGE_SHIFT
from tests.hostvm.devices.device_guest import MEMORY, RINGS
from tests.hostvm.devices.driver import IN, WRITE, block_head
from tests.hostvm.devices.pci_driver import (
    ADDRESS_PORT,
    AGREEMENT,
    AVAIL,
    CONFIG,
    DATA_PORT,
    DESC,
    DRIVER_FEATURE,
    DRIVER_SELECT,
    EIP,
    ENABLE,
    FEATURE,
    FEATURE_SELECT,
    ISR,
    NOTIFY,
    SELECT,
    SIZE,
    STATUS,
    USED,
    PciBench,
    queue_setup,
)
from tests.hostvm.kill_texts import texts_in, unmet
from tests.hostvm.lguest_kit import kills

MAC = bytes.fromhex("020000000001")
CONFIGS = (RngConfig(), BlockConfig(16), NetConfig(MAC))
BUFFER = 0x200000
FRAME = bytes(range(60))
COMMON, NOTIFY_CAP, ISR_CAP, DEVICE_CAP, WINDOW = 1, 2, 3, 4, 5


def capabilities(bench: PciBench, slot: int) -> dict[int, tuple[int, int, int]]:
    """By type: where a capability is, offset and length in the BAR; found as any PCI driver does."""
    found = {}
    assert bench.config_read(slot, 6, 2) & 0x10
    at = bench.config_read(slot, 0x34, 1)
    while at:
        assert bench.config_read(slot, at, 1) == 9
        kind, bar = bench.config_read(slot, at + 3, 1), bench.config_read(slot, at + 4, 1)
        assert bar == 0
        found[kind] = at, bench.config_read(slot, at + 8), bench.config_read(slot, at + 12)
        at = bench.config_read(slot, at + 1, 1)
    return found


@pytest.mark.parametrize(
    ("slot", "kind", "pci_class"),
    [(1, 3, 0x0700), (2, 4, 0xFF00), (3, 2, 0x0180), (4, 1, 0x0200)],
    ids=["console", "rng", "block", "net"],
)
def test_a_driver_finds_each_device_with_all_that_virtio_1_0_demands(
    slot: int, kind: int, pci_class: int
) -> None:
    bench = PciBench(*CONFIGS)
    assert bench.config_read(slot, 0) == (0x1040 + kind) << 16 | 0x1AF4
    assert bench.config_read(slot, 8, 1) >= 1
    assert bench.config_read(slot, 10, 2) == pci_class
    assert bench.config_read(slot, 0x2E, 2) >= 0x40
    assert bench.config_read(slot, 0x3C, 1) == slot
    found = capabilities(bench, slot)
    has_own = kind != 4
    assert set(found) == {COMMON, NOTIFY_CAP, ISR_CAP, WINDOW} | (
        {DEVICE_CAP} if has_own else set()
    )
    assert found[COMMON][2] >= 56
    assert found[NOTIFY_CAP][1] % 2 == 0
    assert found[NOTIFY_CAP][2] >= 2
    assert found[ISR_CAP][2] >= 1
    assert all(offset % 4 == 0 for kind, (_, offset, _) in found.items() if kind in (1, 4))


def test_the_bridge_is_known_by_its_class_alone() -> None:
    bench = PciBench()
    assert bench.config_read(0, 0) == 0
    assert bench.config_read(0, 10, 2) == 0x0600


@pytest.mark.parametrize("slot", [1, 2, 3, 4])
def test_a_bar_says_how_large_it_is_and_lies_at_a_multiple_of_that(slot: int) -> None:
    bench = PciBench(*CONFIGS)
    base = bench.config_read(slot, 0x10)
    assert bench.config_write(slot, 0x10, 0xFFFFFFFF)
    size = -bench.config_read(slot, 0x10) & 0xFFFFFFFF
    assert size >= 64
    assert size & size - 1 == 0
    assert base % size == 0
    assert bench.config_write(slot, 0x10, base)
    assert bench.config_read(slot, 0x10) == base
    pages = (bench.page.pfn_limit, bench.page.device_limit)
    assert pages[0] == MEMORY >> PAGE_SHIFT
    assert pages[0] <= base >> PAGE_SHIFT <= base + size - 1 >> PAGE_SHIFT < pages[1]


def test_bars_do_not_overlap_and_thirty_devices_and_the_console_are_the_most() -> None:
    devices = lay_out_pci(MEMORY, [RngConfig(), BlockConfig(1)] * 15).devices
    places = sorted(device.address for device in devices)
    assert all(later - earlier >= 64 for earlier, later in pairwise(places))
    assert sorted(device.queues[0].irq for device in devices) == list(range(1, 32))
    with pytest.raises(ConfigurationError, match="32 devices"):
        lay_out_pci(MEMORY, [RngConfig()] * 31)


@pytest.mark.parametrize(
    "address",
    [
        0,
        1 << 11,
        1 << 31 | 9 << 11,
        1 << 31 | 1 << 11 | 1 << 8,
        1 << 31 | 1 << 11 | 1 << 16,
        1 << 31 | 1 << 11 | 152,
    ],
    ids=["nothing", "disabled", "no slot", "function", "bus", "behind"],
)
def test_where_nothing_is_there_are_ones_and_nothing_can_be_written(address: int) -> None:
    bench = PciBench()
    assert bench.bus.port_out(ADDRESS_PORT, 4, address, EIP)
    assert bench.bus.port_in(ADDRESS_PORT, 4, EIP) == address
    assert bench.bus.port_in(DATA_PORT, 4, EIP) == 0xFFFFFFFF
    assert not bench.bus.port_out(DATA_PORT, 4, 0, EIP)


def test_the_address_port_can_be_written_in_parts() -> None:
    bench = PciBench()
    for at, byte in enumerate((0x00, 0x08, 0x00, 0x80)):
        assert bench.bus.port_out(ADDRESS_PORT + at, 1, byte, EIP)
    assert bench.bus.port_in(DATA_PORT + 2, 2, EIP) & 0xFFFF == 0x1043
    assert bench.bus.port_in(ADDRESS_PORT + 1, 2, EIP) == 0x0008


@pytest.mark.parametrize(
    ("offset", "width", "possible"),
    [
        *((0, 4, False), (4, 4, False), (4, 2, True), (6, 2, True), (4, 1, False), (8, 4, False)),
        *((0x0C, 4, True), (0x14, 4, True), (0x28, 4, True), (0x2C, 4, False), (0x30, 4, True)),
        *((0x3C, 1, False), (0x40, 4, False), (0x88, 4, True), (0x8C, 4, True), (0x94, 4, False)),
    ],
)
def test_few_words_can_be_written_and_the_rest_is_a_fault(
    offset: int, width: int, possible: bool
) -> None:
    bench = PciBench()
    before = bench.config_read(1, offset & ~3) if offset != 0x94 else 0
    assert bench.config_write(1, offset, 0x5A5A5A5A, width) is possible
    if not possible and offset != 0x94:
        assert bench.config_read(1, offset & ~3) == before


# Registers.


def test_a_driver_agrees_sets_queues_up_and_prints() -> None:
    bench = PciBench()
    bench.do("console", *AGREEMENT[:3])
    bench.write("console", FEATURE_SELECT, 4, 0)
    low = bench.read("console", FEATURE, 4)
    bench.write("console", FEATURE_SELECT, 4, 1)
    assert (low, bench.read("console", FEATURE, 4)) == (1 << 2, 1)
    bench.write("console", STATUS, 1, 0)
    bench.start("console")
    bench.memory.write(BUFFER, b"hello")
    bench.offer(RINGS + 0x3000, (BUFFER, 2, 0), (BUFFER + 2, 3, 0))
    assert bench.notes.printed == b""
    bench.write("console", NOTIFY, 2, 1)
    assert bench.notes.printed == b"hello"
    assert bench.notes.irqs == [1]
    used = bench.memory.read(RINGS + 0x5000, 12)
    assert struct.unpack("<HHII", used) == (0, 1, 0, 0)


def test_the_isr_says_why_and_forgets_when_it_is_read() -> None:
    bench = PciBench()
    bench.start("console")
    assert bench.read("console", ISR, 1) == 0
    bench.offer(RINGS + 0x3000, (BUFFER, 1, 0))
    bench.write("console", NOTIFY, 2, 1)
    assert [bench.read("console", ISR, 1) for _ in range(2)] == [1, 0]


def test_what_was_made_available_before_the_driver_is_ready_is_taken_when_it_is() -> None:
    bench = PciBench()
    bench.do("console", *AGREEMENT, *queue_setup(0, RINGS), *queue_setup(1, RINGS + 0x3000))
    bench.offer(RINGS + 0x3000, (BUFFER, 1, 0))
    bench.write("console", NOTIFY, 2, 1)
    assert bench.notes.printed == b""
    bench.write("console", STATUS, 1, 0xF)
    assert bench.notes.printed == b"\0"


def test_a_reset_forgets_how_far_it_was_and_leaves_the_rings_alone() -> None:
    bench = PciBench()
    bench.start("console")
    bench.offer(RINGS + 0x3000, (BUFFER, 1, 0))
    bench.write("console", NOTIFY, 2, 1)
    ring = bench.memory.read(RINGS + 0x3000, 0x3000)
    bench.write("console", STATUS, 1, 0)
    assert bench.memory.read(RINGS + 0x3000, 0x3000) == ring
    assert bench.read("console", STATUS, 1) == 0
    bench.offer(RINGS + 0x3000, (BUFFER, 1, 0))
    bench.write("console", NOTIFY, 2, 1)
    assert bench.notes.printed == b"\0"
    bench.memory.write(RINGS, bytes(0x6000))
    bench.start("console")
    bench.offer(RINGS + 0x3000, (BUFFER, 2, 0))
    bench.write("console", NOTIFY, 2, 1)
    assert bench.notes.printed == bytes(3)


def test_a_disk_tells_its_size_and_reads_for_its_one_queue() -> None:
    bench = PciBench(*CONFIGS)
    bench.start("block")
    assert bench.read("block", CONFIG, 4) == 16
    assert bench.read("block", CONFIG + 12, 4) == 254
    bench.memory.write(BUFFER, block_head(IN, 2))
    bench.offer(RINGS, (BUFFER, 16, 0), (BUFFER + 512, 512, WRITE), (BUFFER + 1024, 1, WRITE))
    bench.write("block", NOTIFY, 2, 0)
    ((device, irq, _, position, count),) = bench.notes.asked
    assert (device, irq, position, count) == (1, 3, 1024, 512)
    bench.bus.complete(device, irq, b"x" * 512)
    assert bench.memory.read(BUFFER + 512, 513) == b"x" * 512 + b"\0"
    assert bench.notes.irqs == [3]


def test_frames_have_twelve_bytes_before_them_in_both_directions() -> None:
    bench = PciBench(*CONFIGS)
    bench.start("net")
    assert bytes(bench.read("net", CONFIG + at, 1) for at in range(6)) == MAC
    bench.memory.write(BUFFER, bytes(12) + FRAME)
    bench.offer(RINGS + 0x3000, (BUFFER, 12 + len(FRAME), 0))
    bench.write("net", NOTIFY, 2, 1)
    assert bench.notes.sent == [(2, FRAME)]
    bench.offer(RINGS, (BUFFER, 12, WRITE), (BUFFER + 12, 1514, WRITE))
    bench.bus.complete(2, 4, FRAME)
    # One buffer was enough, and nothing else is said.
    assert bench.memory.read(BUFFER, 12 + len(FRAME)) == bytes(10) + b"\1\0" + FRAME


def test_through_the_window_the_same_registers_are_reached() -> None:
    bench = PciBench()
    window, _, _ = capabilities(bench, 1)[WINDOW]

    def reach(offset: int, width: int, value: int | None = None) -> int:
        bench.config_write(1, window + 4, 0, 1)
        bench.config_write(1, window + 12, width)
        bench.config_write(1, window + 8, offset)
        if value is None:
            return bench.config_read(1, window + 16)
        assert bench.config_write(1, window + 16, value)
        return 0

    for byte in b"early":
        reach(CONFIG + 8, 4, byte)
    assert bench.notes.printed == b"early"
    for offset, width, value in AGREEMENT:
        reach(offset, width, value)
    assert reach(STATUS, 1) == bench.read("console", STATUS, 1) == 0xB
    assert reach(18, 2) == 2


Step = tuple[int, int, int | None]
READY: tuple[Step, ...] = (*AGREEMENT, *queue_setup(0, RINGS), *queue_setup(1, RINGS + 0x3000))
AT = f"({EIP:#x})"
CONDEMNED: list[tuple[tuple[Step, ...], str]] = [
    (((FEATURE, 4, None),), "feature read before VIRTIO_CONFIG_S_DRIVER"),
    (((FEATURE_SELECT, 4, 0),), "feature write before VIRTIO_CONFIG_S_DRIVER"),
    (((DRIVER_SELECT, 4, 2),), "Unexpected driver select 2"),
    ((*AGREEMENT[:3], (DRIVER_FEATURE, 4, 8)), "over-accepted features 0x8 of 0x100000004"),
    ((*AGREEMENT, (FEATURE_SELECT, 4, 0)), "feature write after VIRTIO_CONFIG_S_FEATURES_OK"),
    (((FEATURE, 4, 0),), "Unexpected write to offset 4"),
    (((16, 2, None),), "read of msix_config"),
    (((16, 2, 0),), "Unexpected write to offset 16"),
    (((STATUS, 1, 2),), "unexpected status transition 0x0 -> 0x2"),
    (((STATUS, 1, 1), (STATUS, 1, 2)), "unset of device status bit 0x1 -> 0x2"),
    (((STATUS, 1, 1), (STATUS, 1, 0x81)), "unknown device status bit 0x1 -> 0x81"),
    (((STATUS, 1, 1), (STATUS, 1, 1)), "unknown device status bit 0x1 -> 0x1"),
    ((*AGREEMENT[:-1], (STATUS, 1, 0xF)), "did not re-read FEATURES_OK"),
    ((*AGREEMENT[:-1], (DESC, 4, 0)), "didn't re-read FEATURES_OK before setup"),
    (((SELECT, 2, 0), (DESC, 4, 0)), "setting up vq before FEATURES_OK"),
    (((SIZE, 2, 3),), "invalid queue size 3"),
    (((26, 2, 1),), "attempt to set MSIX vector to 1"),
    (((30, 2, 1),), "attempt to write to queue_notify_off"),
    (((ENABLE, 2, 0),), "setting queue_enable to 0"),
    ((*READY, (SIZE, 2, 8)), "changing queue size on live device"),
    ((*READY, (AVAIL, 4, 0)), "changing queue on live device"),
    ((*READY, (STATUS, 1, 0xF), (ENABLE, 2, 1)), "enabling vq after DRIVER_OK"),
    (((SELECT, 2, 2), (ENABLE, 2, 1)), "setup of queue 2, which there is not"),
    (((SELECT, 2, 9), (SIZE, 2, 4), (SELECT, 2, 0)), "setup of queue 9, which there is not"),
    (((NOTIFY, 2, 2),), "Invalid vq notification on 2"),
    (((NOTIFY, 2, None),), "notify before VIRTIO_CONFIG_S_DRIVER_OK"),
    (((ISR, 1, 0),), "Unexpected write to isr"),
    (((ISR, 2, None),), f"non-8-bit read from offset 58 {AT}"),
    (((59, 1, None),), f"read from padding {AT}"),
    (((CONFIG, 2, None),), "config read before VIRTIO_CONFIG_S_DRIVER"),
    (((CONFIG + 9, 1, None),), f"read past end {AT}"),
    (((CONFIG, 2, 1),), "Unexpected write to offset 60"),
    (((STATUS, 4, 0),), f"non-8-bit write to offset 20 {AT}"),
    (((STATUS, 2, None),), f"non-8-bit read to offset 20 {AT}"),
    (((18, 4, None),), f"non-16-bit read to offset 18 {AT}"),
    (((CONFIG + 8, 1, 65),), f"non-32-bit write to offset 68 {AT}"),
    ((*AGREEMENT, (DESC, 2, 0)), f"non-32-bit write to offset 32 {AT}"),
    (
        (*AGREEMENT, (SELECT, 2, 0), (DESC, 4, MEMORY), (ENABLE, 2, 1)),
        f"Invalid address {MEMORY:#x}",
    ),
]


@pytest.mark.parametrize(("steps", "text"), CONDEMNED, ids=[text for _, text in CONDEMNED])
def test_a_bad_driver_is_told_what_it_did(steps: tuple[Step, ...], text: str) -> None:
    bench = PciBench()
    bench.do("console", *steps[:-1])
    with kills(f"console: bad driver: {text}"):
        bench.do("console", steps[-1])


def of_queue(*places: Step) -> tuple[Step, ...]:
    return (*AGREEMENT, (SELECT, 2, 1), *places, (ENABLE, 2, 1))


BAD_QUEUES = [
    (of_queue((DESC + 4, 4, 1)), "invalid 64-bit queue address"),
    (of_queue((DESC, 4, 8)), "invalid alignment in queue addresses"),
    (of_queue((USED, 4, 2)), "invalid alignment in queue addresses"),
    (of_queue((USED, 4, BUFFER)), "invalid initial used.flags 0x5"),
]


@pytest.mark.parametrize(("steps", "text"), BAD_QUEUES)
def test_a_bad_queue_is_named(steps: tuple[Step, ...], text: str) -> None:
    bench = PciBench()
    bench.memory.write_u16(BUFFER, 5)
    bench.do("console", *steps[:-1])
    with kills(f"console vq output: bad driver: {text}"):
        bench.do("console", steps[-1])


OF_QUEUE = "console vq output: bad driver: "
BAD_CHAINS = [
    ([(BUFFER, 1, WRITE)], f"{OF_QUEUE}Input buffers in console output queue?"),
    ([(BUFFER, 1, 4)], f"{OF_QUEUE}vq indirect not negotiated"),
    ([(MEMORY - 1, 2, 0)], f"console: bad driver: Invalid address {MEMORY - 1:#x}"),
    ([(BUFFER, 1, WRITE), (BUFFER, 1, 0)], f"{OF_QUEUE}Descriptor has out after in"),
]


@pytest.mark.parametrize(("pieces", "text"), BAD_CHAINS)
def test_a_bad_chain_is_told_by_who_has_it(pieces: list[tuple[int, int, int]], text: str) -> None:
    bench = PciBench()
    bench.start("console")
    bench.offer(RINGS + 0x3000, *pieces)
    with kills(text):
        bench.write("console", NOTIFY, 2, 1)


BAD_FLAGS = "avail->flags = {}\n"


@pytest.mark.parametrize(("flags", "irqs"), [(0, [1]), (1, [])])
def test_a_ring_asks_for_no_interrupt_with_its_one_flag(flags: int, irqs: list[int]) -> None:
    bench = PciBench()
    bench.start("console")
    bench.offer(RINGS + 0x3000, (BUFFER, 1, 0))
    bench.memory.write_u16(RINGS + 0x4000, flags)
    bench.write("console", NOTIFY, 2, 1)
    assert bench.notes.irqs == irqs


@pytest.mark.parametrize("flags", [2, 3, 0xFFFF])
def test_a_ring_with_any_other_flag_is_told(flags: int) -> None:
    bench = PciBench()
    bench.start("console")
    bench.offer(RINGS + 0x3000, (BUFFER, 1, 0))
    bench.memory.write_u16(RINGS + 0x4000, flags)
    with kills(OF_QUEUE + BAD_FLAGS.format(flags)):
        bench.write("console", NOTIFY, 2, 1)


NOWHERE = "bad driver: Invalid cfg_access to bar0, offset 0 len 0"


def test_a_window_that_leads_nowhere_kills_who_reads_and_faults_who_writes() -> None:
    bench = PciBench()
    assert not bench.config_write(1, 0x94, 1)
    with kills(f"console: {NOWHERE}"):
        bench.config_read(1, 0x94)
    with kills(f"PCI Host Bridge: {NOWHERE}"):
        bench.config_read(0, 0x94)
    for offset, width, bar in ((70, 4, 0), (2, 4, 0), (0, 3, 0), (0, 4, 1), (0xFFFFFFFC, 4, 0)):
        bench.config_write(1, 0x88, bar)
        bench.config_write(1, 0x8C, offset)
        bench.config_write(1, 0x90, width)
        assert not bench.config_write(1, 0x94, 1)


def test_no_reason_to_kill_a_driver_is_left_out() -> None:
    said = [text for _, text in (*CONDEMNED, *BAD_QUEUES)]
    said += [text.removeprefix(OF_QUEUE) for _, text in BAD_CHAINS]
    said += [BAD_FLAGS.format(2), f"console: {NOWHERE}"]
    texts = texts_in(Path(pci_bus.__file__).parent.glob("pci*.py"))
    assert unmet(texts, said) == set()
    assert len(texts) > 30


# States, and whatever else a Guest may do.


@pytest.mark.parametrize("seed", range(12))
def test_whatever_is_written_anywhere_ends_in_a_kill_or_in_a_state_that_can_be_restored(
    seed: int,
) -> None:
    r = Random(seed)
    bench, other = PciBench(*CONFIGS), PciBench(*CONFIGS)
    names = ("console", "rng", "block", "net")
    ended: set[str] = set()
    for turn in range(400):
        name = r.choice(names)
        try:
            match r.randrange(6):
                case 0:
                    bench.config_write(
                        r.randrange(6), r.randrange(256), r.getrandbits(32), r.choice((1, 2, 4))
                    )
                case 1:
                    bench.config_read(r.randrange(6), r.randrange(256), r.choice((1, 2, 4)))
                case 2:
                    bench.write(
                        name,
                        r.randrange(60),
                        r.choice((1, 2, 4)),
                        r.choice((0, 1, 3, 0xB, 0xF, RINGS, r.getrandbits(32))),
                    )
                case 3:
                    bench.read(name, r.randrange(60), r.choice((1, 2, 4)))
                case 4:
                    bench.start(name, r.choice((RINGS, 0, MEMORY - 0x2000)))
                case _:
                    bench.offer(
                        RINGS, (r.randrange(MEMORY), r.randrange(5000), r.choice((0, WRITE, 4)))
                    )
                    bench.write(name, NOTIFY, 2, r.randrange(2))
        except GuestKilled as killed:
            ended.add(killed.reason)
        if turn % 20 == 0:
            state = bench.bus.state()
            other.bus.restore(state)
            assert other.bus.state() == state
            assert other.bus.digest_bytes() == bench.bus.digest_bytes()
    assert len(ended) > 5
    assert all("bad driver: " in reason for reason in ended)


def test_registers_that_are_nonsense_can_be_restored_and_hurt_nobody_but_the_guest() -> None:
    r = Random(3)
    for _ in range(50):
        bench = PciBench(*CONFIGS)
        states = bench.bus.state()
        wild = tuple(
            type(state)(
                True, state.queues, state.typed, state.sectors, r.randbytes(len(state.registers))
            )
            for state in states
        )
        bench.bus.restore(wild)
        for name in ("console", "rng", "block", "net"):
            for offset, width, value in (*AGREEMENT, *queue_setup(0, RINGS), (NOTIFY, 2, 0)):
                with suppress(GuestKilled):
                    bench.do(name, (offset, width, value))


def test_a_state_in_the_middle_of_a_request_goes_on_elsewhere() -> None:
    bench, other = PciBench(*CONFIGS), PciBench(*CONFIGS)
    bench.start("rng")
    bench.offer(RINGS, (BUFFER, 8, WRITE))
    bench.write("rng", NOTIFY, 2, 0)
    other.memory.write(0, bench.memory.read(0, MEMORY))
    other.bus.restore(bench.bus.state())
    other.bus.complete(0, 2, b"entropy!")
    assert other.memory.read(BUFFER, 8) == b"entropy!"
    assert other.read("rng", ISR, 1) == 1
    assert other.bus.digest_bytes() != bench.bus.digest_bytes()
