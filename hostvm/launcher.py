"""The Launcher: a kernel file and a few wishes become a Guest's memory and the address of its first instruction.

The kernel is a 32-bit ELF file, loaded where its physical addresses say, or a bzImage, which unpacks itself in the
Guest. From the top of memory downwards lie the initial ramdisk and, for the older generations, page tables that map
each address to itself; from 3.1 on the Host does without. (In 2.6.29 to 3.0 the Host made them, out of the boot
parameters, in the same place and before the Guest ran; so here the Launcher does it for both. They have memory also
where the Host was linked, which had to be where the Guest is; here it is where the Guest is.) At `memory`, just above
what the Guest takes for its own, is the page that describes devices, and behind it are their rings, so the Host lets
the Guest go further than it was told. From 4.1 on devices are on PCI instead and all rings in the Guest's own memory.

2.6.23 is different in three ways: the Launcher unpacks a bzImage itself and finds the kernel's beginning by a text in
it (genuine_lguest.py), page tables map memory to where the kernel is linked and nowhere else, and devices are others.

Whatever the user's files contain, the outcome is a loaded Guest or a `ConfigurationError` of one line.

Read next: guest/hello/head.S, where the Guest finds all this. Source: lguest's Launcher, main() and below.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from hashlib import sha256

from hostvm.abi import DEFAULT_GENERATION, Abi, generation
from hostvm.devices.config import DeviceConfig
from hostvm.devices.descriptor_page import (
    PlacedDevice,
)
from hostvm.devices.placing import place_devices
from hostvm.elf_image import ELF_MAGIC, ElfImage, Segment, SymbolTable, parse_elf
from hostvm.errors import ConfigurationError
from hostvm.genuine_lguest import (
    entry_point,
    intuit_page_offset,
    is_page_offset,
    page_offset_of,
)
from hostvm.kernel_image import unpack_bzimage
from hostvm.launcher_abi import (
    BOOT_PARAMS,
    BZIMAGE_LOAD_ADDRESS,
    COMMAND_LINE,
    COMMAND_LINE_SIZE,
    KERNEL_OFFSET,
    BootProtocol,
    boot_protocol,
    bzimage_reach,
    pack_boot_params,
    split_bzimage,
)
from hostvm.memory import PhysicalMemory
from hostvm.memory_map import SWITCHER_BASE
from hostvm.units import GuestPhysical, HostPhysical
from hostvm.vmi_shims import Shims, make_shims
from hostvm.vmi_sites import read_annotations
from hostvm.x86 import PAGE_SHIFT, PAGE_SIZE, Pte

DEFAULT_MEMORY = 64 << 20
_ENTRIES = PAGE_SIZE // 4
# The words that CONFIG_RANDOMIZE_BASE looks for: it acts without the first, or, with hibernation, only with the second.
_UNLESS, _ONLY_IF = b"\0nokaslr\0", b"\0kaslr\0"
_IDENTITY_FLAGS = Pte.P | Pte.RW | Pte.US


@dataclass(frozen=True, slots=True)
class GuestConfig:
    """A Guest as the user wants it. `kernel` and `initrd` are the files' contents; `name` is for messages only.

    `devices` are those besides the console, which is always there.
    """

    kernel: bytes = field(repr=False)
    command_line: str = ""
    memory: int = DEFAULT_MEMORY
    initrd: bytes = field(default=b"", repr=False)
    abi: str = DEFAULT_GENERATION
    name: str = "kernel"
    devices: tuple[DeviceConfig, ...] = ()


@dataclass(frozen=True, slots=True)
class LoadedGuest:
    """A Guest ready to run. `pgdir` is the page directory that was made for it, in generations that have one.

    `pfn_limit` is the number of guest-physical pages that the Guest may name, its device pages included; of those in
    `shared`, given with the number of their network, other Guests have the same. On PCI devices have the pages
    from there to `device_limit`, and only the Launcher knows what is in them. `page_offset` is how far the kernel's
    addresses are from physical ones, where the Host must be told. `shims`: what stands in for the hooks
    of a kernel for VMI.
    """

    start: int
    pfn_limit: int
    initrd_start: int
    initrd_size: int
    pgdir: GuestPhysical | None
    kernel_sha256: str
    initrd_sha256: str
    image: ElfImage | None = field(repr=False)
    devices: tuple[PlacedDevice, ...] = ()
    page_offset: int = 0
    shared: tuple[tuple[int, int], ...] = ()
    shims: Shims | None = None
    device_limit: int = 0

    @property
    def symbols(self) -> SymbolTable:
        """Names in the kernel, by the addresses at which it is linked; empty for a bzImage."""
        return SymbolTable(()) if self.image is None else self.image.symbols


@dataclass(frozen=True, slots=True)
class _Kernel:
    start: int
    segments: tuple[Segment, ...]
    image: ElfImage | None
    reach: int
    page_offset: int = 0


def load_guest(memory: PhysicalMemory, base: HostPhysical, config: GuestConfig) -> LoadedGuest:
    """Fill a Guest's memory, which begins at `base` and is all zero.

    Raises ConfigurationError.
    """
    abi = generation(config.abi)
    protocol = boot_protocol(abi)
    line = _command_line(config)
    kernel = _read_kernel(config) if not protocol.entry_by_signature else _find_kernel(config)
    initrd_start = _initrd_start(config)
    offset = _linked_above(config, protocol, kernel)
    tables = _first_tables(protocol, config.memory, initrd_start, offset)
    free_end = min((address for address, _ in tables), default=initrd_start)
    _check_fit(config, kernel, free_end)
    page = place_devices(abi.device_page, config.memory, config.devices)
    for segment in kernel.segments:
        memory.write(base + segment.paddr, segment.data)
    shims = _put_shims(memory, base, config, abi, kernel) if abi.vmi else None
    parameters = pack_boot_params(protocol, config.memory, initrd_start, len(config.initrd))
    memory.write(base + BOOT_PARAMS, parameters)
    memory.write(base + COMMAND_LINE, line)
    if config.initrd:
        memory.write(base + initrd_start, config.initrd)
    for address, table in tables:
        memory.write(base + address, table)
    memory.write(base + config.memory, page.content)
    return LoadedGuest(
        start=kernel.start,
        pfn_limit=page.pfn_limit,
        initrd_start=initrd_start if config.initrd else 0,
        initrd_size=len(config.initrd),
        pgdir=GuestPhysical(tables[0][0]) if tables else None,
        kernel_sha256=sha256(config.kernel).hexdigest(),
        initrd_sha256=sha256(config.initrd).hexdigest() if config.initrd else "",
        image=kernel.image,
        devices=page.devices,
        page_offset=kernel.page_offset,
        shared=page.shared,
        shims=shims,
        device_limit=page.device_limit,
    )


def _put_shims(
    memory: PhysicalMemory, base: HostPhysical, config: GuestConfig, abi: Abi, kernel: _Kernel
) -> Shims:
    """Write over the kernel's hooks what does their work in ring 1."""
    if kernel.image is None:
        raise ConfigurationError(f"{config.name}: hooks for VMI are found in ELF files only")
    shims = make_shims(config.name, read_annotations(kernel.image), abi.data)
    for address, code in shims.patches.items():
        memory.write(base + kernel.image.physical_of(address), code)
    return shims


def _command_line(config: GuestConfig) -> bytes:
    line = config.command_line.encode("utf-8") + b"\0"
    if len(line) > COMMAND_LINE_SIZE:
        raise ConfigurationError(
            f"the command line has {len(line) - 1} bytes; a Guest reads {COMMAND_LINE_SIZE - 1}"
        )
    return line


def _read_kernel(config: GuestConfig) -> _Kernel:
    if not config.kernel.startswith(ELF_MAGIC):
        found = split_bzimage(config.kernel)
        if found is None:
            raise ConfigurationError(f"{config.name}: neither an ELF file nor a bzImage")
        start, text = found
        _check_place(config, text)
        segment = Segment(BZIMAGE_LOAD_ADDRESS, BZIMAGE_LOAD_ADDRESS, text, len(text))
        reach = max(segment.paddr + segment.memsz, bzimage_reach(config.kernel))
        return _Kernel(start, (segment,), None, reach)
    image = parse_elf(config.name, config.kernel)
    reach = max(segment.paddr + segment.memsz for segment in image.segments)
    return _Kernel(image.entry, image.segments, image, reach)


def _check_place(config: GuestConfig, text: bytes) -> None:
    """A bzImage that would choose by chance where its kernel goes reads CR0 for that; nobody handles the fault."""
    words = config.command_line.encode().split()
    if (_UNLESS in text and _UNLESS.strip(b"\0") not in words) or (
        _ONLY_IF in text and _ONLY_IF.strip(b"\0") in words
    ):
        raise ConfigurationError(
            f"{config.name}: with CONFIG_RANDOMIZE_BASE it ends before it begins in ring 1; "
            f"say nokaslr on its command line, or take the vmlinux"
        )


def _find_kernel(config: GuestConfig) -> _Kernel:
    """As 2.6.23's Launcher: a bzImage is unpacked here, and where the kernel begins must be found out."""
    name = config.name
    if config.kernel.startswith(ELF_MAGIC):
        image = parse_elf(name, config.kernel)
        segments = image.segments
        offset = page_offset_of(name, segments)
    else:
        raw = unpack_bzimage(config.kernel)
        if raw is None:
            raise ConfigurationError(
                f"{name}: neither an ELF file nor a bzImage that can be unpacked"
            )
        image = None
        offset = intuit_page_offset(name, raw)
        segments = (Segment(BZIMAGE_LOAD_ADDRESS, BZIMAGE_LOAD_ADDRESS + offset, raw, len(raw)),)
    start = entry_point(name, segments, offset)
    reach = max(segment.paddr + segment.memsz for segment in segments)
    return _Kernel(start, segments, image, reach, offset)


def _linked_above(config: GuestConfig, protocol: BootProtocol, kernel: _Kernel) -> int:
    """How far the kernel's addresses are above physical ones, as page tables must have it; 3 GiB if it does not say."""
    if kernel.page_offset or not protocol.tables_at_offset:
        return kernel.page_offset
    image = kernel.image
    if image is None:
        inside = unpack_bzimage(config.kernel) or b""
        if not inside.startswith(ELF_MAGIC):
            return KERNEL_OFFSET
        image = parse_elf(config.name, inside)
    offsets = (segment.vaddr - segment.paddr for segment in image.segments)
    return next(filter(is_page_offset, offsets), KERNEL_OFFSET)


def _initrd_start(config: GuestConfig) -> int:
    """The ramdisk ends where memory ends, and begins on a page."""
    if config.memory <= 0 or config.memory % PAGE_SIZE:
        raise ConfigurationError(f"{config.memory} bytes of memory: not a number of whole pages")
    room = -(-len(config.initrd) // PAGE_SIZE) * PAGE_SIZE
    if room > config.memory:
        raise ConfigurationError(
            f"the initrd has {len(config.initrd) >> 20} MiB; the Guest has {config.memory >> 20} MiB"
        )
    return config.memory - room


def _check_fit(config: GuestConfig, kernel: _Kernel, free_end: int) -> None:
    if kernel.reach > free_end:
        besides = " beside its initrd" if config.initrd else ""
        raise ConfigurationError(
            f"{config.name}: reaches up to {kernel.reach:#x}; "
            f"{config.memory >> 20} MiB of memory are too little{besides}"
        )
    if kernel.start - kernel.page_offset >= config.memory:
        raise ConfigurationError(
            f"{config.name}: starts at {kernel.start:#x}, which is no physical address in "
            f"{config.memory >> 20} MiB of memory"
        )


def _first_tables(
    protocol: BootProtocol, memory: int, end: int, offset: int
) -> list[tuple[int, bytes]]:
    """Page directory and page tables, at and below `end`, that map memory as the generation has it; directory first.

    Guests that begin with both mappings write to the directory at their own addresses, so it must have one.
    """
    if not protocol.page_tables:
        return []
    if protocol.tables_identity and protocol.tables_at_offset:
        end = min(end, SWITCHER_BASE - offset)
    if not protocol.tables_identity:
        memory = min(memory, (1 << 32) - offset)
    pages = memory >> PAGE_SHIFT
    count = -(-pages // _ENTRIES)
    directory = end - PAGE_SIZE
    first = directory - count * PAGE_SIZE
    entries = range(_IDENTITY_FLAGS, memory + _IDENTITY_FLAGS, PAGE_SIZE)
    packed = struct.pack(f"<{pages}I", *entries)
    tables = [first + index * PAGE_SIZE for index in range(count)]
    slots = struct.pack(f"<{count}I", *(table | _IDENTITY_FLAGS for table in tables))
    if protocol.tables_at_offset:
        first_slot = offset >> 22
        again = slots[: (_ENTRIES - first_slot) * 4]
        below = slots if protocol.tables_identity else b""
        slots = below.ljust(first_slot * 4, b"\0")[: first_slot * 4] + again
    return [(directory, slots), (first, packed)]


__all__ = ["DEFAULT_MEMORY", "GuestConfig", "LoadedGuest", "load_guest"]
