"""Whatever a Guest does, the machine ends in a defined state within its budget, and does it again exactly.

`python -m tests.fuzz.hostile` runs many more.
"""

from __future__ import annotations

from random import Random

import pytest

from tests.properties.hostile_guests import HostileRuns

TICKS = 20_000
RUNS = 120


@pytest.mark.parametrize("part", range(4))
def test_a_hostile_guest_ends_in_a_defined_state_however_its_run_is_cut(part: int) -> None:
    runs = HostileRuns(TICKS)
    texts = set()
    for seed in range(part, RUNS, 4):
        fate = runs.run(seed)
        assert fate.finished or fate.tick == TICKS
        assert len(fate.ended) <= 1
        texts |= {end.text.split(" ")[0] for end in fate.ended}
        if seed % 3 == 0:
            assert runs.run(seed, cut=Random(seed).randint(1, 700)) == fate
    assert len(texts) > 3, f"the attacks are too much alike: {texts}"


def test_the_same_attack_ends_alike_on_a_machine_that_has_seen_others() -> None:
    used = HostileRuns(TICKS)
    for seed in range(200, 206):
        used.run(seed)
    assert used.run(7) == HostileRuns(TICKS).run(7)
