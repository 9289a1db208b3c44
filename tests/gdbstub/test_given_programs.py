"""Symbols that the user gives for a trace: what they change, and which are refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from gdbstub.given_programs import read_given
from gdbstub.timeline_target import TimelineTarget
from hostvm.elf_image import parse_elf
from hostvm.errors import ConfigurationError
from replay.catalogue import find_kernel
from tests.gdbstub.dialogue import Dialogue
from tests.replay.histories import record_guest, timeline_of


@pytest.fixture
def target(tmp_path: Path) -> Iterator[TimelineTarget]:
    with timeline_of(record_guest(tmp_path / "hello.lgt")) as timeline:
        yield TimelineTarget(timeline)


def test_symbols_that_the_user_gives_are_those_of_every_history(
    target: TimelineTarget, tmp_path: Path
) -> None:
    kernel, program = tmp_path / "other", tmp_path / "cat"
    kernel.write_bytes(find_kernel("kestrel").content)
    program.write_bytes(b"\x7fELF...")
    gdb = Dialogue(target)
    target.monitor("to-event ring 3")
    target.give(read_given([f"0={kernel}"], [f"cat={program}"], target.timeline.reader))
    expected = parse_elf("other", kernel.read_bytes()).symbols.address_of("ring_alarms")
    assert target.timeline.address("ring_alarms") == expected
    assert target.document("exec-file", "1") == b"/lgreplay/other"
    assert target.files()["/lgreplay/other"]() == kernel.read_bytes()
    recorded = target.timeline
    assert gdb.one(b"P0=01000000") == b"OK"
    assert target.timeline is not recorded
    assert target.timeline.address("ring_alarms") == expected


def test_programs_are_listed_and_fetched_by_the_name_of_their_task(
    target: TimelineTarget, tmp_path: Path
) -> None:
    program = tmp_path / "file"
    program.write_bytes(b"\x7fELF...")
    target.give(read_given([], [f"a-name-far-too-long={program}"], target.timeline.reader))
    assert target.monitor("programs").splitlines() == [
        "kernel of guest 0: /lgreplay/hello",
        "program a-name-far-too-: /lgreplay/user/a-name-far-too-",
    ]
    assert target.files()["/lgreplay/user/a-name-far-too-"]() == b"\x7fELF..."
    # hello is no Linux, so nobody knows what runs in it.
    assert target.monitor("programs here") == "\n"


@pytest.mark.parametrize(
    ("kernels", "users", "message"),
    [
        (["9=FILE"], [], "the trace has no guest 9"),
        (["FILE"], [], "FILE: not an ELF file"),
        ([], ["FILE"], "want NAME=FILE"),
        ([], ["a/b=FILE"], "want NAME=FILE"),
        ([], ["cat=FILE"], "FILE: not an ELF file"),
    ],
)
def test_symbols_that_do_not_fit_are_refused(
    target: TimelineTarget, tmp_path: Path, kernels: list[str], users: list[str], message: str
) -> None:
    file = tmp_path / "FILE"
    file.write_bytes(b"text")
    kernels, users = ([w.replace("FILE", str(file)) for w in words] for words in (kernels, users))
    with pytest.raises(ConfigurationError, match=message):
        read_given(kernels, users, target.timeline.reader)
