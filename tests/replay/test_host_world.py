"""HostWorld, asked as a machine asks."""

from __future__ import annotations

import os
import time

import pytest

from hostvm.units import Nanoseconds, Tick
from hostvm.world import DEVICE_VECTOR, TIMER_VECTOR, Completion
from replay.host_clock import HOST_RESOLUTION_NS, HostClock
from replay.host_world import Console, HostWorld

TYPED = Completion(0, 0, 1, b"ls\n")


def test_its_clock_is_this_computers_in_whole_microseconds() -> None:
    before = time.time_ns()
    now = HostWorld(0).clock(Tick(0), 0)
    assert now % HOST_RESOLUTION_NS == 0
    assert abs(now - before) < 60 * 10**9


def test_waiting_lasts_until_the_deadline() -> None:
    world = HostWorld(0)
    deadline = Nanoseconds(world.clock(Tick(0), 0) + 20_000_000)
    world.program_timer(Tick(0), deadline)
    assert world.wait(Tick(0), 0) == TIMER_VECTOR
    assert world.clock(Tick(0), 0) >= deadline


def test_waiting_for_nothing_ends_the_machine() -> None:
    assert HostWorld(0).wait(Tick(0), 0) is None


def test_stop_ends_a_long_wait_at_once() -> None:
    world = HostWorld(0)
    world.program_timer(Tick(0), Nanoseconds(world.clock(Tick(0), 0) + 10**12))
    world.while_waiting = world.stop
    assert world.wait(Tick(0), 0) is None


def test_the_horizon_is_near_and_ahead_while_nothing_is_due() -> None:
    world = HostWorld(0, host_hz=0)
    assert Tick(100) < world.horizon(Tick(100)) < Tick(1_000_000)


def test_the_horizon_is_here_once_the_timer_is_due() -> None:
    world = HostWorld(0, host_hz=0)
    world.program_timer(Tick(0), world.clock(Tick(0), 0))
    assert world.horizon(Tick(7)) == Tick(7)
    assert world.interrupt_line(Tick(7)) == TIMER_VECTOR


class HandSetClock(HostClock):
    """Shows what the test says."""

    ns = 0

    def _monotonic(self) -> int:
        return self.ns - self._rested


def test_its_tick_comes_in_real_time(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = HandSetClock()
    monkeypatch.setattr("replay.host_world.HostClock", lambda: clock)
    world = HostWorld(0, host_hz=1000)
    assert world.interrupt_line(Tick(0)) is None
    clock.ns += 1_000_000
    assert world.interrupt_line(Tick(0)) == TIMER_VECTOR
    world.interrupt_taken(Tick(0), 0, TIMER_VECTOR, 0, 0)
    assert world.interrupt_line(Tick(0)) is None
    assert world.horizon(Tick(0)) > Tick(0)
    clock.ns += 1_000_000
    assert world.horizon(Tick(0)) == Tick(0)


def test_nothing_passes_while_it_rests(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = HandSetClock()
    monkeypatch.setattr("replay.host_world.HostClock", lambda: clock)
    world = HostWorld(0)
    world.rest()
    before = world.clock(Tick(0), 0), world.tsc(Tick(0), 0)
    clock.ns += 10**9
    world.go_on()
    assert (world.clock(Tick(0), 0), world.tsc(Tick(0), 0)) == before
    clock.ns += 10**9
    assert world.clock(Tick(0), 0) == before[0] + 10**9


def test_its_tick_neither_wakes_nor_keeps_alive() -> None:
    world = HostWorld(0, host_hz=1000)
    assert world.wait(Tick(0), 0) is None
    deadline = Nanoseconds(world.clock(Tick(0), 0) + 20_000_000)
    world.program_timer(Tick(0), deadline)
    assert world.wait(Tick(0), 0) == TIMER_VECTOR
    assert world.clock(Tick(0), 0) >= deadline


def test_what_is_typed_reaches_the_console() -> None:
    reading, writing = os.pipe()
    try:
        world = HostWorld(0, Console(reading, guest=0, device=0, irq=1))
        os.write(writing, b"ls\n")
        assert world.wait(Tick(0), 0) == DEVICE_VECTOR
        assert world.completions(Tick(0)) == (TYPED,)
    finally:
        os.close(reading)
        os.close(writing)


def test_the_end_of_typing_is_no_interrupt() -> None:
    reading, writing = os.pipe()
    os.close(writing)
    try:
        world = HostWorld(0, Console(reading, guest=0, device=0, irq=1))
        assert world.wait(Tick(0), 0) is None
    finally:
        os.close(reading)


@pytest.mark.parametrize("bound", [1, 4, 1 << 32])
def test_equal_seeds_give_equal_choices(bound: int) -> None:
    one, other = HostWorld(8), HostWorld(8)
    assert [one.choose(Tick(0), 0, bound) for _ in range(20)] == [
        other.choose(Tick(0), 0, bound) for _ in range(20)
    ]
