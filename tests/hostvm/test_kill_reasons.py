"""Every reason for which lguest kills a Guest is given to one that deserves it, in a recording that replays."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

import hostvm
from hostvm.machine import MachineConfig
from hostvm.observations import EndReason, GuestEnded
from hostvm.units import Tick
from tests.hostvm.condemned import ALL, CASES, Case, condemned
from tests.hostvm.condemned_old import OLD_CASES, OldCase, condemned_pair
from tests.hostvm.kill_texts import texts_in, unmet
from tests.replay.recorded import Silent, record_hello, verify

AT_ONCE = 12
LONGEST = Tick(3_000_000)

# Each says that the Host cannot reach the shared page. That was checked when the Guest named it, and stays where it is.
OUT_OF_REACH = {
    "Writing result for async hypercall",
    "Fetching async hypercalls",
    "Writing cr2",
    "Writing timestamp",
    "Disabling interrupts",
    "Re-enabling interrupts",
    # The Launcher's own keys are good ones.
    "bad registered DMA buffer",
    # These take a network: tests/hostvm/devices/test_net.py.
    "Input buffers in net output queue?",
    "Output buffers in net input queue?",
}


def of(abi: str) -> tuple[Case, ...]:
    return tuple(case for case in CASES if abi in case.abis)


BATCHES = [(abi, start) for abi in ALL for start in range(0, len(of(abi)), AT_ONCE)]


@pytest.mark.parametrize(("abi", "start"), BATCHES)
def test_each_guest_is_killed_for_what_it_did_in_lguests_words(
    abi: str, start: int, tmp_path: Path
) -> None:
    cases = of(abi)[start : start + AT_ONCE]
    guests, texts = zip(*(condemned(case, abi) for case in cases), strict=True)
    watcher = Silent()
    path = tmp_path / "killed.lgt"
    record_hello(path, watcher=watcher, config=MachineConfig(guests), max_ticks=LONGEST)
    ends = {o.guest: (o.reason, o.text) for o in watcher.observations if isinstance(o, GuestEnded)}
    assert {case.name: ends.get(guest) for guest, case in enumerate(cases)} == {
        case.name: (EndReason.KILLED, text) for case, text in zip(cases, texts, strict=True)
    }
    verify(path)


@pytest.mark.parametrize("case", OLD_CASES, ids=lambda case: case.name)
def test_a_guest_of_2_6_23_is_killed_alone_for_what_it_did(case: OldCase, tmp_path: Path) -> None:
    guests, victim, text = condemned_pair(case)
    watcher = Silent()
    path = tmp_path / "killed.lgt"
    record_hello(path, watcher=watcher, config=MachineConfig(guests), max_ticks=LONGEST)
    ends = {o.guest: (o.reason, o.text) for o in watcher.observations if isinstance(o, GuestEnded)}
    assert ends.pop(victim) == (EndReason.KILLED, text)
    assert all(reason is EndReason.POWEROFF for reason, _ in ends.values())
    verify(path)


@cache
def reasons() -> frozenset[str]:
    """Every text in the sources, as a pattern; test_vmi.py has those of VMI, devices/test_pci.py those of PCI."""
    files = Path(hostvm.__file__).parent.rglob("*.py")
    return texts_in(file for file in files if not file.name.startswith(("vmi", "pci")))


def test_no_reason_in_the_sources_is_left_out() -> None:
    said = [condemned(case, abi)[1] for case in CASES for abi in case.abis]
    said += [condemned_pair(case)[2] for case in OLD_CASES]
    assert unmet(reasons(), said) == OUT_OF_REACH
    assert len(reasons()) > 40
