"""Which devices a Guest has besides its console, as values and as the short texts that a trace keeps of them.

A disk's contents are not configuration: the World delivers them sector by sector when they are read, so that a trace
has just what a Guest read and a replay needs no disk. What the machine must know is the size.

Read next: descriptor_page.py.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TypeAlias

from hostvm.errors import ConfigurationError

SECTOR = 512
MOST_SECTORS = 1 << 48
MAC_BYTES = 6
# Addresses in a page.
NET_SLOTS = 4096 // MAC_BYTES
_HEX_ADDRESS = re.compile("[0-9a-f]{12}")


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
class NetConfig:
    """A network card; `address` are the six bytes of its own on the Ethernet."""

    address: bytes

    def __post_init__(self) -> None:
        if len(self.address) != MAC_BYTES or self.address[0] & 1:
            raise ConfigurationError(f"{self.address.hex()}: not the address of a network card")

    def __str__(self) -> str:
        return f"net:{self.address.hex()}"


@dataclass(frozen=True, slots=True)
class SharedNetConfig:
    """A place on the network between Guests of 2.6.23: its slot in the page that they share."""

    slot: int

    def __post_init__(self) -> None:
        if not 0 <= self.slot < NET_SLOTS:
            raise ConfigurationError(f"no slot {self.slot} on the network: it has {NET_SLOTS}")

    def __str__(self) -> str:
        return f"sharednet:{self.slot}"


@dataclass(frozen=True, slots=True)
class ConsoleConfig:
    """The console, which every Guest has: it comes after all others and is not asked for."""

    def __str__(self) -> str:
        return "console"


@dataclass(frozen=True, slots=True)
class BridgeConfig:
    """What a PCI bus hangs from, which is not asked for either."""

    def __str__(self) -> str:
        return "bridge"


DeviceConfig: TypeAlias = BlockConfig | NetConfig | RngConfig | SharedNetConfig
PlacedConfig: TypeAlias = DeviceConfig | ConsoleConfig | BridgeConfig


def parse_device(text: str) -> DeviceConfig:
    """The device that `str()` made this text of.

    Raises ConfigurationError.
    """
    match text.split(":"):
        case ["rng"]:
            return RngConfig()
        case ["block", count] if count.isascii() and count.isdigit() and len(count) < 20:
            return BlockConfig(int(count))
        case ["net", digits] if _HEX_ADDRESS.fullmatch(digits):
            return NetConfig(bytes.fromhex(digits))
        case ["sharednet", slot] if slot.isascii() and slot.isdigit() and len(slot) < 6:
            return SharedNetConfig(int(slot))
    raise ConfigurationError(
        f"no device {text[:40]!r}; there are rng, block:SECTORS, net:ADDRESS and sharednet:SLOT"
    )


__all__ = [
    "MAC_BYTES",
    "NET_SLOTS",
    "SECTOR",
    "BlockConfig",
    "BridgeConfig",
    "ConsoleConfig",
    "DeviceConfig",
    "NetConfig",
    "PlacedConfig",
    "RngConfig",
    "SharedNetConfig",
    "parse_device",
]
