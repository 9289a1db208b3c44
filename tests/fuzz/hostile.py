"""Hostile Guests in great number: `python -m tests.fuzz.hostile --runs 10000 --seed 0`.

Each run must end in a defined state within its budget; every tenth is repeated, cut at random, and must end alike.
The first run that does not prints its seed, and the exit code is 1.
"""

from __future__ import annotations

import argparse
from collections import Counter
from random import Random

from tests.properties.hostile_guests import HostileRuns


def main() -> int:
    """Run the attacks and count how they ended."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--ticks", type=int, default=20_000)
    wanted = parser.parse_args()
    runs = HostileRuns(wanted.ticks)
    ends: Counter[str] = Counter()
    for seed in range(wanted.seed, wanted.seed + wanted.runs):
        fate = runs.run(seed)
        ends[fate.ended[0].text.split(" 0x")[0].strip() if fate.ended else "still alive"] += 1
        if seed % 10 == 0 and runs.run(seed, cut=Random(seed).randint(1, 700)) != fate:
            print(f"seed {seed}: another end when cut")
            return 1
    for text, count in ends.most_common(30):
        print(f"{count:8} {text}")
    print(f"{wanted.runs} hostile guests, none of them did harm")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
