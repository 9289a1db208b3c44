"""Chaos: a World in which interrupts come when they are least expected, all the same for the same seed.

A computed World is polite: timers come a little late, and that is all. A kernel that has a race may live with it for
years. This one changes its mood every now and then:

(i) *Calm*: as any computed World.
(ii) *Burst*: interrupt upon interrupt, some hundred ticks apart.
(iii) *Starvation*: none for a long time, and then all that are due at once.
(iv) *Edge*: soon after the Guest has been in the Host - a hypercall, a trap, a virtual interrupt delivered - when
     kernels are on the way in or out, with their flags half set.

What comes early comes as in a sweep (sweep_world.py): time jumps to the timer's deadline, or a device is quick. So a
machine could have behaved so, if its Host had been busy with other things. The Host's own choices get moods too.
The idea of recording like this is rr's (its chaos mode).
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

from hostvm.interrupts_and_traps import TIMER_IRQ
from hostvm.observations import Hypercall, IrqDelivered, Observation, TrapReflected
from hostvm.units import Tick
from hostvm.world import DEVICE_VECTOR, TIMER_VECTOR
from replay.device_answers import NO_DISKS, Disks
from replay.draws import MASK_64, Draws, mix
from replay.ethernet import Port
from replay.run_notes import Notes, Watch
from replay.sweep_world import FREE, Course, Placed, PlacedWorld
from replay.world_time import HOST_HZ, POWER_ON

# Ticks; drawn so that each power of two is as likely as the next.
SHORTEST_MOOD, LONGEST_MOOD = 1 << 14, 1 << 19
SHORTEST_GAP, LONGEST_GAP = 1 << 6, 1 << 13
FARTHEST_EDGE = 1 << 9
# One in so many of the Guest's visits to the Host is an edge; one in so many strikes is a device's.
EDGES, DEVICES = 4, 4
_STREAMS = 8
_VISITS = (Hypercall, TrapReflected, IrqDelivered)


class Mood(Enum):
    """What the World is like for a while."""

    CALM = "calm"
    BURST = "burst"
    STARVATION = "starvation"
    EDGE = "edge"


MOODS = tuple(Mood)


class Choosing(Enum):
    """How the Host chooses for a while."""

    ANY = "any"
    SAME = "same"
    NEXT = "next"


def drawn_between(draws: Draws, low: int, high: int) -> int:
    """A number of range(low, high), small ones as likely as large ones."""
    top = low
    steps = max(1, (high // low).bit_length() - 1)
    for _ in range(draws.below(steps)):
        top *= 2
    return top + draws.below(min(top, max(1, high - top)))


class ChaosWorld(PlacedWorld):
    """A World from power-on, computed from `seed`."""

    def __init__(
        self,
        seed: int,
        *,
        disks: Disks = NO_DISKS,
        host_hz: int = HOST_HZ,
        ports: Sequence[Port] = (),
    ) -> None:
        nobody = Notes(Watch(-1, frozenset()))
        super().__init__(POWER_ON, Course(seed, host_hz=host_hz), nobody, disks=disks, ports=ports)
        self._moods, self._strikes, self._picks = (
            Draws(mix(seed & MASK_64) + _STREAMS + number) for number in range(3)
        )
        self._mood = Mood.CALM
        self._choosing = Choosing.ANY
        self._device_first = False
        self._mood_ends = 0
        self._last_choice = 0
        self._advance(Tick(0))

    # ---- moods ----------------------------------------------------------------------------------

    def _advance(self, tick: Tick) -> None:
        """Be in the mood of `tick`. The machine stops where one ends, so each begins at its own tick."""
        while self._mood_ends <= tick:
            begins = self._mood_ends
            self._mood = MOODS[self._moods.below(len(MOODS))]
            self._choosing = tuple(Choosing)[self._moods.below(len(Choosing))]
            self._device_first = bool(self._moods.below(2))
            self._mood_ends = begins + drawn_between(self._moods, SHORTEST_MOOD, LONGEST_MOOD)
            self._holds = self._mood is Mood.STARVATION
            if self._mood is Mood.BURST:
                self._strike(begins)

    def _strike(self, after: int) -> None:
        """Have an interrupt come soon after a tick."""
        if not self._placed:
            gap = drawn_between(self._strikes, SHORTEST_GAP, LONGEST_GAP)
            self._strike_at(Tick(after + gap))

    def _strike_at(self, tick: Tick) -> None:
        waiting = self._outstanding.first()
        if waiting is not None and not self._strikes.below(DEVICES):
            self.place(Placed(tick, waiting.guest, waiting.irq, device=FREE))
        else:
            self.place(Placed(tick, 0, TIMER_IRQ))

    def _hand_over(self, tick: int) -> None:
        super()._hand_over(tick)
        self._holds = self._mood is Mood.STARVATION
        if self._mood is Mood.BURST:
            self._strike(tick)

    # ---- a World ----------------------------------------------------------------------------------

    def horizon(self, tick: Tick) -> Tick:
        self._advance(tick)
        return max(tick, min(super().horizon(tick), Tick(self._mood_ends)))

    def _line(self, tick: Tick) -> int | None:
        vector = super()._line(tick)
        if vector == TIMER_VECTOR and self._device_first and not self._is_up(tick):
            due = self._device_due()
            return DEVICE_VECTOR if due is not None and due <= self._time(tick) else vector
        return vector

    def choose(self, tick: Tick, guest: int, bound: int) -> int:
        self._advance(tick)
        match self._choosing:
            case Choosing.ANY:
                self._last_choice = self._picks.below(bound)
            case Choosing.NEXT:
                self._last_choice += 1
        return self._last_choice % bound

    def observe(self, observation: Observation) -> None:
        super().observe(observation)
        self._advance(observation.tick)
        visits = isinstance(observation, _VISITS) and not self._placed
        if self._mood is Mood.EDGE and visits and not self._strikes.below(EDGES):
            distance = drawn_between(self._strikes, 1, FARTHEST_EDGE)
            self._strike_at(Tick(observation.tick + distance))


__all__ = ["ChaosWorld", "Choosing", "Mood", "drawn_between"]
