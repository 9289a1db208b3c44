"""The registers of a virtio 1.0 device, which are memory behind one BAR: how its driver finds out, agrees and rings.

    0x00 u32 device_feature_select   0x14 u8  device_status       0x1c u16 queue_enable         0x38 u16 notify
    0x04 u32 device_feature          0x15 u8  config_generation   0x1e u16 queue_notify_off     0x3a u8  isr
    0x08 u32 driver_feature_select   0x16 u16 queue_select        0x20 u64 queue_desc           0x3b u8  -
    0x0c u32 driver_feature          0x18 u16 queue_size          0x28 u64 queue_avail          0x3c the device's own
    0x10 u16 msix_config             0x1a u16 queue_msix_vector   0x30 u64 queue_used                configuration
    0x12 u16 num_queues

From queue_size on they are those of the queue that queue_select names, and are kept for each while another is named.

lguest's Launcher is there to find mistakes in drivers: what a real device would ignore kills the Guest, in words that
say what the specification forbids. A register must be accessed in its own width, and status only ever grows, in its
order. The same goes for one thing that nothing forbids: a driver that gives up (FAILED). Where the Launcher itself
would fall down - a queue enabled that there is not - the Guest is killed here too.

What a driver does takes effect before its width is looked at, and devices begin when all is said.

Source: virtio specification 1.0, 2.1, 3.1 and 4.1.4; lguest's Launcher (emulate_mmio_write, emulate_mmio_read).
Read next: pci_function.py.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import ClassVar

from hostvm.devices.descriptor_page import QUEUE_ENTRIES
from hostvm.devices.device import Device
from hostvm.devices.pci_placing import COMMON_SIZE, PciModel
from hostvm.devices.pci_virtqueue import PciVirtqueue, RingPlace
from hostvm.errors import GuestKilled


class Register(IntEnum):
    """Offsets of registers."""

    DEVICE_FEATURE_SELECT = 0
    DEVICE_FEATURE = 4
    DRIVER_FEATURE_SELECT = 8
    DRIVER_FEATURE = 12
    MSIX_CONFIG = 16
    NUM_QUEUES = 18
    DEVICE_STATUS = 20
    CONFIG_GENERATION = 21
    QUEUE_SELECT = 22
    QUEUE_SIZE = 24
    QUEUE_MSIX_VECTOR = 26
    QUEUE_ENABLE = 28
    QUEUE_NOTIFY_OFF = 30
    QUEUE_DESC = 32
    QUEUE_AVAIL = 40
    QUEUE_USED = 48
    NOTIFY = 56
    ISR = 58
    PADDING = 59


class Status(IntFlag):
    """What a driver says of itself, in the order in which it must."""

    ACKNOWLEDGE = 1
    DRIVER = 2
    DRIVER_OK = 4
    FEATURES_OK = 8


_BEFORE: Mapping[int, int] = {
    0x1: 0,
    0x2: 0x1,
    0x8: 0x3,
    0x4: 0xB,
}
_EMERG_WRITE = COMMON_SIZE + 8
_QUEUE_PART = slice(Register.QUEUE_SIZE, Register.NOTIFY)
_QUEUE = struct.Struct("<HHHHQQQ")
_LOW = 0xFFFFFFFF
_TAIL = struct.Struct("<QB")
_WIDTHS: Mapping[int, int] = {
    **dict.fromkeys(range(0, 16, 4), 4),
    Register.NUM_QUEUES: 2,
    Register.DEVICE_STATUS: 1,
    Register.CONFIG_GENERATION: 1,
    Register.QUEUE_SELECT: 2,
    Register.QUEUE_SIZE: 2,
    Register.QUEUE_ENABLE: 2,
    **dict.fromkeys(range(Register.QUEUE_DESC, Register.NOTIFY, 4), 4),
    Register.NOTIFY: 2,
    _EMERG_WRITE: 4,
}
_Then = Callable[[], None] | None
_Write = Callable[["VirtioRegisters", int], _Then]


@dataclass(frozen=True, slots=True)
class Access:
    """Where the Guest reads or writes, how many bytes (1, 2 or 4), and at which instruction, a virtual address."""

    offset: int
    width: int
    eip: int


class VirtioRegisters:
    """The registers of `device`."""

    def __init__(self, device: Device, model: PciModel) -> None:
        self._device = device
        self._features = model.features
        self._accepted = 0
        self._unread_features_ok = False
        self._memory = bytearray(COMMON_SIZE) + model.config
        self._put(Register.NUM_QUEUES, 2, len(model.queues))
        self._kept = [_QUEUE.pack(QUEUE_ENTRIES, *(0,) * 6) for _ in model.queues]

    def __len__(self) -> int:
        """How many bytes of registers there are."""
        return len(self._memory)

    def killed(self, text: str) -> GuestKilled:
        """The Guest's end, for what its driver does."""
        return self._device.memory.killed(text)

    def interrupts(self) -> None:
        """The device interrupts the Guest on account of a queue."""
        self._memory[Register.ISR] = 1

    def _get(self, offset: int, width: int) -> int:
        return int.from_bytes(self._memory[offset : offset + width], "little")

    def _put(self, offset: int, width: int, value: int) -> None:
        self._memory[offset : offset + width] = (value & _LOW).to_bytes(4, "little")[:width]

    @property
    def _status(self) -> int:
        return self._memory[Register.DEVICE_STATUS]

    # ---- reading ----------------------------------------------------------------------------------

    def read(self, access: Access) -> int:
        """What the Guest reads. Raises GuestKilled."""
        offset, width = access.offset, access.width
        if offset == Register.ISR:
            return self._read_isr(access)
        self._check_read(access)
        natural = _WIDTHS.get(offset) if offset in _CHECKED_WHEN_READ else None
        if natural is not None and width != natural:
            raise self._width("read", natural, access)
        return self._get(offset, width)

    def _check_read(self, access: Access) -> None:
        offset, status = access.offset, self._status
        if offset < Register.MSIX_CONFIG and offset in _WIDTHS:
            if not status & Status.DRIVER:
                raise self.killed("feature read before VIRTIO_CONFIG_S_DRIVER")
        elif offset == Register.MSIX_CONFIG:
            raise self.killed("read of msix_config")
        elif offset == Register.DEVICE_STATUS:
            self._unread_features_ok = False
        elif offset == Register.NOTIFY:
            if not status & Status.DRIVER_OK:
                raise self.killed("notify before VIRTIO_CONFIG_S_DRIVER_OK")
        elif offset == Register.PADDING:
            raise self.killed(f"read from padding ({access.eip:#x})")
        elif offset not in _CHECKED_WHEN_READ:
            self._check_config_read(access)

    def _check_config_read(self, access: Access) -> None:
        # Registers that are not known to be read are taken for configuration.
        if access.offset > len(self) - 4:
            raise self.killed(f"read past end ({access.eip:#x})")
        if not self._status & Status.DRIVER:
            raise self.killed("config read before VIRTIO_CONFIG_S_DRIVER")

    def _read_isr(self, access: Access) -> int:
        if access.width != 1:
            raise self.killed(f"non-8-bit read from offset {access.offset} ({access.eip:#x})")
        isr, self._memory[Register.ISR] = self._memory[Register.ISR], 0
        return isr

    def _width(self, what: str, natural: int, access: Access) -> GuestKilled:
        where = f"offset {access.offset} ({access.eip:#x})"
        return self.killed(f"non-{8 * natural}-bit {what} to {where}")

    # ---- writing ----------------------------------------------------------------------------------

    def write(self, access: Access, value: int) -> None:
        """What the Guest writes, and what follows from that. Raises GuestKilled."""
        offset = access.offset
        handler = self._WRITES.get(offset)
        if handler is None:
            raise self.killed(f"Unexpected write to offset {offset}")
        then = handler(self, value)
        natural = _WIDTHS[offset]
        if access.width != natural:
            raise self._width("write", natural, access)
        self._put(offset, natural, value)
        if then is not None:
            then()

    def _features_open(self) -> None:
        if not self._status & Status.DRIVER:
            raise self.killed("feature write before VIRTIO_CONFIG_S_DRIVER")
        if self._status & Status.FEATURES_OK:
            raise self.killed("feature write after VIRTIO_CONFIG_S_FEATURES_OK")

    def _write_device_feature_select(self, value: int) -> None:
        words = {0: self._features & _LOW, 1: self._features >> 32}
        self._put(Register.DEVICE_FEATURE, 4, words.get(value, 0))
        self._features_open()

    def _write_driver_feature_select(self, value: int) -> None:
        if value > 1:
            raise self.killed(f"Unexpected driver select {value}")
        self._features_open()

    def _write_driver_feature(self, value: int) -> None:
        if self._get(Register.DRIVER_FEATURE_SELECT, 4) == 0:
            self._accepted = self._accepted & ~_LOW | value
        else:
            self._accepted = self._accepted & _LOW | value << 32
        if self._accepted & ~self._features:
            raise self.killed(f"over-accepted features {self._accepted:#x} of {self._features:#x}")
        self._features_open()

    def _write_status(self, value: int) -> _Then:
        status = self._status
        if not value:
            self._reset()
            return None
        if status & ~value:
            raise self.killed(f"unset of device status bit {status:#x} -> {value:#x}")
        new = value & ~status
        if new not in _BEFORE:
            raise self.killed(f"unknown device status bit {status:#x} -> {value:#x}")
        if status != _BEFORE[new]:
            raise self.killed(f"unexpected status transition {status:#x} -> {value:#x}")
        if new == Status.FEATURES_OK:
            self._unread_features_ok = True
        if new != Status.DRIVER_OK:
            return None
        if self._unread_features_ok:
            raise self.killed("did not re-read FEATURES_OK")
        return self._start

    def _reset(self) -> None:
        self._accepted = 0
        self._unread_features_ok = False
        self._put(Register.QUEUE_ENABLE, 2, 0)
        for number, kept in enumerate(self._kept):
            _, vector, _, notify_off, *places = _QUEUE.unpack(kept)
            self._kept[number] = _QUEUE.pack(QUEUE_ENTRIES, vector, 0, notify_off, *places)
        self._device.reset()

    def _start(self) -> None:
        self._place_rings()
        self._device.start()

    def _place_rings(self) -> None:
        for number, queue in enumerate(self._device.queues):
            assert isinstance(queue, PciVirtqueue)
            ring, enabled = self._ring(number)
            queue.place(ring if enabled else None)

    def _ring(self, number: int) -> tuple[RingPlace, bool]:
        entries, _, enabled, _, *places = _QUEUE.unpack(self._kept[number])
        return RingPlace(entries, *places), bool(enabled)

    def _queue(self, number: int) -> PciVirtqueue | None:
        if number >= len(self._device.queues):
            return None
        queue = self._device.queues[number]
        assert isinstance(queue, PciVirtqueue)
        return queue

    def _keep(self) -> None:
        number = self._get(Register.QUEUE_SELECT, 2)
        if number >= len(self._kept):
            raise self.killed(f"setup of queue {number}, which there is not")
        self._kept[number] = bytes(self._memory[_QUEUE_PART])

    def _write_queue_select(self, value: int) -> None:
        if value >= len(self._kept):
            self._put(Register.QUEUE_SIZE, 2, 0)
            return
        if self._get(Register.QUEUE_SIZE, 2):
            self._keep()
        self._memory[_QUEUE_PART] = self._kept[value]

    def _write_queue_size(self, value: int) -> None:
        if value & value - 1:
            raise self.killed(f"invalid queue size {value}")
        if self._get(Register.QUEUE_ENABLE, 2):
            raise self.killed("changing queue size on live device")

    def _write_queue_msix_vector(self, value: int) -> None:
        raise self.killed(f"attempt to set MSIX vector to {value}")

    def _write_queue_enable(self, value: int) -> None:
        if value != 1:
            raise self.killed(f"setting queue_enable to {value}")
        if self._status & Status.DRIVER_OK:
            raise self.killed("enabling vq after DRIVER_OK")
        self._put(Register.QUEUE_ENABLE, 2, value)
        self._keep()
        number = self._get(Register.QUEUE_SELECT, 2)
        queue = self._queue(number)
        assert queue is not None
        ring, _ = self._ring(number)
        if (ring.descriptors | ring.available | ring.used) >> 32:
            raise queue.killed("invalid 64-bit queue address")
        queue.check(ring)

    def _write_queue_notify_off(self, _value: int) -> None:
        raise self.killed("attempt to write to queue_notify_off")

    def _write_queue_place(self, _value: int) -> None:
        if self._get(Register.QUEUE_ENABLE, 2):
            raise self.killed("changing queue on live device")
        if not self._status & Status.FEATURES_OK:
            raise self.killed("setting up vq before FEATURES_OK")
        if self._unread_features_ok:
            raise self.killed("didn't re-read FEATURES_OK before setup")

    def _write_notify(self, value: int) -> _Then:
        queue = self._queue(value)
        if queue is None:
            raise self.killed(f"Invalid vq notification on {value}")
        device = self._device
        return (lambda: device.serve(queue)) if device.running else None

    def _write_isr(self, _value: int) -> None:
        raise self.killed("Unexpected write to isr")

    def _write_emerg(self, value: int) -> None:
        if self._device.name != "console":
            raise self.killed(f"Unexpected write to offset {_EMERG_WRITE}")
        self._device.host.console_output(bytes((value & 0xFF,)))

    # What is written where.
    _WRITES: ClassVar[Mapping[int, _Write]] = {
        Register.DEVICE_FEATURE_SELECT: _write_device_feature_select,
        Register.DRIVER_FEATURE_SELECT: _write_driver_feature_select,
        Register.DRIVER_FEATURE: _write_driver_feature,
        Register.DEVICE_STATUS: _write_status,
        Register.QUEUE_SELECT: _write_queue_select,
        Register.QUEUE_SIZE: _write_queue_size,
        Register.QUEUE_MSIX_VECTOR: _write_queue_msix_vector,
        Register.QUEUE_ENABLE: _write_queue_enable,
        Register.QUEUE_NOTIFY_OFF: _write_queue_notify_off,
        **dict.fromkeys(range(Register.QUEUE_DESC, Register.NOTIFY, 4), _write_queue_place),
        Register.NOTIFY: _write_notify,
        Register.ISR: _write_isr,
        _EMERG_WRITE: _write_emerg,
    }

    # ---- state ------------------------------------------------------------------------------------

    def state(self) -> bytes:
        """All registers with all that is kept behind them; always as many bytes."""
        tail = _TAIL.pack(self._accepted, self._unread_features_ok)
        return bytes(self._memory) + b"".join(self._kept) + tail

    def restore(self, state: bytes) -> None:
        """Be as in `state`, which must have as many bytes as here; whatever they are."""
        assert len(state) == len(self.state())
        size = len(self._memory)
        self._memory = bytearray(state[:size])
        kept = state[size : -_TAIL.size]
        self._kept = [kept[at : at + _QUEUE.size] for at in range(0, len(kept), _QUEUE.size)]
        self._accepted, unread = _TAIL.unpack(state[-_TAIL.size :])
        self._unread_features_ok = bool(unread)
        self._place_rings()


_CHECKED_WHEN_READ = frozenset(
    {
        *range(0, Register.MSIX_CONFIG, 4),
        Register.NUM_QUEUES,
        Register.DEVICE_STATUS,
        Register.CONFIG_GENERATION,
        Register.NOTIFY,
    }
)


__all__ = ["Access", "Register", "Status", "VirtioRegisters"]
