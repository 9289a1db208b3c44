"""What a hypercall costs: out of the Guest through the Switcher, the Host's turn, and in again."""

from __future__ import annotations

from hostvm.machine import Machine, MachineConfig
from hostvm.units import Tick
from replay.virtual_world import VirtualWorld
from tests.bench.bare_engine import bare_engine
from tests.bench.figures import Action, Aim, Figure, Measured, alternate, summary, timed
from tests.bench.programs import HYPERCALL_SETUP_TICKS, HYPERCALLS, guest
from tests.bench.ways import both_ways

TICKS = 200_000
EMPTY_CALLS = 10_000
_ADDRESS = 0x1000


class CountingWorld(VirtualWorld):
    """Counts how often the Host asks for interrupts, which it does once a turn."""

    turns = 0

    def host_interrupt(self, tick: Tick, guest: int) -> int | None:
        self.turns += 1
        return super().host_interrupt(tick, guest)


def hypercalls(world: CountingWorld) -> Action:
    """Hypercalls without work in them, and hardly an instruction of the Guest's between two."""
    machine = Machine(MachineConfig((guest(HYPERCALLS),), digest_interval=1 << 40), world)
    machine.run(Tick(HYPERCALL_SETUP_TICKS))

    def call() -> None:
        world.turns = 0
        machine.run(Tick(machine.tick + TICKS))
        assert not machine.finished

    return call


def empty_calls() -> Action:
    """The engine started where it is to stop."""
    engine = bare_engine()
    engine.mem_map(0, 1 << 16)

    def call() -> None:
        for _ in range(EMPTY_CALLS):
            engine.emu_start(_ADDRESS, _ADDRESS)

    return call


def _round_trip(rounds: int) -> Measured:
    world = CountingWorld()
    times = alternate(timed(hypercalls(world)), timed(empty_calls()), rounds)
    one = sorted(call / world.turns * 1e6 for call, _ in times)[len(times) // 2]
    empty = sorted(call / EMPTY_CALLS * 1e6 for _, call in times)[len(times) // 2]
    ratios = [(call / world.turns) / (nothing / EMPTY_CALLS) for call, nothing in times]
    return summary(ratios, f"hypercall {one:.1f} us, empty call {empty:.1f} us")


def _microseconds(rounds: int) -> Measured:
    world = CountingWorld()
    call = timed(hypercalls(world))
    call()
    return summary([call() / world.turns * 1e6 for _ in range(rounds)])


FIGURES = (
    Figure("hypercall / empty emu_start", "x the time", Aim(6), _round_trip),
    *both_ways((Figure("hypercall", "us", Aim(12), _microseconds),)),
)
