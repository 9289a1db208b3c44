"""HostWorld: a World to record in that takes its answers from this computer.

Like a computed World (virtual_world.py) it has one timer, the Host's own tick and one device line, and the timer comes
first. Time is host_clock.py's. What is different:

(i) It sleeps while its Guests do, and listens meanwhile: to what is typed, and to the network's peer outside.
(ii) Nobody can interrupt the machine in the middle of a stretch, so each stretch is limited to a fraction of a
     millisecond, going by the speed that was seen; and while the machine runs, looks at what is typed are rationed.
(iii) What comes may come at any moment, so the device line is up while something is there: nothing is drawn.

Read next: host_clock.py; recording.py.
"""

from __future__ import annotations

import os
import select
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from hostvm.edits import Edit
from hostvm.observations import Observation, PacketSent
from hostvm.units import Nanoseconds, Tick
from hostvm.world import DEVICE_VECTOR, TIMER_VECTOR, Completion, Request
from replay.device_answers import NO_DISKS, Disks, Outstanding, answer
from replay.draws import MASK_64, Draws, mix
from replay.ethernet import Ethernet, Peer, Port
from replay.host_clock import HostClock, Pace
from replay.world_time import HOST_HZ, PeriodicTick, earliest

STRETCH_NS: Final = 700_000
SHORTEST_STRETCH: Final = 500
CONSOLE_LOOK_NS: Final = 5_000_000
PEER_LOOK_NS: Final = 500_000
LONGEST_SLEEP_NS: Final = 50_000_000
LONGEST_READ: Final = 1024


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
        self._clock = HostClock()
        self._pace = Pace()
        self._deadline: int | None = None
        self._host_tick = PeriodicTick(host_hz, self._clock.now())
        self._stopping = False

    def stop(self) -> None:
        """Wait no longer."""
        self._stopping = True

    def rest(self) -> None:
        """Let time stand still."""
        self._clock.rest()

    def go_on(self) -> None:
        """Let time go on."""
        self._clock.go_on()
        self._pace.pause()

    # Time.

    def clock(self, tick: Tick, guest: int) -> Nanoseconds:
        return self._clock.now()

    def tsc(self, tick: Tick, guest: int) -> int:
        return self._clock.tsc()

    def horizon(self, tick: Tick) -> Tick:
        now = self._clock.now()
        self._pace.note(tick, now)
        if self._line(now) is not None:
            return tick
        ns = STRETCH_NS
        for due in (self._deadline, self._host_tick.due, self._device_due()):
            if due is not None and due - now < ns:
                ns = due - now
        return Tick(tick + max(SHORTEST_STRETCH, self._pace.ticks_in(ns)))

    def _work_due(self) -> int | None:
        return earliest(self._deadline, self._device_due())

    def _device_due(self) -> int | None:
        answer_due, frame_due = self._outstanding.next_due(), self._ethernet.next_due()
        return answer_due if frame_due is None else earliest(answer_due, frame_due)

    # Interrupts.

    def interrupt_line(self, tick: Tick) -> int | None:
        return self._line(self._clock.now())

    def _line(self, now: int) -> int | None:
        deadline, host_due = self._deadline, self._host_tick.due
        if deadline is not None and deadline <= now:
            return TIMER_VECTOR
        if host_due is not None and host_due <= now:
            return TIMER_VECTOR
        if now - self._looked >= (CONSOLE_LOOK_NS if self._peer() is None else PEER_LOOK_NS):
            self._looked = now
            self._listen(0)
        due = self._device_due()
        return DEVICE_VECTOR if self._typed or (due is not None and due <= now) else None

    def interrupt_taken(self, tick: Tick, guest: int, vector: int, eip: int, check: int) -> None:
        self._lower(vector, self._clock.now())

    def _lower(self, vector: int, now: int) -> None:
        # The device line goes down by itself once all that was typed or answered has been fetched.
        if vector == TIMER_VECTOR:
            self._deadline = None
            self._host_tick.pass_by(now)

    def host_interrupt(self, tick: Tick, guest: int) -> int | None:
        return self._take(self._clock.now())

    def _take(self, now: int) -> int | None:
        vector = self._line(now)
        if vector is not None:
            self._lower(vector, now)
        return vector

    def wait(self, tick: Tick, guest: int) -> int | None:
        self._pace.pause()
        while not self._stopping:
            now = self._clock.now()
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
            ns = max(0, min(ns, due - self._clock.now()))
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
            self._ethernet.listen(self._clock.now())

    def _hear(self, console: Console) -> None:
        """Take what was typed; when the typing has ended for good, forget the console."""
        typed = os.read(console.descriptor, LONGEST_READ)
        self._typed = console.passed(typed)
        if not typed:
            self._console = None

    def submit(self, tick: Tick, request: Request) -> None:
        if request not in self._outstanding:
            self._outstanding.add(self._clock.now() + self._services.service_ns(), request)

    def completions(self, tick: Tick) -> tuple[Completion, ...]:
        ripe = self._outstanding.take_due(self._clock.now())
        answers = tuple(answer(each, self._disks, os.urandom) for each in ripe)
        answers += self._ethernet.take_due(self._clock.now())
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
            self._ethernet.sent(observation, self._clock.now())


__all__ = ["Console", "HostWorld"]
