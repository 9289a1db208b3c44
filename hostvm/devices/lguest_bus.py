"""The devices of 2.6.23, from before virtio: an array of descriptors, and buffers that travel by DMA.

At `memory` stand 16 descriptors of 12 bytes, and behind their page the devices' own pages, in order. Type 0 is no
device. A device has no queue: its driver sends buffers to a key, and binds others to it to receive (hostvm/dma.py). Its
interrupt is its place plus 1.

    u16 type, u16 features, u16 status, u16 pages, u32 pfn

The console has no page, and its key is 0. A disk has one, which says what is wanted of it and how it went; the page's
address is the key. A network has a page with a slot of 6 bytes for each station's address, and a station receives by
the key that is the page's address and 4 for each slot before its own. There are two kinds: one in which all Guests have
the same page and send to each other, and Launchers have nothing to say; and one in which a Guest, in slot 1, is alone
with its Launcher in slot 0, which passes everything on.

Source: lguest in Linux 2.6.23, include/linux/lguest_launcher.h and the Launcher. Read next: dma_devices.py.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

from hostvm.devices.config import (
    BlockConfig,
    ConsoleConfig,
    DeviceConfig,
    NetConfig,
    SharedNetConfig,
)
from hostvm.devices.descriptor_page import DescriptorPage, PlacedDevice, PlacedQueue
from hostvm.errors import ConfigurationError
from hostvm.x86 import PAGE_SHIFT, PAGE_SIZE

MOST_DEVICES = 16
CONSOLE_KEY = 0
NETWORK = 0
_MOST_SECTORS = (1 << 32) - 1
_DESCRIPTOR = struct.Struct("<HHHHI")
_NUM_SECTORS = 16
_CONSOLE, _NET, _BLOCK = 1, 2, 3
GUEST_SLOT = 1
# The Launcher's address; with the lowest bit set a station gets every frame.
LAUNCHER_STATION = bytes((0x03, 0, 0, 0, 0, 0xFE))
_NO_CHECKSUMS = 0x4000
_RANDOM_TIMING = 0x8000


def lay_out_bus(memory: int, configs: Iterable[DeviceConfig]) -> DescriptorPage:
    """Place the devices of a Guest with `memory` bytes, its console behind them.

    Raises ConfigurationError for a device that this generation has not, and for too many.
    """
    wanted = (*configs, ConsoleConfig())
    if len(wanted) > MOST_DEVICES:
        raise ConfigurationError(f"{len(wanted)} devices are more than a Guest can have")
    descriptors, pages, shared = b"", b"", []
    devices: list[PlacedDevice] = []
    for number, config in enumerate(wanted):
        kind, features, page = _kind(config)
        at = memory + PAGE_SIZE + len(pages) if page else CONSOLE_KEY
        if isinstance(config, SharedNetConfig):
            shared.append((at, NETWORK))
        pfn = at >> PAGE_SHIFT
        descriptors += _DESCRIPTOR.pack(kind, features, 0, len(page) >> PAGE_SHIFT, pfn)
        queue = PlacedQueue(number + 1, at)
        address = memory + number * _DESCRIPTOR.size
        devices.append(PlacedDevice(number, config, address, 0, 0, (queue,)))
        pages += page
    content = descriptors.ljust(PAGE_SIZE, b"\0") + pages
    pfn_limit = memory + len(content) >> PAGE_SHIFT
    return DescriptorPage(content, tuple(devices), pfn_limit, tuple(shared))


def _kind(config: DeviceConfig | ConsoleConfig) -> tuple[int, int, bytes]:
    """Type, features, and the device's pages as they are at first."""
    match config:
        case ConsoleConfig():
            return _CONSOLE, 0, b""
        case SharedNetConfig(slot):
            return _NET, slot | _NO_CHECKSUMS, bytes(PAGE_SIZE)
        case NetConfig():
            return _NET, GUEST_SLOT | _RANDOM_TIMING, LAUNCHER_STATION.ljust(PAGE_SIZE, b"\0")
        case BlockConfig(sectors) if sectors <= _MOST_SECTORS:
            page = bytearray(PAGE_SIZE)
            struct.pack_into("<I", page, _NUM_SECTORS, sectors)
            return _BLOCK, _RANDOM_TIMING, bytes(page)
        case BlockConfig(sectors):
            raise ConfigurationError(
                f"lguest 2.6.23: a disk of {sectors} sectors, which is too many"
            )
    raise ConfigurationError(f"lguest 2.6.23 has no device {config}")


__all__ = ["CONSOLE_KEY", "GUEST_SLOT", "MOST_DEVICES", "lay_out_bus"]
