"""Whole boots are the same however they are cut, looked at, saved, restored and handed on, here and elsewhere."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from random import Random

import pytest
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st

from hostvm.launcher import GuestConfig
from hostvm.machine import Machine, MachineState
from hostvm.memory_digest import MemoryDigest
from hostvm.units import Tick
from hostvm.world import DEVICE_VECTOR, NMI_VECTOR, TIMER_VECTOR
from replay.catalogue import find_kernel
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

HELLO = ("calm", "many interrupts", "anything from outside", "two guests")
KESTREL = ("kestrel", "kestrel-2.6.27", "kestrel-2.6.23")
KINDS = (*HELLO, *KESTREL)
LENGTH = 350_000
KESTREL_LENGTH = 1_070_000


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
        case "kestrel" | "kestrel-2.6.27" | "kestrel-2.6.23":
            kernel = find_kernel(kind)
            line = "hz=5000 -- 1"
            return (GuestConfig(kernel.content, line, 4 << 20, abi=kernel.abi, name=kind),)
    return (hello("loops=1"),)


@cache
def leg_of(kind: str) -> Leg:
    """A boot from power-on to the end."""
    world = QuietWorld()
    if kind in ("anything from outside", "two guests"):
        r = Random(kind)
        vectors = (NMI_VECTOR, TIMER_VECTOR, DEVICE_VECTOR)
        world.lines = sorted((r.randrange(LENGTH), r.choice(vectors)) for _ in range(300))
    return Leg(guests_of(kind), world, stride=240_000 if kind in KESTREL else 60_000)


@cache
def whole(kind: str) -> Outcome:
    """That boot in one go."""
    return outcome_of(run_leg(leg_of(kind)))


def length_of(kind: str) -> int:
    """About how many ticks that boot has."""
    return KESTREL_LENGTH if kind in KESTREL else LENGTH


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
@given(kind=st.sampled_from(HELLO), seed=st.integers(0, 1 << 32))
@example(kind=KESTREL[0], seed=0)
@example(kind=KESTREL[1], seed=1)
def test_a_boot_cut_and_disturbed_equals_the_boot_in_one_go(kind: str, seed: int) -> None:
    leg = leg_of(kind)
    disturbed = run_leg(replace(leg, seed=seed))
    assert_same(outcome_of(disturbed), whole(kind))


@few(4)
@given(kind=st.sampled_from(HELLO), parts=st.sets(st.integers(1, 999), min_size=1, max_size=6))
@example(kind=KESTREL[0], parts={100, 300, 301, 650, 900})
@example(kind=KESTREL[1], parts={200, 400, 500, 501, 800})
def test_a_state_restored_into_another_machine_is_the_same_state_and_goes_on_alike(
    kind: str, parts: set[int]
) -> None:
    leg = leg_of(kind)
    cuts = {length_of(kind) * part // 1000 for part in parts}
    machine = run_leg(replace(leg, until=0))
    for cut in sorted(cuts):
        machine.run(Tick(cut))
        state, digest = machine.state(), machine.digest()
        machine = run_leg(replace(handed_on(leg, machine), until=0))
        assert machine.state() == state
        assert machine.digest() == digest
    machine.run(Tick(1 << 40))
    assert_same(outcome_of(machine), whole(kind))


@few(4)
@given(
    kind=st.sampled_from(("many interrupts", *KESTREL)),
    parts=st.tuples(st.integers(1, 999), st.integers(1, 999)),
)
def test_going_back_to_an_earlier_state_leads_the_same_way_again(
    kind: str, parts: tuple[int, int]
) -> None:
    cut, far = (length_of(kind) * part // 1000 for part in sorted(parts))
    leg = leg_of(kind)
    machine = run_leg(replace(leg, until=cut))
    state, then = machine.state(), handed_on(leg, machine).world
    machine.run(Tick(far))
    first = outcome_of(machine)
    machine.world = then
    machine.restore(state)
    machine.run(Tick(far))
    assert_same(outcome_of(machine), first)


@few(3)
@given(kind=st.sampled_from(HELLO), seed=st.integers(0, 1 << 32))
@example(kind=KESTREL[0], seed=0)
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
    parts = sorted(Random(seed).sample(range(1, 1000), 2))
    legs = [leg_of(kind) for kind in KINDS]
    done: list[tuple[Outcome, MachineState]] = []
    for number, part in enumerate([*parts, 1 << 30]):
        legs = [
            replace(leg, until=length_of(kind) * part // 1000, seed=seed or None)
            for kind, leg in zip(KINDS, legs, strict=True)
        ]
        environment = {"PYTHONHASHSEED": str(seed + number), "LC_ALL": "C" if number else "C.UTF-8"}
        done, _ = in_fresh_process(legs, environment)
        legs = [
            replace(leg, world=outcome.world, state=state)
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
