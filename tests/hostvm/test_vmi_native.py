"""The same file on a PC: what heron prints in QEMU, where its hooks are the instructions themselves, is what we print.

QEMU is an oracle that knows nothing of hooks, Switcher or shadow tables. Where it is missing the tests install it if
they may, and otherwise say that nothing was compared.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest

from hostvm.observations import EndReason
from tests.hostvm.heron import CONSOLE, heron
from tests.hostvm.quiet_world import END_OF_TIME, machine_of
from tests.native_linux import QEMU, has_qemu
from tests.patience import PATIENCE

IMAGES = Path(__file__).parents[2] / "hostvm" / "guest" / "images"
SWITCHED_OFF_BY_DEVICE = 1


@pytest.fixture(scope="module")
def qemu() -> str:
    if not has_qemu():
        _install()
    if not has_qemu():
        pytest.skip(f"HERON WAS NOT COMPARED WITH A PC: there is no {QEMU}, and none to be had")
    return QEMU


def _install() -> None:
    """Only where a computer is meant to be changed: as root, with Debian's tools."""
    apt = shutil.which("apt-get")
    if apt is None or os.geteuid() != 0:
        return
    command = [apt, "install", "-y", "-qq", "--no-install-recommends", "qemu-system-x86"]
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    # Without a network, or while another apt holds the lock, there is none to be had.
    with suppress(subprocess.TimeoutExpired):
        subprocess.run(command, check=False, capture_output=True, env=environment, timeout=PATIENCE)


def on_a_pc(qemu: str, *more: str, image: str = "heron.elf") -> tuple[bytes, int]:
    """What the serial port got, and QEMU's exit code. The processor is emulated, without help from the real one."""
    machine = ("-accel", "tcg", "-m", "64", "-net", "none", "-no-reboot", "-display", "none")
    ports = ("-serial", "stdio", "-monitor", "none", "-kernel", str(IMAGES / image))
    done = subprocess.run(
        [qemu, *machine, *ports, *more],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        timeout=PATIENCE,
    )
    assert not done.stderr, done.stderr
    return done.stdout, done.returncode


def on_our_host(line: str = "") -> tuple[bytes, EndReason]:
    machine, world = machine_of(heron(line))
    machine.run(END_OF_TIME)
    (end,) = world.ends
    return world.console, end.reason


def test_on_a_pc_heron_prints_what_it_prints_on_our_host(qemu: str) -> None:
    console, code = on_a_pc(qemu)
    assert code == 0
    assert console == CONSOLE
    assert on_our_host() == (console, EndReason.POWEROFF)


def test_heron_switches_itself_off_by_the_device_for_it(qemu: str) -> None:
    device = ("-device", "isa-debug-exit,iobase=0xf4,iosize=4")
    assert on_a_pc(qemu, *device) == (CONSOLE, SWITCHED_OFF_BY_DEVICE)


def test_a_pc_returns_to_a_16_bit_stack_where_our_host_refuses(qemu: str) -> None:
    console, code = on_a_pc(qemu, "-append", "crash=stack16")
    assert code == 0
    assert b"stack16: came back from 00000080\n" in console
    ours, end = on_our_host("crash=stack16")
    assert end is EndReason.KILLED
    assert console.startswith(ours)


def test_the_instruction_counts_of_a_pc_do_not_matter(qemu: str) -> None:
    """With a clock that goes by instructions the interrupts come elsewhere, and at the same places each time."""
    for shift in ("1", "6"):
        assert on_a_pc(qemu, "-icount", f"shift={shift},sleep=off") == (CONSOLE, 0)
