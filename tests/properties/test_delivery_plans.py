"""A delivery that follows a plan does what the long way does: whole runs with plans equal the same runs without."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hostvm.delivery_plans import Key, Plans
from tests.hostvm.ways import PYTHON, counting
from tests.properties.hostile_attacks import attack
from tests.properties.hostile_guests import HostileRuns
from tests.properties.machine_runs import outcome_of, run_leg
from tests.properties.random_programs import run
from tests.properties.test_machine_properties import KESTREL, leg_of, whole

WHOLE = 1 << 30


@contextmanager
def the_long_way() -> Iterator[None]:
    """No plan is followed, neither here nor in the compiled part."""
    with counting(PYTHON), pytest.MonkeyPatch.context() as patch:
        patch.setattr(Plans, "follow", lambda *_: False)
        yield


class Counted:
    """How many deliveries were asked for, and how many followed a plan."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.asked = self.followed = 0
        follow = Plans.follow

        def counted(plans: Plans, key: Key, flags: int, error_code: int) -> bool:
            done = follow(plans, key, flags, error_code)
            self.asked += 1
            self.followed += done
            return done

        patch.setattr(Plans, "follow", counted)


@settings(max_examples=20)
@given(seed=st.integers(0, 1 << 32), ring=st.sampled_from([1, 3]))
def test_random_programs_cannot_tell(seed: int, ring: int) -> None:
    """Their host unmaps pages and their code overwrites what it likes, so many plans are out of date."""
    with the_long_way():
        expected = run(seed, ring, 3000, lambda: WHOLE)
    assert run(seed, ring, 3000, lambda: WHOLE) == expected


@pytest.mark.parametrize("abi", ["3.2", "2.6.27"])
def test_hostile_guests_cannot_tell(abi: str) -> None:
    runs = HostileRuns(abi)
    with the_long_way():
        others = HostileRuns(abi)
    for seed in range(300, 315):
        it = attack(seed, abi)
        with the_long_way():
            expected = others.record(seed, it)
        assert runs.record(seed, it) == expected


@pytest.mark.parametrize("kind", ["many interrupts", "two guests", *KESTREL])
def test_a_boot_cannot_tell(kind: str) -> None:
    with the_long_way():
        expected = outcome_of(run_leg(leg_of(kind)))
    assert whole(kind) == expected


def test_most_deliveries_of_a_boot_follow_a_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    counted = Counted(monkeypatch)
    with counting(PYTHON):
        run_leg(leg_of("kestrel"))
    assert counted.asked > 500
    assert counted.followed > 0.8 * counted.asked
