"""Two traces side by side: where they part, and what is different there.

(i) *Events* are compared from the logs. Digests are among them, so where the logs are equal the states are.
(ii) *States* are compared in three aspects: what is in the CPU, what the Host knows of its Guests and their devices,
and the Guests' memory. An aspect that differs from the start, as the memory of two kernels does, is left aside; for
each other the first tick is looked for by bisection, with a machine in each history. Equal machines with equal inputs
stay equal, so for two recordings of the same machine the tick is the first; where the machines are not the same, an
aspect may have differed for a while before, and been equal again.

Read next: timeline.py, commands/diff.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from enum import Enum
from itertools import zip_longest
from typing import Any

import numpy as np

from hostvm.cpu_state import CpuState
from hostvm.units import Tick
from hostvm.x86 import GENERAL_REGISTERS, PAGE_SIZE
from replay.errors import ReplayError
from replay.events import DirectTraps, Event, StateDigest
from replay.log import TraceReader
from replay.timeline import Timeline

_STEPS = 32
_CHUNK = 1 << 20
_GROUPS = {
    "segs": ("es", "cs", "ss", "ds", "fs", "gs"),
    "tables": ("ldt", "tr", "gdt", "idt"),
    "cr": ("cr0", "cr2", "cr3", "cr4"),
    "dr": tuple(f"dr{number}" for number in range(8)),
}


class CannotCompare(ReplayError):
    """Two machines that have nothing to compare."""


class Aspect(Enum):
    """A part of the state."""

    CPU = "registers"
    HOST = "the Host's knowledge"
    MEMORY = "the guests' memory"


@dataclass(frozen=True, slots=True)
class Parting:
    """Where two logs part: the last common event, and what follows on each side."""

    common: int
    last: Event | None
    first: tuple[Event | None, Event | None]


@dataclass(frozen=True, slots=True)
class Value:
    """One thing that is different: its name, and what it is on each side."""

    name: str
    sides: tuple[str, str]


@dataclass(frozen=True, slots=True)
class Stretch:
    """Bytes of a Guest's memory that are different: guest-physical address, and the content on each side."""

    guest: int
    address: int
    sides: tuple[bytes, bytes]


class Comparison:
    """Two timelines that are moved together. Raises CannotCompare, and as Timeline does."""

    def __init__(self, one: Timeline, other: Timeline) -> None:
        self.sides = one, other
        counts = [len(side.machine.guests) for side in self.sides]
        if counts[0] != counts[1]:
            raise CannotCompare(f"one has {counts[0]} guests, the other {counts[1]}")
        self.first_tick = Tick(max(side.first_tick for side in self.sides))
        self.end_tick = Tick(min(side.end_tick for side in self.sides))
        if self.first_tick > self.end_tick:
            raise CannotCompare("they have no tick in common")
        self.parting = _parting(one.reader, other.reader)

    def at(self, tick: Tick) -> None:
        """Have both at a tick."""
        for side in self.sides:
            side.go(tick)

    # ---- what is different here -----------------------------------------------------------------

    def differs(self, aspect: Aspect) -> bool:
        """Whether an aspect differs where both are."""
        match aspect:
            case Aspect.CPU:
                return self.sides[0].cpu != self.sides[1].cpu
            case Aspect.HOST:
                return _knowledge(self.sides[0]) != _knowledge(self.sides[1])
            case Aspect.MEMORY:
                return next(self.stretches(), None) is not None

    def stretches(self) -> Iterator[Stretch]:
        """The words of the Guests' memory that differ, those that touch together."""
        one, other = (side.machine for side in self.sides)
        for left, right in zip(one.guests, other.guests, strict=True):
            size = min(g.loaded.pfn_limit for g in (left, right)) * PAGE_SIZE
            for at in range(0, size, _CHUNK):
                count = min(_CHUNK, size - at)
                raw = (
                    one.memory.read(left.base + at, count),
                    other.memory.read(right.base + at, count),
                )
                if raw[0] != raw[1]:
                    for begin, end in _runs(*raw):
                        sides = raw[0][begin:end], raw[1][begin:end]
                        yield Stretch(left.number, at + begin, sides)

    def registers(self) -> list[Value]:
        """The registers that differ."""
        one, other = (_named_registers(side.cpu) for side in self.sides)
        return [Value(name, (one[name], other[name])) for name in one if one[name] != other[name]]

    def knowledge(self) -> list[Value]:
        """What the Host knows that differs."""
        one, other = (dict(_named_knowledge(side)) for side in self.sides)
        names = [*one, *(name for name in other if name not in one)]
        pairs = ((name, one.get(name, "-"), other.get(name, "-")) for name in names)
        return [Value(name, (left, right)) for name, left, right in pairs if left != right]

    # ---- since when -----------------------------------------------------------------------------

    def since(self, aspect: Aspect) -> Tick | None:
        """The first tick at which an aspect differs, in both histories; None if it never does."""
        self.at(self.first_tick)
        if self.differs(aspect):
            return self.first_tick
        low, high = self._bracket(aspect)
        if high is None:
            return None
        while high - low > 1:
            middle = Tick((low + high) // 2)
            self.at(middle)
            if self.differs(aspect):
                high = middle
            else:
                low = middle
        return high

    def _bracket(self, aspect: Aspect) -> tuple[Tick, Tick | None]:
        """A tick at which it is equal, and a later one at which it is not."""
        low = self.first_tick
        for tick in self._rungs():
            if tick <= low:
                continue
            self.at(tick)
            if self.differs(aspect):
                return low, tick
            low = tick
        return low, None

    def _rungs(self) -> Iterator[Tick]:
        """Ticks to look at: around the first events that differ, then further and further, then evenly to the end."""
        ticks = [event.tick for event in self.parting.first if event is not None]
        parted = min(ticks, default=self.end_tick)
        last = self.parting.last
        near: list[int] = [] if last is None else [last.tick]
        near += [parted, *(parted + (1 << power) for power in range(0, 20, 2))]
        rest = self.end_tick - near[-1]
        near += [near[-1] + max(0, rest) * step // _STEPS for step in range(1, _STEPS + 1)]
        for tick in sorted({*near, self.end_tick}):
            if self.first_tick <= tick <= self.end_tick:
                yield Tick(tick)


# ---- events ----------------------------------------------------------------------------------------


def _parting(one: TraceReader, other: TraceReader) -> Parting:
    """Where the logs part; what only says how often digests were taken does not count where that differs."""
    heads = [(r.header.digest_interval, r.header.memory_digest_every) for r in (one, other)]
    wanted: Callable[[Event], bool] = lambda _: True  # noqa: E731 - one of two
    if heads[0] != heads[1]:
        wanted = lambda event: not isinstance(event, StateDigest | DirectTraps)  # noqa: E731
    common, last = 0, None
    pairs = zip_longest(*(filter(wanted, reader.events()) for reader in (one, other)))
    for left, right in pairs:
        if left != right:
            return Parting(common, last, (left, right))
        common, last = common + 1, left
    return Parting(common, last, (None, None))


# ---- states ----------------------------------------------------------------------------------------


def _runs(left: bytes, right: bytes) -> Iterator[tuple[int, int]]:
    """Where two contents differ, by words."""
    words = (np.frombuffer(raw, np.uint32) for raw in (left, right))
    at = np.flatnonzero(np.not_equal(*words))
    for part in np.split(at, np.flatnonzero(np.diff(at) > 1) + 1):
        yield int(part[0]) * 4, int(part[-1]) * 4 + 4


def _named_registers(state: CpuState) -> dict[str, str]:
    found = {
        name: f"{value:08x}" for name, value in zip(GENERAL_REGISTERS, state.regs, strict=True)
    }
    found |= {"eip": f"{state.eip:08x}", "eflags": f"{state.eflags:08x}"}
    for field in fields(state):
        if field.name in _GROUPS:
            found |= _group(_GROUPS[field.name], getattr(state, field.name))
        elif field.name not in ("regs", "eip", "eflags"):
            found[field.name] = _shown(getattr(state, field.name))
    return found


def _group(names: Sequence[str], values: Sequence[Any]) -> dict[str, str]:
    found = {}
    for name, value in zip(names, values, strict=True):
        found[name] = value if isinstance(value, int) else value[0]
        if not isinstance(value, int):
            found[f"{name} descriptor"] = " ".join(f"{word:x}" for word in value[1:])
    return {
        name: _shown(value) if isinstance(value, int) else value for name, value in found.items()
    }


def _named_knowledge(side: Timeline) -> Iterator[tuple[str, str]]:
    for guest in side.machine.guests:
        prefix = f"guest {guest.number} " if len(side.machine.guests) > 1 else ""
        state = guest.lguest.state()
        for field in fields(state):
            value = getattr(state, field.name)
            if isinstance(value, tuple):
                for at, item in enumerate(value):
                    yield f"{prefix}{field.name}[{at}]", _shown(item)
            else:
                yield prefix + field.name, _shown(value)
        for at, device in enumerate(guest.devices.state()):
            yield f"{prefix}device {at}", _shown(device)


def _shown(value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool) and value > 9:
        return f"{value:#x}"
    return value.hex() if isinstance(value, bytes) else str(value)


def _knowledge(side: Timeline) -> list[bytes]:
    return [
        part
        for guest in side.machine.guests
        for part in (guest.lguest.digest_bytes(), guest.devices.digest_bytes())
    ]


__all__ = ["Aspect", "CannotCompare", "Comparison", "Parting", "Stretch", "Value"]
