"""The other side of devices on PCI: ports and registers as a kernel uses them, and a Guest made of such accesses."""

from __future__ import annotations

import struct

from hostvm.devices.config import DeviceConfig
from hostvm.devices.descriptor_page import PlacedDevice
from hostvm.devices.device import Device
from hostvm.devices.launcher_memory import LauncherMemory
from hostvm.devices.pci_bus import PciBus
from hostvm.devices.pci_placing import lay_out_pci, slot_of
from hostvm.devices.pci_registers import Access
from hostvm.launcher import GuestConfig
from hostvm.memory import PhysicalMemory
from hostvm.units import HostPhysical
from tests.hostvm.devices.device_guest import MEMORY, RINGS, Program
from tests.hostvm.devices.driver import BASE, Notes

EIP = 0xC0001234
ADDRESS_PORT, DATA_PORT = 0xCF8, 0xCFC
# Registers behind the BAR, by the numbers of the specification (virtio 1.0, 4.1.4.3).
FEATURE_SELECT, FEATURE, DRIVER_SELECT, DRIVER_FEATURE = 0, 4, 8, 12
STATUS, SELECT, SIZE, ENABLE, DESC, AVAIL, USED = 20, 22, 24, 28, 32, 40, 48
NOTIFY, ISR, CONFIG = 56, 58, 60
VERSION_1 = 1
# How a driver comes to the point where it sets queues up: offset, width, value; None is a read.
AGREEMENT: tuple[tuple[int, int, int | None], ...] = (
    (STATUS, 1, 0),
    (STATUS, 1, 1),
    (STATUS, 1, 3),
    (FEATURE_SELECT, 4, 1),
    (FEATURE, 4, None),
    (DRIVER_SELECT, 4, 0),
    (DRIVER_FEATURE, 4, 0),
    (DRIVER_SELECT, 4, 1),
    (DRIVER_FEATURE, 4, VERSION_1),
    (STATUS, 1, 0xB),
    (STATUS, 1, None),
)


def queue_setup(number: int, ring: int) -> tuple[tuple[int, int, int | None], ...]:
    """Where a queue's parts are: as far apart as in older rings."""
    return (
        (SELECT, 2, number),
        (SIZE, 2, None),
        (DESC, 4, ring),
        (AVAIL, 4, ring + 0x1000),
        (USED, 4, ring + 0x2000),
        (ENABLE, 2, 1),
    )


class PciBench:
    """A Guest's memory, a bus with devices, and a host that takes notes."""

    def __init__(self, *configs: DeviceConfig) -> None:
        page = lay_out_pci(MEMORY, configs)
        self.page = page
        self.notes = Notes()
        self.physical = PhysicalMemory(HostPhysical(BASE), MEMORY)
        self.memory = LauncherMemory(self.physical, BASE, MEMORY)
        self.bus = PciBus(page.devices, self.memory, self.notes)

    def placed(self, name: str) -> PlacedDevice:
        """Where the device of this name is."""
        return self.device(name).placed

    def device(self, name: str) -> Device:
        """The device of this name."""
        return next(device for device in self.bus.devices if device.name == name)

    def config_read(self, slot: int, offset: int, width: int = 4) -> int:
        """Read configuration space as kernels do."""
        self.bus.port_out(ADDRESS_PORT, 4, 1 << 31 | slot << 11 | offset & ~3, EIP)
        return self.bus.port_in(DATA_PORT + offset % 4, width, EIP) & (1 << 8 * width) - 1

    def config_write(self, slot: int, offset: int, value: int, width: int = 4) -> bool:
        """Write configuration space; False is a protection fault."""
        self.bus.port_out(ADDRESS_PORT, 4, 1 << 31 | slot << 11 | offset & ~3, EIP)
        return self.bus.port_out(DATA_PORT + offset % 4, width, value, EIP)

    def read(self, name: str, offset: int, width: int) -> int:
        """Read a register behind the BAR."""
        found = self.bus.region(self.placed(name).address + offset)
        assert found is not None
        registers, at = found
        return registers.read(Access(at, width, EIP))

    def write(self, name: str, offset: int, width: int, value: int) -> None:
        """Write a register behind the BAR."""
        found = self.bus.region(self.placed(name).address + offset)
        assert found is not None
        registers, at = found
        registers.write(Access(at, width, EIP), value)

    def do(self, name: str, *steps: tuple[int, int, int | None]) -> None:
        """Do as a driver, step by step."""
        for offset, width, value in steps:
            if value is None:
                self.read(name, offset, width)
            else:
                self.write(name, offset, width, value)

    def start(self, name: str, ring: int = RINGS) -> None:
        """Bring a device up, with its rings from `ring` on."""
        self.do(name, *AGREEMENT)
        for number in range(len(self.device(name).queues)):
            self.do(name, *queue_setup(number, ring + number * 0x3000))
        self.do(name, (STATUS, 1, 0xF))

    def offer(self, ring: int, *pieces: tuple[int, int, int]) -> None:
        """Make one chain of (address, length, flags) available, without a word."""
        for rank, (address, length, flags) in enumerate(pieces):
            more = 1 if rank < len(pieces) - 1 else 0
            raw = struct.pack("<QIHH", address, length, flags | more, rank + 1)
            self.memory.write(ring + 16 * rank, raw)
        at = self.memory.read_u16(ring + 0x1002)
        self.memory.write_u16(ring + 0x1004 + 2 * (at % 256), 0)
        self.memory.write_u16(ring + 0x1002, at + 1)

    def slot(self, name: str) -> int:
        """Which slot a device is in."""
        return slot_of(self.placed(name))


class PciProgram(Program):
    """A Guest of 4.1, which reaches its devices by moves and port instructions."""

    def __init__(self, *configs: DeviceConfig) -> None:
        super().__init__("4.1")
        self.configs = configs
        self.devices = lay_out_pci(MEMORY, configs).devices
        self._rings: dict[int, tuple[int, int]] = {}

    def write(self, address: int, width: int, value: int) -> None:
        """Store eax at (edi)."""
        self._move("edi", address)
        self._move("eax", value)
        self.code += {1: b"\x88\x07", 2: b"\x66\x89\x07", 4: b"\x89\x07"}[width]

    def read(self, address: int, width: int) -> None:
        """Load eax from (edi)."""
        self._move("edi", address)
        self.code += {1: b"\x8a\x07", 2: b"\x66\x8b\x07", 4: b"\x8b\x07"}[width]

    def port_out(self, port: int, width: int, value: int) -> None:
        """Write to a port."""
        self._move("edx", port)
        self._move("eax", value)
        self.code += {1: b"\xee", 2: b"\x66\xef", 4: b"\xef"}[width]

    def bring_up(self, placed: PlacedDevice) -> list[int]:
        """Start a device; where its rings are."""
        self._do(placed, *AGREEMENT)
        rings = []
        for number in range(len(placed.queues)):
            ring = 0x180000 + len(self._rings) * 0x3000
            rings.append(ring)
            self._rings[ring] = placed.address, number
            self._do(placed, *queue_setup(number, ring))
        self._do(placed, (STATUS, 1, 0xF))
        return rings

    def _do(self, placed: PlacedDevice, *steps: tuple[int, int, int | None]) -> None:
        for offset, width, value in steps:
            if value is None:
                self.read(placed.address + offset, width)
            else:
                self.write(placed.address + offset, width, value)

    def notify(self, queue: int) -> None:
        """Ring at the queue's own register."""
        registers, number = self._rings[queue]
        self.write(registers + NOTIFY, 2, number)


def whole(program: PciProgram) -> GuestConfig:
    """The Guest that this program is."""
    return program.guest(*program.configs)
