"""`record --init`: what is no program for kestrel is refused in one line, what is one runs, records and replays."""

from __future__ import annotations

import struct
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostvm.errors import ConfigurationError
from hostvm.quirks import UPSTREAM, Quirk
from replay.commands.init_program import InitProgram, checked_program, read_program, words_for
from replay.commands.plan import Wish, make_plan
from replay.log import TraceReader
from tests.end_to_end.commands import complaint, lgreplay
from tests.hostvm.user_programs import compiled, exit_with, program

MEMORY = 8 << 20
GOOD = program(exit_with(3))
TYPE, MACHINE, ENTRY, HEADERS, HEADER_SIZE, COUNT = 16, 18, 24, 28, 42, 44
SEGMENT = 52


def changed(offset: int, layout: str, value: int) -> bytes:
    """The good program with one field of another value."""
    image = bytearray(GOOD)
    struct.pack_into(layout, image, offset, value)
    return bytes(image)


REFUSED = {
    "nothing at all": (b"", "not an ELF file"),
    "a text": (b"hello\n", "not an ELF file"),
    "a script": (b"#!/bin/sh\n", "a script, not an ELF program"),
    "half a header": (GOOD[:40], "the ELF header is cut off"),
    "64 bits": (changed(4, "<B", 2), "a 64-bit program, and the guest is an i386"),
    "an unknown class": (changed(4, "<B", 7), "not for the i386"),
    "big-endian": (changed(5, "<B", 2), "not for the i386"),
    "an ARM program": (
        changed(MACHINE, "<H", 40),
        "a program for machine 40, not for the i386 (3)",
    ),
    "an object file": (changed(TYPE, "<H", 1), "not executable: an object file, not yet linked"),
    "a core dump": (changed(TYPE, "<H", 4), "not executable: a core dump"),
    "some other type": (changed(TYPE, "<H", 9), "not executable: an ELF file of type 9"),
    "dynamic": (changed(SEGMENT, "<I", 3), "linked dynamically, and the guest has no libraries"),
    "nothing to load": (changed(SEGMENT, "<I", 4), "nothing in it is to be loaded"),
    "no headers": (changed(COUNT, "<H", 0), "nothing in it is to be loaded"),
    "headers elsewhere": (changed(HEADERS, "<I", 1 << 31), "the program headers are cut off"),
    "odd headers": (changed(HEADER_SIZE, "<H", 33), "program headers of 33 bytes"),
    "many headers": (changed(COUNT, "<H", 17), "17 program headers; kestrel takes 16"),
    "cut off": (GOOD[:-4], "the part for 0x8048000 is cut off"),
    "less than nothing": (changed(SEGMENT + 20, "<I", 1), "the part for 0x8048000 is cut off"),
    "no code": (changed(ENTRY, "<I", 0x1234), "no program: it begins at 0x1234"),
    "a library": (changed(TYPE, "<H", 3)[:ENTRY] + bytes(4) + GOOD[28:], "a shared library, or no"),
    "in the kernel": (changed(SEGMENT + 8, "<I", 0xC0000000), "0xc0000000"),
    "too big": (
        changed(SEGMENT + 20, "<I", 7 << 20),
        "needs 10 MiB with the kernel, the guest has 8",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_program_for_the_guest_is_refused_in_one_line(name: str, tmp_path: Path) -> None:
    content, said = REFUSED[name]
    path = tmp_path / "prog"
    if name == "in the kernel":
        content = content[:ENTRY] + struct.pack("<I", 0xC0000060) + content[28:]
    path.write_bytes(content)
    with pytest.raises(ConfigurationError) as refused:
        read_program(path, MEMORY)
    assert said in str(refused.value)
    assert str(refused.value).startswith(f"{path}: ")
    assert "\n" not in str(refused.value)


def test_refusing_comes_before_anything_runs_or_is_written(tmp_path: Path) -> None:
    (tmp_path / "prog").write_bytes(REFUSED["dynamic"][0])
    done = lgreplay("record", "--init", "prog", folder=tmp_path)
    assert complaint(done).startswith("lgreplay: prog: linked dynamically")
    assert [path.name for path in tmp_path.iterdir()] == ["prog"]
    done = lgreplay("record", "--init", "gone", folder=tmp_path)
    assert complaint(done) == "lgreplay: gone: No such file or directory\n"
    assert "Is a directory" in complaint(lgreplay("record", "--init", ".", folder=tmp_path))


@given(st.binary(max_size=40), st.integers(0, len(GOOD)))
def test_a_damaged_program_is_refused_or_taken(patch: bytes, at: int) -> None:
    with suppress(ConfigurationError):
        checked_program(Path("prog"), GOOD[:at] + patch + GOOD[at + len(patch) :], MEMORY)


# ---- words --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("append", "arguments", "terminal", "line"),
    [
        ("", (), False, "argv0=prog"),
        ("hz=100", (), True, "argv0=prog tty hz=100"),
        ("tty hz=100", (), True, "argv0=prog tty hz=100"),
        ("", ("-v", "in"), False, "argv0=prog -- -v in"),
        ("hz=9 -- a b", ("c",), True, "argv0=prog tty hz=9 -- a b c"),
        ("argv0=sh -- argv0=x", (), False, "argv0=sh -- argv0=x"),
    ],
)
def test_name_and_arguments_are_words_of_the_guests_command_line(
    append: str, arguments: tuple[str, ...], terminal: bool, line: str
) -> None:
    assert words_for(InitProgram("prog", b""), append, arguments, terminal=terminal) == line


@pytest.mark.parametrize("argument", ["", "a b", "a\nb", "x" * 64, "\u00a0"])
def test_an_argument_that_is_no_word_is_refused(argument: str) -> None:
    with pytest.raises(ConfigurationError, match="an argument cannot"):
        words_for(InitProgram("prog", b""), "", ("fine", argument), terminal=False)


@pytest.mark.parametrize(
    ("wish", "said"),
    [
        (Wish(guests=("kestrel",), init="prog", initrd="prog"), "--initrd cannot be another"),
        (Wish(guests=("hello",), init="prog"), "only kestrel, kestrel-2.6.23"),
        (Wish(guests=(), kernels=("x",), init="prog"), "only kestrel, kestrel-2.6.23"),
        (Wish(arguments=("x",)), "'x': arguments are for the program of --init"),
    ],
)
def test_what_does_not_go_together_is_refused(
    wish: Wish, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "prog").write_bytes(GOOD)
    with pytest.raises(ConfigurationError) as refused:
        make_plan(wish)
    assert said in str(refused.value)


# ---- running ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def compile_program(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], bytes]:
    folder = tmp_path_factory.mktemp("programs")
    return lambda text: compiled(text, folder)


_SAYS_ITS_ARGUMENTS = r"""
int main(int argc, char **argv) {
    for (int i = 0; i < argc; i++) { print(argv[i]); print("\n"); }
    return argc;
}
"""


@pytest.mark.parametrize("guest", ["kestrel", "kestrel-2.6.27"])
def test_a_program_runs_with_its_name_and_arguments_and_replays(
    guest: str, tmp_path: Path, compile_program: Callable[[str], bytes]
) -> None:
    (tmp_path / "my prog").write_bytes(compile_program(_SAYS_ITS_ARGUMENTS))
    arguments = ("--guest", guest, "--clock", "virtual", "--init", "my prog", "--", "-v", "x=1")
    done = lgreplay("record", *arguments, folder=tmp_path)
    assert done.code == 0, done.err
    assert "\nmy_prog\n-v\nx=1\nkestrel: my_prog[1] is done, status 3\n" in done.out
    assert "guest 0 powered off" in done.err
    assert lgreplay("replay", "my prog.lgt", folder=tmp_path).code == 0
    with TraceReader(tmp_path / "my prog.lgt") as reader:
        assert reader.header.guests[0].kernel == guest


@pytest.mark.parametrize("kind", ["-static-pie", "-static"])
def test_a_program_that_may_lie_anywhere_runs_too(kind: str, tmp_path: Path) -> None:
    image = bytearray(program(exit_with(9)))
    if kind == "-static-pie":
        struct.pack_into("<H", image, TYPE, 3)
        struct.pack_into("<I", image, ENTRY, 84)
        struct.pack_into("<II", image, SEGMENT + 8, 0, 0)
    (tmp_path / "prog").write_bytes(image)
    done = lgreplay("record", "--clock", "virtual", "--init", "prog", folder=tmp_path)
    assert "kestrel: prog[1] is done, status 9\n" in done.out


_RESTARTS = r"""
int main(int argc, char **argv) { return syscall(88, 0, 0, 0x1234567, 0); }
"""


def test_a_restart_goes_on_in_the_same_trace_unless_that_is_not_wanted(
    tmp_path: Path, compile_program: Callable[[str], bytes]
) -> None:
    (tmp_path / "prog").write_bytes(compile_program(_RESTARTS))
    usual = ("record", "--clock", "virtual", "--init", "prog", "-o", "t.lgt")
    done = lgreplay(*usual, "--max-ticks", "1500k", folder=tmp_path)
    assert done.out.count("kestrel: in ring 1") >= 3
    assert "guest 0 was restarted " in done.err
    assert "reached the limit of ticks" in done.err
    assert lgreplay("replay", "t.lgt", folder=tmp_path).code == 0
    events = lgreplay("events", "t.lgt", "--kind", "guest-restarted", folder=tmp_path)
    assert events.out.count("guest_restarted      Restarting") >= 2
    done = lgreplay(*usual, "--no-reboot", folder=tmp_path)
    assert done.out.count("kestrel: in ring 1") == 1
    assert "guest 0 asked for a restart at tick " in done.err
    assert lgreplay("replay", "t.lgt", folder=tmp_path).code == 0


def test_corrected_bugs_are_shown_and_replayed(tmp_path: Path) -> None:
    (tmp_path / "prog").write_bytes(GOOD)
    quirks = ("--quirk", "iret-eflags=correct", "--quirk", "more-always-true=correct")
    back = ("--quirk", "more-always-true=upstream")
    usual = ("record", "--clock", "virtual", "--init", "prog", "-o", "t.lgt")
    assert lgreplay(*usual, *quirks, *back, folder=tmp_path).code == 0
    assert "  corrected iret-eflags\n" in lgreplay("info", "t.lgt", folder=tmp_path).out
    assert lgreplay("replay", "t.lgt", folder=tmp_path).code == 0
    for wrong in ("iret-eflags", "iret-eflags=no", "other=correct"):
        assert "--quirk" in complaint(lgreplay(*usual, "--quirk", wrong, folder=tmp_path))


def test_a_reset_is_heard_where_there_is_no_other_way_to_restart() -> None:
    def quirks(guest: str, **said: bool) -> Quirk:
        asked = {name.replace("_", "-"): how for name, how in said.items()}
        return make_plan(Wish(guests=(guest,), quirks=asked)).config.quirks

    assert quirks("kestrel") == quirks("kestrel-2.6.27") == UPSTREAM
    assert quirks("kestrel-2.6.23") == UPSTREAM & ~Quirk.RESET_UNHEARD
    assert quirks("kestrel-2.6.23", reset_unheard=False) == UPSTREAM
    both = quirks("kestrel-2.6.23", iret_eflags=True)
    assert both == UPSTREAM & ~Quirk.RESET_UNHEARD & ~Quirk.IRET_EFLAGS
