"""The runs that recording and replaying are measured with."""

from __future__ import annotations

from pathlib import Path

from hostvm.launcher import GuestConfig
from hostvm.machine import Machine, MachineConfig
from hostvm.observations import Observation
from hostvm.units import Tick
from replay.log import TraceReader
from replay.machine_header import Origin
from replay.recording import record
from replay.session import Session
from replay.slices import FIRST_SLICE, run_in_slices
from replay.virtual_world import VirtualWorld
from replay.world_time import FAR
from tests.bench.figures import cpu_time
from tests.hostvm.quiet_world import hello_kernel

ROOT = Path(__file__).parents[2]
SEED = 7
TRACE = "bench.trace"
ORIGIN = Origin(clock="virtual", seed=SEED)
NO_DIGESTS = 1 << 62
# Two programs that compute, with the timer of an ordinary kernel; and the same with twenty times the interrupts.
CALM, BUSY = "loops=200 hz=1000", "loops=60 hz=20000"


class Stopwatch:
    """A watcher that measures the running itself: from the first look at it, which is early, to the last."""

    def __init__(self) -> None:
        self._first: float | None = None
        self._last = 0.0

    def observed(self, observation: Observation) -> None:
        pass

    def progress(self, tick: Tick) -> None:
        self._last = cpu_time()
        if self._first is None:
            assert tick == FIRST_SLICE
            self._first = self._last

    def stops(self) -> bool:
        return False

    @property
    def seconds(self) -> float:
        """CPU time between the two."""
        assert self._first is not None
        return self._last - self._first


def hello(line: str) -> GuestConfig:
    """The hello Guest."""
    return GuestConfig(hello_kernel(), command_line=line, name="hello.elf")


def config(line: str) -> MachineConfig:
    """A machine as `lgreplay record` makes it."""
    return MachineConfig((hello(line),))


def world() -> VirtualWorld:
    """The same World each time."""
    return VirtualWorld(SEED)


def run_unrecorded(line: str) -> float:
    """The run and nothing else, no digests either; the CPU time that it took."""
    machine = Machine(MachineConfig((hello(line),), digest_interval=NO_DIGESTS), world())
    watch = Stopwatch()
    for tick in run_in_slices(machine, FAR):
        watch.progress(tick)
    assert machine.finished
    return watch.seconds


def record_run(line: str, folder: str) -> float:
    """As `lgreplay record --clock virtual` does; the CPU time that the running took."""
    watch = Stopwatch()
    record(config(line), world(), Path(folder) / TRACE, ORIGIN, watch)
    return watch.seconds


def replay_run(folder: str) -> float:
    """As `lgreplay replay` does; the CPU time that the running took."""
    watch = Stopwatch()
    with TraceReader(Path(folder) / TRACE) as reader:
        session = Session(reader)
        for tick in session.verify():
            watch.progress(tick)
        assert session.verified.torn is None
    return watch.seconds
