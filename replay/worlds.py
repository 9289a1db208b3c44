"""Worlds to record in: VirtualWorld computes its answers from a seed, HostWorld takes them from this computer.

Both have one timer, which raises TIMER_VECTOR once their clock has reached the deadline, and one device line, which is
up while something typed or scripted, or an answer to a device, waits to be fetched. When both are up the timer comes
first, as it does on the interrupt controller of a PC. Each device takes a drawn time for a request. The time stamp
counter counts nanoseconds of the same clock.

The same vector also comes from the Host's own periodic tick, as under any Linux: it throws out a Guest that would
otherwise compute for ever, and so an interrupt that had to wait for it to leave gets in. It is work for nobody, though,
so it wakes no idle machine and keeps no finished one alive. Taking TIMER_VECTOR stops the timer, whatever it came
from: the machine looks at the clock and sets it again.

(i) *VirtualWorld* makes the same run from the same seed, anywhere: its clock is a function of the tick and of how much
idle time was skipped, and its numbers come from the integer arithmetic written out below. Idle time takes no time.
(ii) *HostWorld* shows its time in whole microseconds, because a trace pays for every digit, and sleeps while its Guests
do. Nobody can interrupt the machine in the middle of a stretch, so HostWorld limits each stretch to a fraction of
a millisecond, going by the speed that it has seen.

Read next: recording.py.
"""

from __future__ import annotations

import os
import select
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from hostvm.edits import Edit
from hostvm.observations import Observation, PacketSent
from hostvm.units import Nanoseconds, Tick
from hostvm.world import DEVICE_VECTOR, TIMER_VECTOR, Completion, Request
from replay.device_answers import Disks, Outstanding, answer
from replay.ethernet import Ethernet, Peer, Port

FAR: Final = Tick(1 << 62)
MASK_64: Final = (1 << 64) - 1
NO_DISKS: Final[Disks] = MappingProxyType({})

# Virtual time begins on the day lguest was merged into Linux: 19 July 2007, 12:00 UTC.
VIRTUAL_EPOCH: Final = 1_184_846_400 * 1_000_000_000
VIRTUAL_NS_PER_TICK: Final = 10
VIRTUAL_LATENCY_NS: Final = 4_000
HOST_HZ: Final = 250
HIGHEST_HOST_HZ: Final = 10_000
SECOND_NS: Final = 1_000_000_000
SHORTEST_SERVICE_NS: Final = 20_000
LONGEST_SERVICE_NS: Final = 120_000

HOST_RESOLUTION_NS: Final = 1_000
STRETCH_NS: Final = 700_000
SHORTEST_STRETCH: Final = 500
FIRST_GUESS: Final = 0.02
CONSOLE_LOOK_NS: Final = 5_000_000
PEER_LOOK_NS: Final = 500_000
LONGEST_SLEEP_NS: Final = 50_000_000
LONGEST_READ: Final = 1024


# (i) VirtualWorld.


def mix(value: int) -> int:
    """Scramble a 64-bit number one-to-one (the last steps of the splitmix64 generator)."""
    value = (value ^ value >> 30) * 0xBF58476D1CE4E5B9 & MASK_64
    value = (value ^ value >> 27) * 0x94D049BB133111EB & MASK_64
    return value ^ value >> 31


class Draws:
    """A row of numbers that depends on the seed alone, on every computer and Python (splitmix64)."""

    def __init__(self, seed: int) -> None:
        self._state = mix(seed & MASK_64)

    def below(self, bound: int) -> int:
        """Draw the next number of range(bound)."""
        self._state = self._state + 0x9E3779B97F4A7C15 & MASK_64
        return mix(self._state) * bound >> 64

    def service_ns(self) -> int:
        """Draw how long a device takes for a request."""
        return SHORTEST_SERVICE_NS + self.below(LONGEST_SERVICE_NS - SHORTEST_SERVICE_NS)

    def data(self, count: int) -> bytes:
        """Draw so many bytes."""
        words = (self.below(1 << 64).to_bytes(8, "little") for _ in range(-(-count // 8)))
        return b"".join(words)[:count]


@dataclass(frozen=True, slots=True)
class Since:
    """Where a World takes over: the tick, and what clock and time stamp counter say there."""

    tick: Tick
    ns: int
    tsc: int


POWER_ON: Final = Since(Tick(0), VIRTUAL_EPOCH, 0)


@dataclass(frozen=True, slots=True)
class Arrival:
    """What a device of a VirtualWorld will deliver when so much time has passed since its beginning."""

    after: Nanoseconds
    completion: Completion


def _earliest(*times: int | None) -> int | None:
    least = None
    for moment in times:
        if moment is not None and (least is None or moment < least):
            least = moment
    return least


class PeriodicTick:
    """The Host's tick: `hz` times a second after `start`, each `late` nanoseconds late. With 0 there is none."""

    def __init__(self, hz: int, start: int, late: Callable[[], int] = lambda: 0) -> None:
        assert 0 <= hz <= HIGHEST_HOST_HZ, hz
        self._period = SECOND_NS // hz if hz else 0
        self._start = start
        self._late = late
        self.due: int | None = None
        self.pass_by(start)

    def pass_by(self, now: int) -> None:
        """If it is due, it is not any more: those that were missed do not come again."""
        if self._period and (self.due is None or self.due <= now):
            begun = (now - self._start) // self._period
            self.due = self._start + (begun + 1) * self._period + self._late()


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
        ticks = (due - self._since.ns - self._skipped) // self._ns_per_tick - 1
        tick = self._since.tick + ticks
        while self._time(tick) < due:
            tick += 1
        return tick

    def _work_due(self) -> int | None:
        return _earliest(self._timer_due, self._device_due())

    def _device_due(self) -> int | None:
        # The line goes down when it is taken, and is up again only after a look at what was there.
        if self._fetching:
            return None
        answers = _earliest(self._outstanding.next_due(), self._ethernet.next_due())
        return _earliest(self._arrival_due, answers)

    def horizon(self, tick: Tick) -> Tick:
        due = _earliest(self._work_due(), self._host_tick.due)
        return FAR if due is None else max(tick, Tick(self._first_tick_at(due)))

    def interrupt_line(self, tick: Tick) -> int | None:
        now = self._time(tick)
        timer = _earliest(self._timer_due, self._host_tick.due)
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


# (ii) HostWorld.


@dataclass(frozen=True, slots=True)
class Console:
    """A file descriptor to type at, and the Guest's device that gets what is typed, or what `passed` leaves of it."""

    descriptor: int
    guest: int
    device: int
    irq: int
    passed: Callable[[bytes], bytes] = bytes


class HostWorld:
    """The World of this computer; `seed` is for the random choices, which are then at least known.

    `stop` may be called at any moment, from a signal handler too: from then on waiting ends at once, for good. Between
    `rest` and `go_on` its time stands still. `while_waiting` is called every now and then during a wait, and may end
    that with an exception.
    """

    def __init__(
        self,
        seed: int,
        console: Console | None = None,
        disks: Disks = NO_DISKS,
        host_hz: int = HOST_HZ,
        ports: Sequence[Port] = (),
        peer: Peer | None = None,
    ) -> None:
        self._choices = Draws(seed)
        self._services = Draws(mix(seed & MASK_64) + 1)
        self._ethernet = Ethernet(ports, self._services.service_ns, peer)
        self._disks = disks
        self._outstanding = Outstanding()
        self._console = console
        self._typed = b""
        self._looked = 0
        self.while_waiting: Callable[[], None] = lambda: None
        self._rests_since: int | None = None
        self._rested = 0
        self._offset = time.time_ns() - time.monotonic_ns()
        self._deadline: int | None = None
        self._host_tick = PeriodicTick(host_hz, self._now())
        self._stopping = False
        self._ticks_per_ns = FIRST_GUESS
        self._gauged: tuple[int, int] | None = None

    def stop(self) -> None:
        """Wait no longer."""
        self._stopping = True

    def rest(self) -> None:
        """Let time stand still."""
        if self._rests_since is None:
            self._rests_since = self._monotonic()

    def go_on(self) -> None:
        """Let time go on."""
        if self._rests_since is not None:
            self._rested += self._monotonic() - self._rests_since
            self._rests_since = self._gauged = None

    # Time.

    def _monotonic(self) -> int:
        return time.monotonic_ns() - self._rested

    def clock(self, tick: Tick, guest: int) -> Nanoseconds:
        return Nanoseconds(self._now())

    def tsc(self, tick: Tick, guest: int) -> int:
        return self._monotonic() & MASK_64

    def _now(self) -> int:
        return (self._offset + self._monotonic()) // HOST_RESOLUTION_NS * HOST_RESOLUTION_NS

    def horizon(self, tick: Tick) -> Tick:
        now = self._now()
        self._gauge(tick, now)
        if self._line(now) is not None:
            return tick
        due = _earliest(self._work_due(), self._host_tick.due)
        ns = STRETCH_NS if due is None else min(STRETCH_NS, due - now)
        return Tick(tick + max(SHORTEST_STRETCH, int(ns * self._ticks_per_ns)))

    def _work_due(self) -> int | None:
        return _earliest(self._deadline, self._device_due())

    def _device_due(self) -> int | None:
        return _earliest(self._outstanding.next_due(), self._ethernet.next_due())

    def _gauge(self, tick: int, now: int) -> None:
        """Learn how fast the machine runs, from spans long enough to tell."""
        if self._gauged is None:
            self._gauged = tick, now
            return
        ticks, ns = tick - self._gauged[0], now - self._gauged[1]
        if ns >= STRETCH_NS // 4:
            self._ticks_per_ns += (ticks / ns - self._ticks_per_ns) / 4
            self._gauged = tick, now

    # Interrupts.

    def interrupt_line(self, tick: Tick) -> int | None:
        return self._line(self._now())

    def _line(self, now: int) -> int | None:
        timer = _earliest(self._deadline, self._host_tick.due)
        if timer is not None and timer <= now:
            return TIMER_VECTOR
        if now - self._looked >= (CONSOLE_LOOK_NS if self._peer() is None else PEER_LOOK_NS):
            self._looked = now
            self._listen(0)
        due = self._device_due()
        return DEVICE_VECTOR if self._typed or (due is not None and due <= now) else None

    def interrupt_taken(self, tick: Tick, guest: int, vector: int, eip: int, check: int) -> None:
        self._lower(vector, self._now())

    def _lower(self, vector: int, now: int) -> None:
        # The device line goes down by itself once all that was typed or answered has been fetched.
        if vector == TIMER_VECTOR:
            self._deadline = None
            self._host_tick.pass_by(now)

    def host_interrupt(self, tick: Tick, guest: int) -> int | None:
        return self._take(self._now())

    def _take(self, now: int) -> int | None:
        vector = self._line(now)
        if vector is not None:
            self._lower(vector, now)
        return vector

    def wait(self, tick: Tick, guest: int) -> int | None:
        self._gauged = None
        while not self._stopping:
            now = self._now()
            self._host_tick.pass_by(now)
            vector = self._take(now)
            if vector is not None:
                return vector
            if self._work_due() is None and not self._sources():
                return None
            self._sleep()
            self.while_waiting()
        return None

    def _sleep(self) -> None:
        ns = LONGEST_SLEEP_NS
        due = self._work_due()
        if due is not None:
            ns = max(0, min(ns, due - self._now()))
        self._listen(ns)

    def program_timer(self, tick: Tick, deadline: Nanoseconds | None) -> None:
        self._deadline = deadline

    # Devices and choices.

    def _peer(self) -> Peer | None:
        peer = self._ethernet.peer
        return None if peer is None or peer.gone else peer

    def _sources(self) -> list[int]:
        """Descriptors from which something may come."""
        peer = self._peer()
        console = [] if self._console is None else [self._console.descriptor]
        return console if peer is None else [*console, peer.fileno()]

    def _listen(self, ns: int) -> None:
        """Wait that long for something typed, or for the peer outside."""
        sources = self._sources()
        if self._typed and self._console is not None:
            # One who types on waits until the Guest has had the last line.
            sources.remove(self._console.descriptor)
        if not sources and not ns:
            return
        readable, _, _ = select.select(sources, [], [], ns / 1e9)
        if self._console is not None and self._console.descriptor in readable:
            self._hear(self._console)
        if self._peer() is not None:
            self._ethernet.listen(self._now())

    def _hear(self, console: Console) -> None:
        """Take what was typed; when the typing has ended for good, forget the console."""
        typed = os.read(console.descriptor, LONGEST_READ)
        self._typed = console.passed(typed)
        if not typed:
            self._console = None

    def submit(self, tick: Tick, request: Request) -> None:
        if request not in self._outstanding:
            self._outstanding.add(self._now() + self._services.service_ns(), request)

    def completions(self, tick: Tick) -> tuple[Completion, ...]:
        ripe = self._outstanding.take_due(self._now())
        answers = tuple(answer(each, self._disks, os.urandom) for each in ripe)
        answers += self._ethernet.take_due(self._now())
        typed, self._typed = self._typed, b""
        if self._console is None or not typed:
            return answers
        console = self._console
        return (Completion(console.guest, console.device, console.irq, typed), *answers)

    def choose(self, tick: Tick, guest: int, bound: int) -> int:
        return self._choices.below(bound)

    def edit(self, tick: Tick, refusal: Callable[[Edit], str | None]) -> Edit | None:
        return None

    def observe(self, observation: Observation) -> None:
        if isinstance(observation, PacketSent):
            self._ethernet.sent(observation, self._now())


__all__ = [
    "FAR",
    "HIGHEST_HOST_HZ",
    "HOST_HZ",
    "POWER_ON",
    "VIRTUAL_EPOCH",
    "Arrival",
    "Console",
    "Draws",
    "HostWorld",
    "PeriodicTick",
    "Since",
    "VirtualWorld",
]
