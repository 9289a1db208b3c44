"""What came into a recorded machine, placed by what the machine did and not by ticks: for one that is not the same.

A changed kernel takes other ticks for the same work. So each interrupt is said to come at an instruction - a symbol of
the kernel and an offset, or an address of a program - when that is about to begin for the so-manieth time since the one
before; in the middle of a REP, so many iterations on. An interrupt that the Host takes in its own turn comes at its
so-manieth turn; one that wakes it, when it is idle. All answers that the World gave in between belong to the stretch
between two interrupts, and are given out in their order.

Read next: scripted_world.py, which plays a script; regression.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum

from hostvm.devices.config import SECTOR
from hostvm.machine import Machine
from hostvm.observations import IrqRaised, Observation
from hostvm.probes import NO_PROBES
from hostvm.units import Nanoseconds, Tick
from hostvm.world import Action, Completion, Request
from replay.errors import ReplayError
from replay.event_store import EventCursor
from replay.events import DebuggerWrite, Event
from replay.instructions import goes_on_with_rep
from replay.log import TraceReader
from replay.look import Look
from replay.scan import Scan
from replay.session import ReplayWorld, start_of
from replay.stops import Breakpoint
from replay.symbols import Named, Symbols

# Where an instruction begins about so many times, only the last so many ticks are counted in: each beginning takes
# microseconds, and a delay loop of Linux has 200,000 of them between two interrupts.
OFTEN, WINDOW = 20_000, 20_000


class BadTest(ReplayError):
    """A trace that cannot be made a test of, or a change that cannot be tried."""


class Way(Enum):
    """Where an interrupt finds the machine."""

    GUEST = "in the guest"
    TURN = "in the Host's turn"
    IDLE = "idle"


@dataclass(frozen=True, slots=True)
class Turned:
    """The Host's so-manieth turn since the interrupt before, and how many ticks after that its end came; 0, 0: none."""

    turns: int = 0
    ticks: int = 0


NO_TURN = Turned()


@dataclass(frozen=True, slots=True)
class Start:
    """Where counting starts: so many ticks behind a turn of the Host, so that a kernel may take longer before that."""

    turned: Turned
    after: int


@dataclass(frozen=True, slots=True)
class Spot:
    """An instruction: at `named` in the kernel of its Guest, if that has symbols, or at `address` in a program.

    The interrupt comes when it is about to begin and has done so `visits` times since the interrupt before, or since
    `start`; with `beyond`, so many ticks after its last beginning.
    """

    address: int
    named: Named | None
    visits: int
    beyond: int = 0
    in_program: bool = False
    start: Start | None = None


@dataclass(frozen=True, slots=True)
class Answered:
    """What a device delivered, and what it had been asked for; None: it came by itself."""

    completion: Completion
    request: Request | None


@dataclass(frozen=True, slots=True)
class Stimulus:
    """An interrupt: at tick `tick` of the recording, `ticks` after the one before; `turns` of the Host lay between.

    `turned`: the last of those that was over WINDOW ticks before it.
    """

    vector: int
    way: Way
    guest: int
    tick: Tick
    ticks: int
    turns: int
    eip: int = 0
    turned: Turned = NO_TURN
    spot: Spot | None = None


@dataclass(slots=True)
class Stretch:
    """What the World answered between two interrupts, in order; `rings`: a timer rang."""

    clock: list[Nanoseconds] = field(default_factory=list)
    tsc: list[int] = field(default_factory=list)
    choices: list[tuple[int, int]] = field(default_factory=list)
    answers: list[Answered] = field(default_factory=list)
    rings: bool = False


@dataclass(slots=True)
class Script:
    """A recording as interrupts, and what was answered before the first and behind each.

    `disks`: the sectors that were read, by Guest, device and number. `left`: ticks behind the last interrupt.
    """

    stimuli: list[Stimulus] = field(default_factory=list)
    stretches: list[Stretch] = field(default_factory=lambda: [Stretch()])
    disks: dict[tuple[int, int, int], bytes] = field(default_factory=dict)
    left: int = 0


def script_of(reader: TraceReader) -> Script:
    """The script of a trace from power-on. Raises BadTest, Divergence, and as Session does."""
    if not reader.starts_at_power_on:
        raise BadTest(
            "it begins with a state of its guests; only what begins at power-on can be run anew"
        )
    script = _first_pass(reader)
    _second_pass(reader, script)
    return script


# ---- what came in ----------------------------------------------------------------------------------


class _Listener(ReplayWorld):
    """Answers from a trace, and writes the script."""

    def __init__(self, events: Iterable[Event] | EventCursor, guests: int) -> None:
        super().__init__(events, guests)
        self.script = Script()
        self._since = Tick(0)
        self._turns: list[Turned] = []
        self._requests: dict[tuple[int, int, int], Request] = {}

    @property
    def _here(self) -> Stretch:
        return self.script.stretches[-1]

    def _interrupt(self, vector: int, way: Way, guest: int, tick: Tick, eip: int = 0) -> None:
        ticks = tick - self._since
        turns = (t for t in reversed(self._turns) if t.ticks <= ticks - WINDOW)
        turned = next(turns, NO_TURN)
        stimulus = Stimulus(vector, way, guest, tick, ticks, len(self._turns), eip, turned)
        self.script.stimuli.append(stimulus)
        self.script.stretches.append(Stretch())
        self._since, self._turns = Tick(tick + 1), []

    def interrupt_taken(self, tick: Tick, guest: int, vector: int, eip: int, check: int) -> None:
        super().interrupt_taken(tick, guest, vector, eip, check)
        self._interrupt(vector, Way.GUEST, guest, tick, eip)

    def host_interrupt(self, tick: Tick, guest: int) -> int | None:
        vector = super().host_interrupt(tick, guest)
        if vector is None:
            self._turns.append(Turned(len(self._turns) + 1, tick + 1 - self._since))
        else:
            self._interrupt(vector, Way.TURN, guest, tick)
        return vector

    def wait(self, tick: Tick, guest: int) -> int | None:
        vector = super().wait(tick, guest)
        if vector is not None:
            self._interrupt(vector, Way.IDLE, guest, tick)
        return vector

    def clock(self, tick: Tick, guest: int) -> Nanoseconds:
        ns = super().clock(tick, guest)
        self._here.clock.append(ns)
        return ns

    def tsc(self, tick: Tick, guest: int) -> int:
        value = super().tsc(tick, guest)
        self._here.tsc.append(value)
        return value

    def choose(self, tick: Tick, guest: int, bound: int) -> int:
        value = super().choose(tick, guest, bound)
        self._here.choices.append((bound, value))
        return value

    def submit(self, tick: Tick, request: Request) -> None:
        self._requests[request.guest, request.device, request.irq] = request

    def completions(self, tick: Tick) -> tuple[Completion, ...]:
        done = super().completions(tick)
        for each in done:
            request = self._requests.pop((each.guest, each.device, each.irq), None)
            self._here.answers.append(Answered(each, request))
            if request is not None and request.action is Action.READ:
                self._read(request, each.data)
        return done

    def _read(self, request: Request, data: bytes) -> None:
        first = request.position // SECTOR
        for at in range(0, len(data) - SECTOR + 1, SECTOR):
            key = request.guest, request.device, first + at // SECTOR
            self.script.disks[key] = data[at : at + SECTOR]

    def observe(self, observation: Observation) -> None:
        super().observe(observation)
        if isinstance(observation, IrqRaised) and observation.irq == 0:
            self._here.rings = True


def _first_pass(reader: TraceReader) -> Script:
    """Everything but the spots."""
    if any(isinstance(event, DebuggerWrite) for event in reader.events()):
        raise BadTest("a debugger wrote into its guests; such a run cannot be made anew")
    start = start_of(reader)
    world = _Listener(reader.events(), len(start.config.guests))
    machine = start.machine(world)
    machine.run(start.end_tick)
    stimuli = world.script.stimuli
    since = stimuli[-1].tick + 1 if stimuli else 0
    world.script.left = machine.tick - since
    return world.script


# ---- at which instructions -------------------------------------------------------------------------


def _second_pass(reader: TraceReader, script: Script) -> None:
    """Count how often the instructions began at which interrupts came; where that is often, only the last of it."""
    last = {
        number: stimulus.ticks - WINDOW if stimulus.ticks > 2 * WINDOW else 0
        for number, stimulus in enumerate(script.stimuli)
        if stimulus.way is Way.GUEST
    }
    _count(reader, script, last)
    seldom = {
        number: 0
        for number, after in last.items()
        if after and not _is_often(script.stimuli[number])
    }
    if seldom:
        _count(reader, script, seldom)


def _is_often(stimulus: Stimulus) -> bool:
    """By how often its instruction begins in the last ticks before it."""
    visits = 0 if stimulus.spot is None else stimulus.spot.visits
    return visits * stimulus.ticks >= OFTEN * WINDOW


def _count(reader: TraceReader, script: Script, starts: Mapping[int, int]) -> None:
    """Count at these interrupts, each from so many ticks on behind the interrupt before it."""
    start = start_of(reader)
    machine = start.machine(ReplayWorld(reader.events(), len(start.config.guests)))
    symbols = Symbols(machine)
    for number, stimulus in enumerate(script.stimuli):
        if number in starts:
            ticks = starts[number]
            machine.run(Tick(stimulus.tick - stimulus.ticks + ticks))
            spot = _spot(machine, symbols, stimulus)
            if ticks:
                turned = stimulus.turned
                spot = replace(spot, start=Start(turned, ticks - turned.ticks))
            script.stimuli[number] = replace(stimulus, spot=spot)
            machine.run(Tick(stimulus.tick + 1))


def _spot(machine: Machine, symbols: Symbols, stimulus: Stimulus) -> Spot:
    """Run to an interrupt, and say where it comes."""
    begin = machine.tick
    scan = Scan(Look(machine), [(0, Breakpoint(stimulus.eip))], backwards=True)
    machine.cpu.set_probes(scan.probes())
    machine.run(Tick(max(begin, stimulus.tick - 1)))
    before = machine.cpu.eip
    machine.run(stimulus.tick)
    machine.cpu.set_probes(NO_PROBES)
    hits = [tick for tick, _ in scan.hits if begin < tick < stimulus.tick]
    amid = stimulus.tick > begin and goes_on_with_rep(machine.cpu, before)
    spot = Spot(
        stimulus.eip,
        symbols.name_of(stimulus.eip, in_guest=True, guest=stimulus.guest),
        len(hits),
        in_program=machine.cpu.cpl == 3,
    )
    if stimulus.tick == begin:
        return replace(spot, visits=-1)
    if amid and hits:
        return replace(spot, visits=len(hits) - 1, beyond=stimulus.tick - hits[-1])
    return spot


__all__ = [
    "WINDOW",
    "Answered",
    "BadTest",
    "Script",
    "Spot",
    "Start",
    "Stimulus",
    "Stretch",
    "Turned",
    "Way",
    "script_of",
]
