"""Where a Guest from 4.1 on finds its devices: on a PCI bus, each a function of its own with one BAR.

The host bridge is at 00:00.0, and the console at 00:01.0, where a kernel looks for it before it knows of anything else;
the others follow in their order. A device's number, by which the World knows it, says nothing of its slot. Its
interrupt is one for all of its queues, 1 for the console and so on, and stands in its configuration space.

BARs begin 256 pages above the Guest's memory. Each is as large as a power of two and lies at a multiple of that, as PCI
wants it; upstream takes no care of the second. Rings are in the Guest's own memory, so that is all it may name.

Source: lguest's Launcher (get_mmio_region, new_pci_device, tell_kernel). Read next: pci_function.py.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass

from hostvm.devices.config import (
    BlockConfig,
    ConsoleConfig,
    DeviceConfig,
    NetConfig,
    RngConfig,
    SharedNetConfig,
)
from hostvm.devices.descriptor_page import (
    QUEUE_ENTRIES,
    DescriptorPage,
    PlacedDevice,
    PlacedQueue,
)
from hostvm.errors import ConfigurationError
from hostvm.memory_map import DEVICE_PAGES
from hostvm.x86 import PAGE_SHIFT, PAGE_SIZE

SLOTS = 32
CONSOLE_SLOT = 1
COMMON_SIZE = 60
# A frame comes in one buffer: the last two bytes say so.
NET_HEAD = bytes(10) + b"\1\0"
_VERSION_1 = 1 << 32
_MAC, _SEG_MAX, _EMERG_WRITE = 1 << 5, 1 << 2, 1 << 2
_BLOCK_CONFIG = struct.Struct("<QII20x")
_NET_CONFIG = struct.Struct("<6s4x")
_CONSOLE_CONFIG = bytes(12)


@dataclass(frozen=True, slots=True)
class PciModel:
    """What there is to say of a kind of device: numbers of virtio's and PCI's, names of its queues, configuration."""

    virtio_type: int
    pci_class: tuple[int, int]
    queues: tuple[str, ...]
    features: int = _VERSION_1
    config: bytes = b""


def pci_model(config: DeviceConfig | ConsoleConfig) -> PciModel:
    """The model of a device. Raises ConfigurationError where there is none."""
    match config:
        case NetConfig(address):
            features = _VERSION_1 | _MAC
            return PciModel(1, (2, 0), ("rx", "tx"), features, _NET_CONFIG.pack(address))
        case BlockConfig(sectors):
            # Two entries of a ring are taken by the request's head and its status.
            its = _BLOCK_CONFIG.pack(sectors, 0, QUEUE_ENTRIES - 2)
            return PciModel(2, (1, 0x80), ("request",), _VERSION_1 | _SEG_MAX, its)
        case ConsoleConfig():
            features = _VERSION_1 | _EMERG_WRITE
            return PciModel(3, (7, 0), ("input", "output"), features, _CONSOLE_CONFIG)
        case RngConfig():
            return PciModel(4, (0xFF, 0), ("input",))
        case SharedNetConfig():
            raise ConfigurationError("only guests of lguest 2.6.23 share a network page")


def slot_of(placed: PlacedDevice) -> int:
    """Which slot of the bus a device is in."""
    return CONSOLE_SLOT if isinstance(placed.config, ConsoleConfig) else placed.number + 2


def lay_out_pci(memory: int, configs: Iterable[DeviceConfig]) -> DescriptorPage:
    """Place the devices of a Guest with `memory` bytes.

    Raises ConfigurationError for a device that this generation has not, and for too many.
    """
    others = tuple(configs)
    wanted = (*enumerate(others), (len(others), ConsoleConfig()))
    if len(wanted) >= SLOTS:
        raise ConfigurationError(f"{len(wanted)} devices are more than a Guest can have")
    at = memory + DEVICE_PAGES * PAGE_SIZE
    devices: list[PlacedDevice] = []
    # In the order of their slots: the console comes first.
    for slot, (number, config) in enumerate((wanted[-1], *wanted[:-1]), CONSOLE_SLOT):
        model = pci_model(config)
        size = bar_size(model)
        at = -(-at // size) * size
        queues = tuple(PlacedQueue(slot, 0, QUEUE_ENTRIES, name) for name in model.queues)
        devices.append(PlacedDevice(number, config, at, 0, 0, queues, net_head=NET_HEAD))
        at += size
    devices.sort(key=lambda placed: placed.number)
    limit = -(-at // PAGE_SIZE)
    return DescriptorPage(b"", tuple(devices), memory >> PAGE_SHIFT, device_limit=limit)


def bar_size(model: PciModel) -> int:
    """Bytes that a device's BAR takes, a power of two."""
    return 1 << (COMMON_SIZE + len(model.config) - 1).bit_length()


__all__ = [
    "COMMON_SIZE",
    "CONSOLE_SLOT",
    "NET_HEAD",
    "SLOTS",
    "PciModel",
    "bar_size",
    "lay_out_pci",
    "pci_model",
    "slot_of",
]
