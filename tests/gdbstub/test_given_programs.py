"""Symbols that the user gives for a trace: what they change, and which are refused."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from gdbstub.given_programs import UserProgram, read_given
from gdbstub.programs import Programs
from gdbstub.timeline_target import TimelineTarget
from hostvm.elf_image import parse_elf
from hostvm.errors import ConfigurationError
from replay.catalogue import find_kernel
from replay.linux_programs import RunningProgram
from tests.gdbstub.dialogue import Dialogue
from tests.replay.histories import record_guest, timeline_of

ENTRY = 0x08048123
FIXED, ANYWHERE = 2, 3


def elf(kind: int = FIXED, entry: int = ENTRY, bits: int = 1) -> bytes:
    return struct.pack("<4sB11xHHII", b"\x7fELF", bits, kind, 3, 1, entry)


PROGRAM = elf()


@pytest.fixture
def target(tmp_path: Path) -> Iterator[TimelineTarget]:
    with timeline_of(record_guest(tmp_path / "hello.lgt")) as timeline:
        yield TimelineTarget(timeline)


def test_symbols_that_the_user_gives_are_those_of_every_history(
    target: TimelineTarget, tmp_path: Path
) -> None:
    kernel, program = tmp_path / "other", tmp_path / "cat"
    kernel.write_bytes(find_kernel("kestrel").content)
    program.write_bytes(PROGRAM)
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
    program.write_bytes(PROGRAM)
    target.give(read_given([], [f"a-name-far-too-long={program}"], target.timeline.reader))
    assert target.monitor("programs").splitlines() == [
        "kernel of guest 0: /lgreplay/hello",
        "program a-name-far-too-: /lgreplay/user/a-name-far-too-",
    ]
    assert target.files()["/lgreplay/user/a-name-far-too-"]() == PROGRAM
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
        ([], ["cat=WIDE"], "WIDE: not a program for 32-bit x86"),
        ([], ["cat=SHORT"], "SHORT: cut off within its ELF header"),
    ],
)
def test_symbols_that_do_not_fit_are_refused(
    target: TimelineTarget, tmp_path: Path, kernels: list[str], users: list[str], message: str
) -> None:
    file = tmp_path / "FILE"
    file.write_bytes(b"text")
    (tmp_path / "WIDE").write_bytes(elf(bits=2))
    (tmp_path / "SHORT").write_bytes(PROGRAM[:20])
    kernels, users = (
        [re.sub("FILE|WIDE|SHORT", lambda m: str(tmp_path / m[0]), w) for w in words]
        for words in (kernels, users)
    )
    with pytest.raises(ConfigurationError, match=message):
        read_given(kernels, users, target.timeline.reader)


@pytest.mark.parametrize(
    ("anywhere", "begins", "moved"),
    [
        (False, ENTRY, 0),
        (False, ENTRY + 0x1000, None),
        (False, None, 0),
        (True, ENTRY + 0x40000000, 0x40000000),
        (True, ENTRY + 0x40000010, None),
        (True, ENTRY - 0x1000, None),
        (True, None, None),
    ],
)
def test_a_file_is_taken_for_the_program_that_begins_where_it_does(
    *, anywhere: bool, begins: int | None, moved: int | None
) -> None:
    running = None if begins is None else RunningProgram(0, begins, "/bin/cat")
    assert UserProgram(PROGRAM, ENTRY, anywhere).moved_by(running) == moved


def test_another_file_under_the_name_is_said_to_be_one(
    target: TimelineTarget, tmp_path: Path
) -> None:
    (tmp_path / "cat").write_bytes(PROGRAM)
    (tmp_path / "pie").write_bytes(elf(ANYWHERE, 0x123))
    users = [f"{name}={tmp_path / name}" for name in ("cat", "pie")]
    reader = target.timeline.reader
    programs = Programs(reader, read_given([], users, reader))
    assert "PIE program pie: /lgreplay/user/pie" in programs.listing().splitlines()
    assert programs.of_task("dog", lambda: None) == ""
    here = RunningProgram(0, ENTRY, "/bin/busybox")
    assert programs.of_task("cat", lambda: here) == "/lgreplay/user/cat 0x0"
    moved = RunningProgram(0, 0xB7700123, "")
    assert programs.of_task("pie", lambda: moved) == "/lgreplay/user/pie 0xb7700000"
    assert programs.of_task("cat", lambda: moved) == (
        "task cat runs another program than the file given for it: "
        "it begins at 0xb7700123, that file at 0x08048123"
    )
