"""The page of descriptors as virtio had it first, in 2.6.24: what there is to know of a device is a list of fields.

    u8 type, u8 bytes of fields, u8 status
    fields: u8 kind, u8 length, and as many bytes; kind 2 is a virtqueue: u16 entries, u16 irq, u32 pfn

A driver looks for fields of a kind and marks those that it has taken. Queues are half as long as later and take two
pages. A status is set without a word to anybody, so a device is there as soon as it is rung. There are disks, network
cards and the console; a request to a disk begins with eight bytes more than later, and a frame with two bytes less.

Source: lguest in Linux 2.6.24, include/linux/lguest_launcher.h and the Launcher. Read next: descriptor_page.py.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

from hostvm.devices.config import BlockConfig, ConsoleConfig, DeviceConfig, NetConfig
from hostvm.devices.descriptor_page import DescriptorPage, PlacedDevice, PlacedQueue
from hostvm.errors import ConfigurationError
from hostvm.x86 import PAGE_SHIFT, PAGE_SIZE

ENTRIES = 128
PAGES = 2
HEAD = 24
FRAME_HEAD = bytes(8)
_HEADER = struct.Struct("<3B")
_QUEUE = struct.Struct("<HHI")
_NET, _BLOCK, _CONSOLE = 1, 2, 3
_VIRTQUEUE, _ADDRESS, _CAPACITY, _SEG_MAX = 2, 0x41, 0x41, 0x43


def _field(kind: int, data: bytes) -> bytes:
    return bytes((kind, len(data))) + data


def _model(config: DeviceConfig | ConsoleConfig) -> tuple[int, int, bytes]:
    """Type, number of queues, and fields besides those for queues."""
    match config:
        case BlockConfig(sectors):
            return (
                _BLOCK,
                1,
                _field(_CAPACITY, struct.pack("<Q", sectors))
                + _field(_SEG_MAX, struct.pack("<I", ENTRIES - 2)),
            )
        case NetConfig(address):
            return _NET, 2, _field(_ADDRESS, address)
        case ConsoleConfig():
            return _CONSOLE, 2, b""
    raise ConfigurationError(f"lguest 2.6.24 has no device {config}")


def lay_out_config_list(memory: int, configs: Iterable[DeviceConfig]) -> DescriptorPage:
    """Place the devices of a Guest with `memory` bytes, its console behind them.

    Raises ConfigurationError for a device that this generation has not, and for too many.
    """
    content = b""
    devices: list[PlacedDevice] = []
    count = 0
    for number, config in enumerate((*configs, ConsoleConfig())):
        kind, wanted, more = _model(config)
        first, count = count, count + wanted
        queues = tuple(
            PlacedQueue(rank + 1, memory + (1 + rank * PAGES) * PAGE_SIZE, ENTRIES)
            for rank in range(first, count)
        )
        fields = b"".join(
            _field(_VIRTQUEUE, _QUEUE.pack(ENTRIES, queue.irq, queue.address >> PAGE_SHIFT))
            for queue in queues
        )
        address = memory + len(content)
        devices.append(PlacedDevice(number, config, address, 0, 0, queues, HEAD, FRAME_HEAD))
        content += _HEADER.pack(kind, len(fields + more), 0) + fields + more
    if count > 31 or len(content) >= PAGE_SIZE:
        raise ConfigurationError(f"{len(devices)} devices are more than a Guest can have")
    return DescriptorPage(content, tuple(devices), (memory >> PAGE_SHIFT) + 1 + count * PAGES)


__all__ = ["ENTRIES", "HEAD", "lay_out_config_list"]
