"""The other side of the devices: a Guest's memory, drivers that fill rings, and a host that takes notes."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from hostvm.abi import DevicePage
from hostvm.devices.bus import DeviceBus
from hostvm.devices.config import DeviceConfig
from hostvm.devices.descriptor_page import QUEUE_ENTRIES, PlacedDevice
from hostvm.devices.device import Device
from hostvm.devices.launcher_memory import LauncherMemory
from hostvm.devices.placing import place_devices
from hostvm.devices.virtqueue import Virtqueue
from hostvm.memory import PhysicalMemory
from hostvm.units import HostPhysical
from hostvm.world import Action
from hostvm.x86 import PAGE_SIZE

MEMORY = 1 << 20
BASE = HostPhysical(0x100000)
BUFFERS = 0x10000
GUARD = b"\xa5" * PAGE_SIZE

NEXT, WRITE, INDIRECT = 1, 2, 4
IN, OUT, SCSI, FLUSH, GET_ID = 0, 1, 2, 4, 8

# (device, irq, action, position, count)
Asked = tuple[int, int, Action, int, int]


@dataclass
class Notes:
    """DeviceHost that writes down what it is told."""

    printed: bytes = b""
    irqs: list[int] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)
    sent: list[tuple[int, bytes]] = field(default_factory=list)
    bound: dict[int, tuple[int, int]] = field(default_factory=dict)

    def console_output(self, data: bytes) -> None:
        self.printed += data

    def raise_irq(self, irq: int) -> None:
        self.irqs.append(irq)

    def dma_buffer(self, key: int) -> tuple[int, int] | None:
        return self.bound.get(key)

    def packet_sent(self, device: int, frame: bytes) -> None:
        self.sent.append((device, frame))

    def request(self, device: int, irq: int, action: Action, position: int, count: int) -> None:
        self.asked.append((device, irq, action, position, count))


class Bench:
    """A Guest's memory with devices at its end, and guard pages around it."""

    def __init__(
        self, *configs: DeviceConfig, drivers: DevicePage = DevicePage.FEATURES_FINAL
    ) -> None:
        page = place_devices(drivers, MEMORY, configs)
        self.page = page
        self.limit = page.pfn_limit * PAGE_SIZE
        self.physical = PhysicalMemory(HostPhysical(BASE - PAGE_SIZE), self.limit + 2 * PAGE_SIZE)
        self.physical.write(BASE - PAGE_SIZE, GUARD)
        self.physical.write(BASE + self.limit, GUARD)
        self.memory = LauncherMemory(self.physical, BASE, self.limit)
        self.memory.write(MEMORY, page.content)
        self.notes = Notes()
        self.bus = DeviceBus(page.devices, self.memory, self.notes, drivers=drivers)

    @property
    def guards_intact(self) -> bool:
        """Whether nothing was written outside the Guest."""
        below = self.physical.read(BASE - PAGE_SIZE, PAGE_SIZE)
        return below == self.physical.read(BASE + self.limit, PAGE_SIZE) == GUARD

    def device(self, name: str) -> Device:
        """The device of this name."""
        return next(device for device in self.bus.devices if device.name == name)

    def set_status(self, placed: PlacedDevice, status: int) -> None:
        """Do as a driver that writes a status and tells of it."""
        self.memory.write(placed.status, bytes((status,)))
        self.bus.notify(placed.address)

    def start(self, name: str) -> list[Driver]:
        """Bring a device up; drivers for its queues."""
        placed = self.device(name).placed
        self.set_status(placed, 0)
        self.set_status(placed, 3)
        # The driver sets this last one silently.
        self.memory.write(placed.status, b"\x07")
        return [Driver(self, queue) for queue in self.device(name).queues]

    def complete(self, name: str, queue: Virtqueue, data: bytes = b"") -> None:
        """Do as a World that answers a device."""
        self.bus.complete(self.device(name).placed.number, queue.irq, data)


class Driver:
    """Puts chains into one queue, each piece into memory of its own, and looks at what came back."""

    def __init__(self, bench: Bench, queue: Virtqueue, entries: int = QUEUE_ENTRIES) -> None:
        self.entries = entries
        self._available = queue.address + 16 * entries
        self._used = -(-(self._available + 6 + 2 * entries) // PAGE_SIZE) * PAGE_SIZE
        self.bench = bench
        self.memory = bench.memory
        self.queue = queue
        self._free = 0
        self._avail = 0
        self._buffer = BUFFERS + queue.irq * 0x10000

    def descriptor(self, index: int, address: int, length: int, flags: int, following: int) -> None:
        """Write a descriptor as it is given."""
        raw = struct.pack("<QIHH", address, length, flags, following)
        self.memory.write(self.queue.address + 16 * index, raw)

    def offer(self, head: int) -> None:
        """Make a chain available, without ringing."""
        at = self._available
        self.memory.write_u16(at + 4 + self._avail % self.entries * 2, head)
        self._avail = self._avail + 1 & 0xFFFF
        self.memory.write_u16(at + 2, self._avail)

    def add(self, *pieces: bytes | int) -> list[int]:
        """Offer a chain: bytes for the device to read, numbers for rooms to fill. Addresses of the pieces."""
        addresses: list[int] = []
        head = self._free
        for rank, piece in enumerate(pieces):
            data = piece if isinstance(piece, bytes) else b"\xee" * piece
            flags = 0 if isinstance(piece, bytes) else WRITE
            if rank < len(pieces) - 1:
                flags |= NEXT
            following = (self._free + 1) % self.entries
            self.memory.write(self._buffer, data)
            self.descriptor(self._free, self._buffer, len(data), flags, following)
            addresses.append(self._buffer)
            self._buffer += len(data)
            self._free = following
        self.offer(head)
        return addresses

    def ring(self) -> None:
        """Notify the device."""
        self.bench.bus.notify(self.queue.address)

    @property
    def used(self) -> list[tuple[int, int]]:
        """(head, length) of all chains that came back."""
        at = self._used
        count = self.memory.read_u16(at + 2)
        raw = self.memory.read(at + 4, 8 * min(count, self.entries))
        return list(struct.iter_unpack("<II", raw))

    @property
    def told_to_be_quiet(self) -> bool:
        """Whether the device asks not to be rung."""
        return bool(self.memory.read_u16(self._used) & 1)

    def suppress_interrupts(self) -> None:
        """Ask the device not to interrupt."""
        self.memory.write_u16(self._available, 1)


def block_head(kind: int, sector: int) -> bytes:
    """The first 16 bytes of a disk's request."""
    return struct.pack("<IIQ", kind, 0, sector)
