"""The devices of a Guest from 4.1 on: functions on a PCI bus, reached through two ports and through memory.

A word written to port 0xcf8 says which register of which function's configuration space port 0xcfc is. Where there is
no function reads give all ones, as on any bus. Registers behind BARs are memory in which nothing is mapped, so each
access comes here by way of a page fault. What does the accesses is the Launcher (hostvm/emulate_io.py).

The host bridge is among the devices, behind all others, though the World has nothing to do with it: what was written to
port 0xcf8 is part of the machine's state, and there is its place.

Source: PCI Local Bus specification 3.0, 3.2.2.3.2; lguest's Launcher (dev_and_reg, find_mmio_region). Read next:
pci_function.py.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass, replace

from hostvm.abi import DevicePage
from hostvm.devices.bus import DeviceBus, virtio_device
from hostvm.devices.config import BridgeConfig
from hostvm.devices.descriptor_page import PlacedDevice
from hostvm.devices.device import Device, DeviceHost, DeviceState
from hostvm.devices.launcher_memory import LauncherMemory
from hostvm.devices.pci_function import (
    SPACE_SIZE,
    PciFunction,
    bridge_space,
    device_space,
)
from hostvm.devices.pci_placing import pci_model, slot_of
from hostvm.devices.pci_registers import Access, VirtioRegisters
from hostvm.world import Action

CONFIG_ADDRESS = range(0xCF8, 0xCFC)
CONFIG_DATA = range(0xCFC, 0xD00)
_ENABLED = 1 << 31
_WORD = 0xFFFFFFFF
_ADDRESS = struct.Struct("<I")


class HostBridge(Device):
    """Slot 0. It has no queues and nothing to do."""

    name = "PCI Host Bridge"


@dataclass(slots=True)
class _InterruptLine:
    """What a device sees of its Guest: an interrupt goes through its ISR."""

    host: DeviceHost
    registers: VirtioRegisters | None = None

    def console_output(self, data: bytes) -> None:
        self.host.console_output(data)

    def raise_irq(self, irq: int) -> None:
        assert self.registers is not None
        self.registers.interrupts()
        self.host.raise_irq(irq)

    def packet_sent(self, device: int, frame: bytes) -> None:
        self.host.packet_sent(device, frame)

    def request(self, device: int, irq: int, action: Action, position: int, count: int) -> None:
        self.host.request(device, irq, action, position, count)

    def dma_buffer(self, key: int) -> tuple[int, int] | None:
        return self.host.dma_buffer(key)


class PciBus(DeviceBus):
    """The devices in their slots."""

    def __init__(
        self, placed: Iterable[PlacedDevice], memory: LauncherMemory, host: DeviceHost
    ) -> None:
        self._functions: list[PciFunction] = []
        self._slots: dict[int, PciFunction] = {}
        self._regions: list[tuple[int, int, VirtioRegisters]] = []
        self._address = 0
        its = tuple(placed)
        bridge = PlacedDevice(len(its), BridgeConfig(), 0, 0, 0, ())
        super().__init__((*its, bridge), memory, host, drivers=DevicePage.PCI)

    def _make(self, placed: PlacedDevice) -> Device:
        if isinstance(placed.config, BridgeConfig):
            device: Device = HostBridge(placed, self._memory, self._host)
            function = PciFunction(device.name, bridge_space(), None)
            self._slots[0] = function
        else:
            device, function = self._make_function(placed)
        self._functions.append(function)
        return device

    def _make_function(self, placed: PlacedDevice) -> tuple[Device, PciFunction]:
        assert not isinstance(placed.config, BridgeConfig)
        model, slot = pci_model(placed.config), slot_of(placed)
        line = _InterruptLine(self._host)
        memory = self._memory.blaming(f"{virtio_device(placed.config).name}: bad driver: ")
        device = virtio_device(placed.config)(placed, memory, line)
        registers = line.registers = VirtioRegisters(device, model)
        space = device_space(model, slot, placed.address)
        function = self._slots[slot] = PciFunction(device.name, space, registers)
        self._regions.append((placed.address, len(registers), registers))
        return device, function

    # ---- the Guest's side -------------------------------------------------------------------------

    def port_in(self, port: int, width: int, eip: int) -> int:
        """Read `width` bytes at a port of the bus's; the rest are all ones. Raises GuestKilled."""
        if port in CONFIG_ADDRESS:
            shift = 8 * (port - CONFIG_ADDRESS.start)
            return self._address >> shift & (1 << 8 * width) - 1
        if port in CONFIG_DATA:
            function, register = self._addressed()
            if function is not None:
                return function.read(register, Access(port - CONFIG_DATA.start, width, eip))
        return _WORD

    def port_out(self, port: int, width: int, value: int, eip: int) -> bool:
        """Write to a port of the bus's; False if there is nothing that could be written. Raises GuestKilled."""
        if port in CONFIG_ADDRESS:
            shift, mask = 8 * (port - CONFIG_ADDRESS.start), (1 << 8 * width) - 1
            kept = self._address & ~(mask << shift)
            self._address = (kept | (value & mask) << shift) & _WORD
        elif port in CONFIG_DATA:
            function, register = self._addressed()
            access = Access(port - CONFIG_DATA.start, width, eip)
            return function is not None and function.write(register, access, value)
        return True

    def _addressed(self) -> tuple[PciFunction | None, int]:
        address = self._address
        register = address & 0xFC
        bus_and_function = address >> 8 & 0xFF07
        if not address & _ENABLED or bus_and_function or register >= SPACE_SIZE:
            return None, register
        return self._slots.get(address >> 11 & 0x1F), register

    def region(self, address: int) -> tuple[VirtioRegisters, int] | None:
        """Whose registers are at a guest-physical address, and the offset among them."""
        for first, size, registers in self._regions:
            if first <= address < first + size:
                return registers, address - first
        return None

    # ---- state ------------------------------------------------------------------------------------

    def state(self) -> tuple[DeviceState, ...]:
        """All devices' state, in order."""
        return tuple(
            replace(state, registers=registers)
            for state, registers in zip(super().state(), self._registers(), strict=True)
        )

    def _registers(self) -> list[bytes]:
        parts = [function.state() for function in self._functions]
        parts[-1] += _ADDRESS.pack(self._address)
        return parts

    def restore(self, states: tuple[DeviceState, ...]) -> None:
        """Be as in `states`."""
        super().restore(states)
        parts = [state.registers for state in states]
        (self._address,) = _ADDRESS.unpack(parts[-1][-_ADDRESS.size :])
        parts[-1] = parts[-1][: -_ADDRESS.size]
        for function, registers in zip(self._functions, parts, strict=True):
            function.restore(registers)

    def digest_bytes(self) -> bytes:
        """Bytes that are equal exactly if the states are."""
        return super().digest_bytes() + b"".join(self._registers())


__all__ = ["CONFIG_ADDRESS", "CONFIG_DATA", "HostBridge", "PciBus"]
