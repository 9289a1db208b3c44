"""Pages that changed, found from the D bits: compared with all of memory after stretches of random length."""

from __future__ import annotations

import random

import numpy as np
import pytest

from hostvm.dirty_pages import DirtyPages
from hostvm.launcher import GuestConfig
from hostvm.machine import Machine, MachineConfig
from hostvm.page_tables import dirty_frames
from hostvm.units import Tick
from hostvm.x86 import PAGE_SHIFT, PAGE_SIZE
from replay.catalogue import find_kernel
from replay.virtual_world import VirtualWorld


def machine_of(guest: str, line: str = "", count: int = 1) -> Machine:
    kernel = find_kernel(guest)
    setup = GuestConfig(kernel.content, line, 16 << 20, abi=kernel.abi, name=kernel.name)
    return Machine(MachineConfig((setup,) * count), VirtualWorld(3))


def changed(machine: Machine, before: np.ndarray, after: np.ndarray) -> set[int]:
    first = machine.memory.base >> PAGE_SHIFT
    rows = (before.reshape(-1, PAGE_SIZE) != after.reshape(-1, PAGE_SIZE)).any(axis=1)
    return {first + int(row) for row in np.flatnonzero(rows)}


@pytest.mark.parametrize(
    ("guest", "count"),
    [("hello", 1), ("hello", 2), ("kestrel", 1), ("kestrel-2.6.27", 1), ("kestrel-2.6.23", 1)],
)
def test_no_page_that_changed_is_left_out(guest: str, count: int) -> None:
    rng = random.Random(5)
    machine = machine_of(guest, "loops=1" if guest == "hello" else "", count)
    machine.run(Tick(rng.randrange(200_000)))
    dirty = DirtyPages(machine.memory, lambda: machine.guests)
    dirty.collect()
    machine.cpu.flush_tlb()
    before = np.frombuffer(machine.memory.mapping, np.uint8).copy()
    for _ in range(12):
        machine.run(Tick(machine.tick + rng.choice((1, 50, 3_000, 60_000, 250_000))))
        found = dirty.collect()
        machine.cpu.flush_tlb()
        after = np.frombuffer(machine.memory.mapping, np.uint8).copy()
        assert changed(machine, before, after) <= found
        before = after


def test_collecting_changes_no_digest() -> None:
    watched, alone = machine_of("kestrel"), machine_of("kestrel")
    dirty = DirtyPages(watched.memory, lambda: watched.guests)
    for tick in range(100_000, 900_000, 100_000):
        dirty.collect()
        watched.cpu.flush_tlb()
        watched.run(Tick(tick))
        alone.run(Tick(tick))
        assert watched.digest() == alone.digest()


def test_frames_of_a_table_are_those_present_and_dirty() -> None:
    entries = [0x1000 | 0x41, 0x2000 | 0x40, 0x3000 | 0x01, 0x4000 | 0x63]
    table = b"".join(entry.to_bytes(4, "little") for entry in entries)
    assert dirty_frames(table.ljust(PAGE_SIZE, b"\0")) == {1, 4}
