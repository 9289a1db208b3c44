"""How often a second: hypercalls, page faults, system calls, disk requests; and how long a whole boot takes.

Each is a Guest that does nothing else for a fixed number of ticks. Rates are of this computer; so each also says how
many empty calls of the engine it is worth, measured in turns with it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from statistics import median

from hostvm.devices.config import BlockConfig
from hostvm.launcher import GuestConfig
from hostvm.machine import Machine, MachineConfig
from hostvm.observations import Observation, TrapReflected
from hostvm.units import Tick
from hostvm.world import Completion
from replay.catalogue import find_kernel
from replay.virtual_world import VirtualWorld
from tests.bench.compute import on_the_bare_engine_for
from tests.bench.figures import Aim, Figure, Measured, Timed, alternate, ratio, summary, timed
from tests.bench.programs import (
    HYPERCALLS,
    PAGE_FAULTS,
    disk_reads,
    guest,
    mappings,
    system_calls,
)
from tests.bench.round_trip import EMPTY_CALLS, empty_calls
from tests.bench.ways import both_ways

TICKS = 200_000
SETTLED = 300_000
PAGE_FAULT, SYSTEM_CALL = 14, 0x80
SECTORS = 64
BOOT_LINE = "-- 8"
KESTRELS = ("kestrel", "kestrel-2.6.27")


class CountingWorld(VirtualWorld):
    """Counts Host turns, reflected page faults and completions."""

    turns = faults = completed = 0

    def host_interrupt(self, tick: Tick, guest: int) -> int | None:
        self.turns += 1
        return super().host_interrupt(tick, guest)

    def completions(self, tick: Tick) -> tuple[Completion, ...]:
        done = super().completions(tick)
        self.completed += len(done)
        return done

    def observe(self, observation: Observation) -> None:
        if isinstance(observation, TrapReflected) and observation.vector == PAGE_FAULT:
            self.faults += 1


@dataclass
class Rate:
    """A Guest at work, and how to count what it does."""

    guest: GuestConfig
    count: Callable[[CountingWorld, Machine], int]
    ticks: int = TICKS
    world: CountingWorld = field(default_factory=CountingWorld)

    def __post_init__(self) -> None:
        config = MachineConfig((self.guest,), digest_interval=1 << 40)
        self.machine = Machine(config, self.world)
        self.machine.run(Tick(SETTLED))
        self.number = 0

    def work(self) -> None:
        """Do it for a while."""
        before = self.count(self.world, self.machine)
        self.machine.run(Tick(self.machine.tick + self.ticks))
        assert not self.machine.finished
        self.number = self.count(self.world, self.machine) - before
        assert self.number > 0

    def timed(self) -> Timed:
        """CPU seconds for each."""
        whole = timed(self.work)
        return lambda: whole() / self.number


def _rate(make: Callable[[], Rate], rounds: int) -> Measured:
    one, nothing = make().timed(), timed(empty_calls())
    times = alternate(one, nothing, rounds)
    each = median(time for time, _ in times)
    empty = median(time / (empty_time / EMPTY_CALLS) for time, empty_time in times)
    note = f"{each * 1e6:.1f} us each, as long as {empty:.1f} empty emu_starts"
    return summary([1 / time for time, _ in times], note)


def _each(make: Callable[[], Rate], rounds: int) -> Measured:
    one = make().timed()
    times = [one() * 1e6 for _ in range(rounds + 1)][1:]
    return summary(times, f"{1e6 / median(times):,.0f} a second")


def hypercalls() -> Rate:
    """FLUSH_ASYNC with nothing to flush."""
    return Rate(guest(HYPERCALLS), lambda world, _: world.turns)


def page_faults() -> Rate:
    """Pages touched that the Guest has and the Host's tables do not yet."""
    return Rate(guest(PAGE_FAULTS), lambda world, _: world.turns)


def _kestrel(program: bytes, *, disk: bool = False) -> GuestConfig:
    kernel = find_kernel("kestrel")
    devices = (BlockConfig(SECTORS),) if disk else ()
    return GuestConfig(kernel.content, "hz=100", 8 << 20, program, name="bench", devices=devices)


def demand_zero() -> Rate:
    """A program touches new memory: reflected into the kernel, which finds a page, says so, and goes back."""
    return Rate(_kestrel(mappings()), lambda world, _: world.faults, ticks=4 * TICKS)


def direct_traps() -> Rate:
    """getpid in a loop: from ring 3 to ring 1 and back, without the Host."""
    program = _kestrel(system_calls())
    return Rate(program, lambda _, machine: machine.cpu.direct_traps.get(SYSTEM_CALL, 0))


def disk_requests() -> Rate:
    """A program reads sectors one by one; the World answers at once, as far as this computer is concerned."""
    return Rate(_kestrel(disk_reads(), disk=True), lambda world, _: world.completed)


class Boot:
    """kestrel from power-on to power-off."""

    def __init__(self, name: str) -> None:
        kernel = find_kernel(name)
        guest = GuestConfig(kernel.content, BOOT_LINE, 8 << 20, abi=kernel.abi, name=name)
        self._config = MachineConfig((guest,))
        self.ticks = 0

    def run(self) -> None:
        """Build the machine, and run it to its end."""
        machine = Machine(self._config, VirtualWorld(1))
        machine.run(Tick(1 << 40))
        assert machine.finished
        self.ticks = machine.tick


def _boot(name: str, rounds: int) -> Measured:
    """Against so many instructions on the bare engine."""
    boot = Boot(name)
    boot.run()
    names = (f"{boot.ticks:,} ticks", "bare engine")
    return ratio(timed(boot.run), timed(on_the_bare_engine_for(boot.ticks)), rounds, names)


def _boot_seconds(name: str, rounds: int) -> Measured:
    boot = Boot(name)
    once = timed(boot.run)
    once()
    return summary([once() for _ in range(rounds)], f"{boot.ticks:,} ticks")


FIGURES = (
    Figure("hypercalls", "/s", None, lambda n: _rate(hypercalls, n)),
    Figure("page faults, filled by the Host", "/s", None, lambda n: _rate(page_faults, n)),
    Figure("page faults, demand-zero in kestrel", "/s", None, lambda n: _rate(demand_zero, n)),
    *both_ways(
        (Figure("system call, direct trap", "us", Aim(10), lambda n: _each(direct_traps, n)),)
    ),
    Figure("disk requests", "/s", None, lambda n: _rate(disk_requests, n)),
    *both_ways(
        Figure(f"boot of {name}", "s", None, partial(_boot_seconds, name)) for name in KESTRELS
    ),
    *(
        Figure(f"boot of {name} / bare engine", "x the time", None, partial(_boot, name))
        for name in KESTRELS
    ),
)
