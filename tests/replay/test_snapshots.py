"""Snapshots: taken and dropped in any order, within their room, each gives back exactly its state."""

from __future__ import annotations

import random

from hostvm.launcher import GuestConfig
from hostvm.machine import Machine, MachineConfig
from hostvm.units import Tick
from replay.catalogue import find_kernel
from replay.event_store import Position
from replay.snapshots import DENSE_SNAPSHOTS, Snapshots
from replay.virtual_world import VirtualWorld

NOWHERE = Position(0, 0)
FIRST = 300_000


def kestrel() -> Machine:
    """A machine in the middle of things, in a World that asks nothing of anybody who goes back."""
    kernel = find_kernel("kestrel")
    setup = GuestConfig(kernel.content, "", 16 << 20, abi=kernel.abi, name=kernel.name)
    machine = Machine(MachineConfig((setup,)), VirtualWorld(1, host_hz=0))
    machine.run(Tick(FIRST))
    return machine


def forward_digests(ticks: list[int]) -> dict[int, bytes]:
    machine, found = kestrel(), {}
    for tick in sorted(ticks):
        machine.run(Tick(tick))
        found[tick] = machine.digest()
    return found


def test_any_snapshot_is_restored_exactly_whatever_was_taken_and_dropped_meanwhile() -> None:
    rng = random.Random(2)
    machine = kestrel()
    kept = Snapshots(machine, NOWHERE, 64 << 20)
    digests = {FIRST: machine.digest()}
    for _ in range(60):
        match rng.randrange(4):
            case 0:
                snapshot = rng.choice(list(kept))
                kept.restore(snapshot)
                assert machine.tick == snapshot.tick
            case 1 if len(kept) > 4:
                spare = [s for s in list(kept)[1:] if s.tick != kept.base]
                kept.drop(rng.choice(spare))
            case _:
                # History has one end; in between it can only be passed again in a replay.
                kept.restore(list(kept)[-1])
                if machine.tick < 1_200_000:
                    machine.run(Tick(machine.tick + rng.choice((1, 400, 9_000, 70_000))))
                taken = kept.take(NOWHERE, continues=False, dense=rng.random() < 0.5)
                digests.setdefault(taken.tick, machine.digest())
        for snapshot in rng.sample(list(kept), min(2, len(kept))):
            kept.restore(snapshot)
            assert machine.digest() == digests[snapshot.tick]


def test_the_room_is_kept_and_the_first_snapshot_stays() -> None:
    machine = kestrel()
    bare = Snapshots(machine, NOWHERE, 1 << 30).bytes
    room = bare + (1 << 20)
    kept = Snapshots(machine, NOWHERE, room)
    for number in range(150):
        machine.run(Tick(machine.tick + 6_000))
        kept.take(NOWHERE, continues=False, dense=number % 3 == 0)
        assert kept.bytes <= room
    ticks = [snapshot.tick for snapshot in kept]
    assert ticks[0] == FIRST
    assert len(ticks) > 2
    kept.restore(next(iter(kept)))
    assert machine.digest() == forward_digests([FIRST])[FIRST]


def test_dense_snapshots_are_few_and_near_the_cursor() -> None:
    machine = kestrel()
    kept = Snapshots(machine, NOWHERE, 256 << 20)
    for _ in range(3 * DENSE_SNAPSHOTS):
        machine.run(Tick(machine.tick + 500))
        kept.take(NOWHERE, continues=False, dense=True)
    ticks = [snapshot.tick for snapshot in kept if snapshot.dense]
    assert len(ticks) <= DENSE_SNAPSHOTS
    near = [tick for tick in ticks if machine.tick - tick <= 10 * 500]
    assert len(near) >= 8


def test_what_is_dropped_gives_its_room_back() -> None:
    machine = kestrel()
    kept = Snapshots(machine, NOWHERE, 256 << 20)
    before = kept.bytes
    taken = []
    for _ in range(10):
        machine.run(Tick(machine.tick + 20_000))
        taken.append(kept.take(NOWHERE, continues=False, dense=False))
    assert kept.bytes > before
    kept.restore(next(iter(kept)))
    random.Random(4).shuffle(taken)
    for snapshot in taken:
        kept.drop(snapshot)
    assert kept.bytes == before
