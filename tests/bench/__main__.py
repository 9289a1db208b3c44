"""`python -m tests.bench`: measure, and show what was aimed at. docs/bench.md says what each figure means."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from tests.bench import (
    compute,
    gdb,
    linux,
    overhead,
    peak_memory,
    rates,
    round_trip,
    start,
    sweeps,
    time_travel,
    trace_size,
    tui,
)
from tests.bench.figures import Figure, Result, as_json, table

FIGURES: tuple[Figure, ...] = (
    *compute.FIGURES,
    *round_trip.FIGURES,
    *rates.FIGURES,
    *overhead.FIGURES,
    *trace_size.FIGURES,
    *start.FIGURES,
    *peak_memory.FIGURES,
    *linux.FIGURES,
    *time_travel.FIGURES,
    *sweeps.FIGURES,
    *tui.FIGURES,
    *gdb.FIGURES,
)


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument(
        "--only", metavar="TEXT", default="", help="figures whose name has TEXT in it"
    )
    parser.add_argument("--rounds", type=int, default=5, help="alternations of each [5]")
    parser.add_argument("--json", action="store_true", help="for programs")
    parser.add_argument("--strict", action="store_true", help="exit with 1 if an aim is missed")
    return parser.parse_args(given)


def main(given: Sequence[str] | None = None) -> int:
    wish = arguments(given)
    results = []
    for figure in (f for f in FIGURES if wish.only in f.name):
        print(f"measuring: {figure.name} ...", file=sys.stderr, flush=True)
        results.append(Result(figure, figure.measure(max(1, wish.rounds))))
    print(as_json(results) if wish.json else table(results))
    missed = [result for result in results if not result.met]
    return 1 if wish.strict and missed else 0


if __name__ == "__main__":
    sys.exit(main())
