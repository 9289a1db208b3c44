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

IMAGES = "hostvm.guest.images"


@dataclass(frozen=True, slots=True)
class ShippedGuest:
    """A guest in the package: what it does, what its command line understands, and its generation of lguest."""

    summary: str
    options: str
    abi: str = DEFAULT_GENERATION


_KESTREL_OPTIONS = "init=NAME first program, hz=N, crash=write or crash=storm, -- ARGUMENTS"

SHIPPED: Mapping[str, ShippedGuest] = MappingProxyType(
    {
        "hello": ShippedGuest(
            summary="a small kernel: boots, runs two programs side by side, counts, powers off",
            options="loops=N how much they do (8), hz=N timer interrupts a second (1000)",
        ),
        "kestrel": ShippedGuest(
            summary="a kernel with processes, fork and devices; runs your programs from --initrd",
            options=_KESTREL_OPTIONS,
        ),
        "kestrel-2.6.27": ShippedGuest(
            summary="the same for lguest as of Linux 2.6.27",
            options=_KESTREL_OPTIONS,
            abi="2.6.27",
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


def find_kernel(words: str) -> Kernel:
    """Read the kernel of the shipped guest `words`, or the file of that name.

    Raises: ConfigurationError when there is neither; OSError when the file cannot be read.
    """
    if words in SHIPPED:
        return Kernel(words, _image(words).read_bytes(), SHIPPED[words].abi)
    path = Path(words)
    if not path.exists():
        names = ", ".join(SHIPPED)
        raise ConfigurationError(f"{words}: neither a shipped guest ({names}) nor a kernel file")
    return Kernel(path.name, path.read_bytes(), DEFAULT_GENERATION)


__all__ = ["SHIPPED", "Kernel", "ShippedGuest", "find_kernel"]
