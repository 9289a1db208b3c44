"""The guests that come with lgreplay, and how the user's words name a guest: one of these, or a kernel file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from types import MappingProxyType

from hostvm.abi import DEFAULT_GENERATION
from hostvm.errors import ConfigurationError
from hostvm.kernel_image import inspect_kernel

IMAGES = "hostvm.guest.images"


@dataclass(frozen=True, slots=True)
class ShippedGuest:
    """A guest in the package: what it does, what its command line understands, and its generation of lguest."""

    summary: str
    options: str
    abi: str = DEFAULT_GENERATION


_KESTREL_OPTIONS = (
    "init=NAME first program, tty, quiet, hz=N, crash=write|storm|stale, -- ARGUMENTS"
)

SHIPPED: Mapping[str, ShippedGuest] = MappingProxyType(
    {
        "hello": ShippedGuest(
            summary="a small kernel: boots, runs two programs side by side, counts, powers off",
            options="loops=N how much they do (8), hz=N timer interrupts a second (1000)",
        ),
        "kestrel": ShippedGuest(
            summary="a kernel with processes, fork and devices; runs your programs: --init, --initrd",
            options=_KESTREL_OPTIONS,
        ),
        "kestrel-2.6.23": ShippedGuest(
            summary="the same for lguest as of Linux 2.6.23: buffers go by DMA; two can talk",
            options=f"{_KESTREL_OPTIONS}; init=talk, split",
            abi="2.6.23",
        ),
        "kestrel-2.6.27": ShippedGuest(
            summary="the same for lguest as of Linux 2.6.27",
            options=_KESTREL_OPTIONS,
            abi="2.6.27",
        ),
        "kestrel-2.6.32": ShippedGuest(
            summary="the same for lguest as of Linux 2.6.32: hypercalls by vmcall",
            options=_KESTREL_OPTIONS,
            abi="2.6.32",
        ),
        "kestrel-2.6.37": ShippedGuest(
            summary="the same for lguest as of Linux 2.6.37",
            options=_KESTREL_OPTIONS,
            abi="2.6.37",
        ),
        "heron": ShippedGuest(
            summary="a kernel for a PC, run by its VMI hooks; qemu-system-i386 -kernel runs it too",
            options="crash=stack16 an iret to a 16-bit stack, which the Host refuses",
            abi="vmi",
        ),
        "heron-raw-iret": ShippedGuest(
            summary="heron with a bug: it leaves by an iret that is no hook, so a reschedule can be lost",
            options="as heron",
            abi="vmi",
        ),
        "kestrel-no-window": ShippedGuest(
            summary="kestrel with a bug: interrupts may hit it in the middle of its iret",
            options=_KESTREL_OPTIONS,
        ),
        "kestrel-short-window": ShippedGuest(
            summary="kestrel with a bug: the same, but only at the very last instruction",
            options=_KESTREL_OPTIONS,
        ),
        "kestrel-bugs": ShippedGuest(
            summary="one of lguest's bugs at a time, as it was or fixed; traces/ has them",
            options="bug=NAME or fix=NAME, hz=N, loops=N",
        ),
    }
)


@dataclass(frozen=True, slots=True)
class Kernel:
    """A kernel file's name, without its folder, its content, and the generation of lguest that it is for."""

    name: str
    content: bytes
    abi: str


def _image(name: str) -> Traversable:
    package, folder = IMAGES.split(".", 1)
    place = files(package)
    for part in (*folder.split("."), f"{name}.elf"):
        place = place / part
    return place


def find_kernel(words: str, abi: str | None = None) -> Kernel:
    """Read the kernel of the shipped guest `words`, or the file of that name; `abi` is what the user says that it is.

    Raises: ConfigurationError when there is neither, or the file is no kernel for lguest; OSError when it cannot be
    read.
    """
    if words in SHIPPED:
        return Kernel(words, _image(words).read_bytes(), abi or SHIPPED[words].abi)
    path = Path(words)
    if not path.exists():
        names = ", ".join(SHIPPED)
        raise ConfigurationError(f"{words}: neither a shipped guest ({names}) nor a kernel file")
    return read_kernel(path, abi)


def read_kernel(path: Path, abi: str | None = None) -> Kernel:
    """Read a kernel file, and find out for which generation of lguest it is unless the user says so.

    Raises: ConfigurationError when it is no kernel for lguest; OSError when it cannot be read.
    """
    content = path.read_bytes()
    return Kernel(path.name, content, inspect_kernel(path.name, content, abi).abi)


__all__ = ["SHIPPED", "Kernel", "ShippedGuest", "find_kernel", "read_kernel"]
