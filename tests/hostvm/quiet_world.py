"""A World for tests: time is counted in ticks, nothing is late, and interrupts come when the test says.

Everything in it is a plain value, so that a copy, in this process or in another, goes on just as the original would.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache

from hostvm.edits import Edit
from hostvm.launcher import GuestConfig
from hostvm.machine import Machine, MachineConfig
from hostvm.observations import ConsoleOutput, GuestEnded, Observation
from hostvm.units import Nanoseconds, Tick
from hostvm.world import TIMER_VECTOR, Completion, Request

NEVER = Tick(1 << 62)
END_OF_TIME = Tick(1 << 40)
EPOCH_NS = 1_000_000_000_000
NS_PER_TICK = 10

MIX_OF_8, CRUNCH_OF_8 = b"mix is done, status d4cf337d", b"crunch is done, status 4fcc22c5"
MIX_OF_1, CRUNCH_OF_1 = b"mix is done, status e17f81b1", b"crunch is done, status 72bd5618"

# (tick at which it was taken, vector, EIP there, Guest)
Taken = tuple[int, int, int, int]


@dataclass
class QuietWorld:
    """`lines` are the interrupts besides the timer's, in order: (tick from which on the line is up, vector).

    `taken` are those that the CPU took, `taken_by_host` (tick, vector) those that the Host took in its turn;
    `host_turns` are the ticks at which it asked.
    """

    lines: list[tuple[int, int]] = field(default_factory=list)
    deadline: int | None = None
    skipped: int = 0
    to_deliver: list[Completion] = field(default_factory=list)
    taken: list[Taken] = field(default_factory=list)
    taken_by_host: list[tuple[int, int]] = field(default_factory=list)
    host_turns: list[int] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    observations: list[Observation] = field(default_factory=list)

    @property
    def console(self) -> bytes:
        """All that the Guests printed."""
        return b"".join(o.data for o in self.observations if isinstance(o, ConsoleOutput))

    @property
    def ends(self) -> list[GuestEnded]:
        """How the Guests ended."""
        return [o for o in self.observations if isinstance(o, GuestEnded)]

    def console_of(self, guest: int) -> bytes:
        """All that one Guest printed."""
        mine = (o for o in self.observations if isinstance(o, ConsoleOutput) and o.guest == guest)
        return b"".join(o.data for o in mine)

    def _now(self, tick: int) -> int:
        return EPOCH_NS + self.skipped + tick * NS_PER_TICK

    def _timer_tick(self) -> int:
        if self.deadline is None:
            return NEVER
        return -(-(self.deadline - EPOCH_NS - self.skipped) // NS_PER_TICK)

    def _line_tick(self) -> int:
        return self.lines[0][0] if self.lines else NEVER

    def horizon(self, tick: Tick) -> Tick:
        return Tick(max(tick, min(self._line_tick(), self._timer_tick())))

    def interrupt_line(self, tick: Tick) -> int | None:
        if self._line_tick() <= tick:
            return self.lines[0][1]
        return TIMER_VECTOR if self._timer_tick() <= tick else None

    def _lower(self, tick: int, vector: int) -> None:
        assert vector == self.interrupt_line(Tick(tick))
        if self._line_tick() <= tick:
            del self.lines[0]
        else:
            self.deadline = None

    def interrupt_taken(self, tick: Tick, guest: int, vector: int, eip: int, check: int) -> None:
        self._lower(tick, vector)
        self.taken.append((tick, vector, eip, guest))

    def host_interrupt(self, tick: Tick, guest: int) -> int | None:
        self.host_turns.append(tick)
        vector = self.interrupt_line(tick)
        if vector is not None:
            self._lower(tick, vector)
            self.taken_by_host.append((tick, vector))
        return vector

    def wait(self, tick: Tick, guest: int) -> int | None:
        """No tick passes while the machine waits, so the timer comes first, and then the lines one by one."""
        if self.deadline is not None:
            self.skipped += max(0, self._timer_tick() - tick) * NS_PER_TICK
        elif self.lines:
            self.lines[0] = tick, self.lines[0][1]
        else:
            return None
        return self.host_interrupt(tick, guest)

    def clock(self, tick: Tick, guest: int) -> Nanoseconds:
        return Nanoseconds(self._now(tick))

    def tsc(self, tick: Tick, guest: int) -> int:
        return self._now(tick)

    def choose(self, tick: Tick, guest: int, bound: int) -> int:
        return tick * 7 % bound

    def program_timer(self, tick: Tick, deadline: Nanoseconds | None) -> None:
        self.deadline = deadline

    def submit(self, tick: Tick, request: Request) -> None:
        self.requests.append(request)

    def completions(self, tick: Tick) -> tuple[Completion, ...]:
        done, self.to_deliver = tuple(self.to_deliver), []
        return done

    def edit(self, tick: Tick, refusal: Callable[[Edit], str | None]) -> Edit | None:
        return None

    def observe(self, observation: Observation) -> None:
        self.observations.append(observation)


@cache
def hello_kernel() -> bytes:
    """The file of the hello Guest."""
    from importlib.resources import files

    return files("hostvm").joinpath("guest", "images", "hello.elf").read_bytes()


def hello(line: str = "loops=1", memory: int = 4 << 20) -> GuestConfig:
    """The hello Guest in as little memory as it needs."""
    return GuestConfig(hello_kernel(), command_line=line, memory=memory, name="hello.elf")


def machine_of(
    *guests: GuestConfig,
    world: QuietWorld | None = None,
    digest_interval: int = 1 << 16,
    memory_digest_every: int = 2,
) -> tuple[Machine, QuietWorld]:
    """A machine at power-on and its World. Digests come often, so that observations tell much."""
    config = MachineConfig(guests, digest_interval, memory_digest_every)
    world = QuietWorld() if world is None else world
    return Machine(config, world), world
