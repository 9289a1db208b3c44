"""Real Linux kernels, built by the user: they boot, end, replay bit for bit, and say what they say natively.

docs/linux.md says where they come from. Nobody here wrote these guests, so they see what ours do not.
"""

from __future__ import annotations

import os
import subprocess
import warnings
from collections.abc import Sequence
from pathlib import Path
from random import Random

import pytest

from hostvm.observations import ConsoleOutput, EndReason, GuestEnded, PacketSent
from hostvm.units import Tick
from replay.events import DeviceCompletion, Event
from replay.log import TraceReader
from replay.session import Session
from tests.end_to_end.commands import command, environment
from tests.linux_console import BANNER, comparable
from tests.linux_kernels import GREETING, NOT_SET, VARIABLE, Ending, LinuxBoot, boots
from tests.native_linux import QEMU, boot_natively, has_qemu

pytestmark = [pytest.mark.timeout(1800), pytest.mark.slow]

BOOTS = boots()
KERNELS = tuple({boot.kernel: boot for boot in BOOTS}.values())
REPLAYS = 20
PATIENCE = 900.0

each_boot = pytest.mark.parametrize("boot", BOOTS, ids=lambda boot: boot.name)
each_network = pytest.mark.parametrize(
    "boot",
    [boot for boot in BOOTS if boot.user_space is not None and "net" in boot.user_space.name],
    ids=lambda boot: boot.name,
)
each_kernel = pytest.mark.parametrize("boot", KERNELS, ids=lambda boot: boot.kernel.name)


@pytest.mark.filterwarnings("default")
def test_there_are_kernels_to_try() -> None:
    if not BOOTS:
        warnings.warn(NOT_SET, stacklevel=1)
        pytest.skip(NOT_SET)
    if not has_qemu():
        warnings.warn(f"{QEMU} is not installed: no native boots", stacklevel=1)


@pytest.mark.skipif(not os.environ.get(VARIABLE), reason=NOT_SET)
def test_the_directory_holds_kernels() -> None:
    assert BOOTS, f"no vmlinux* or bzImage* in the directory that {VARIABLE} names"


def run(*arguments: str | Path, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*map(str, arguments)),
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        errors="backslashreplace",
        timeout=PATIENCE,
        check=False,
        stdin=subprocess.DEVNULL,
    )


def wish(boot: LinuxBoot, initrd: Path | None, *more: str, devices: bool = True) -> list[str]:
    """The arguments of a recording; `devices` are those that the native boot has not."""
    arguments = ["--kernel", str(boot.kernel), "--memory", f"{boot.memory}M", *more]
    arguments += ["--append", boot.command_line] if "--append" not in more else []
    arguments += ["--initrd", str(initrd)] if initrd else []
    arguments += ["--rng"] if devices and boot.has_random_numbers else []
    arguments += ["--disk", str(boot.disk)] if boot.disk and devices else []
    return arguments


def record(folder: Path, name: str, arguments: Sequence[str]) -> Path:
    path = folder / name
    done = run("record", *arguments, "--quiet", "-o", path, folder=folder)
    assert done.returncode == 0, done.stderr
    return path


def events_of(path: Path) -> list[Event]:
    with TraceReader(path) as reader:
        return list(reader.events())


def console_of(path: Path) -> bytes:
    return b"".join(e.data for e in events_of(path) if isinstance(e, ConsoleOutput))


def end_of(path: Path) -> GuestEnded:
    (end,) = (event for event in events_of(path) if isinstance(event, GuestEnded))
    return end


def assert_powered_off(path: Path) -> None:
    end = end_of(path)
    tail = console_of(path)[-2000:].decode("latin-1")
    assert end.reason == EndReason.POWEROFF, f"{end}\n{tail}"


@each_boot
@pytest.mark.parametrize("clock", ["host", "virtual"])
def test_it_powers_off_and_replays_bit_for_bit(boot: LinuxBoot, clock: str, tmp_path: Path) -> None:
    trace = record(tmp_path, "t", wish(boot, boot.initrd(tmp_path), "--clock", clock))
    assert_powered_off(trace)
    assert BANNER.encode() in console_of(trace)
    for _ in range(REPLAYS if clock == "host" else 1):
        done = run("replay", trace, folder=tmp_path)
        assert (done.returncode, done.stderr) == (0, "")
        assert "all as recorded" in done.stdout


@each_boot
def test_its_replay_in_pieces_is_the_same(boot: LinuxBoot, tmp_path: Path) -> None:
    trace = record(tmp_path, "t", wish(boot, boot.initrd(tmp_path), "--clock", "virtual"))
    with TraceReader(trace) as reader:
        session = Session(reader)
        machine, r = session.machine, Random(boot.name)
        while machine.tick < session.end_tick and not machine.finished:
            widest = r.choice((1, 20, 1000, 50_000, 1_000_000, 3_000_000, 3_000_000))
            until = min(machine.tick + r.randint(1, widest), session.end_tick)
            machine.run(Tick(until))
            match r.randrange(30):
                case 0 | 1 | 2:
                    machine.cpu.flush()
                case 3 | 4 | 5:
                    machine.cpu.flush_tlb()
                case 6:
                    machine.digest()
                case 7:
                    machine.restore(machine.state())
        for _ in session.verify():
            raise AssertionError("there was nothing left to run")
        assert session.verified.torn is None


@each_boot
def test_in_virtual_time_it_is_the_same_every_time(boot: LinuxBoot, tmp_path: Path) -> None:
    arguments = wish(boot, boot.initrd(tmp_path), "--clock", "virtual", "--seed", "5")
    traces = [record(tmp_path, name, arguments) for name in ("a", "b")]
    with TraceReader(traces[0]) as one, TraceReader(traces[1]) as other:
        assert one.end == other.end
    assert events_of(traces[0]) == events_of(traces[1])


@each_boot
def test_it_says_what_it_says_natively(boot: LinuxBoot, tmp_path: Path) -> None:
    if boot.bzimage is None or not has_qemu():
        pytest.skip(f"a native boot needs {QEMU} and a bzImage beside {boot.kernel.name}")
    initrd = boot.initrd(tmp_path)
    native = boot_natively(boot, initrd)
    if BANNER.encode() not in native.console:
        pytest.skip(f"{boot.bzimage.name} has no serial console to compare with")
    expected = comparable(native.console)
    for clock in ("host", "virtual"):
        trace = record(tmp_path, clock, wish(boot, initrd, "--clock", clock, devices=False))
        assert comparable(console_of(trace)) == expected


@each_kernel
def test_its_bzimage_says_the_same(boot: LinuxBoot, tmp_path: Path) -> None:
    if boot.bzimage is None or boot.kernel == boot.bzimage:
        pytest.skip("only one of vmlinux and bzImage is there")
    arguments = wish(boot, boot.initrd(tmp_path), "--clock", "virtual")
    vmlinux = record(tmp_path, "vmlinux", arguments)
    bzimage = record(tmp_path, "bzimage", ["--kernel", str(boot.bzimage), *arguments[2:]])
    assert_powered_off(bzimage)
    assert comparable(console_of(bzimage)) == comparable(console_of(vmlinux))


@each_kernel
@pytest.mark.parametrize("ending", Ending, ids=lambda ending: ending.name)
def test_it_ends_as_user_space_asks(boot: LinuxBoot, ending: Ending, tmp_path: Path) -> None:
    initrd = boot.initrd(tmp_path, ending)
    trace = record(tmp_path, "t", wish(boot, initrd, "--clock", "virtual", "--no-reboot"))
    assert end_of(trace).reason == EndReason[ending.name]
    if boot.user_space is None or ending is not Ending.POWEROFF:
        assert console_of(trace).replace(b"\r", b"").count(GREETING) == 4


@each_kernel
def test_a_restart_boots_it_again_in_the_same_recording(boot: LinuxBoot, tmp_path: Path) -> None:
    initrd = boot.initrd(tmp_path, Ending.RESTART)
    arguments = wish(boot, initrd, "--clock", "virtual")
    once = record(tmp_path, "once", [*arguments, "--no-reboot"])
    enough = end_of(once).tick * 5 // 2
    trace = record(tmp_path, "t", [*arguments, "--max-ticks", str(enough)])
    assert console_of(trace).count(BANNER.encode()) >= 2
    assert run("replay", trace, folder=tmp_path).returncode == 0


@each_network
def test_two_of_them_hear_of_each_other(boot: LinuxBoot, tmp_path: Path) -> None:
    both = ["--kernel", str(boot.kernel), *wish(boot, boot.user_space, "--net")]
    trace = record(tmp_path, "t", [*both, "--clock", "virtual"])
    events = events_of(trace)
    ends = {e.guest: e.reason for e in events if isinstance(e, GuestEnded)}
    assert ends == dict.fromkeys((0, 1), EndReason.POWEROFF)
    for guest in (0, 1):
        sent = {e.data for e in events if isinstance(e, PacketSent) and e.guest == guest}
        came = {e.data for e in events if isinstance(e, DeviceCompletion) and e.guest != guest}
        assert sent & came
    assert run("replay", trace, folder=tmp_path).returncode == 0


@each_kernel
def test_without_a_user_space_its_panic_is_recorded(boot: LinuxBoot, tmp_path: Path) -> None:
    line = f"{boot.command_line} root=/dev/nothing"
    trace = record(tmp_path, "t", wish(boot, None, "--clock", "virtual", "--append", line))
    end = end_of(trace)
    assert end.reason == EndReason.CRASHED
    assert f"Kernel panic - not syncing: {end.text}".encode() in console_of(trace)


@each_kernel
def test_its_version_is_found_and_too_little_memory_is_one_line(
    boot: LinuxBoot, tmp_path: Path
) -> None:
    done = run("record", "--kernel", boot.kernel, "--memory", "1M", "-o", "t", folder=tmp_path)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "1 MiB of memory are too little" in done.stderr
    trace = record(tmp_path, "t", wish(boot, None, "--max-ticks", "1M"))
    done = run("info", trace, folder=tmp_path)
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("  guest 0"))
    assert ", Linux " in line
    assert ", lguest " in line
