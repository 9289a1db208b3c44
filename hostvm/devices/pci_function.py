"""A function on the PCI bus: 152 bytes of configuration space, and behind them a virtio device's registers.

    0x00 vendor, device   0x10 BAR 0 to 5            0x40 where the common registers are     0x74 where its own
    0x04 command, status  0x2c subsystem             0x50 where to notify                         configuration is
    0x08 revision, class  0x34 first capability      0x64 where the ISR is                   0x84 a window
    0x0c header type      0x3c interrupt line, pin

The capabilities say where in BAR 0 to look. The window lets a kernel reach the registers without mapping the BAR:
offset and width are written into it, and its last word is then that register. lguest's kernels print through it before
they have page tables of their own.

Few bytes can be written, and what cannot be is a protection fault of the writer's. Where a BAR is moved to is kept and
means nothing: registers stay where they are. The command is ignored, so nothing can be switched off.

As in the Launcher, what stands in the window's last word is written whole, however narrow the register.

Source: PCI Local Bus specification 3.0, 6.1 and 6.2.5; virtio specification 1.0, 4.1.4; lguest's Launcher
(init_pci_config, pci_data_iowrite). Read next: pci_bus.py.
"""

from __future__ import annotations

import struct

from hostvm.devices.pci_placing import COMMON_SIZE, PciModel
from hostvm.devices.pci_registers import Access, VirtioRegisters
from hostvm.errors import GuestKilled

SPACE_SIZE = 152
_HEADER = struct.Struct("<HHHHBBBBBBBB6IIHHI4B4x4B")
_CAPABILITY = struct.Struct("<5B3xII")
_VENDOR, _FIRST_DEVICE, _SUBSYSTEM = 0x1AF4, 0x1040, 0x40
_HAS_CAPABILITIES = 1 << 4
_VENDOR_SPECIFIC = 9
_COMMON, _NOTIFY, _ISR, _DEVICE, _WINDOW_TYPE = 1, 2, 3, 4, 5
_COMMON_AT, _NOTIFY_AT, _ISR_AT, _DEVICE_AT, _WINDOW_AT = 64, 80, 100, 116, 132
_COMMAND, _CACHE_LINE, _BAR0, _LAST_FREE, _ROM = 0x04, 0x0C, 0x10, 0x28, 0x30
_WINDOW_SETUP = range(_WINDOW_AT + 4, _WINDOW_AT + 16, 4)
_WINDOW_DATA = _WINDOW_AT + 16
_FREE = (*range(_BAR0 + 4, _LAST_FREE + 4, 4), _ROM)
_WORD = 0xFFFFFFFF


def device_space(model: PciModel, slot: int, address: int) -> bytes:
    """The configuration space of a device as it is at first; `slot` is also its interrupt, `address` its BAR's."""
    kind, subclass = model.pci_class
    head = _HEADER.pack(
        *(_VENDOR, _FIRST_DEVICE + model.virtio_type, 0, _HAS_CAPABILITIES, 1, 0, subclass, kind),
        *(0, 0, 0, 0),
        *(address, 0, 0, 0, 0, 0, 0, 0, _SUBSYSTEM, 0),
        *(_COMMON_AT, 0, 0, 0),
        *(slot, 0, 0, 0),
    )
    own = len(model.config)
    return (
        head
        + _capability(_NOTIFY_AT, 16, _COMMON, 0, 56)
        + _capability(_ISR_AT, 20, _NOTIFY, 56, 2)
        + bytes(4)
        + _capability(_WINDOW_AT, 16, _ISR, 58, 1)
        + _capability(0, 16, _DEVICE, COMMON_SIZE, own)
        + _capability(_DEVICE_AT if own else 0, 20, _WINDOW_TYPE, 0, 0)
        + bytes(4)
    )


def bridge_space() -> bytes:
    """The configuration space of the host bridge: all that it says is its class, and that is all Linux wants of it."""
    space = bytearray(SPACE_SIZE)
    space[0x0B] = 6
    return bytes(space)


def _capability(following: int, size: int, kind: int, offset: int, length: int) -> bytes:
    return _CAPABILITY.pack(_VENDOR_SPECIFIC, following, size, kind, 0, offset, length)


class PciFunction:
    """Configuration space `space`; `registers` are behind BAR 0, None if there is none. `name` is who is to blame."""

    def __init__(self, name: str, space: bytes, registers: VirtioRegisters | None) -> None:
        assert len(space) == SPACE_SIZE
        self.name = name
        self.registers = registers
        self._space = bytearray(space)

    def _get(self, offset: int) -> int:
        return int.from_bytes(self._space[offset : offset + 4], "little")

    def _put(self, offset: int, value: int) -> None:
        self._space[offset : offset + 4] = value.to_bytes(4, "little")

    def read(self, register: int, access: Access) -> int:
        """Part of the word at `register`; `access` says which part. Raises GuestKilled."""
        if register == _WINDOW_DATA:
            self._read_window(access.eip)
        return self._get(register) >> 8 * access.offset & (1 << 8 * access.width) - 1

    def write(self, register: int, access: Access, value: int) -> bool:
        """Write part of a word; whether that can be done. Raises GuestKilled."""
        if register == _BAR0:
            self._merge(register, access, value)
            self._put(register, self._get(register) & ~(self._bar_size - 1) & _WORD)
        elif register in _FREE or register in _WINDOW_SETUP:
            self._merge(register, access, value)
        elif register == _CACHE_LINE:
            narrow = Access(access.offset, min(access.width, 2), access.eip)
            self._merge(register, narrow, value)
        elif register == _WINDOW_DATA:
            return self._write_window(access, value)
        else:
            return register == _COMMAND and access.width == 2
        return True

    def _merge(self, register: int, access: Access, value: int) -> None:
        mask = (1 << 8 * access.width) - 1
        shift = 8 * access.offset
        kept = self._get(register) & ~(mask << shift)
        self._put(register, (kept | (value & mask) << shift) & _WORD)

    @property
    def _bar_size(self) -> int:
        return 1 << (len(self.registers) - 1).bit_length() if self.registers is not None else 1

    # ---- the window -------------------------------------------------------------------------------

    def _window(self) -> tuple[int, int, int]:
        """BAR, offset and length, as the Guest has written them."""
        bar = self._space[_WINDOW_AT + 4]
        return bar, self._get(_WINDOW_AT + 8), self._get(_WINDOW_AT + 12)

    def _register_in_window(self, eip: int) -> Access | None:
        bar, offset, length = self._window()
        size = 0 if self.registers is None else len(self.registers)
        if bar or offset >= size or (offset + length & _WORD) > size:
            return None
        if length not in (1, 2, 4) or offset % length:
            return None
        return Access(offset, length, eip)

    def _read_window(self, eip: int) -> None:
        register = self._register_in_window(eip)
        if register is None or self.registers is None:
            bar, offset, length = self._window()
            raise GuestKilled(
                f"{self.name}: bad driver: "
                f"Invalid cfg_access to bar{bar}, offset {offset} len {length}"
            )
        self._put(_WINDOW_DATA, self.registers.read(register))

    def _write_window(self, access: Access, value: int) -> bool:
        register = self._register_in_window(access.eip)
        if register is None or self.registers is None:
            return False
        self._merge(_WINDOW_DATA, access, value)
        self.registers.write(register, self._get(_WINDOW_DATA))
        return True

    # ---- state ------------------------------------------------------------------------------------

    def state(self) -> bytes:
        """Configuration space and registers; always as many bytes."""
        return bytes(self._space) + (b"" if self.registers is None else self.registers.state())

    def restore(self, state: bytes) -> None:
        """Be as in `state`, which must have as many bytes as here."""
        self._space = bytearray(state[:SPACE_SIZE])
        if self.registers is not None:
            self.registers.restore(state[SPACE_SIZE:])


__all__ = ["SPACE_SIZE", "PciFunction", "bridge_space", "device_space"]
