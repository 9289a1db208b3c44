"""The heron kernel for tests: whole, or with something in it changed."""

from __future__ import annotations

import struct
from functools import cache

from hostvm.elf_image import ElfImage, parse_elf
from hostvm.launcher import GuestConfig
from hostvm.switcher import shipped_image
from hostvm.vmi_sites import SECTION, Annotations, Kind, Site, read_annotations

HEADER = struct.Struct("<8s4I")
ENTRY = struct.Struct("<IBBH")

# What it prints on a PC: tests/hostvm/test_vmi_native.py has QEMU say it again.
CONSOLE = b"""\
heron: a processor of GenuineIntel, with FPU, with sysenter
heron: cr0 is 80010033
heron: sysenter leads to the kernel
count: 9c44fb26
heron: count is done, status 9c44fb26
heron: count had 1 page faults
zeta: 3a8ee313
heron: zeta is done, status 3a8ee313
heron: zeta had 1 page faults
wave: 4a3c936a
heron: wave is done, status 9608f5f6
heron: wave had 1 page faults
touch: 8cd4ff53
heron: touch is done, status 8cd4ff53
heron: touch had 102 page faults
calls: entered by int at 00000080
calls: entered by sysenter at 00000100
calls: waited for a lock
heron: calls is done, status 60893017
heron: calls had 1 page faults
napper: had its naps
heron: napper is done, status 0000000a
heron: napper had 1 page faults
wild: returns with a bad stack segment
heron: wild is killed: bad return to segment 0000001b
heron: wild had 1 page faults
heron: programs used the FPU while others had numbers in it
heron: all programs have ended
"""


@cache
def heron_image(name: str = "heron.elf") -> ElfImage:
    return shipped_image(name)


@cache
def heron_hooks(name: str = "heron.elf") -> Annotations:
    return read_annotations(heron_image(name))


def sites_of(kind: Kind) -> list[Site]:
    return [site for site in heron_hooks().sites if site.kind is kind]


def heron(line: str = "", kernel: bytes | None = None, name: str = "heron.elf") -> GuestConfig:
    """The Guest in as little memory as it needs."""
    content = heron_image(name).image if kernel is None else kernel
    return GuestConfig(content, command_line=line, memory=8 << 20, abi="vmi", name="heron")


def with_bytes(old: bytes, new: bytes) -> bytes:
    """The kernel's file with the one occurrence of `old` replaced."""
    assert heron_image().image.count(old) == 1, heron_image().image.count(old)
    assert len(old) == len(new)
    return heron_image().image.replace(old, new)


def with_section(data: bytes) -> ElfImage:
    """The kernel with other annotations, of the same length."""
    image = heron_image().image
    old = next(section.data for section in heron_image().sections if section.name == SECTION)
    assert len(data) == len(old)
    return parse_elf("heron", image.replace(old, data))


def with_header(**changes: object) -> ElfImage:
    """The kernel with other magic, version, start, end or shared in the header of its annotations."""
    data = next(section.data for section in heron_image().sections if section.name == SECTION)
    names = ("magic", "version", "start", "end", "shared")
    fields = dict(zip(names, HEADER.unpack_from(data), strict=True))
    return with_section(HEADER.pack(*(fields | changes).values()) + data[HEADER.size :])


def with_entry(index: int, **changes: int) -> ElfImage:
    """The kernel with one entry of its annotations changed: address, kind, length or spares."""
    data = bytearray(next(s.data for s in heron_image().sections if s.name == SECTION))
    at = HEADER.size + index * ENTRY.size
    entry = dict(
        zip(("address", "kind", "length", "spares"), ENTRY.unpack_from(data, at), strict=True)
    )
    ENTRY.pack_into(data, at, *(entry | changes).values())
    return with_section(bytes(data))


def entries() -> list[tuple[int, int, int, int]]:
    """As they stand in the file."""
    data = next(section.data for section in heron_image().sections if section.name == SECTION)
    return [(a, k, n, s) for a, k, n, s in ENTRY.iter_unpack(data[HEADER.size :])]
