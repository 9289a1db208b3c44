"""A kernel booted as on a PC, in QEMU without help from the processor: what lgreplay's runs of it are compared with."""

from __future__ import annotations

import shutil
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from tests.linux_kernels import LinuxBoot

QEMU = "qemu-system-i386"
PATIENCE = 300.0
_ENDS = (b"Power down", b"System halted", b"Restarting system", b"Rebooting in")


@dataclass(frozen=True, slots=True)
class NativeBoot:
    """What the serial port got, and how long it took from starting QEMU to the kernel's last line."""

    console: bytes
    seconds: float
    cpu_seconds: float
    ended: bool


def has_qemu() -> bool:
    """Whether there is something to compare with."""
    return shutil.which(QEMU) is not None


def boot_natively(boot: LinuxBoot, initrd: Path) -> NativeBoot:
    """Boot it up to its last line, on a PC without a disk or a network card."""
    assert boot.bzimage is not None
    line = boot.command_line.replace("hvc0", "ttyS0")
    machine = ("-accel", "tcg", "-m", str(boot.memory), "-net", "none", "-no-reboot", "-nographic")
    files = ("-kernel", str(boot.bzimage), "-initrd", str(initrd), "-append", line)
    began = time.monotonic()
    with subprocess.Popen(
        [QEMU, *machine, *files],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:
        impatience = threading.Timer(PATIENCE, process.kill)
        impatience.start()
        console, ended = _listen(process)
        seconds = time.monotonic() - began
        cpu_seconds = _cpu_seconds(process.pid)
        impatience.cancel()
        process.kill()
    return NativeBoot(console, seconds, cpu_seconds, ended)


def _listen(process: subprocess.Popen[bytes]) -> tuple[bytes, bool]:
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if any(end in line for end in _ENDS):
            return b"".join(lines), True
    return b"".join(lines), False


def _cpu_seconds(pid: int) -> float:
    """CPU time of a process that still runs, or is not yet waited for."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


__all__ = ["QEMU", "NativeBoot", "boot_natively", "has_qemu"]
