"""What a benchmark says: figures, each with an aim, and how they are shown.

A figure is a ratio of two things measured alternately within one run, wherever that is possible: this computer may be
slow or busy, but it is so for both. The value is the median of the rounds. Times are the process's own CPU time, so
that other processes disturb little. Missing an aim is a piece of news, not an error.
"""

from __future__ import annotations

import gc
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

Action = Callable[[], object]
Timed = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Aim:
    """What is to be reached."""

    limit: float
    at_least: bool = False

    def met_by(self, value: float) -> bool:
        return value >= self.limit if self.at_least else value <= self.limit

    def __str__(self) -> str:
        return f"{'>=' if self.at_least else '<='} {self.limit:g}"


@dataclass(frozen=True, slots=True)
class Measured:
    """The median, the extremes, and what else is worth knowing."""

    value: float
    least: float
    most: float
    note: str = ""


@dataclass(frozen=True, slots=True)
class Figure:
    """Something to be measured; `measure` is given the number of rounds. Not everything has an aim."""

    name: str
    unit: str
    aim: Aim | None
    measure: Callable[[int], Measured]


@dataclass(frozen=True, slots=True)
class Result:
    """A figure with its value."""

    figure: Figure
    measured: Measured

    @property
    def met(self) -> bool:
        return self.figure.aim is None or self.figure.aim.met_by(self.measured.value)


def summary(values: Sequence[float], note: str = "") -> Measured:
    """Median and extremes."""
    return Measured(median(values), min(values), max(values), note)


def cpu_time() -> float:
    """Seconds of CPU time that this process has had."""
    return time.process_time_ns() / 1e9


def timed(action: Action) -> Timed:
    """Do it, and tell the CPU seconds that it took."""

    def measure() -> float:
        gc.collect()
        start = cpu_time()
        action()
        return cpu_time() - start

    return measure


def alternate(one: Timed, other: Timed, rounds: int) -> list[tuple[float, float]]:
    """Times of both in each round; they take turns in going first, and a round before the first is not counted."""
    one()
    other()
    times = []
    for number in range(rounds):
        if number % 2:
            second = other()
            times.append((one(), second))
        else:
            first = one()
            times.append((first, other()))
    return times


def ratio(one: Timed, other: Timed, rounds: int, names: tuple[str, str]) -> Measured:
    """How many times as much CPU time the one takes as the other."""
    times = alternate(one, other, rounds)
    first, second = (median(column) for column in zip(*times, strict=True))
    note = f"{names[0]} {_time(first)}, {names[1]} {_time(second)}"
    return summary([a / b for a, b in times], note)


def _time(seconds: float) -> str:
    return f"{seconds * 1e6:.1f} us" if seconds < 1e-3 else f"{seconds:.3f} s"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def _verdict(result: Result) -> str:
    if result.figure.aim is None:
        return ""
    return "pass" if result.met else "MISS"


def table(results: Sequence[Result]) -> str:
    """For people."""
    rows = [("figure", "value", "spread", "aim", "", "")]
    for result in results:
        figure, m = result.figure, result.measured
        rows.append(
            (
                figure.name,
                f"{_number(m.value)} {figure.unit}".strip(),
                f"{_number(m.least)} .. {_number(m.most)}",
                str(figure.aim or ""),
                _verdict(result),
                m.note,
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    lines = (
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[5]])
        for row in rows
    )
    return "\n".join(line.rstrip() for line in lines)


def as_json(results: Sequence[Result]) -> str:
    """For programs."""
    return json.dumps(
        [
            {
                "figure": r.figure.name,
                "unit": r.figure.unit,
                "value": r.measured.value,
                "least": r.measured.least,
                "most": r.measured.most,
                "aim": str(r.figure.aim or ""),
                "met": r.met,
                "note": r.measured.note,
            }
            for r in results
        ],
        indent=1,
    )
