"""How a run is judged: what it is looked at for, and what has become of it.

An `Oracle` is what somebody wants to know of each run; an `Outcome` is what one run has shown. Outcomes fall into
classes: two runs that were killed for the same reason are of one class, also if a number in it differs. Both can be
written as JSON, for a journal and for other processes.

Read next: sweep.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from enum import Enum
from typing import Any

from hostvm.units import Tick
from hostvm.x86 import WORD_MASK

_NEVER = Tick(0)
# What makes two kernels' last words differ though it is one bug. "trap 14" and "f+0x10/0x20" say which bug it is.
_TIMESTAMP = re.compile(r"^\s*(?:<\d>)?\[\s*\d+\.\d+\]\s*")
_TELLING = (
    r"[\w.]+\+0x[0-9a-f]+(?:/0x[0-9a-f]+)?",
    r"EIP (?:is )?at \S+",
    r"exitcode=\w+",
    r"(?:trap|irq|interrupt|vector|signal|len|line|word|cpu|guest) #?-?\d+",
)
_NUMBER = re.compile(
    rf"\b(?P<telling>{'|'.join(_TELLING)})\b"
    r"|-?\b(?:0x[0-9a-f]+|[0-9a-f]{8}|\d[\d,]*(?:\.\d+)*)\b",
    re.IGNORECASE,
)


class Verdict(Enum):
    """What becomes of a run; those that are no failure come first."""

    SKIPPED = "not tried"
    PASSED = "passed"
    ENDED = "ended"
    KILLED = "killed"
    CRASHED = "crashed"
    PANIC = "panic"
    LATE = "late"
    CALLS = "calls"
    ASSERTION = "assertion"
    MET = "met"
    DIFFERS = "differs"
    STUCK = "stuck"

    @property
    def in_own_words(self) -> bool:
        """Whether a kernel or lguest says why, and not who looks for it."""
        return self in (Verdict.KILLED, Verdict.CRASHED, Verdict.PANIC)

    @property
    def failed(self) -> bool:
        """Whether this is what one looks for."""
        return self not in (Verdict.SKIPPED, Verdict.PASSED, Verdict.ENDED)


class Reception(Enum):
    """What meets an interrupt at a place."""

    DELIVERED = "delivered at once"
    HELD = "held back by lguest"
    DEAF = "not taken by the CPU"
    UNSET = "no timer set"


@dataclass(frozen=True, slots=True)
class Oracle:
    """What a run of `ticks` is looked at for, besides the end of its Guest.

    `panic`: a regular expression for what it prints. `holds`: expressions that must never be false. `until`:
    expressions that must never become true. `region`: linear address and length of memory that must be, at the end, as
    it is without the interrupt. `late`: ticks that a virtual interrupt may wait from being raised to being delivered.
    `calls`: hypercalls, by name or number, that may not be made more often in a run. `delivered`: expressions that must
    be true whenever a virtual interrupt is delivered.
    """

    ticks: int = 200_000
    panic: str | None = None
    holds: tuple[str, ...] = ()
    until: tuple[str, ...] = ()
    region: tuple[int, int] | None = None
    late: int | None = None
    calls: tuple[tuple[str, int], ...] = ()
    delivered: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self)

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Oracle:
        """The oracle that `to_json` wrote."""
        region = found["region"]
        return cls(
            int(found["ticks"]),
            found["panic"],
            tuple(found["holds"]),
            tuple(found["until"]),
            None if region is None else (int(region[0]), int(region[1])),
            None if found["late"] is None else int(found["late"]),
            tuple((str(name), int(times)) for name, times in found["calls"]),
            tuple(found["delivered"]),
        )


def without_numbers(text: str) -> str:
    """Last words with `*` for each number that may be another next time."""
    return _NUMBER.sub(lambda found: found["telling"] or "*", _TIMESTAMP.sub("", text))


@dataclass(frozen=True, slots=True)
class Outcome:
    """One place and what came of it. `end`: when the run was over; `delivered`: when lguest delivered the interrupt.

    `gap`: how many ticks after the first interrupt was taken the second one came, if there were to be two. `eip` and
    `code` are the instruction at the place, as far as it can be read.
    """

    tick: Tick
    eip: int
    reception: Reception
    verdict: Verdict
    text: str = ""
    end: Tick = _NEVER
    delivered: Tick | None = None
    code: bytes = b""
    gap: int = 0

    @property
    def kind(self) -> str:
        """The class that it belongs to."""
        text = without_numbers(self.text) if self.verdict.in_own_words else self.text
        return f"{self.verdict.value}: {text}" if text else self.verdict.value

    def to_json(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "tick": self.tick,
            "eip": self.eip,
            "reception": self.reception.name,
            "verdict": self.verdict.name,
            "text": self.text,
            "end": self.end,
            "delivered": self.delivered,
            "code": self.code.hex(),
            "gap": self.gap,
        }

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Outcome:
        """The outcome that `to_json` wrote. Raises KeyError, TypeError, ValueError."""
        delivered = found["delivered"]
        return cls(
            Tick(int(found["tick"])),
            int(found["eip"]) & WORD_MASK,
            Reception[found["reception"]],
            Verdict[found["verdict"]],
            str(found["text"]),
            Tick(int(found["end"])),
            None if delivered is None else Tick(int(delivered)),
            bytes.fromhex(found["code"]),
            int(found["gap"]),
        )


@dataclass(slots=True)
class Class:
    """All outcomes of one kind, in order of their ticks; the first stands for all."""

    kind: str
    verdict: Verdict
    outcomes: list[Outcome] = field(default_factory=list)

    @property
    def first(self) -> Outcome:
        """The earliest."""
        return self.outcomes[0]


def classes(outcomes: Iterable[Outcome]) -> list[Class]:
    """The classes that there are among outcomes: failures first, the most frequent of them first."""
    found: dict[str, Class] = {}
    for outcome in sorted(outcomes, key=lambda each: (each.tick, each.gap)):
        its = found.setdefault(outcome.kind, Class(outcome.kind, outcome.verdict))
        its.outcomes.append(outcome)
    return sorted(found.values(), key=lambda c: (not c.verdict.failed, -len(c.outcomes), c.kind))


__all__ = ["Class", "Oracle", "Outcome", "Reception", "Verdict", "classes", "without_numbers"]
