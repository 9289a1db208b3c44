"""All devices of one Guest, as the machine sees them: a NOTIFY comes in, a completion comes in, and there is a state.

In 2.6.23 it is no NOTIFY but a buffer with the key that it was sent to; a key that belongs to no device is nothing.

A NOTIFY is an address, and the address says what is meant, in this order: a device's descriptor means that the driver
changed its status; a queue's first page means that the queue was rung; anything else below the end of the device pages
is a text for the early console.

Generations differ in when a driver tells of its status, and what that does. Up to 3.0 it tells of every change, and
ringing is never a mistake. Up to 2.6.30 the device is there as soon as it has a status, from 2.6.31 on when the driver
says that it is ready, or rings. From 3.1 on the driver tells when it resets the device, and once when features are
settled, which starts the device; being told that twice is fatal, and so is ringing before.

Source: lguest's Launcher (handle_output, update_device_status). Read next: hostvm/launched_guest.py.
"""

from __future__ import annotations

from collections.abc import Iterable

from hostvm.abi import DevicePage
from hostvm.devices.block import BlockDevice
from hostvm.devices.config import (
    BlockConfig,
    ConsoleConfig,
    NetConfig,
    PlacedConfig,
    RngConfig,
    SharedNetConfig,
)
from hostvm.devices.console import ConsoleDevice
from hostvm.devices.descriptor_page import PlacedDevice
from hostvm.devices.device import Device, DeviceHost, DeviceState
from hostvm.devices.dma_devices import (
    DmaBlock,
    DmaConsole,
    DmaDevice,
    DmaNet,
    DmaSharedNet,
    sections_of,
    set_used_len,
)
from hostvm.devices.launcher_memory import LauncherMemory
from hostvm.devices.net import NetDevice
from hostvm.devices.rng import RngDevice
from hostvm.devices.virtqueue import Virtqueue
from hostvm.errors import GuestKilled
from hostvm.x86 import PAGE_SIZE

_DRIVER_OK = 0x04
_FAILED = 0x80
_LONGEST_TEXT = 1 << 16


def _dma_device(placed: PlacedDevice, memory: LauncherMemory, host: DeviceHost) -> Device:
    match placed.config:
        case BlockConfig():
            return DmaBlock(placed, memory, host)
        case SharedNetConfig():
            return DmaSharedNet(placed, memory, host)
        case NetConfig():
            return DmaNet(placed, memory, host)
    return DmaConsole(placed, memory, host)


def virtio_device(config: PlacedConfig) -> type[Device]:
    """What does the work of a virtio device."""
    match config:
        case BlockConfig():
            return BlockDevice
        case NetConfig():
            return NetDevice
        case RngConfig():
            return RngDevice
        case ConsoleConfig():
            return ConsoleDevice
    raise AssertionError(config)


class DeviceBus:
    """The devices in their places. `drivers`: of what kind of generation they are."""

    def __init__(
        self,
        placed: Iterable[PlacedDevice],
        memory: LauncherMemory,
        host: DeviceHost,
        *,
        drivers: DevicePage = DevicePage.FEATURES_FINAL,
    ) -> None:
        self._memory = memory
        self._host = host
        self._drivers = drivers
        self.devices = tuple(self._make(each) for each in placed)
        # Of a descriptor, nobody is told anything in 2.6.24.
        told = self.devices if drivers is not DevicePage.CONFIG_LIST else ()
        self._descriptors = {device.placed.address: device for device in told}
        self._doorbells = {
            queue.address: (device, queue) for device in self.devices for queue in device.queues
        }
        # The first of those that share an interrupt: no other waits for the World.
        self._queues = {
            (device.placed.number, queue.irq): (device, queue)
            for device in self.devices
            for queue in reversed(device.queues)
        }

    def _make(self, placed: PlacedDevice) -> Device:
        if self._drivers is DevicePage.LGUEST_BUS:
            return _dma_device(placed, self._memory, self._host)
        return virtio_device(placed.config)(placed, self._memory, self._host)

    # ---- the Guest's side -------------------------------------------------------------------------

    def notify(self, address: int) -> None:
        """The Guest's NOTIFY. Raises GuestKilled."""
        if (device := self._descriptors.get(address)) is not None:
            self._status_changed(device)
        elif (rung := self._doorbells.get(address)) is not None:
            self._rung(*rung)
        else:
            self._early_console(address)

    def dma_sent(self, dma: int, key: int) -> None:
        """The Guest's SEND_DMA to its Launcher. Raises GuestKilled."""
        sections = sections_of(self._memory, dma)
        device, _ = self._doorbells.get(key, (None, None))
        if isinstance(device, DmaDevice):
            set_used_len(self._memory, dma, device.dma_sent(sections))

    def _rung(self, device: Device, queue: Virtqueue) -> None:
        if device.running:
            device.serve(queue)
        elif self._drivers in (DevicePage.CONFIG_LIST, DevicePage.DRIVER_OK) or self._is_alive(
            device
        ):
            device.start()
        elif self._drivers is DevicePage.FEATURES_FINAL:
            raise GuestKilled(f"Notification on {device.name} before setup!")

    def _is_alive(self, device: Device) -> bool:
        """Whether a driver that tells of no status but the first has set one meanwhile, as those of 2.6.25 do."""
        status = self._memory.read(device.placed.status, 1)[0]
        return self._drivers is DevicePage.EVERY_STATUS and bool(status)

    def _status_changed(self, device: Device) -> None:
        status = self._memory.read(device.placed.status, 1)[0]
        if not status:
            device.reset()
        elif status & _FAILED:
            if device.running and self._drivers is not DevicePage.EVERY_STATUS:
                device.reset()
        elif self._drivers is DevicePage.DRIVER_OK and not status & _DRIVER_OK:
            return
        elif not device.running:
            device.start()
        elif self._drivers is DevicePage.FEATURES_FINAL:
            raise GuestKilled(f"Device {device.name} features finalized twice")

    def _early_console(self, address: int) -> None:
        """A NUL-terminated text; a page at a time, since the memory's end may be its end."""
        if address >= self._memory.limit:
            raise GuestKilled(f"Bad NOTIFY {address:#x}")
        text = b""
        while address < self._memory.limit and len(text) < _LONGEST_TEXT:
            part = self._memory.read(address, PAGE_SIZE - address % PAGE_SIZE)
            line, end, _ = part.partition(b"\0")
            text += line
            if end:
                break
            address += len(part)
        self._host.console_output(text[:_LONGEST_TEXT])

    # ---- the World's side -------------------------------------------------------------------------

    def complete(self, number: int, irq: int, data: bytes) -> None:
        """A device has something for the queue of this interrupt. Raises GuestKilled for what follows in the queue.

        What belongs to no queue is nothing but its interrupt.
        """
        found = self._queues.get((number, irq))
        if found is None:
            self._host.raise_irq(irq)
        else:
            device, queue = found
            device.complete(queue, data)

    def ask_again(self) -> None:
        """Tell the World once more of everything that is waited for."""
        for device in self.devices:
            device.ask_again()

    # ---- state ------------------------------------------------------------------------------------

    def state(self) -> tuple[DeviceState, ...]:
        """All devices' state, in order."""
        return tuple(device.state() for device in self.devices)

    def restore(self, states: tuple[DeviceState, ...]) -> None:
        """Be as in `states`."""
        for device, state in zip(self.devices, states, strict=True):
            device.restore(state)

    def digest_bytes(self) -> bytes:
        """Bytes that are equal exactly if the states are."""
        parts = [device.digest_bytes() for device in self.devices]
        return b"".join(len(part).to_bytes(4, "little") + part for part in parts)


__all__ = ["DeviceBus"]
