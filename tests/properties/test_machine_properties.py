"""Whole boots are the same however they are cut, looked at, saved, restored and handed on, here and elsewhere."""

from __future__ import annotations

from functools import cache
from random import Random

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from hostvm.launcher import GuestConfig
from hostvm.machine import Machine, MachineState
from hostvm.memory_digest import MemoryDigest
from hostvm.units import Tick
from hostvm.world import DEVICE_VECTOR, NMI_VECTOR, TIMER_VECTOR
from tests.hostvm.quiet_world import QuietWorld, hello
from tests.properties.machine_runs import (
    WITHOUT_FMA,
    Leg,
    Outcome,
    handed_on,
    in_fresh_process,
    outcome_of,
    run_leg,
    x87_digest,
)

LENGTH = 350_000
KINDS = ("calm", "many interrupts", "anything from outside", "two guests")


def few(examples: int) -> settings:
    """An example here is a hundred times as much work as elsewhere; `make fuzz` gets more of them all the same."""
    return settings(
        max_examples=max(examples, settings().max_examples // 100),
        phases=[Phase.explicit, Phase.generate],
    )


def guests_of(kind: str) -> tuple[GuestConfig, ...]:
    match kind:
        case "many interrupts":
            return (hello("loops=1 hz=30000"),)
        case "two guests":
            return (hello("loops=1 hz=700"), hello("loops=1 hz=3000", memory=8 << 20))
    return (hello("loops=1"),)


@cache
def leg_of(kind: str) -> Leg:
    """A boot from power-on to the end."""
    world = QuietWorld()
    if kind in ("anything from outside", "two guests"):
        r = Random(kind)
        vectors = (NMI_VECTOR, TIMER_VECTOR, DEVICE_VECTOR)
        world.lines = sorted((r.randrange(LENGTH), r.choice(vectors)) for _ in range(300))
    return Leg(guests_of(kind), world)


@cache
def whole(kind: str) -> Outcome:
    """That boot in one go."""
    return outcome_of(run_leg(leg_of(kind)))


def assert_same(actual: Outcome, expected: Outcome) -> None:
    """Say where they part, and not all that they are."""
    pairs = zip(actual.world.observations, expected.world.observations, strict=False)
    for index, (here, there) in enumerate(pairs):
        assert here == there, f"observation {index}"
    assert actual.tick == expected.tick
    assert actual.world == expected.world
    assert actual.digest == expected.digest
    assert actual == expected


@few(4)
@given(kind=st.sampled_from(KINDS), seed=st.integers(0, 1 << 32))
def test_a_boot_cut_and_disturbed_equals_the_boot_in_one_go(kind: str, seed: int) -> None:
    leg = leg_of(kind)
    disturbed = run_leg(Leg(leg.guests, leg.world, seed=seed))
    assert_same(outcome_of(disturbed), whole(kind))


@few(4)
@given(kind=st.sampled_from(KINDS), cuts=st.sets(st.integers(1, LENGTH), min_size=1, max_size=6))
def test_a_state_restored_into_another_machine_is_the_same_state_and_goes_on_alike(
    kind: str, cuts: set[int]
) -> None:
    leg = leg_of(kind)
    machine = run_leg(Leg(leg.guests, leg.world, until=0))
    for cut in sorted(cuts):
        machine.run(Tick(cut))
        state, digest = machine.state(), machine.digest()
        machine = run_leg(Leg(leg.guests, handed_on(leg, machine).world, state, until=0))
        assert machine.state() == state
        assert machine.digest() == digest
    machine.run(Tick(1 << 40))
    assert_same(outcome_of(machine), whole(kind))


@few(4)
@given(cut=st.integers(1, LENGTH), far=st.integers(1, LENGTH))
def test_going_back_to_an_earlier_state_leads_the_same_way_again(cut: int, far: int) -> None:
    cut, far = sorted((cut, far))
    leg = leg_of("many interrupts")
    machine = run_leg(Leg(leg.guests, leg.world, until=cut))
    state, then = machine.state(), handed_on(leg, machine).world
    machine.run(Tick(far))
    first = outcome_of(machine)
    machine.world = then
    machine.restore(state)
    machine.run(Tick(far))
    assert_same(outcome_of(machine), first)


@few(3)
@given(kind=st.sampled_from(KINDS), seed=st.integers(0, 1 << 32))
def test_the_incremental_memory_digest_equals_one_from_scratch(kind: str, seed: int) -> None:
    r = Random(seed)
    machine = run_leg(Leg(guests_of(kind), QuietWorld(), until=0))
    while not machine.finished:
        machine.run(Tick(machine.tick + r.randint(1, 120_000)))
        assert machine.digest()[8:] == memory_digest_from_scratch(machine)


def memory_digest_from_scratch(machine: Machine) -> bytes:
    """Of the same memory by somebody who has never looked at it before."""
    return MemoryDigest(machine.memory, machine._digest._ranges).value()


# Other processes.


@pytest.mark.parametrize("seed", range(2))
def test_a_run_handed_on_through_fresh_processes_ends_as_if_it_had_stayed(seed: int) -> None:
    """Each process gets a part of each run, and each is a little different from the one before."""
    cuts = [*sorted(Random(seed).sample(range(1, LENGTH), 2)), 1 << 40]
    legs = [leg_of(kind) for kind in KINDS]
    done: list[tuple[Outcome, MachineState]] = []
    for number, until in enumerate(cuts):
        legs = [Leg(leg.guests, leg.world, leg.state, until, seed or None) for leg in legs]
        environment = {"PYTHONHASHSEED": str(seed + number), "LC_ALL": "C" if number else "C.UTF-8"}
        done, _ = in_fresh_process(legs, environment)
        legs = [
            Leg(leg.guests, outcome.world, state)
            for leg, (outcome, state) in zip(legs, done, strict=True)
        ]
    for kind, (outcome, _) in zip(KINDS, done, strict=True):
        assert_same(outcome, whole(kind))


@pytest.mark.parametrize(
    "environment",
    [
        {"PYTHONHASHSEED": "0"},
        {"PYTHONHASHSEED": "4242"},
        {"PYTHONHASHSEED": "random", "MALLOC_PERTURB_": "165", "TZ": "Asia/Kathmandu"},
        {"PYTHONOPTIMIZE": "2"},
        {"GLIBC_TUNABLES": WITHOUT_FMA},
    ],
    ids="-".join,
)
def test_a_process_elsewhere_gives_the_same_digests_and_the_same_mathematics(
    environment: dict[str, str],
) -> None:
    done, mathematics = in_fresh_process([leg_of(kind) for kind in KINDS], environment)
    for kind, (outcome, _) in zip(KINDS, done, strict=True):
        assert_same(outcome, whole(kind))
    assert mathematics == x87_digest()


def test_the_mathematics_are_those_of_every_other_machine() -> None:
    """A fixed value: nothing in it comes from this processor, this C library or this Python."""
    assert x87_digest().hex() == "2d2e8d1b0b1c61de738bd302e7384fd1"
