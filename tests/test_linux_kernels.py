"""What the tests of real kernels rest on: finding kernels by name, a user space of 400 bytes, comparing consoles."""

from __future__ import annotations

import gzip
import shutil
import subprocess
from pathlib import Path

import pytest

import hostvm
from tests.ext2_image import ext2_image
from tests.linux_console import DIFFERENCES, comparable
from tests.linux_kernels import GREETING, VARIABLE, Ending, LinuxBoot, boots, small_user_space
from tests.linux_peer import ADDRESS, answer_to
from tests.linux_user_space import user_space

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


def test_a_disk_is_an_ext2_with_one_file(tmp_path: Path) -> None:
    if shutil.which("e2fsck") is None or shutil.which("debugfs") is None:
        pytest.skip("NOBODY ELSE HAS LOOKED AT THE DISK: there are no e2fsck and debugfs here")
    disk, data = tmp_path / "disk", bytes(range(256)) * 20
    disk.write_bytes(ext2_image("given", data))
    subprocess.run(["e2fsck", "-fn", disk], check=True, capture_output=True)
    look = subprocess.run(["debugfs", "-R", "cat /given", disk], check=True, capture_output=True)
    assert look.stdout == data


def test_the_user_space_that_does_more_has_its_devices(tmp_path: Path) -> None:
    archive = gzip.decompress(user_space(tmp_path).read_bytes())
    for name in (b"init\0", b"dev/hvc0\0", b"mnt\0", b"TRAILER!!!\0"):
        assert name in archive


def test_the_peer_answers_what_is_meant_for_it() -> None:
    guest, here = b"\x02\0\0\0\0\1", b"\x0a\0\2\x0f"
    ask = bytes.fromhex("000108000604 0001") + guest + here + bytes(6)
    answer = answer_to(b"\xff" * 6 + guest + b"\x08\x06" + ask + ADDRESS)
    assert answer[:6] == guest
    assert answer[14:22] == bytes.fromhex("0001080006040002")
    assert answer[28:32] == ADDRESS
    assert answer[38:42] == here
    ip = bytes.fromhex("4500 0021 0000 4000 4011 0000") + here + ADDRESS
    udp = bytes.fromhex("1b58 0007 000d 1234") + b"hello"
    answer = answer_to(answer[6:12] + guest + b"\x08\0" + ip + udp)
    assert answer[26:34] == ADDRESS + here
    assert answer[34:38] == bytes.fromhex("0007 1b58")
    assert answer[42:47] == b"HELLO"
    words = sum(int.from_bytes(answer[at : at + 2], "big") for at in range(14, 34, 2))
    assert words % 0xFFFF == 0
    for other in (ask + here, b"\x45" * 30):
        assert answer_to(b"\xff" * 6 + guest + b"\x08\x06" + other) == b""


def test_what_a_kernel_was_built_without_is_told_by_its_symbols(place: Path) -> None:
    put(place, "vmlinux-none")
    (boot,) = boots()
    assert boot.lacks(("inet_init",)) == ""
    shipped = Path(hostvm.__file__).parent / "guest" / "images" / "kestrel.elf"
    it = LinuxBoot("kestrel", shipped, None, None, None, "", 64)
    assert it.lacks(("inet_init", "other")) == "kestrel.elf was built without inet_init"
    assert it.lacks(("inet_init", "PAGE_OFFSET")) == ""
