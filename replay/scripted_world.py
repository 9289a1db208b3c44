"""A World that plays a script (script.py) to a machine that need not be the one it was written for.

Whoever drives the machine says when an interrupt's place is reached (`raise_line`); all else goes by order: an idle
machine is woken by whatever is next, an interrupt for the Host comes at its turn, and answers are given out as they
were recorded, stretch by stretch. When they do not suffice, time goes on as virtual time does, and a disk has zeros
where nobody has read. When a timer rang in the recording, time is at least its deadline. Behind the script a
VirtualWorld goes on.

Read next: regression.py.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from hostvm.devices.config import SECTOR
from hostvm.edits import Edit
from hostvm.observations import Observation
from hostvm.units import Nanoseconds, Tick
from hostvm.world import TIMER_VECTOR, Action, Completion, Request
from replay.draws import Draws
from replay.script import Answered, Script, Stimulus, Stretch, Way
from replay.virtual_world import VIRTUAL_NS_PER_TICK, VirtualWorld
from replay.world_time import FAR, POWER_ON, Since

# A request that so many interrupts did not answer was not made in the recording.
_OVERDUE = 3


class ScriptedWorld:
    """Plays `script`; `pause` ends the run when an interrupt has come. `notes` hears of everything.

    The run is also ended at the `turns_until_pause`-th turn of the Host behind an interrupt, if that is not 0.
    """

    def __init__(
        self,
        script: Script,
        seed: int,
        pause: Callable[[], None],
        notes: Callable[[Observation], bool],
    ) -> None:
        self._script = script
        self._seed = seed
        self._pause = pause
        self._notes = notes
        self._draws = Draws(seed)
        self.played = 0
        self.unknown_sectors = 0
        self.done = False
        self.began = Tick(0)
        self.turns_until_pause = 0
        self._turns = 0
        self._up: int | None = None
        self._ns: tuple[Tick, int] = (Tick(0), POWER_ON.ns)
        self._tsc: tuple[Tick, int] = (Tick(0), 0)
        self._deadline: Nanoseconds | None = None
        self._ring = False
        self._requests: dict[tuple[int, int, int], tuple[int, Request]] = {}
        self._virtual: VirtualWorld | None = None
        self._begin(script.stretches[0])

    def _begin(self, stretch: Stretch) -> None:
        self._clock = deque(stretch.clock)
        self._tscs = deque(stretch.tsc)
        self._choices = deque(stretch.choices)
        self._answers: deque[Answered] = deque(stretch.answers)

    @property
    def next(self) -> Stimulus | None:
        """The interrupt that comes next."""
        stimuli = self._script.stimuli
        return stimuli[self.played] if self.played < len(stimuli) else None

    def raise_line(self) -> None:
        """Its place is reached: it comes as soon as it can."""
        if self.next is not None:
            self._up = self.next.vector

    def _come(self, tick: Tick) -> int:
        """The next interrupt has come; its vector."""
        stimulus = self.next
        assert stimulus is not None
        self.played += 1
        self._up, self._turns, self.began = None, 0, Tick(tick + 1)
        stretch = self._script.stretches[self.played]
        self._begin(stretch)
        self._ring = stretch.rings and stimulus.vector == TIMER_VECTOR
        self._pause()
        return stimulus.vector

    # ---- behind the script ----------------------------------------------------------------------

    def _is_over(self, tick: Tick) -> bool:
        return self.next is None and tick > self.began + self._script.left

    def _rest(self, tick: Tick) -> VirtualWorld:
        """Who answers behind the script."""
        if self._virtual is None:
            since = Since(tick, self._time(tick, self._ns), self._time(tick, self._tsc))
            self._virtual = VirtualWorld(self._seed, since=since)
            self._virtual.program_timer(tick, self._deadline)
            for _, request in self._requests.values():
                self._virtual.submit(tick, request)
        return self._virtual

    def _time(self, tick: Tick, last: tuple[Tick, int]) -> int:
        return last[1] + max(0, tick - last[0]) * VIRTUAL_NS_PER_TICK

    # ---- interrupts -----------------------------------------------------------------------------

    def horizon(self, tick: Tick) -> Tick:
        if self._up is not None:
            return tick
        if self._virtual is not None or self._is_over(tick):
            return self._rest(tick).horizon(tick)
        return FAR if self.next is not None else Tick(self.began + self._script.left + 1)

    def interrupt_line(self, tick: Tick) -> int | None:
        if self._virtual is not None:
            return self._virtual.interrupt_line(tick)
        return self._up

    def interrupt_taken(self, tick: Tick, guest: int, vector: int, eip: int, check: int) -> None:
        if self._virtual is not None:
            self._virtual.interrupt_taken(tick, guest, vector, eip, check)
        else:
            self._come(tick)

    def host_interrupt(self, tick: Tick, guest: int) -> int | None:
        if self._virtual is not None:
            return self._virtual.host_interrupt(tick, guest)
        stimulus = self.next
        due = stimulus is not None and stimulus.way is Way.TURN and self._turns >= stimulus.turns
        if due or self._up is not None:
            return self._come(tick)
        self._turns += 1
        if self._turns == self.turns_until_pause:
            self._pause()
        return None

    def wait(self, tick: Tick, guest: int) -> int | None:
        if self._virtual is None and self.next is not None:
            return self._come(tick)
        return self._rest(tick).wait(tick, guest)

    # ---- other questions ------------------------------------------------------------------------

    def clock(self, tick: Tick, guest: int) -> Nanoseconds:
        if self._virtual is not None:
            return self._virtual.clock(tick, guest)
        ns = self._clock.popleft() if self._clock else self._time(tick, self._ns)
        if self._ring and self._deadline is not None:
            ns = max(ns, self._deadline)
        self._ring = False
        ns = max(ns, self._ns[1])
        self._ns = tick, ns
        return Nanoseconds(ns)

    def tsc(self, tick: Tick, guest: int) -> int:
        if self._virtual is not None:
            return self._virtual.tsc(tick, guest)
        value = self._tscs.popleft() if self._tscs else self._time(tick, self._tsc)
        self._tsc = tick, value
        return value

    def choose(self, tick: Tick, guest: int, bound: int) -> int:
        if self._choices and self._choices[0][0] == bound:
            return self._choices.popleft()[1]
        return self._draws.below(bound)

    def program_timer(self, tick: Tick, deadline: Nanoseconds | None) -> None:
        self._deadline = deadline
        if self._virtual is not None:
            self._virtual.program_timer(tick, deadline)

    def submit(self, tick: Tick, request: Request) -> None:
        key = request.guest, request.device, request.irq
        if key not in self._requests or self._requests[key][1] != request:
            self._requests[key] = self.played, request
        if self._virtual is not None:
            self._virtual.submit(tick, request)

    def completions(self, tick: Tick) -> tuple[Completion, ...]:
        if self._virtual is not None:
            return self._virtual.completions(tick)
        done = []
        while self._answers:
            answered = self._answers.popleft()
            each = answered.completion
            found = self._requests.pop((each.guest, each.device, each.irq), None)
            if answered.request is None:
                done.append(each)
            elif found is not None:
                done.append(self._answer(found[1], each.data))
        late = [r for since, r in self._requests.values() if self.played - since >= _OVERDUE]
        for request in late:
            del self._requests[request.guest, request.device, request.irq]
            done.append(self._answer(request, b""))
        return tuple(done)

    def _answer(self, request: Request, recorded: bytes) -> Completion:
        data = b""
        if request.action is Action.READ:
            data = self._read(request)
        elif request.action is Action.ENTROPY:
            missing = max(0, request.count - len(recorded))
            data = recorded[: request.count] + self._draws.data(missing)
        return Completion(request.guest, request.device, request.irq, data)

    def _read(self, request: Request) -> bytes:
        first, last = request.position // SECTOR, -(-(request.position + request.count) // SECTOR)
        found = []
        for number in range(first, last):
            sector = self._script.disks.get((request.guest, request.device, number))
            self.unknown_sectors += sector is None
            found.append(bytes(SECTOR) if sector is None else sector)
        at = request.position - first * SECTOR
        return b"".join(found)[at : at + request.count]

    def edit(self, tick: Tick, refusal: Callable[[Edit], str | None]) -> Edit | None:
        return None

    def observe(self, observation: Observation) -> None:
        if self._notes(observation):
            self.done = True
            self._pause()


__all__ = ["ScriptedWorld"]
