"""Slicing invariance: however a run is cut, it passes through the same states at the same ticks."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.hostvm.bare_machine import BareMachine
from tests.hostvm.ways import both_ways, counting
from tests.properties.random_programs import Outcome, RandomRun, run

TICKS = 1500
WHOLE = 1 << 30


def _assert_equal(whole: Outcome, cut: Outcome) -> None:
    for index, (expected, actual) in enumerate(zip(whole.events, cut.events, strict=False)):
        assert actual == expected, f"host turn {index}"
    assert cut == whole


@both_ways
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    seed=st.integers(0, 1 << 32),
    ring=st.sampled_from([1, 3]),
    widest=st.sampled_from([1, 2, 3, 7, 50, 400]),
)
def test_a_run_cut_at_random_equals_the_run_in_one_go(
    way: str, seed: int, ring: int, widest: int
) -> None:
    with counting(way):
        whole = run(seed, ring, TICKS, lambda: WHOLE)
        r = Random(seed + widest)
        _assert_equal(whole, run(seed, ring, TICKS, lambda: r.randint(1, widest)))


@both_ways
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 1 << 32), ring=st.sampled_from([1, 3]))
def test_dropping_translations_and_changing_engines_on_the_way_changes_nothing(
    way: str, seed: int, ring: int
) -> None:
    with counting(way):
        whole = run(seed, ring, TICKS, lambda: WHOLE)
    r = Random(seed)

    def disturb(it: RandomRun) -> None:
        match r.randrange(12):
            case 0:
                it.machine.cpu.flush()
            case 1 | 2:
                it.machine.cpu.flush_tlb()
            case 3:
                it.machine.cpu.restore(it.machine.cpu.state())
            case 4 if r.random() < 0.3:
                it.hand_over()

    with counting(way):
        _assert_equal(whole, run(seed, ring, TICKS, lambda: r.randint(1, 300), disturb))


@pytest.mark.parametrize("seed", range(4))
def test_random_programs_reach_what_they_are_meant_to_test(seed: int) -> None:
    outcome = run(seed, 3, 4 * TICKS, lambda: WHOLE)
    vectors = {event[1] for event in outcome.events}
    assert 14 in vectors
    assert len(outcome.events) > 10


@pytest.mark.usefixtures("each_way")
@pytest.mark.parametrize("cut", [1, 2, 5, 1000])
def test_a_store_into_its_own_block_is_counted_once(cut: int) -> None:
    # 1: movb $0x90,3f; inc %ebx; inc %edx; 3: nop; nop; cmp $5,%ebx; jne 1b; int $0x80
    bare = BareMachine(bytes.fromhex("c60509000100904342909083fb0575f0cd80"))
    bare.start(3)
    steps = 0
    while bare.cpu.cpl == 3 and steps < 5 * 7 + 1:
        steps += bare.cpu.run(min(cut, 5 * 7 + 1 - steps)).steps
    assert (steps, bare.cpu.eip) == (5 * 7 + 1, 0xC000 + 16 * 0x80)
    assert bare.cpu.state().regs[3] == 5
