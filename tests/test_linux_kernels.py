"""What the tests of real kernels rest on: finding kernels by name, a user space of 400 bytes, comparing consoles."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.linux_console import DIFFERENCES, comparable
from tests.linux_kernels import GREETING, VARIABLE, Ending, boots, small_user_space

NATIVE = b"""\x1b[2JSeaBIOS (version 1)
Linux version 3.2.65 (me@here) #1
BIOS-e820: 0000000000000000 - 000000000009fc00 (usable)
Booting paravirtualized kernel on bare hardware
[    0.100000] console [ttyS0] enabled
pid_max: default: 32768 minimum: 301\r
hello from i686
System halted.
"""
GUEST = b"""Reserving virtual address space above 0xffc00000
Linux version 3.2.65 (me@here) #1
 LGUEST: 0000000000000000 - 0000000004000000 (usable)
Booting paravirtualized kernel on lguest
console [hvc0] enabled
Device at 0 has size 21
[    0.200000] pid_max: default: 32768 minimum: 301
hello from i586
Power down.
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    return tmp_path


def put(folder: Path, *names: str) -> None:
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).write_text("64")


def test_without_the_variable_there_is_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    assert boots() == ()


def test_files_with_one_tail_are_one_kernel(place: Path) -> None:
    put(place, "vmlinux-3.2", "bzImage-3.2", "bzImage-3.11", "initramfs.gz", "README")
    one, other = sorted(boots(), key=lambda boot: boot.kernel.name)
    assert (one.kernel.name, one.bzimage) == ("bzImage-3.11", place / "bzImage-3.11")
    assert (other.kernel.name, other.bzimage) == ("vmlinux-3.2", place / "bzImage-3.2")
    assert one.user_space == other.user_space == place / "initramfs.gz"


def test_each_folder_goes_by_itself(place: Path) -> None:
    put(place / "a", "vmlinux", "initrd-1", "initrd-2", "disk.img", "memory", "append")
    put(place / "b", "bzImage")
    *with_two, without = boots()
    assert [boot.name for boot in with_two] == ["a/vmlinux+initrd-1", "a/vmlinux+initrd-2"]
    assert all(boot.disk and boot.command_line.endswith(" 64") for boot in with_two)
    assert (without.name, without.user_space, without.disk) == ("b/bzImage+small", None, None)


@pytest.mark.skipif(not shutil.which("cpio"), reason="needs cpio")
@pytest.mark.parametrize("ending", Ending)
def test_the_small_user_space_is_an_archive_that_others_can_read(ending: Ending) -> None:
    archive = small_user_space(ending)
    assert GREETING in archive
    done = subprocess.run(["cpio", "-t"], input=archive, capture_output=True, check=True)
    assert done.stdout.split() == [b"dev", b"dev/console", b"dev/mem", b"init"]


def test_what_differs_by_nature_is_left_out() -> None:
    assert comparable(NATIVE) == comparable(GUEST)
    assert "pid_max: default: 32768 minimum: 301" in comparable(GUEST)
    assert "hello from i?86" in comparable(GUEST)


@pytest.mark.parametrize(
    "line",
    [b"good bye", b"Kernel panic - not syncing: no", b"BUG: unable to handle", b"pid_max: 1"],
)
def test_any_other_difference_is_seen(line: bytes) -> None:
    assert comparable(NATIVE + line + b"\n") != comparable(GUEST)
    assert comparable(GUEST.replace(b"hello", line)) != comparable(NATIVE)


def test_each_difference_has_its_reason() -> None:
    reasons = [difference.why for difference in DIFFERENCES]
    assert all(reasons)
    assert len(set(reasons)) == len(reasons)
