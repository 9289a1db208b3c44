"""The same figure without the compiled part, in the same run; there is none of it where that was not built."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace

from hostvm.native import VARIABLE, load
from tests.bench.figures import Aim, Figure, Measured


def _measure_in_python(figure: Figure, rounds: int) -> Measured:
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = "0"
    try:
        return figure.measure(rounds)
    finally:
        if before is None:
            del os.environ[VARIABLE]
        else:
            os.environ[VARIABLE] = before


def in_python(figure: Figure, aim: Aim | None = None) -> Figure:
    """A figure, measured with the compiled part switched off; it has its own aim, or none."""
    return replace(
        figure,
        name=f"{figure.name}, in Python",
        aim=aim,
        measure=lambda rounds: _measure_in_python(figure, rounds),
    )


def both_ways(figures: Iterable[Figure]) -> tuple[Figure, ...]:
    """Each figure, and behind it the same in Python."""
    if load().library is None:
        return tuple(figures)
    return tuple(each for figure in figures for each in (figure, in_python(figure)))
