"""`python -m tests.fuzz.travel`: random journeys through random histories, each arrival compared with a walk.

A history is recorded with a new seed, a stretch of it is walked tick by tick, and then a timeline with a random amount
of room is sent about in it: seeks, steps of all units, breakpoints, watchpoints and conditions, in both directions. The
first arrival that differs from what the walk says is printed with all that is needed to have it again.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from pathlib import Path

from replay.look import GuestPhysicalSpace
from replay.moves import Unit
from replay.places import Place
from replay.stops import Breakpoint, Stop, Watchpoint
from replay.timeline import Timeline
from tests.replay.histories import Instant, interrupt_ticks, record_guest, timeline_of, walk

GUESTS = (("hello", "loops=2"), ("kestrel", ""), ("kestrel-2.6.27", ""), ("kestrel-2.6.23", ""))
SPAN = 8_000
PLACES = 40
JOURNEYS = 400


class Mismatch(Exception):
    """A journey ended where it should not have."""


class Journey:
    """Random moves of one timeline inside a walked stretch."""

    def __init__(self, timeline: Timeline, stretch: list[Instant], rng: random.Random) -> None:
        self.timeline = timeline
        self.stretch = stretch
        self.rng = rng
        self.first, self.last = stretch[0].tick, stretch[-1].tick
        self.places: list[int] = []

    def move(self) -> None:
        """One random move, checked."""
        act = self.rng.choice((self._seek, self._step, self._instruction, self._break, self._watch))
        origin = self.timeline.tick
        goal, what = act()
        here = self.timeline.tick
        state = (
            self.stretch[here - self.first].registers if self.first <= here <= self.last else b""
        )
        if here != goal or state != self.timeline.machine.register_digest():
            raise Mismatch(f"{what} from {origin}: at {here}, not at {goal} or not in its state")

    def _seek(self) -> tuple[int, str]:
        goal = self.rng.randint(self.first, self.last)
        if self.rng.random() < 0.2:
            self.timeline.go(self.rng.randrange(self.timeline.end_tick))
        self.timeline.go(goal)
        return goal, "seek"

    def _step(self) -> tuple[int, str]:
        backwards = self._turn(5)
        goal = self.timeline.tick + (-1 if backwards else 1)
        self.timeline.step(Unit.TICK, backwards=backwards)
        return goal, f"tick, backwards={backwards}"

    def _instruction(self) -> tuple[int, str]:
        backwards = self._turn(5000)
        ticks = [i.tick for i in self.stretch if i.begins]
        goal = self._next(ticks, backwards)
        if goal is None:
            return self._seek()
        self.timeline.step(Unit.INSTRUCTION, backwards=backwards)
        return goal, f"instruction, backwards={backwards}"

    def _break(self) -> tuple[int, str]:
        address = self.rng.choice(self.stretch).eip
        ticks = [i.tick for i in self.stretch if i.begins and i.eip == address]
        return self._resume(Breakpoint(address), ticks, ticks)

    def _watch(self) -> tuple[int, str]:
        index = self.rng.randrange(len(self.places))
        pairs = zip(self.stretch, self.stretch[1:], strict=False)
        ticks = [int(a.tick) for a, b in pairs if a.watched[index] != b.watched[index]]
        place = Place(self.places[index], 4, GuestPhysicalSpace(0))
        return self._resume(Watchpoint(place), [tick + 1 for tick in ticks], ticks)

    def _resume(
        self, stop: Stop, forward: Sequence[int], backward: Sequence[int]
    ) -> tuple[int, str]:
        backwards = self._turn(5)
        found = self._next(backward if backwards else forward, backwards)
        edge = self.first if backwards else self.last
        number = self.timeline.stops.add(stop)
        self.timeline.resume(backwards=backwards, limit=edge)
        self.timeline.stops.remove(number)
        return (edge if found is None else found), f"{stop}, backwards={backwards}"

    def _next(self, ticks: Sequence[int], backwards: bool) -> int | None:
        here = self.timeline.tick
        at = bisect_left(ticks, here) - 1 if backwards else bisect_right(ticks, here)
        return ticks[at] if 0 <= at < len(ticks) else None

    def _turn(self, margin: int) -> bool:
        """A direction in which there is something left of the stretch."""
        if self.timeline.tick - self.first < min(margin, SPAN // 3):
            return False
        if self.last - self.timeline.tick < min(margin, SPAN // 3):
            return True
        return self.rng.random() < 0.6


def places_in(path: Path, first: int, last: int, rng: random.Random) -> list[int]:
    """Guest-physical addresses of words, most of which change in a stretch."""
    with timeline_of(path) as timeline:
        guest = timeline.machine.guests[0]
        size = guest.loaded.pfn_limit << 12
        timeline.go(first)
        before = timeline.machine.memory.read(guest.base, size)
        timeline.go(last)
        after = timeline.machine.memory.read(guest.base, size)
    pages = [p for p in range(0, size, 4096) if before[p : p + 4096] != after[p : p + 4096]]
    words = [
        w for p in pages for w in range(p, p + 4096, 4) if before[w : w + 4] != after[w : w + 4]
    ]
    chosen = rng.sample(words, min(PLACES - 4, len(words)))
    return chosen + [rng.randrange(0, size, 4) for _ in range(4)]


def travel(seed: int, journeys: int, folder: Path) -> int:
    """Make that many moves in the history of a seed; returns how many were made. Raises Mismatch."""
    rng = random.Random(seed)
    guest, line = rng.choice(GUESTS)
    path = record_guest(folder / f"{seed}.lgt", guest, line, seed)
    middle = rng.choice(interrupt_ticks(path)[1:])
    first, last = middle - SPAN // 2, middle + SPAN // 2
    places = places_in(path, first, last, rng)
    with timeline_of(path, rng.choice((1, 4, 64)) << 20) as timeline:
        base = timeline.machine.guests[0].base
        stretch = walk(path, first, last, [(base + at, 4) for at in places])
        journey = Journey(timeline, stretch, rng)
        journey.places = places
        timeline.go(first + SPAN // 2)
        for _ in range(journeys):
            journey.move()
    path.unlink()
    return journeys


def main() -> int:
    """Go on for some moves, from a first seed."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.travel", description=__doc__)
    parser.add_argument("--moves", type=int, default=10_000, help="how many to make [10000]")
    parser.add_argument("--seed", type=int, default=1, help="the first history's [1]")
    wish = parser.parse_args()
    made, seed = 0, wish.seed
    with tempfile.TemporaryDirectory() as folder:
        while made < wish.moves:
            try:
                made += travel(seed, JOURNEYS, Path(folder))
            except Mismatch as mismatch:
                print(f"seed {seed}: {mismatch}")
                return 1
            print(f"seed {seed}: {made:,} moves, every arrival right", flush=True)
            seed += 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
