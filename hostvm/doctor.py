"""`lgreplay doctor`: whether the machine can run here, and what else there is for working with it.

Each check examines one thing and says what it found. The machine's needs are necessary; what is merely useful is
looked at too, but its absence is no failure. Nothing is changed.
"""

from __future__ import annotations

import platform
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import click

from hostvm.errors import HostvmError

OLDEST_PYTHON = (3, 11)
_FAILED = 2


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found; `good` is None for something useful but not necessary that is not there."""

    good: bool | None
    text: str


def check_python() -> Finding:
    """The interpreter."""
    name = f"{platform.python_implementation()} {platform.python_version()}"
    needed = ".".join(map(str, OLDEST_PYTHON))
    good = sys.version_info >= OLDEST_PYTHON and sys.implementation.name == "cpython"
    return Finding(good, name if good else f"{name}; CPython {needed} or later is needed")


def check_engine() -> Finding:
    """The CPU engine: installed, the right version, laid out as engine_layout.py says."""
    from hostvm.cpu import Cpu
    from hostvm.engine import ENGINE_VERSION
    from hostvm.memory import PhysicalMemory
    from hostvm.memory_map import HOST_AREA
    from hostvm.x86 import PAGE_SIZE

    Cpu(PhysicalMemory(HOST_AREA, 16 * PAGE_SIZE))
    return Finding(good=True, text=f"CPU engine unicorn {ENGINE_VERSION} works as expected")


def check_native() -> Finding:
    """The compiled part: optional, and tried on an engine."""
    from hostvm.cpu import Cpu
    from hostvm.memory import PhysicalMemory
    from hostvm.memory_map import HOST_AREA
    from hostvm.native import load
    from hostvm.x86 import PAGE_SIZE

    cpu = Cpu(PhysicalMemory(HOST_AREA, 16 * PAGE_SIZE))
    if load().library is None or cpu.native != load().text:
        return Finding(
            good=None, text=f"no compiled part: {cpu.native} (slower, otherwise the same)"
        )
    return Finding(good=True, text=f"the compiled part {cpu.native}")


def check_machine() -> Finding:
    """Memory for the Host area and a Guest; Host and Switcher images."""
    from hostvm.host_tables import build_host_world
    from hostvm.launcher import DEFAULT_MEMORY
    from hostvm.memory import PhysicalMemory
    from hostvm.memory_map import HOST_AREA, HOST_AREA_SIZE, guest_slice_size

    size = HOST_AREA_SIZE + guest_slice_size(DEFAULT_MEMORY)
    build_host_world(PhysicalMemory(HOST_AREA, size))
    return Finding(good=True, text=f"Host and Switcher in a machine of {size >> 20} MiB")


def check_mathematics() -> Finding:
    """The x87 routines, which traces rely on."""
    from hostvm.x87_fingerprint import MATHS, maths_fingerprint

    found = maths_fingerprint()
    return Finding(good=found == MATHS, text=f"x87 mathematics {found}")


def check_gdb() -> Finding:
    """A debugger to connect."""
    return _tool("gdb", "to debug guests with gdb")


def check_compiler() -> Finding:
    """What builds guest images."""
    return _tool("gcc", "to rebuild the shipped guests")


def _tool(name: str, purpose: str) -> Finding:
    path = shutil.which(name)
    if path is None:
        return Finding(good=None, text=f"no {name}; needed only {purpose}")
    return Finding(good=True, text=f"{name}: {path}")


CHECKS: Sequence[Callable[[], Finding]] = (
    check_python,
    check_engine,
    check_native,
    check_machine,
    check_mathematics,
    check_gdb,
    check_compiler,
)


def examine(check: Callable[[], Finding]) -> Finding:
    """Carry out a check; what stops it is what it found."""
    try:
        return check()
    except (HostvmError, OSError, ImportError, MemoryError) as error:
        subject = (check.__doc__ or "").partition(":")[0].rstrip(".")
        return Finding(good=False, text=f"{subject}: {str(error) or type(error).__name__}")


@click.command
@click.pass_context
def doctor(ctx: click.Context) -> None:
    """Check whether this computer can run, record and replay; exit code 2 if not."""
    findings = [examine(check) for check in CHECKS]
    for finding in findings:
        mark = {True: "ok", False: "BAD", None: "-"}[finding.good]
        click.echo(f"{mark:<4} {finding.text}")
    if any(finding.good is False for finding in findings):
        ctx.exit(_FAILED)


__all__ = ["CHECKS", "Finding", "doctor", "examine"]
