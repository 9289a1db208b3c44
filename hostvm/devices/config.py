"""Which devices a Guest has besides its console, as values and as the short texts that a trace keeps of them.

A disk's contents are not configuration: the World delivers them sector by sector when they are read, so that a trace
has just what a Guest read and a replay needs no disk. What the machine must know is the size.

Read next: descriptor_page.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from hostvm.errors import ConfigurationError

SECTOR = 512
MOST_SECTORS = 1 << 48


@dataclass(frozen=True, slots=True)
class BlockConfig:
    """A disk of so many sectors of 512 bytes. What the Guest writes is kept in memory, never in the image."""

    sectors: int

    def __post_init__(self) -> None:
        if not 0 < self.sectors <= MOST_SECTORS:
            raise ConfigurationError(f"a disk of {self.sectors} sectors: not from 1 to 2**48")

    def __str__(self) -> str:
        return f"block:{self.sectors}"


@dataclass(frozen=True, slots=True)
class RngConfig:
    """A source of random bytes."""

    def __str__(self) -> str:
        return "rng"


@dataclass(frozen=True, slots=True)
class ConsoleConfig:
    """The console, which every Guest has: it comes after all others and is not asked for."""

    def __str__(self) -> str:
        return "console"


DeviceConfig: TypeAlias = BlockConfig | RngConfig


def parse_device(text: str) -> DeviceConfig:
    """The device that `str()` made this text of.

    Raises ConfigurationError.
    """
    match text.split(":"):
        case ["rng"]:
            return RngConfig()
        case ["block", count] if count.isascii() and count.isdigit() and len(count) < 20:
            return BlockConfig(int(count))
    raise ConfigurationError(f"no device {text[:40]!r}; there are rng and block:SECTORS")


__all__ = [
    "SECTOR",
    "BlockConfig",
    "ConsoleConfig",
    "DeviceConfig",
    "RngConfig",
    "parse_device",
]
