"""What real Linux kernels do with a disk, a network and a restart, in a user space that is made here (linux_init.c).

The kernels are the user's (docs/linux.md); without any, nothing here runs, and the summary says so.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from hostvm.abi import DevicePage
from hostvm.devices.config import SECTOR
from hostvm.observations import ConsoleOutput, EndReason, GuestEnded, GuestRestarted, PacketSent
from replay.events import DeviceCompletion
from replay.log import TraceReader
from replay.session import Session
from tests.end_to_end.test_linux import (
    KERNELS,
    assert_powered_off,
    console_of,
    each_kernel,
    end_of,
    events_of,
    record,
    run,
    wish,
)
from tests.ext2_image import ext2_image
from tests.linux_kernels import LinuxBoot
from tests.linux_peer import answering
from tests.linux_user_space import user_space
from tests.patience import wait_until

pytestmark = [pytest.mark.timeout(1800), pytest.mark.slow]

DISK_DRIVER = (("virtblk_probe", "lguestblk_probe"), ("ext2_fill_super",))
NET_DRIVER = (("virtnet_probe", "lguestnet_probe"), ("inet_init",))
GIVEN = bytes(range(256)) * 20
BLOCK, BLOCKS = 65536, 5
SAID, ANSWER = b"hello from a guest", b"HELLO FROM A GUEST"

each_clock = pytest.mark.parametrize("clock", ["host", "virtual"])
each_of_2_6_23 = pytest.mark.parametrize(
    "boot",
    [boot for boot in KERNELS if boot.abi.device_page is DevicePage.LGUEST_BUS],
    ids=lambda boot: boot.kernel.name,
)


def asked(boot: LinuxBoot, what: str, folder: Path, *more: str) -> list[str]:
    """The arguments of a recording in which the user space does `what`."""
    told = replace(boot, append=f"{boot.append} try={what}", disk=None)
    return wish(told, user_space(folder), *more)


def needs(boot: LinuxBoot, *functions: tuple[str, ...]) -> None:
    if lack := boot.lacks(*functions):
        pytest.skip(lack)


def assert_replays(trace: Path) -> None:
    done = run("replay", trace, folder=trace.parent)
    assert (done.returncode, done.stderr) == (0, "")
    assert "all as recorded" in done.stdout


def checksum(data: bytes) -> int:
    value = 0
    for byte in data:
        value = value * 31 + byte & 0xFFFFFFFF
    return value


def noise(seed: int) -> bytes:
    """What the user space fills a block with."""
    block = bytearray()
    for _ in range(BLOCK):
        seed = seed * 1103515245 + 12345 & 0xFFFFFFFF
        block.append(seed >> 16 & 0xFF)
    return bytes(block)


WRITTEN = b"".join(noise(seed) for seed in range(BLOCKS))


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "disk.img"
    path.write_bytes(ext2_image("given", GIVEN))
    return path


def disk_at_the_end(trace: Path, image: Path) -> Path:
    """The disk as the guest has left it, as a file: the image, and over it what a replay has written."""
    with TraceReader(trace) as reader:
        session = Session(reader)
        for _ in session.verify():
            pass
        (devices,) = session.machine.state().devices
    left = bytearray(image.read_bytes())
    for number, content in devices[0].sectors:
        left[number * SECTOR : (number + 1) * SECTOR] = content
    path = trace.with_suffix(".img")
    path.write_bytes(left)
    return path


@each_kernel
@each_clock
def test_a_file_system_on_a_disk_is_read_and_written(
    boot: LinuxBoot, clock: str, image: Path, tmp_path: Path
) -> None:
    needs(boot, *DISK_DRIVER)
    arguments = asked(boot, "disk", tmp_path, "--disk", str(image), "--clock", clock)
    before = image.read_bytes()
    trace = record(tmp_path, "t", arguments)
    assert_powered_off(trace)
    console = console_of(trace).decode("latin-1")
    for path, data in (("given", GIVEN), ("new", WRITTEN)):
        assert f"disk: /mnt/{path} {len(data)} {checksum(data)}" in console, console[-1000:]
    assert "try: done" in console
    assert image.read_bytes() == before
    left = disk_at_the_end(trace, image)
    image.unlink()
    assert_replays(trace)
    if shutil.which("debugfs") is None or shutil.which("e2fsck") is None:
        pytest.skip("NOBODY ELSE HAS LOOKED AT THE DISK: there are no e2fsck and debugfs here")
    subprocess.run(["e2fsck", "-fn", left], check=True, capture_output=True)
    for path, data in (("given", GIVEN), ("new", WRITTEN)):
        look = subprocess.run(
            ["debugfs", "-R", f"cat /{path}", left], check=True, capture_output=True
        )
        assert look.stdout == data


@each_kernel
def test_it_restarts_in_the_same_trace_and_its_disk_stays(
    boot: LinuxBoot, image: Path, tmp_path: Path
) -> None:
    needs(boot, *DISK_DRIVER)
    disk = ("--disk", str(image), "--clock", "virtual")
    trace = record(tmp_path, "t", asked(boot, "restart", tmp_path, *disk))
    assert_powered_off(trace)
    console = console_of(trace)
    assert [console.count(b"boot %d" % number) for number in range(5)] == [0, 1, 1, 1, 0]
    assert sum(isinstance(event, GuestRestarted) for event in events_of(trace)) == 2
    assert_replays(trace)


@each_kernel
def test_the_panic_of_a_kernel_without_its_first_program_is_the_end(
    boot: LinuxBoot, tmp_path: Path
) -> None:
    trace = record(tmp_path, "t", asked(boot, "die", tmp_path, "--clock", "virtual"))
    end = end_of(trace)
    assert end.reason == EndReason.CRASHED
    assert end.text.startswith("Attempted to kill init!")
    console = console_of(trace).replace(b"\r", b"")
    assert f"Kernel panic - not syncing: {end.text}".encode() in console
    assert_replays(trace)


def lines_of(trace: Path) -> dict[int, list[str]]:
    """What each guest has printed, as neither waits for the other to end its line."""
    texts: dict[int, bytes] = {}
    for event in events_of(trace):
        if isinstance(event, ConsoleOutput):
            texts[event.guest] = texts.get(event.guest, b"") + event.data
    return {guest: text.decode("latin-1").splitlines() for guest, text in texts.items()}


def assert_both_have_heard(trace: Path) -> None:
    """The guest with the greater address, which is the second, sends 64 KiB by TCP to the first."""
    ends = {e.guest: e.reason for e in events_of(trace) if isinstance(e, GuestEnded)}
    printed = lines_of(trace)
    assert ends == dict.fromkeys((0, 1), EndReason.POWEROFF), printed
    (told,) = (line for line in printed[1] if line.startswith("net: as sent"))
    assert told.replace("as sent", "got") in printed[0]
    sums = {checksum(noise(0x0A000000 | first)) for first in (1, 2)}
    assert told.split()[-2] == str(BLOCK)
    assert int(told.split()[-1]) in sums


@each_kernel
@each_clock
def test_two_guests_talk_over_one_ethernet(boot: LinuxBoot, clock: str, tmp_path: Path) -> None:
    needs(boot, *NET_DRIVER)
    both = ("--kernel", str(boot.kernel), "--net", "--clock", clock)
    trace = record(tmp_path, "t", asked(boot, "net", tmp_path, *both))
    assert_both_have_heard(trace)
    events = events_of(trace)
    for guest in (0, 1):
        sent = {e.data for e in events if isinstance(e, PacketSent) and e.guest == guest}
        came = {e.data for e in events if isinstance(e, DeviceCompletion) and e.guest != guest}
        assert len(sent & came) > 5
    assert_replays(trace)


@each_of_2_6_23
@each_clock
def test_two_guests_of_2_6_23_talk_through_the_page_that_they_share(
    boot: LinuxBoot, clock: str, tmp_path: Path
) -> None:
    needs(boot, *NET_DRIVER)
    both = ("--kernel", str(boot.kernel), "--share-net", "--clock", clock)
    trace = record(tmp_path, "t", asked(boot, "net", tmp_path, *both))
    assert_both_have_heard(trace)
    assert not any(isinstance(event, PacketSent) for event in events_of(trace))
    assert_replays(trace)


CORRECTED = [f"--quirk={name}=correct" for name in ("debug-registers-fault", "handler-keeps-tf")]


@each_kernel
def test_a_program_is_single_stepped_if_lguests_bugs_are_corrected(
    boot: LinuxBoot, tmp_path: Path
) -> None:
    arguments = asked(boot, "step", tmp_path, *CORRECTED, "--clock", "virtual")
    trace = record(tmp_path, "t", arguments)
    assert_powered_off(trace)
    assert b"step: 14 steps, then it ended with 7" in console_of(trace)
    assert_replays(trace)


def assert_the_peer_has_answered(trace: Path) -> None:
    assert_powered_off(trace)
    console = console_of(trace).decode("latin-1")
    assert f"peer: {ANSWER.decode()}" in console, console[-1000:]
    assert_replays(trace)


@pytest.fixture
def place() -> Iterator[Path]:
    """Where a socket can be made, by passt too, which is nobody when it is started by root. Its name is short."""
    with TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)
        yield Path(folder) / "net"


@each_kernel
def test_a_guest_talks_to_a_program_outside_and_a_replay_needs_none(
    boot: LinuxBoot, place: Path, tmp_path: Path
) -> None:
    needs(boot, *NET_DRIVER)
    told = replace(boot, append=f"{boot.append} port=7000")
    with answering(place):
        trace = record(tmp_path, "t", asked(told, "peer", tmp_path, "--net-peer", str(place)))
    assert_the_peer_has_answered(trace)


@contextmanager
def shouting() -> Iterator[int]:
    """Answer at a UDP port of this computer, in capitals; its number."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as there:
        there.bind(("127.0.0.1", 0))
        port = int(there.getsockname()[1])

        def serve() -> None:
            while text := there.recvfrom(2048):
                if text[0] != SAID:
                    return
                there.sendto(text[0].upper(), text[1])

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield port
        finally:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as end:
                end.sendto(b"", ("127.0.0.1", port))
            thread.join()


@contextmanager
def passt(place: Path) -> Iterator[None]:
    """A network for one guest, 10.0.2.15, to which this computer is 10.0.2.2."""
    # To whoever asks for the gateway, passt gives this computer.
    network = ("-a", "10.0.2.15", "-n", "24", "-g", "10.0.2.2")
    says = place.with_suffix(".log")
    with (
        says.open("w") as log,
        subprocess.Popen(
            ["passt", "--foreground", "--socket", str(place), *network], stdout=log, stderr=log
        ) as process,
    ):
        try:
            wait_until(lambda: place.exists() or process.poll() is not None)
            if process.poll() is not None:
                pytest.skip(f"NO REAL PEER WAS TRIED: passt says {says.read_text()}")
            yield
        finally:
            process.kill()


@each_kernel
def test_a_guest_talks_through_passt_to_this_computer(
    boot: LinuxBoot, place: Path, tmp_path: Path
) -> None:
    needs(boot, *NET_DRIVER)
    if shutil.which("passt") is None:
        pytest.skip("NO REAL PEER WAS TRIED: there is no passt here")
    with shouting() as port, passt(place):
        told = replace(boot, append=f"{boot.append} port={port}")
        trace = record(tmp_path, "t", asked(told, "peer", tmp_path, "--net-peer", str(place)))
    assert_the_peer_has_answered(trace)
