"""A trace as a regression test: what came into it, once more, into a machine with another kernel or another Host.

    from replay.regression import Change, rerun

    def test_the_race_is_fixed() -> None:
        assert rerun("iret-race.lgt", Change(kernel=Path("kernel.elf").read_bytes())).fixed

The recording is made a script (script.py) and played twice: to the very machine that it was recorded on, where the
failure must occur again, or it is no test; and to the changed one. An interrupt whose place is not met - the code is
gone, or the run went another way - comes later, by time; how many did is in the result.

Read next: script.py, scripted_world.py, moved_code.py, outcomes.py.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from os import PathLike
from pathlib import Path

from hostvm.launcher import GuestConfig
from hostvm.machine import Machine, MachineConfig
from hostvm.probes import NO_PROBES
from hostvm.quirks import corrected_names, quirks_without
from hostvm.units import Tick
from replay.chunk_writer import image_info
from replay.derived import Derived, demand_whole, derive
from replay.event_store import EventStore
from replay.events import Event
from replay.failure import failure_of
from replay.log import TraceReader
from replay.look import Look
from replay.machine_header import Origin, header_of, machine_of
from replay.moved_code import MovedCode
from replay.outcomes import Oracle, Outcome, Reception, Verdict
from replay.predicate import BadPredicate, parse
from replay.recording import RecordingWorld
from replay.run_notes import Notes, Watch
from replay.scan import Scan
from replay.script import WINDOW, BadTest, Script, Start, Stimulus, Way, script_of
from replay.scripted_world import ScriptedWorld
from replay.stops import Breakpoint, BreakpointHit, Predicate, Stop
from replay.symbols import Symbols
from replay.trace_header import TraceEnd, TraceEndReason, pack_header

# An interrupt whose place is not met comes after so many times its ticks, and so many more.
PATIENCE, SLACK = 2, 50_000
_SPOT = 1 << 20
NO_ORACLE = Oracle(ticks=500_000)


@dataclass(frozen=True, slots=True)
class Change:
    """What is to be another: files and command line of a Guest, bugs of the Host that are corrected, the Switcher.

    None: as it was recorded. `quirks` are names of bugs to be corrected (besides those that were).
    """

    kernel: bytes | None = None
    abi: str | None = None
    initrd: bytes | None = None
    command_line: str | None = None
    quirks: tuple[str, ...] = ()
    switcher: bytes = b""

    def of(self, config: MachineConfig, guest: int) -> MachineConfig:
        """The changed machine."""
        guests = list(config.guests)
        guests[guest] = self._guest(guests[guest])
        names = {*corrected_names(config.quirks), *self.quirks}
        return replace(
            config,
            guests=tuple(guests),
            quirks=quirks_without(names),
            switcher=self.switcher or config.switcher,
        )

    def _guest(self, guest: GuestConfig) -> GuestConfig:
        return replace(
            guest,
            kernel=guest.kernel if self.kernel is None else self.kernel,
            abi=self.abi or guest.abi,
            initrd=guest.initrd if self.initrd is None else self.initrd,
            command_line=guest.command_line if self.command_line is None else self.command_line,
        )


@dataclass(frozen=True, slots=True)
class Played:
    """A script played to the end: what became of it, and how many interrupts came, of how many, and by time alone."""

    outcome: Outcome
    came: int
    of: int
    by_time: int
    unknown_sectors: int
    events: tuple[Event, ...] = field(repr=False)
    end: TraceEnd = field(repr=False)


@dataclass(frozen=True, slots=True)
class Result:
    """What the test shows: the recorded machine once more, and the changed one."""

    recorded: Played
    changed: Played
    config: MachineConfig = field(repr=False)

    @property
    def fixed(self) -> bool:
        """Nothing fails."""
        return not self.changed.outcome.verdict.failed

    @property
    def same(self) -> bool:
        """It fails as it did."""
        return self.changed.outcome.kind == self.recorded.outcome.kind

    def save(self, path: str | PathLike[str], *, force: bool = False) -> int:
        """Keep the changed run as a trace; its size in bytes. Raises BadTest, and as `derive` does."""
        if self.config.switcher:
            raise BadTest("a trace has no Switcher in it, so a run with another one cannot be kept")
        header, images = header_of(self.config, Origin("virtual", 0, ("lgreplay", "test")))
        listed = tuple(image_info(*image) for image in images.items())
        raw = pack_header(replace(header, images=listed))
        events, end = self.changed.events, self.changed.end
        made = Derived(raw, tuple(images.values()), None, lambda: events, end)
        return derive(made, Path(path), force=force)


def rerun(
    path: str | PathLike[str],
    change: Change | None = None,
    oracle: Oracle = NO_ORACLE,
    seed: int = 0,
) -> Result:
    """Play the trace at `path` to a changed machine, and see whether it fails; `oracle` says what else is a failure.

    Raises: BadTest where there is nothing to test, or the recorded machine does not fail; TraceError, TraceMismatch,
    ConfigurationError.
    """
    with TraceReader(path) as reader:
        demand_whole(reader)
        failure = failure_of(EventStore(reader))
        if failure is None and oracle == replace(NO_ORACLE, ticks=oracle.ticks):
            raise BadTest(
                "nothing fails in this trace; --panic, --assert or --until say what is a failure"
            )
        guest = 0 if failure is None else failure.guest
        script, config = script_of(reader), machine_of(reader)
        recorded = Player(script, config, config, guest, oracle, seed).play()
        if not recorded.outcome.verdict.failed:
            raise BadTest("run once more as it was, it does not fail")
        if change is None or change == Change():
            return Result(recorded, recorded, config)
        other = change.of(config, guest)
        return Result(recorded, Player(script, config, other, guest, oracle, seed).play(), other)


class Player:
    """Plays a script that was recorded on the machine `old` to the machine `new`, and judges Guest `guest`."""

    def __init__(
        self,
        script: Script,
        old: MachineConfig,
        new: MachineConfig,
        guest: int,
        oracle: Oracle,
        seed: int,
    ) -> None:
        self._script, self._oracle = script, oracle
        self._by_time = 0
        self._met = False
        self._pauses = 0
        try:
            panic = None if oracle.panic is None else re.compile(oracle.panic)
        except re.error as error:
            raise BadTest(f"{oracle.panic}: {error}") from error
        self._notes = Notes(Watch(guest, frozenset(), panic, oracle.late))
        self._world = ScriptedWorld(script, seed, self._pause, self._notes.take)
        self._events: list[Event] = []
        recording = RecordingWorld(self._world)
        self._machine: Machine | None = None
        self._machine = machine = Machine(new, recording)
        recording.attach(self._events.append)
        self._look = Look(machine)
        self._moved = [
            MovedCode(one.kernel, other.kernel)
            for one, other in zip(old.guests, new.guests, strict=True)
        ]
        self._wrong = self._predicates(machine)

    def _predicates(self, machine: Machine) -> list[tuple[Verdict, str, Predicate]]:
        symbols = Symbols(machine)
        wanted = [(Verdict.ASSERTION, t, f"not ({t})") for t in self._oracle.holds]
        wanted += [(Verdict.MET, t, t) for t in self._oracle.until]
        try:
            return [(v, t, parse(words, symbols.address_of)) for v, t, words in wanted]
        except BadPredicate as error:
            raise BadTest(str(error)) from error

    def _pause(self) -> None:
        self._pauses += 1
        if self._machine is not None:
            self._machine.paused = True

    @property
    def _here(self) -> Machine:
        assert self._machine is not None
        return self._machine

    # ---- playing --------------------------------------------------------------------------------

    def play(self) -> Played:
        """All of it, and then on for as long as the oracle says."""
        wrong = None
        while wrong is None and not self._is_done and self._world.next is not None:
            wrong = self._one(self._world.next)
        if wrong is None and not self._is_done:
            goal = self._here.tick + self._script.left + self._oracle.ticks
            wrong = self._run(Tick(goal), None)
        verdict, text = wrong or self._notes.judged(self._here.tick, stuck=self._here.finished)
        machine = self._here
        reason = TraceEndReason.FINISHED if machine.finished else TraceEndReason.LIMIT
        outcome = Outcome(
            Tick(0), machine.cpu.eip, Reception.UNSET, verdict, text, self._moment(machine.tick)
        )
        return Played(
            outcome,
            self._world.played,
            len(self._script.stimuli),
            self._by_time,
            self._world.unknown_sectors,
            tuple(self._events),
            TraceEnd(machine.tick, machine.digest(), reason),
        )

    @property
    def _is_done(self) -> bool:
        return self._world.done or self._here.finished

    def _one(self, stimulus: Stimulus) -> tuple[Verdict, str] | None:
        """Let one interrupt come."""
        begin = self._here.tick
        limit = Tick(begin + PATIENCE * stimulus.ticks + SLACK)
        stop = self._stop(stimulus)
        if stop is not None and stimulus.spot is not None and stimulus.spot.start is not None:
            wrong = self._approach(stimulus.spot.start)
            if wrong is not None or self._has_come(stimulus) or self._is_done:
                return wrong
        if stimulus.way is Way.GUEST and stimulus.spot is not None and stimulus.spot.visits < 0:
            limit = begin
        wrong = self._run(limit, stop)
        if wrong is not None or self._has_come(stimulus) or self._is_done:
            return wrong
        if stop is not None and self._met:
            assert stimulus.spot is not None
            wrong = self._run(Tick(self._here.tick + stimulus.spot.beyond), None)
            if wrong is not None or self._has_come(stimulus):
                return wrong
        elif limit > begin:
            self._by_time += 1
        return self._take(stimulus, limit - begin + SLACK)

    def _take(self, stimulus: Stimulus, ticks: int) -> tuple[Verdict, str] | None:
        """Raise the line. Only a Switcher that goes in circles does not take it."""
        self._world.raise_line()
        wrong = self._run(Tick(self._here.tick + ticks), None)
        if wrong is None and not self._has_come(stimulus) and not self._is_done:
            return Verdict.STUCK, f"an interrupt is not taken for {ticks:,} ticks"
        return wrong

    def _approach(self, start: Start) -> tuple[Verdict, str] | None:
        """Run to where counting starts; if that turn of the Host does not come, to about where it was by time."""
        turned, played, begin = start.turned, self._world.played, self._here.tick
        if turned.turns:
            self._world.turns_until_pause = turned.turns
            late = Tick(begin + turned.ticks + start.after + WINDOW // 2)
            wrong = self._run(late, None)
            self._world.turns_until_pause = 0
            if wrong is not None or self._here.tick >= late or self._world.played != played:
                return wrong
        return self._run(Tick(self._here.tick + start.after), None)

    def _has_come(self, stimulus: Stimulus) -> bool:
        return self._world.next is not stimulus

    def _stop(self, stimulus: Stimulus) -> Breakpoint | None:
        """The place of an interrupt, which counts how often it is met."""
        spot = stimulus.spot
        if stimulus.way is not Way.GUEST or spot is None or spot.visits < 0:
            return None
        moved = self._moved[stimulus.guest]
        address = spot.address if spot.in_program else moved.address(spot.address, spot.named)
        if address is None:
            return None
        left = spot.visits

        def count(_: Look) -> bool:
            nonlocal left
            left -= 1
            return left < 0

        return Breakpoint(address, condition=count)

    def _run(self, until: Tick, stop: Breakpoint | None) -> tuple[Verdict, str] | None:
        """Run to a tick, to a place, or until the World pauses; what is wrong, if an expression says so."""
        machine, pauses = self._here, self._pauses
        self._met = False
        if not self._wrong and stop is None:
            self._go(until)
            return None
        for verdict, text, predicate in self._wrong:
            if predicate.holds(self._look):
                return verdict, text
        stops: list[tuple[int, Stop]] = [(n, p) for n, (_, _, p) in enumerate(self._wrong)]
        stops += [] if stop is None else [(_SPOT, stop)]
        scan = Scan(self._look, stops, backwards=False)
        machine.cpu.set_probes(scan.probes())
        machine.memory.listener = scan.listen
        scan.begin(machine.tick)
        try:
            while machine.tick < until and not self._is_done and self._pauses == pauses:
                machine.run(until)
                if scan.settle():
                    machine.cpu.set_probes(scan.probes())
                if scan.hits:
                    return self._hit(scan.hits[0][1])
        finally:
            machine.memory.listener = None
            machine.cpu.set_probes(NO_PROBES)
        return None

    def _hit(self, reason: object) -> tuple[Verdict, str] | None:
        if reason == BreakpointHit(_SPOT):
            self._met = True
            return None
        verdict, text, _ = self._wrong[getattr(reason, "number", 0)]
        return verdict, text

    def _go(self, until: Tick) -> None:
        machine, pauses = self._here, self._pauses
        while machine.tick < until and not self._is_done and self._pauses == pauses:
            machine.run(until)

    def _moment(self, tick: Tick) -> Tick:
        return tick if self._notes.ended is None else self._notes.ended.tick


__all__ = ["NO_ORACLE", "Change", "Played", "Player", "Result", "rerun"]
