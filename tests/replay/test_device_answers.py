"""What Worlds answer to devices, and when."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hostvm.units import Tick
from hostvm.world import DEVICE_VECTOR, Action, Completion, Request
from replay.device_answers import Disks, Outstanding, answer
from replay.host_world import HostWorld
from replay.virtual_world import VirtualWorld

DISKS: Disks = {(1, 2): bytes(range(200))}
READ = Request(1, 2, 3, Action.READ, 10, 4)
WRITE = Request(1, 2, 3, Action.WRITE, 10, 4)
ENTROPY = Request(0, 1, 2, Action.ENTROPY, 0, 21)


def test_a_read_gets_the_image_and_zeros_behind_it() -> None:
    assert answer(READ, DISKS, bytes) == Completion(1, 2, 3, b"\x0a\x0b\x0c\x0d")
    assert answer(replace(READ, position=198), DISKS, bytes).data == b"\xc6\xc7\0\0"
    assert answer(replace(READ, device=3), DISKS, bytes).data == bytes(4)


def test_a_write_gets_nothing_but_its_time() -> None:
    assert answer(WRITE, DISKS, bytes) == Completion(1, 2, 3, b"")


def test_the_same_request_again_is_known_and_another_replaces_it() -> None:
    outstanding = Outstanding()
    outstanding.add(50, READ)
    assert READ in outstanding
    assert WRITE not in outstanding
    outstanding.add(70, WRITE)
    outstanding.add(60, ENTROPY)
    assert outstanding.next_due() == 60
    assert outstanding.take_due(59) == ()
    assert outstanding.take_due(70) == (ENTROPY, WRITE)
    assert outstanding.next_due() is None


def test_a_virtual_world_answers_after_a_while_and_its_line_is_up_once() -> None:
    world = VirtualWorld(3, disks=DISKS)
    start = Tick(1000)
    world.submit(start, READ)
    due = world.horizon(start)
    world.submit(Tick(start + 5), READ)
    assert world.horizon(start) == due > start + 1000
    assert world.interrupt_line(Tick(due - 1)) is None
    assert world.interrupt_line(due) == DEVICE_VECTOR
    world.interrupt_taken(due, 0, DEVICE_VECTOR, 0, 0)
    assert world.interrupt_line(Tick(due + 1)) is None
    assert world.completions(Tick(due + 2)) == (answer(READ, DISKS, bytes),)
    assert world.interrupt_line(Tick(due + 3)) is None
    assert world.wait(Tick(due + 4), 0) is None


def test_an_idle_virtual_machine_waits_for_its_devices() -> None:
    world = VirtualWorld(4)
    world.submit(Tick(10), ENTROPY)
    assert world.wait(Tick(10), 0) == DEVICE_VECTOR
    (done,) = world.completions(Tick(10))
    assert len(done.data) == 21


@pytest.mark.parametrize("seed", [1, 2])
def test_random_bytes_depend_on_the_seed_alone(seed: int) -> None:
    def draw(seed: int) -> bytes:
        world = VirtualWorld(seed)
        world.submit(Tick(0), ENTROPY)
        world.wait(Tick(0), 0)
        return world.completions(Tick(0))[0].data

    assert draw(seed) == draw(seed) != draw(seed + 1)


def test_this_computer_answers_a_device_although_nothing_else_is_to_come() -> None:
    world = HostWorld(1, disks=DISKS)
    world.submit(Tick(0), READ)
    assert world.wait(Tick(0), 0) == DEVICE_VECTOR
    assert world.completions(Tick(0)) == (answer(READ, DISKS, bytes),)
    assert world.wait(Tick(0), 0) is None
