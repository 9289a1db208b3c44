"""What a machine is like stands in its trace, and a replay is run on a machine like that."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from hostvm.launcher import GuestConfig
from hostvm.machine import MachineConfig
from hostvm.observations import GuestRestarted, StateDigest
from hostvm.quirks import CORRECTED, QUIRK_NAMES, UPSTREAM, Quirk, corrected_names, quirks_without
from replay.catalogue import find_kernel
from replay.errors import ReplayError
from replay.log import TraceReader
from replay.machine_header import TraceMismatch, header_of, machine_of
from replay.session import Session
from replay.trace_header import KNOWN_NEEDS
from tests.hostvm.devices.device_guest import Program
from tests.replay.recorded import ORIGIN, Silent, events_of, hello, record_hello, verify


def test_a_bug_has_one_name_and_is_found_by_it() -> None:
    assert corrected_names(UPSTREAM) == ()
    assert quirks_without(()) == UPSTREAM
    for quirk, name in zip(Quirk, QUIRK_NAMES, strict=True):
        assert corrected_names(UPSTREAM & ~quirk) == (name,)
        assert quirks_without([name]) == UPSTREAM & ~quirk
    assert quirks_without(QUIRK_NAMES) == CORRECTED
    with pytest.raises(KeyError):
        quirks_without(["no-such-bug"])


@pytest.mark.parametrize(
    "config",
    [
        hello(),
        replace(hello(), quirks=CORRECTED),
        replace(hello(), quirks=UPSTREAM & ~Quirk.IRET_EFLAGS, restarts=True),
        replace(hello(), memory_digest_every=3),
    ],
)
def test_a_machine_comes_back_from_its_trace(config: MachineConfig, tmp_path: Path) -> None:
    path = tmp_path / "x.lgt"
    record_hello(path, config=config, max_ticks=2000)
    with TraceReader(path) as reader:
        assert machine_of(reader) == config
        assert set(reader.header.needs) <= KNOWN_NEEDS
    verify(path)


def test_what_changes_the_run_cannot_be_passed_over() -> None:
    usual, _ = header_of(hello(), ORIGIN)
    changed, _ = header_of(replace(hello(), memory_digest_every=5, restarts=True), ORIGIN)
    assert usual.needs == ()
    assert set(changed.needs) == {"memory_digest_every", "restarts"}


def test_corrected_bugs_make_another_run_which_replays(tmp_path: Path) -> None:
    ends = []
    kernel = find_kernel("kestrel")
    kestrel = MachineConfig((GuestConfig(kernel.content, "hz=10000 -- 1", 8 << 20),))
    for name, quirks in (("upstream", UPSTREAM), ("corrected", CORRECTED)):
        path = tmp_path / f"{name}.lgt"
        ends.append(record_hello(path, config=replace(kestrel, quirks=quirks)).end)
        assert verify(path).last_tick == ends[-1].tick
    assert ends[0] != ends[1]


def test_a_trace_with_a_bug_corrected_that_nobody_knows_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.lgt"
    record_hello(path, max_ticks=1000)
    with TraceReader(path) as reader:
        header = replace(reader.header, quirks=("iret-eflags", "other-bug"))
        monkeypatch.setattr(TraceReader, "header", header)
        with pytest.raises(TraceMismatch, match="quirk other-bug corrected; here it is not known"):
            Session(reader)


def test_memory_is_in_as_many_digests_as_the_header_says(tmp_path: Path) -> None:
    path = tmp_path / "x.lgt"
    config = replace(hello(digest_interval=1 << 14), memory_digest_every=3)
    record_hello(path, config=config)
    digests = [event for event in events_of(path) if isinstance(event, StateDigest)]
    assert len(digests) > 6
    assert [bool(digest.memory) for digest in digests[:6]] == [False, False, True] * 2
    verify(path)


def test_a_trace_with_no_rhythm_of_memory_digests_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.lgt"
    record_hello(path, max_ticks=1000)
    with TraceReader(path) as reader:
        monkeypatch.setattr(TraceReader, "header", replace(reader.header, memory_digest_every=0))
        with pytest.raises(ReplayError, match="every 0 ticks"):
            Session(reader)


def test_a_guest_that_restarts_for_ever_is_recorded_and_replayed(tmp_path: Path) -> None:
    program = Program()
    program.spin(500)
    program.restart()
    config = MachineConfig((program.guest(),), 1 << 12, 2, restarts=True)
    watcher = Silent()
    path = tmp_path / "x.lgt"
    record_hello(path, config=config, watcher=watcher, max_ticks=20_000)
    restarts = [o for o in watcher.observations if isinstance(o, GuestRestarted)]
    assert len(restarts) > 20
    assert {o.text for o in restarts} == {"Power down"}
    assert len({b.tick - a.tick for a, b in pairwise(restarts)}) == 1
    assert verify(path).last_tick == 20_000
