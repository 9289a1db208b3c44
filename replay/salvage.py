"""`lgreplay salvage`: all of a damaged trace that is provably good, as a trace that is whole.

What bears its checksum (survey.py) is in parts between which something is missing (sound_parts.py). A part is replayed
from its first state, as far as it determines the run; what is behind that is not taken. So all that is in the new trace
is proven twice: by checksums, and by having happened again.

(i) *Where a part ends.* If the end record follows, there: the digest in it proves that nothing is missing. Otherwise
before the step of the last event, since what else belongs to that step may be gone; but a Guest's end that ends the
machine lets nothing come behind it. Where the replay goes another way, a part ends at the last event that agreed, or,
if it was a digest that did not, at the last digest that did.
(ii) *What is no loss.* Checkpoints between events, and stored states, can be had again.
(iii) *Images* are known by their SHA-256, so one that is damaged may come from another file.

Read next: survey.py, sound_parts.py, derived.py.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from itertools import islice
from os import PathLike
from pathlib import Path

from hostvm.machine import Machine, MachineConfig
from hostvm.observations import GuestEnded, StateDigest
from hostvm.units import Tick
from replay.derived import QUICK, Derived, Progress, check_output, derive, silent
from replay.errors import Divergence, Place, ReplayError, TraceTruncated, one_line
from replay.log import existing_path
from replay.machine_header import machine_of
from replay.session import ReplayWorld, machine_at
from replay.slices import run_in_slices
from replay.sound_parts import SoundPart, Stray, sound_parts
from replay.survey import Survey, survey
from replay.trace_file import TraceInput
from replay.trace_header import TraceEnd, TraceEndReason, TraceHeader


class NothingToSave(ReplayError):
    """Of the trace `path` there is nothing that can be replayed, and why."""

    def __init__(self, path: str | PathLike[str], why: str) -> None:
        super().__init__(str(path), why)
        self.path = str(path)
        self.why = why

    def __str__(self) -> str:
        return one_line(f"{self.path}: {self.why}")


@dataclass(frozen=True, slots=True)
class Saved:
    """What was written: number of the part, its ticks and events, size of the file.

    `whole`: nothing of the recording is missing. `against`: where and how the replay went another way, if it did.
    """

    part: int
    first: Tick
    last: Tick
    events: int
    size: int
    whole: bool
    against: Divergence | None = None


class Salvage:
    """A damaged trace, looked through. `images`: contents of files that may be in it.

    To be closed. Raises TraceError where nothing says what was recorded; then NothingToSave where what is left is of
    no use, and TraceMismatch, ConfigurationError where it cannot be replayed here.
    """

    def __init__(self, path: str | PathLike[str], images: Iterable[bytes] = ()) -> None:
        self.file = TraceInput(existing_path(Path(path)))
        opened = False
        try:
            self.survey: Survey = survey(self.file)
            self._known = {sha256(image).digest(): image for image in images}
            opened = True
        finally:
            if not opened:
                self.file.close()

    def close(self) -> None:
        """Close the file."""
        self.file.close()

    @cached_property
    def _config(self) -> MachineConfig:
        return machine_of(self)

    @cached_property
    def _all_parts(self) -> list[SoundPart | Stray]:
        return sound_parts(self.survey, self._config)

    @property
    def parts(self) -> list[SoundPart]:
        """What can be replayed."""
        return [part for part in self._all_parts if isinstance(part, SoundPart)]

    @property
    def strays(self) -> list[Stray]:
        """What is sound, and cannot be replayed."""
        return [part for part in self._all_parts if isinstance(part, Stray)]

    @property
    def behind(self) -> int:
        """Number of the first part that is not the beginning."""
        parts = self.parts
        return 2 if parts and parts[0].first_tick == self.first_tick else 1

    @property
    def path(self) -> Path:
        """The file."""
        return Path(self.file.path)

    @property
    def header(self) -> TraceHeader:
        """Its header."""
        return self.survey.header

    def image(self, name: str) -> bytes:
        """An embedded file, or another one with the same content. Raises NothingToSave."""
        for rank, info in enumerate(self.header.images):
            if info.name == name:
                found = self.survey.image_at(rank) or self._known.get(info.sha256)
                if found is None:
                    sum_ = info.sha256.hex()
                    why = (
                        f"its image {name!r} is damaged; --image FILE gives it back (sha256 {sum_})"
                    )
                    raise NothingToSave(self.path, why)
                return found
        raise KeyError(name)

    def save(
        self,
        number: int,
        output: str | PathLike[str],
        *,
        force: bool = False,
        progress: Progress = silent,
    ) -> Saved:
        """Write part `number`, counted from 1, as a trace.

        Raises NothingToSave, BadOutput, TraceWriteError.
        """
        target = check_output(output, self.path, force=force)
        if not 0 < number <= len(self.parts):
            raise NothingToSave(self.path, self._without(number))
        part = self.parts[number - 1]
        measured = _Measure(part, self._config, progress).run()
        if measured is None:
            raise NothingToSave(self.path, f"nothing of part {number} can be replayed")
        derived = Derived(
            self.survey.raw_header,
            tuple(self.image(info.name) for info in self.header.images),
            part.first,
            lambda: islice(part.events(), measured.events),
            measured.end,
        )
        size = derive(derived, target, level=QUICK, force=force, progress=progress)
        return Saved(
            number,
            part.first_tick,
            measured.end.tick,
            measured.events,
            size,
            measured.end == part.end and part.first_tick == self.first_tick,
            measured.against,
        )

    @property
    def first_tick(self) -> Tick:
        """The first tick of the recording, as far as is known."""
        dropped = self.survey.first_of_body not in self.survey.known and not self.survey.damaged
        return self.parts[0].first_tick if dropped and self.parts else Tick(0)

    @property
    def last_tick(self) -> Tick:
        """The last tick of the recording, as far as is known."""
        found = self.survey.end()
        known = (known.last_tick for known in self.survey.known.values())
        return found[1].end.tick if found else max(known, default=Tick(0))

    def _without(self, number: int) -> str:
        count = len(self.parts)
        if not count:
            return "no events are left behind a state to start from"
        parts = "one part" if count == 1 else f"{count} parts"
        return f"there is no part {number}; it has {parts} that can be replayed"


@dataclass(frozen=True, slots=True)
class _Measured:
    """How far a part determines the run: end, events up to there, and what was against more."""

    end: TraceEnd
    events: int
    against: Divergence | None = None


class _Measure:
    """Finds out how far a part goes, by replaying it."""

    def __init__(self, part: SoundPart, config: MachineConfig, progress: Progress) -> None:
        self._part, self._config, self._progress = part, config, progress
        self._place = Place(str(part.its.path), 0)

    def run(self) -> _Measured | None:
        """Replay the part; None where not even its first step is certain."""
        return self._with_end() or self._without_end()

    def _start(self, *, torn: bool) -> tuple[Machine, ReplayWorld]:
        tear = TraceTruncated(self._part.its.path, 0, "the part ends here") if torn else None
        world = ReplayWorld(self._part.events(), len(self._config.guests), tear)
        return machine_at(self._config, self._part.first, world, self._place), world

    def _go(self, machine: Machine, goal: Tick) -> None:
        for tick in run_in_slices(machine, goal):
            self._progress("looking how far it goes", tick, goal)

    def _with_end(self) -> _Measured | None:
        """The whole part, if it leads to the end record that follows it."""
        end = self._part.end
        if end is None:
            return None
        try:
            machine, world = self._start(torn=False)
            self._go(machine, end.tick)
        except Divergence:
            return None
        arrived = machine.tick == end.tick and world.next_event() is None
        if not arrived or machine.digest() != end.digest:
            return None
        return _Measured(end, world.events_taken)

    def _without_end(self) -> _Measured | None:
        last = next(iter(deque(self._part.events(), maxlen=1)), None)
        if last is None:
            return None
        goal = self._before(last.tick)
        try:
            return self._up_to(goal, finishes=isinstance(last, GuestEnded))
        except Divergence as divergence:
            goal = self._last_agreed(divergence)
            found = self._up_to(goal, finishes=False)
            return None if found is None else _Measured(found.end, found.events, divergence)

    def _before(self, tick: Tick) -> Tick:
        """The last state that is certain; where a digest belongs to its tick, that may be lost."""
        return Tick(tick - (tick % self._config.digest_interval == 0))

    def _up_to(self, goal: Tick, *, finishes: bool) -> _Measured | None:
        if goal <= self._part.first_tick:
            return None
        machine, world = self._start(torn=True)
        try:
            self._go(machine, goal)
        except TraceTruncated:
            return None
        found = self._here(machine, world)
        return self._last_step(machine, world) or found if finishes else found

    def _here(self, machine: Machine, world: ReplayWorld) -> _Measured:
        reason = TraceEndReason.FINISHED if machine.finished else TraceEndReason.CUT
        end = TraceEnd(machine.tick, machine.digest(), reason, "salvaged")
        return _Measured(end, world.events_taken)

    def _last_step(self, machine: Machine, world: ReplayWorld) -> _Measured | None:
        """Whether the step at hand ends the machine, with all that there is."""
        try:
            machine.run(Tick(machine.tick + 1))
        except (Divergence, TraceTruncated):
            return None
        done = machine.finished and world.next_event() is None
        return self._here(machine, world) if done else None

    def _last_agreed(self, divergence: Divergence) -> Tick:
        """The tick of the last event before a divergence; of the last digest if it was one that differed."""
        digests = "state_digest" in str(divergence.expected)
        before = (e for e in self._part.events() if e.tick < divergence.tick)
        wanted = (e for e in before if isinstance(e, StateDigest) or not digests)
        last = next(iter(deque(wanted, maxlen=1)), None)
        return self._part.first_tick if last is None else last.tick


__all__ = ["NothingToSave", "Salvage", "Saved"]
