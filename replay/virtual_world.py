"""VirtualWorld: a World to record in that computes its answers from a seed.

It makes the same run from the same seed, anywhere: its clock is a function of the tick and of how much idle time was
skipped, and its numbers come from draws.py. Idle time takes no time. It has

(i) one timer, which raises TIMER_VECTOR once the clock has reached the deadline, and the Host's own tick, which raises
    the same (world_time.py);
(ii) one device line, which is up while something scripted, an answer to a device or a frame waits to be fetched. When
    both are up the timer comes first, as it does on the interrupt controller of a PC. Each device takes a drawn time
    for a request;
(iii) a time stamp counter, which counts nanoseconds of the same clock.

Read next: host_world.py, which does the same by this computer's clock; recording.py.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from hostvm.edits import Edit
from hostvm.observations import Observation, PacketSent
from hostvm.units import Nanoseconds, Tick
from hostvm.world import DEVICE_VECTOR, TIMER_VECTOR, Completion, Request
from replay.device_answers import NO_DISKS, Disks, Outstanding, answer
from replay.draws import MASK_64, Draws, mix
from replay.ethernet import Ethernet, Port
from replay.world_time import FAR, HOST_HZ, POWER_ON, SECOND_NS, PeriodicTick, Since, earliest

VIRTUAL_NS_PER_TICK: Final = 10
VIRTUAL_LATENCY_NS: Final = 4_000


@dataclass(frozen=True, slots=True)
class Arrival:
    """What a device of a VirtualWorld will deliver when so much time has passed since its beginning."""

    after: Nanoseconds
    completion: Completion


class VirtualWorld:
    """A World computed from `seed`. `arrivals` are in order of time; `disks` has the images of Guests' disks.

    It begins at power-on, or goes on from another World's time (`since`).

    An interrupt comes up to `latency` nanoseconds after it is due, drawn anew each time. Only what changes the state
    of timer or devices draws; so the answers do not depend on how a run is cut into pieces. The Host ticks `host_hz`
    times a second; when its first tick comes is drawn as well.
    """

    def __init__(
        self,
        seed: int = 0,
        *,
        ns_per_tick: int = VIRTUAL_NS_PER_TICK,
        latency: int = VIRTUAL_LATENCY_NS,
        host_hz: int = HOST_HZ,
        arrivals: Sequence[Arrival] = (),
        disks: Disks = NO_DISKS,
        since: Since = POWER_ON,
        ports: Sequence[Port] = (),
    ) -> None:
        assert ns_per_tick > 0
        self._seed = mix(seed & MASK_64)
        self._since = since
        self._choices = Draws(seed)
        self._latencies = Draws(~seed)
        self._services = Draws(mix(seed & MASK_64) + 1)
        self._entropy = Draws(mix(seed & MASK_64) + 2)
        wire = Draws(mix(seed & MASK_64) + 4)
        self._ethernet = Ethernet(ports, wire.service_ns)
        self._disks = disks
        self._outstanding = Outstanding()
        self._fetching = False
        self._ns_per_tick = ns_per_tick
        self._latency = latency
        self._skipped = 0
        self._asked, self._first = (-1, -1), 0
        self._timer_due: int | None = None
        tick_draws = Draws(mix(seed & MASK_64) + 3)
        phase = tick_draws.below(SECOND_NS // host_hz) if host_hz else 0
        self._host_tick = PeriodicTick(
            host_hz, since.ns - phase, lambda: tick_draws.below(latency + 1)
        )
        self._arrivals = deque(arrivals)
        self._arrival_due: int | None = None
        self._expect_arrival()

    def clock(self, tick: Tick, guest: int) -> Nanoseconds:
        return Nanoseconds(self._time(tick))

    def tsc(self, tick: Tick, guest: int) -> int:
        return self._time(tick) - self._since.ns + self._since.tsc & MASK_64

    def _time(self, tick: int) -> int:
        # The jitter is less than a tick, so that time cannot go back.
        jitter = mix(self._seed ^ tick) % self._ns_per_tick
        ticks = tick - self._since.tick
        return self._since.ns + self._skipped + ticks * self._ns_per_tick + jitter

    def _first_tick_at(self, due: int) -> int:
        # The machine asks with each turn of its Host, and mostly for the same.
        if (due, self._skipped) == self._asked:
            return self._first
        ticks = (due - self._since.ns - self._skipped) // self._ns_per_tick - 1
        tick = self._since.tick + ticks
        while self._time(tick) < due:
            tick += 1
        self._asked, self._first = (due, self._skipped), tick
        return tick

    def _work_due(self) -> int | None:
        return earliest(self._timer_due, self._device_due())

    def _device_due(self) -> int | None:
        # The line goes down when it is taken, and is up again only after a look at what was there.
        if self._fetching:
            return None
        answer_due, frame_due = self._outstanding.next_due(), self._ethernet.next_due()
        if answer_due is None and frame_due is None:
            return self._arrival_due
        return earliest(self._arrival_due, answer_due, frame_due)

    def _next_due(self) -> int | None:
        due, timer = self._device_due(), self._timer_due
        if due is None and timer is None:
            return self._host_tick.due
        return earliest(due, timer, self._host_tick.due)

    def horizon(self, tick: Tick) -> Tick:
        due = self._next_due()
        return FAR if due is None else max(tick, Tick(self._first_tick_at(due)))

    def interrupt_line(self, tick: Tick) -> int | None:
        due = self._next_due()
        if due is None or tick < self._first_tick_at(due):
            return None
        now = self._time(tick)
        timer = earliest(self._timer_due, self._host_tick.due)
        if timer is not None and timer <= now:
            return TIMER_VECTOR
        due = self._device_due()
        return DEVICE_VECTOR if due is not None and due <= now else None

    def interrupt_taken(self, tick: Tick, guest: int, vector: int, eip: int, check: int) -> None:
        self._lower(vector, tick)

    def _lower(self, vector: int, tick: int) -> None:
        if vector == TIMER_VECTOR:
            self._timer_due = None
            self._host_tick.pass_by(self._time(tick))
        else:
            self._fetching = True

    def host_interrupt(self, tick: Tick, guest: int) -> int | None:
        vector = self.interrupt_line(tick)
        if vector is not None:
            self._lower(vector, tick)
        return vector

    def wait(self, tick: Tick, guest: int) -> int | None:
        due = self._work_due()
        if due is None:
            return None
        self._skipped += max(0, due - self._time(tick))
        self._host_tick.pass_by(self._time(tick))
        return self.host_interrupt(tick, guest)

    def program_timer(self, tick: Tick, deadline: Nanoseconds | None) -> None:
        self._timer_due = None if deadline is None else self._late(deadline)

    def _late(self, when: int) -> int:
        return when + self._latencies.below(self._latency + 1)

    def _expect_arrival(self) -> None:
        self._arrival_due = None
        if self._arrivals:
            self._arrival_due = self._late(self._since.ns + self._arrivals[0].after)

    def submit(self, tick: Tick, request: Request) -> None:
        if request not in self._outstanding:
            self._outstanding.add(self._time(tick) + self._services.service_ns(), request)

    def completions(self, tick: Tick) -> tuple[Completion, ...]:
        self._fetching = False
        now = self._time(tick)
        done: list[Completion] = []
        while self._arrivals and self._since.ns + self._arrivals[0].after <= now:
            done.append(self._arrivals.popleft().completion)
        if done:
            self._expect_arrival()
        ripe = self._outstanding.take_due(now)
        answers = (answer(each, self._disks, self._entropy.data) for each in ripe)
        return (*done, *answers, *self._ethernet.take_due(now))

    def choose(self, tick: Tick, guest: int, bound: int) -> int:
        return self._choices.below(bound)

    def edit(self, tick: Tick, refusal: Callable[[Edit], str | None]) -> Edit | None:
        return None

    def observe(self, observation: Observation) -> None:
        if isinstance(observation, PacketSent):
            self._ethernet.sent(observation, self._time(observation.tick))


__all__ = ["VIRTUAL_LATENCY_NS", "VIRTUAL_NS_PER_TICK", "Arrival", "VirtualWorld"]
