"""Whatever a Guest does, it ends in a defined state within its budget, harms nobody, and does it all again exactly.

`python -m tests.fuzz.hostile`, which `make fuzz` calls, runs many more.
"""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from hostvm.machine import Machine
from hostvm.observations import GuestEnded
from hostvm.units import Tick
from replay.virtual_world import VirtualWorld
from tests.properties.hostile_attacks import attack
from tests.properties.hostile_guests import HOSTILE, HostileRuns, config_of, judge, judge_file
from tests.properties.hostile_kernels import HANDLER, elf

RUNS = 40
# They run from address 0 into words that they have written: an addition reaches into its own block (cpu.py, Limits).
INTO_THEMSELVES = frozenset({34})
both = pytest.mark.parametrize("abi", ["3.2", "2.6.27"])


@both
def test_hostile_guests_harm_nobody_and_replay_to_the_same_end_however_they_are_cut(
    abi: str,
) -> None:
    runs = HostileRuns(abi)
    texts = set()
    for seed in set(range(RUNS)) - INTO_THEMSELVES:
        fate = judge(runs, seed, attack(seed, abi))
        if fate.end is not None:
            texts.add(fate.end.text[:12])
    assert len(texts) > 8, f"the attacks are too much alike: {texts}"


@both
def test_the_same_attack_ends_alike_on_a_machine_that_has_seen_others(abi: str) -> None:
    used = HostileRuns(abi)
    for seed in range(200, 206):
        used.record(seed, attack(seed, abi))
    for seed in (7, 8):
        assert used.record(seed, attack(seed, abi)) == HostileRuns(abi).record(
            seed, attack(seed, abi)
        )


@both
def test_an_attack_from_power_on_is_recorded_to_a_file_and_verified(
    abi: str, tmp_path: Path
) -> None:
    attacks = (attack(seed, abi) for seed in range(100))
    from_power_on = [it for it in attacks if not it.settled]
    for seed, it in enumerate(from_power_on[:4]):
        judge_file(it, seed, tmp_path / "hostile.lgt")


# The watch itself: what would be harm is seen.


@pytest.fixture(scope="module")
def runs() -> HostileRuns:
    return HostileRuns()


@pytest.mark.parametrize(
    ("where", "harm"),
    [
        ("canary", "the canary's memory was written"),
        ("behind", "memory behind the Guest was written"),
        ("host text", "the Host's page 0x10004000 was written"),
        ("shadow", "a shadow entry leads to"),
        ("idt", "an IDT entry on the CPU leads elsewhere"),
        ("gdt", "GDT entry 5 on the CPU is"),
    ],
)
def test_harm_is_seen(runs: HostileRuns, where: str, harm: str) -> None:
    _, events = runs.record(3, attack(3, "3.2"))
    ended = [event for event in events if isinstance(event, GuestEnded)]
    assert runs.harm(ended) == []
    address, value = runs.place_to_harm(where)
    runs.machine.memory.write_u32(address, value)
    assert any(harm in text for text in runs.harm(ended)), runs.harm(ended)


def test_a_canary_that_finds_its_memory_changed_does_not_sing() -> None:
    machine = Machine(config_of(elf(HANDLER, {HANDLER: b"\xf4"}), "3.2"), VirtualWorld())
    where, _ = HostileRuns().place_to_harm("canary")
    machine.memory.write_u32(where, Random(0).getrandbits(32))
    machine.run(Tick(100_000))
    ends = [guest.lguest.ended for guest in machine.guests]
    assert machine.finished
    assert ends[0] is not None
    assert ends[0][1] == "the canary was harmed"
    assert ends[HOSTILE] is not None
