"""With the compiled part and without it: the same states at the same ticks, whatever runs and however it is cut."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.hostvm.ways import COMPILED, PYTHON, counting, needs_compiled
from tests.properties.hostile_attacks import attack
from tests.properties.hostile_guests import HostileRuns
from tests.properties.machine_runs import outcome_of, run_leg
from tests.properties.random_instructions import InstructionRuns
from tests.properties.random_programs import run
from tests.properties.test_machine_properties import KESTREL, leg_of

pytestmark = needs_compiled

TICKS = 1500
WHOLE = 1 << 30
BUDGET = 60_000


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    seed=st.integers(0, 1 << 32),
    ring=st.sampled_from([1, 3]),
    widest=st.sampled_from([1, 2, 7, 400]),
)
def test_random_programs_cannot_tell(seed: int, ring: int, widest: int) -> None:
    with counting(PYTHON):
        expected = run(seed, ring, TICKS, lambda: WHOLE)
    with counting(COMPILED):
        assert run(seed, ring, TICKS, lambda: WHOLE) == expected
        r = Random(seed)
        assert run(seed, ring, TICKS, lambda: r.randint(1, widest)) == expected


def test_single_instructions_cannot_tell() -> None:
    with counting(PYTHON):
        ours = InstructionRuns()
    with counting(COMPILED):
        compiled = InstructionRuns()
    for seed in range(300):
        expected = ours.run(seed, lambda: WHOLE)
        assert compiled.run(seed, lambda: WHOLE) == expected, f"seed {seed}, whole"
        assert compiled.run(seed, lambda: 1) == expected, f"seed {seed}, one by one"
        r = Random(seed)
        assert compiled.run(seed, lambda r=r: r.randint(1, 4)) == expected, f"seed {seed}, cut"  # type: ignore[misc]


@pytest.mark.parametrize("kind", ["many interrupts", "two guests", *KESTREL])
def test_a_boot_cannot_tell(kind: str) -> None:
    with counting(PYTHON):
        expected = outcome_of(run_leg(leg_of(kind)))
    with counting(COMPILED):
        assert outcome_of(run_leg(leg_of(kind))) == expected


def test_what_one_way_recorded_is_replayed_by_the_other() -> None:
    with counting(PYTHON):
        ours = HostileRuns(budget=BUDGET)
    with counting(COMPILED):
        compiled = HostileRuns(budget=BUDGET)
    for seed in range(500, 510):
        it = attack(seed, "3.2")
        fate, events = ours.record(seed, it)
        assert compiled.replay(events, it, ()) == fate
        fate, events = compiled.record(seed, it)
        assert ours.replay(events, it, ()) == fate
