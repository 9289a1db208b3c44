"""The boot protocol: what a Launcher leaves in a Guest's memory besides the kernel itself.

Linux expects a page of boot parameters from its boot loader; lguest's Launcher is one, and fills in what little a
Guest needs: how much memory there is, where command line and initial ramdisk are, and that this is lguest. Two of the
fields came later; `BootProtocol` says what a generation has. The setup header inside a bzImage is not copied into the
parameters, by any generation.

Source: lguest's Launcher (Documentation/lguest/lguest.c, later tools/lguest); Documentation/x86/boot.txt.
Read next: launcher.py.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from hostvm.abi import Abi, Translation
from hostvm.x86 import PAGE_SIZE

BOOT_PARAMS = 0x0000
COMMAND_LINE = 0x1000
COMMAND_LINE_SIZE = 2048
KERNEL_OFFSET = 0xC0000000

BZIMAGE_MAGIC_AT = 0x202
BZIMAGE_MAGIC = b"HdrS"
BZIMAGE_LOAD_ADDRESS = 0x100000
_SETUP_SECTS = 0x1F1
_SECTOR = 512
_SETUP_SECTS_OF_OLD = 4
_CODE32_START = 0x214
_PROTOCOL = 0x206
_KERNEL_VERSION = 0x20E
_PAYLOAD = 0x248
_PREFERRED_ADDRESS = 0x258
_LONGEST_VERSION = 64

_E820_ENTRIES = 0x1E8
_VERSION = 0x206
_TYPE_OF_LOADER = 0x210
_LOADFLAGS = 0x211
_RAMDISK_IMAGE = 0x218
_CMD_LINE_PTR = 0x228
_KERNEL_ALIGNMENT = 0x230
_HARDWARE_SUBARCH = 0x23C
_E820_MAP = 0x2D0

_PROTOCOL_2_07 = 0x207
_PROTOCOL_2_08 = 0x208
_PROTOCOL_2_10 = 0x20A
_UNKNOWN_LOADER = 0xFF
_KEEP_SEGMENTS = 0x40
_ALIGN_16_MIB = 0x1000000
_SUBARCH_LGUEST = 1
_E820_RAM = 1


@dataclass(frozen=True, slots=True)
class BootProtocol:
    """Which fields of the boot parameters the Launcher of a generation sets, and what page tables a Guest begins with.

    `tables_identity` map all memory to itself; `tables_at_offset` to where the kernel is linked. `entry_by_signature`:
    the kernel starts behind a text in it, at a virtual address.
    """

    has_version: bool
    has_kernel_alignment: bool
    tables_identity: bool
    tables_at_offset: bool
    entry_by_signature: bool

    @property
    def page_tables(self) -> bool:
        """Whether a Guest begins with tables that somebody made for it."""
        return self.tables_identity or self.tables_at_offset


def boot_protocol(abi: Abi) -> BootProtocol:
    """The Launcher's part of a generation."""
    first = abi.translation
    return BootProtocol(
        has_version=first != Translation.LAUNCHER_TABLES_AT_OFFSET,
        has_kernel_alignment=first == Translation.LINEAR,
        tables_identity=first in (Translation.LAUNCHER_TABLES_IDENTITY, Translation.HOST_TABLES),
        tables_at_offset=first in (Translation.LAUNCHER_TABLES_AT_OFFSET, Translation.HOST_TABLES),
        entry_by_signature=first == Translation.LAUNCHER_TABLES_AT_OFFSET,
    )


def pack_boot_params(
    protocol: BootProtocol, memory: int, initrd_start: int, initrd_size: int
) -> bytes:
    """The page of boot parameters for a Guest with `memory` bytes; `initrd_size` 0 means that there is no ramdisk."""
    page = bytearray(PAGE_SIZE)
    page[_E820_ENTRIES] = 1
    struct.pack_into("<QQI", page, _E820_MAP, 0, memory, _E820_RAM)
    struct.pack_into("<I", page, _CMD_LINE_PTR, COMMAND_LINE)
    struct.pack_into("<I", page, _HARDWARE_SUBARCH, _SUBARCH_LGUEST)
    if protocol.has_version:
        struct.pack_into("<H", page, _VERSION, _PROTOCOL_2_07)
        page[_LOADFLAGS] |= _KEEP_SEGMENTS
    if protocol.has_kernel_alignment:
        struct.pack_into("<I", page, _KERNEL_ALIGNMENT, _ALIGN_16_MIB)
    if initrd_size:
        page[_TYPE_OF_LOADER] = _UNKNOWN_LOADER
        struct.pack_into("<II", page, _RAMDISK_IMAGE, initrd_start, initrd_size)
    return bytes(page)


def split_bzimage(image: bytes) -> tuple[int, bytes] | None:
    """Start address of a bzImage and the part of it that goes to BZIMAGE_LOAD_ADDRESS; None if it is none."""
    end = BZIMAGE_MAGIC_AT + len(BZIMAGE_MAGIC)
    if image[BZIMAGE_MAGIC_AT:end] != BZIMAGE_MAGIC or len(image) < _CODE32_START + 4:
        return None
    sectors = image[_SETUP_SECTS] or _SETUP_SECTS_OF_OLD
    (start,) = struct.unpack_from("<I", image, _CODE32_START)
    return start, image[(sectors + 1) * _SECTOR :]


def bzimage_reach(image: bytes) -> int:
    """How far up a bzImage needs memory while it unpacks itself, as far as its header says so; else 0."""
    if not _has_protocol(image, _PROTOCOL_2_10, _PREFERRED_ADDRESS + 12):
        return 0
    address, size = struct.unpack_from("<QI", image, _PREFERRED_ADDRESS)
    return int(address + size)


def bzimage_payload(image: bytes) -> bytes:
    """The part of a bzImage that holds the compressed kernel; where older ones do not say, all but the setup."""
    found = split_bzimage(image)
    text = b"" if found is None else found[1]
    if not _has_protocol(image, _PROTOCOL_2_08, _PAYLOAD + 8):
        return text
    offset, size = struct.unpack_from("<II", image, _PAYLOAD)
    return text[offset : offset + size]


def bzimage_version(image: bytes) -> bytes:
    """What a bzImage says of its version: a number and who built it."""
    (at,) = struct.unpack_from("<H", image, _KERNEL_VERSION)
    start = at + _SECTOR
    return image[start : start + _LONGEST_VERSION].partition(b"\0")[0] if at else b""


def _has_protocol(image: bytes, version: int, size: int) -> bool:
    return len(image) >= size and struct.unpack_from("<H", image, _PROTOCOL)[0] >= version


__all__ = [
    "BOOT_PARAMS",
    "BZIMAGE_LOAD_ADDRESS",
    "COMMAND_LINE",
    "COMMAND_LINE_SIZE",
    "KERNEL_OFFSET",
    "BootProtocol",
    "boot_protocol",
    "bzimage_payload",
    "bzimage_reach",
    "bzimage_version",
    "pack_boot_params",
    "split_bzimage",
]
