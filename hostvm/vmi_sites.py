"""Hook points of a kernel that was written for VMI: where they are, and whether that can be believed.

Such a kernel has a section `.vmi_hooks`. It begins with a header: eight letters, the version of this format, where the
entries begin and end, and where `struct lguest_data` lies, all as the kernel is linked. An entry is a `Site`: an
address, which instruction stands there, how many bytes are free for something else, and what the code around it can
spare.

The Host is about to write machine code at these addresses. So an entry is held against the kernel's text: a site must
lie in it, apart from all others, with just the instruction that it claims and nops behind. What does not fit is a
`ConfigurationError` of one line that names the site.

Source: the VMI patch for Linux 2.6.16 has the idea and the hooks; the format is guest/heron/mach_asm.h's. Read next:
vmi_shims.py.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from itertools import pairwise
from types import MappingProxyType
from typing import NoReturn

from hostvm.elf_image import ElfImage, Section
from hostvm.errors import ConfigurationError
from hostvm.units import GuestPhysical, GuestVirtual

SECTION = ".vmi_hooks"
VERSION = 1
_MAGIC = b"VMIHOOKS"
_HEADER = struct.Struct("<8s4I")
_ENTRY = struct.Struct("<IBBH")
_NOP = 0x90


class Kind(IntEnum):
    """Which instruction stands at a site."""

    CLI = 1
    STI = 2
    STI_SYSEXIT = 3
    IRET = 4
    GET_CR0 = 5
    RDMSR = 6
    WRMSR = 7
    CPUID = 8


class Spares(IntFlag):
    """What a replacement may change besides what the instruction itself does."""

    NOTHING = 0
    FLAGS = 1


NATIVE: Mapping[Kind, bytes] = MappingProxyType(
    {
        Kind.CLI: b"\xfa",
        Kind.STI: b"\xfb",
        Kind.STI_SYSEXIT: b"\xfb\x0f\x35",
        Kind.IRET: b"\xcf",
        Kind.GET_CR0: b"\x0f\x20\xc0",
        Kind.RDMSR: b"\x0f\x32",
        Kind.WRMSR: b"\x0f\x30",
        Kind.CPUID: b"\x0f\xa2",
    }
)


@dataclass(frozen=True, slots=True)
class Site:
    """One hook point; `length` is in bytes, nops included."""

    address: GuestVirtual
    kind: Kind
    length: int
    spares: Spares

    @property
    def end(self) -> int:
        """The address behind it."""
        return self.address + self.length

    def __str__(self) -> str:
        return f"{self.kind.name} at {self.address:#x}"


@dataclass(frozen=True, slots=True)
class Annotations:
    """All sites of a kernel by address, and where `struct lguest_data` is, virtually and physically."""

    sites: tuple[Site, ...]
    shared_data: GuestVirtual
    shared_physical: GuestPhysical


def has_hooks(image: ElfImage) -> bool:
    """Whether this kernel says that it has hook points."""
    return _section(image) is not None


def read_annotations(image: ElfImage) -> Annotations:
    """All hook points of a kernel.

    Raises ConfigurationError in one line that starts with the kernel's name.
    """
    section = _section(image)
    if section is None:
        _refuse(image, f"has no section {SECTION}, so nobody knows where its hooks are")
    if len(section.data) < _HEADER.size or not section.data.startswith(_MAGIC):
        _refuse(image, f"section {SECTION} does not begin with {_MAGIC.decode()}")
    _, version, start, end, shared = _HEADER.unpack_from(section.data)
    if version != VERSION:
        _refuse(image, f"section {SECTION} is of version {version}; this Host reads {VERSION}")
    first, last = start - section.address, end - section.address
    if not _HEADER.size <= first <= last <= len(section.data) or (last - first) % _ENTRY.size:
        _refuse(
            image, f"section {SECTION} has its entries at {start:#x}..{end:#x}, which cannot be"
        )
    entries = _ENTRY.iter_unpack(section.data[first:last])
    sites = sorted((_site(image, *entry) for entry in entries), key=lambda site: site.address)
    _check(image, sites)
    physical = GuestPhysical(image.physical_of(shared))
    return Annotations(tuple(sites), GuestVirtual(shared), physical)


def _section(image: ElfImage) -> Section | None:
    return next((section for section in image.sections if section.name == SECTION), None)


def _refuse(image: ElfImage, what: str) -> NoReturn:
    raise ConfigurationError(f"{image.name}: {what}")


def _site(image: ElfImage, address: int, kind: int, length: int, spares: int) -> Site:
    if kind not in NATIVE:
        _refuse(image, f"the hook at {address:#x} is of kind {kind}; there are 1 to {len(Kind)}")
    if spares not in (Spares.NOTHING, Spares.FLAGS):
        _refuse(image, f"the hook at {address:#x} spares {spares:#x}; only flags (1) are known")
    return Site(GuestVirtual(address), Kind(kind), length, Spares(spares))


def _check(image: ElfImage, sites: Sequence[Site]) -> None:
    text = list(_text_of(image))
    for before, site in pairwise(sites):
        if site.address < before.end:
            _refuse(image, f"the hook {site} overlaps the {before.length} bytes of {before}")
    for site in sites:
        inside = [part for part in text if part.address <= site.address]
        if not any(site.end <= part.address + part.size for part in inside):
            _refuse(image, f"the hook {site}, {site.length} bytes, is not in the kernel's text")
        _check_instruction(image, site)


def _text_of(image: ElfImage) -> Iterator[Section]:
    """Code of the kernel. Programs that it brings along lie elsewhere, and are none of the Host's business."""
    kernel = max(segment.vaddr - segment.paddr for segment in image.segments)
    for section in image.sections:
        if section.is_code and section.address >= kernel:
            yield section


def _check_instruction(image: ElfImage, site: Site) -> None:
    native = NATIVE[site.kind]
    if site.length < len(native):
        _refuse(
            image, f"the hook {site} has {site.length} bytes; its instruction has {len(native)}"
        )
    found = image.bytes_at(site.address, site.length)
    if not found.startswith(native):
        _refuse(image, f"the hook {site} is none: {found[: len(native)].hex(' ')} stands there")
    if found[len(native) :].strip(bytes((_NOP,))):
        _refuse(
            image,
            f"the hook {site} has {site.length} bytes, and not all behind its instruction are nops",
        )


__all__ = [
    "NATIVE",
    "SECTION",
    "VERSION",
    "Annotations",
    "Kind",
    "Site",
    "Spares",
    "has_hooks",
    "read_annotations",
]
