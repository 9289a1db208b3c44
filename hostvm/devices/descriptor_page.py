"""The page on which a Guest finds its devices, and the memory behind it for their virtqueues.

At `memory`, just above what a Guest takes for its own, stand packed descriptors, one after the other; type 0 ends them:

    u8 type, u8 num_vq, u8 feature_len, u8 config_len, u8 status
    num_vq times: u16 entries, u16 irq, u32 pfn
    feature_len bytes offered, feature_len bytes accepted (the Guest writes these), config_len bytes of configuration

Behind the page come the rings, 256 entries and three pages each, in the order of the descriptors; virtual interrupts
are handed out in that order too, from 1. The console is last, as the Launcher's command line makes it.

The Guest may write all over the page. So nothing is read back from it but the status and the accepted features: where
rings and interrupts are stands in `PlacedDevice`.

Source: lguest, include/linux/lguest_launcher.h and the Launcher. Read next: virtqueue.py, bus.py.
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
    PlacedConfig,
    RngConfig,
    SharedNetConfig,
)
from hostvm.errors import ConfigurationError
from hostvm.x86 import PAGE_SHIFT, PAGE_SIZE

QUEUE_ENTRIES = 256
QUEUE_PAGES = 3
BLOCK_HEAD = 16
NET_HEAD = bytes(10)
MOST_QUEUES = 31
_HEADER = struct.Struct("<5B")
_QUEUE = struct.Struct("<HHI")
_BLOCK_CONFIG = struct.Struct("<QII")
_STATUS = 4
_SEG_MAX_BIT, _FLUSH_BIT = 2, 9
_MAC_BIT = 5


@dataclass(frozen=True, slots=True)
class PlacedQueue:
    """A virtqueue: its virtual interrupt, and the guest-physical address of its ring, which is also its doorbell.

    On PCI it has neither ring nor doorbell of its own until the Guest gives it one, and a `name`.
    """

    irq: int
    address: int
    entries: int = QUEUE_ENTRIES
    name: str = ""


@dataclass(frozen=True, slots=True)
class PlacedDevice:
    """A device in its place: `address` of its descriptor and `accepted` are guest-physical.

    A disk's requests begin with `block_head` bytes, and `net_head` stands before each frame that a card receives. On
    PCI `address` is where its registers are, and there is no `accepted`.
    """

    number: int
    config: PlacedConfig
    address: int
    accepted: int
    feature_len: int
    queues: tuple[PlacedQueue, ...]
    block_head: int = BLOCK_HEAD
    net_head: bytes = NET_HEAD

    @property
    def status(self) -> int:
        """Guest-physical address of the status byte."""
        return self.address + _STATUS


@dataclass(frozen=True, slots=True)
class DescriptorPage:
    """What the Launcher puts at `memory`; `pfn_limit` is the first page behind all rings.

    `shared` are pages that other Guests have too: guest-physical address and number of the network. On PCI there is
    nothing at `memory`, and registers of devices lie in pages from `pfn_limit` to `device_limit`.
    """

    content: bytes
    devices: tuple[PlacedDevice, ...]
    pfn_limit: int
    shared: tuple[tuple[int, int], ...] = ()
    device_limit: int = 0


@dataclass(frozen=True, slots=True)
class _Model:
    """What a descriptor says of a kind of device."""

    virtio_type: int
    queues: int
    features: bytes = b""
    config: bytes = b""


def _model(config: DeviceConfig | ConsoleConfig) -> _Model:
    match config:
        case BlockConfig(sectors):
            features = (1 << _SEG_MAX_BIT | 1 << _FLUSH_BIT).to_bytes(2, "little")
            # Two entries of a ring are taken by the request's head and its status.
            return _Model(2, 1, features, _BLOCK_CONFIG.pack(sectors, 0, QUEUE_ENTRIES - 2))
        case NetConfig(address):
            return _Model(1, 2, bytes((1 << _MAC_BIT,)), address)
        case ConsoleConfig():
            return _Model(3, 2)
        case RngConfig():
            return _Model(4, 1)
        case SharedNetConfig():
            raise ConfigurationError("only guests of lguest 2.6.23 share a network page")


def lay_out_devices(memory: int, configs: Iterable[DeviceConfig]) -> DescriptorPage:
    """Place the devices of a Guest with `memory` bytes, its console behind them.

    Raises ConfigurationError when there are more than a Guest can have.
    """
    content = b""
    devices: list[PlacedDevice] = []
    count = 0
    for number, config in enumerate((*configs, ConsoleConfig())):
        model = _model(config)
        first, count = count, count + model.queues
        queues = tuple(_place_queue(memory, rank) for rank in range(first, count))
        head = _pack(model, queues)
        accepted = memory + len(content) + len(head) + len(model.features)
        length = len(model.features)
        devices.append(
            PlacedDevice(number, config, memory + len(content), accepted, length, queues)
        )
        content += head + model.features + bytes(length) + model.config
    if count > MOST_QUEUES or len(content) >= PAGE_SIZE:
        raise ConfigurationError(f"{len(devices)} devices are more than a Guest can have")
    pfn_limit = (memory >> PAGE_SHIFT) + 1 + count * QUEUE_PAGES
    return DescriptorPage(content, tuple(devices), pfn_limit)


def _place_queue(memory: int, rank: int) -> PlacedQueue:
    return PlacedQueue(rank + 1, memory + (1 + rank * QUEUE_PAGES) * PAGE_SIZE)


def _pack(model: _Model, queues: Iterable[PlacedQueue]) -> bytes:
    head = _HEADER.pack(model.virtio_type, model.queues, len(model.features), len(model.config), 0)
    return head + b"".join(
        _QUEUE.pack(QUEUE_ENTRIES, queue.irq, queue.address >> PAGE_SHIFT) for queue in queues
    )


__all__ = [
    "NET_HEAD",
    "QUEUE_ENTRIES",
    "QUEUE_PAGES",
    "DescriptorPage",
    "PlacedDevice",
    "PlacedQueue",
    "lay_out_devices",
]
