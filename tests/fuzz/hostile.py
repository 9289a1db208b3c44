"""Hostile Guests in great number: `python -m tests.fuzz.hostile --runs 10000 --seed 0`.

Every run, of both generations in turn, must end in a defined state within its budget and do no harm; it is recorded,
replayed, and replayed once more cut at random, to the same end. Every fiftieth that can be is also recorded to a file
and verified from there. The first run that fails says which it was, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import faulthandler
import re
import time
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

from hostvm.observations import EndReason
from tests.properties.hostile_attacks import attack
from tests.properties.hostile_guests import BUDGET, Fate, HostileRuns, judge, judge_file

GENERATIONS = ("3.2", "2.6.27")
_EVERY = 50
_LONGEST = 120
_NUMBER = re.compile(r"-?0x[0-9a-f]+|-?\b\d+\b")


def end_of(fate: Fate) -> str:
    """How it ended, without numbers."""
    match fate.end:
        case None:
            return "asleep for good" if fate.finished else "still alive"
        case end if end.reason is EndReason.KILLED:
            return _NUMBER.sub("N", end.text).strip()
        case end:
            return f"({end.reason.name.lower()}, in its own words)"


def main() -> int:
    """Run the attacks and count how they ended."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.hostile", description=__doc__)
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0, help="the first of them")
    parser.add_argument("--budget", type=int, default=BUDGET, help="ticks for each run")
    wanted = parser.parse_args()
    machines = {abi: HostileRuns(abi, wanted.budget) for abi in GENERATIONS}
    ends: Counter[str] = Counter()
    slowest, ticks, began = (0.0, 0), 0, time.monotonic()
    with TemporaryDirectory() as folder:
        for seed in range(wanted.seed, wanted.seed + wanted.runs):
            abi = GENERATIONS[seed % len(GENERATIONS)]
            start = time.monotonic()
            faulthandler.dump_traceback_later(_LONGEST, exit=True)
            try:
                fate = _one(machines[abi], seed, abi, Path(folder))
            except BaseException as failure:
                failure.add_note(f"seed {seed}, generation {abi}, budget {wanted.budget}")
                raise
            faulthandler.cancel_dump_traceback_later()
            slowest = max(slowest, (time.monotonic() - start, seed))
            ends[end_of(fate)] += 1
            ticks += fate.tick
            if (seed + 1) % 500 == 0:
                print(f"seed {seed + 1}: {time.monotonic() - began:.0f} s", flush=True)
    for text, count in ends.most_common():
        print(f"{count:8} {text}")
    print(f"{wanted.runs} hostile guests, {ticks // wanted.runs} ticks each, none of them did harm")
    print(f"{time.monotonic() - began:.0f} s; the slowest, seed {slowest[1]}, {slowest[0]:.1f} s")
    return 0


def _one(runs: HostileRuns, seed: int, abi: str, folder: Path) -> Fate:
    it = attack(seed, abi)
    if seed // len(GENERATIONS) % _EVERY == 0 and not it.settled:
        judge_file(it, seed, folder / "hostile.lgt", runs.budget)
    return judge(runs, seed, it)


if __name__ == "__main__":
    raise SystemExit(main())
