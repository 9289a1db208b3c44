"""The Host's side of the Switcher: putting its text and its pages where guest/switcher.S expects them.

The Switcher is real machine code that the emulated CPU executes. Around it the Host keeps, for the one CPU there is,
the two pages of `struct lguest_pages`. There are two builds of it, one for 2.6.23 and one for all later generations,
and each has pages of its own (`SwitcherPlace`). (i) *Set-up*, once: text copied, entry points relocated, descriptors of
the descriptor tables, the Guest TSS, the default GDT and IDT entries. (ii) *The Switcher in a Guest's memory*: a page
table for slot 1023 of each shadow directory. Its entries have Accessed and Dirty set from the start, so that the CPU
never writes to a page table of ours. (iii) *Before each entry*, `copy_in_guest_info`: what differs between Guests.

The double-fault TSS that lguest keeps in GDT entry 31 stays empty: lguest catches with it what the Host's own kernel
does wrong in the Switcher; here that is a shutdown of the emulated CPU, which hostvm reports itself.

Read next: guest/switcher.S, then host_tables.py. Source: lguest, drivers/lguest/core.c and segments.c.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntFlag
from functools import cache, lru_cache
from importlib.resources import files
from typing import Protocol

from hostvm.elf_image import ElfImage, parse_elf
from hostvm.errors import ConfigurationError
from hostvm.lguest_regs import REGS_SIZE
from hostvm.memory import PhysicalMemory
from hostvm.memory_map import (
    CPU_PAGES,
    HOST_PGDIR,
    OLD_CPU_PAGES,
    OLD_SWITCHER_BASE,
    OLD_SWITCHER_TEXT,
    SWITCHER_BASE,
    SWITCHER_SLOT,
    SWITCHER_TEXT,
)
from hostvm.units import HostPhysical
from hostvm.x86 import (
    DESC_CODE,
    DESC_DATA,
    PAGE_SHIFT,
    PAGE_SIZE,
    GateType,
    Pte,
    gate_dpl,
    pack_descriptor,
    pack_gate,
)

GDT_ENTRIES = 32
IDT_ENTRIES = 256
TSS_SIZE = 104
LGUEST_TRAP_ENTRY = 31
GUEST_RING = 1

LGUEST_CS = 0x50
LGUEST_DS = 0x58
TSS_SELECTOR = 0x80

_TSS_AVAILABLE = 0x89
_FLAT_LO = 0x0000FFFF
_FLAT_HI = 0x000F0000

_DESCRIPTOR = struct.Struct("<HI")
_TSS_ESP0, _TSS_SS0, _TSS_ESP1, _TSS_SS1, _TSS_IO_BITMAP = 4, 8, 12, 16, 102


@dataclass(frozen=True, slots=True)
class PagesLayout:
    """Offsets into `struct lguest_pages`, in the terms of guest/lguest_pages.h."""

    regs: int = PAGE_SIZE - REGS_SIZE
    regs_trapnum: int = 4068
    host_cr3: int = 4096
    host_idt_desc: int = 4100
    host_gdt_desc: int = 4106
    host_sp: int = 4112
    guest_idt_desc: int = 4116
    guest_gdt_desc: int = 4122
    guest_tss: int = 4128
    guest_idt: int = 4232
    guest_gdt: int = 6280


PAGES = PagesLayout()
# 2.6.23 gave eight bytes to each table register.
OLD_PAGES = PagesLayout(
    host_gdt_desc=4108,
    host_sp=4116,
    guest_idt_desc=4120,
    guest_gdt_desc=4128,
    guest_tss=4136,
    guest_idt=4240,
    guest_gdt=6288,
)
_DIRECTORY_FLAGS = int(Pte.P | Pte.RW | Pte.A)


@dataclass(frozen=True, slots=True)
class SwitcherPlace:
    """Where a Switcher is: host-physical pages, and the linear address of the first of its three pages.

    `host_and_stack` reads `host_cr3` together with esp1 and ss1 of the TSS: these are looked at on each entry.
    """

    image: str
    base: int
    text: HostPhysical
    cpu_pages: HostPhysical
    layout: PagesLayout
    host_and_stack: struct.Struct

    @property
    def lguest_pages(self) -> int:
        """Linear address of `struct lguest_pages`, the regs page first."""
        return self.base + PAGE_SIZE

    @property
    def lguest_state(self) -> int:
        """Linear address of the state page, where the regs page ends."""
        return self.base + 2 * PAGE_SIZE

    @property
    def guest_idt(self) -> HostPhysical:
        """The CPU's IDT while a Guest runs."""
        return HostPhysical(self.cpu_pages + self.layout.guest_idt)

    @property
    def guest_gdt(self) -> HostPhysical:
        """The CPU's GDT while a Guest runs."""
        return HostPhysical(self.cpu_pages + self.layout.guest_gdt)


SWITCHER = SwitcherPlace(
    "switcher.elf", SWITCHER_BASE, SWITCHER_TEXT, CPU_PAGES, PAGES, struct.Struct("<I40xII")
)
OLD_SWITCHER = SwitcherPlace(
    "switcher-2.6.23.elf",
    OLD_SWITCHER_BASE,
    OLD_SWITCHER_TEXT,
    OLD_CPU_PAGES,
    OLD_PAGES,
    struct.Struct("<I48xII"),
)


class Changed(IntFlag):
    """What of a Guest must be copied into the state page before it runs again."""

    IDT = 1
    GDT = 2
    GDT_TLS = 4
    ALL = 7


# Plain integers: these are asked for at each entry.
_IDT, _GDT, _GDT_TLS, _ALL = (
    int(c) for c in (Changed.IDT, Changed.GDT, Changed.GDT_TLS, Changed.ALL)
)


@dataclass(frozen=True, slots=True)
class Switcher:
    """The Switcher's addresses where it runs; `default_idt_entries` are the entry points by vector."""

    switch_to_guest: int
    text: bytes
    default_idt_entries: tuple[int, ...]
    place: SwitcherPlace


@cache
def shipped_image(name: str) -> ElfImage:
    """One of the built images that come with hostvm, such as "switcher.elf"."""
    image = files("hostvm").joinpath("guest", "images", name).read_bytes()
    return parse_elf(name, image)


def load_switcher(image: ElfImage, place: SwitcherPlace = SWITCHER) -> Switcher:
    """Take the Switcher out of its ELF file and relocate its entry points to their place.

    Raises ConfigurationError where it is none, or too long.

    The text itself does not mind where it is: its jumps are relative. The addresses in the table are absolute.
    """
    start, end = image.address_of("start_switcher_text"), image.address_of("end_switcher_text")
    offset = place.base - start
    if not 0 < end - start <= PAGE_SIZE:
        raise ConfigurationError(
            f"a Switcher of {end - start:,} bytes, it has room for {PAGE_SIZE:,}"
        )
    table = image.bytes_at(image.address_of("default_idt_entries"), 4 * IDT_ENTRIES)
    return Switcher(
        switch_to_guest=image.address_of("switch_to_guest") + offset,
        text=image.bytes_at(start, end - start),
        default_idt_entries=tuple(entry + offset for (entry,) in struct.iter_unpack("<I", table)),
        place=place,
    )


def flat_descriptor(kind: int) -> tuple[int, int]:
    """Two words of a DPL 0 segment over the whole address space; `kind` is DESC_CODE or DESC_DATA."""
    return _FLAT_LO, kind | _FLAT_HI


def tss_descriptor(address: int) -> tuple[int, int]:
    """Two words of the descriptor of a TSS that is not running."""
    return pack_descriptor(address, TSS_SIZE - 1, _TSS_AVAILABLE, 0)


def default_idt_entry(
    vector: int, handler: int, guest_entry: tuple[int, int] | None = None
) -> tuple[int, int]:
    """The gate that leads through the Switcher to the Host.

    Only the hypercall may be triggered by the Guest kernel; of other vectors the Guest may have asked that its users
    can trigger them, and then that privilege level (of `guest_entry`) is kept.
    """
    dpl = 0
    if vector == LGUEST_TRAP_ENTRY:
        dpl = GUEST_RING
    elif guest_entry is not None:
        dpl = gate_dpl(guest_entry[1])
    return _gate_to_host(handler, dpl)


@lru_cache(maxsize=4 * IDT_ENTRIES)
def _gate_to_host(handler: int, dpl: int) -> tuple[int, int]:
    return pack_gate(LGUEST_CS, handler, GateType.INTERRUPT, dpl)


def set_up_switcher(
    memory: PhysicalMemory,
    switcher: Switcher,
    host_gdt: tuple[int, int],
    host_idt: tuple[int, int],
) -> None:
    """Fill the Switcher's text page and what is the same for all Guests of the CPU's pages.

    `host_gdt` and `host_idt` are host-virtual address and size in bytes.
    """
    place = switcher.place
    pages, layout = place.cpu_pages, place.layout
    memory.write(place.text, switcher.text.ljust(PAGE_SIZE, b"\0"))
    memory.write(pages, bytes(2 * PAGE_SIZE))
    _write_table_register(memory, pages + layout.host_gdt_desc, host_gdt)
    _write_table_register(memory, pages + layout.host_idt_desc, host_idt)
    guest_gdt = place.lguest_pages + layout.guest_gdt, 8 * GDT_ENTRIES
    guest_idt = place.lguest_pages + layout.guest_idt, 8 * IDT_ENTRIES
    _write_table_register(memory, pages + layout.guest_gdt_desc, guest_gdt)
    _write_table_register(memory, pages + layout.guest_idt_desc, guest_idt)
    memory.write(pages + layout.guest_tss, guest_tss(place))
    write_default_gdt_entries(memory, place)
    for vector, handler in enumerate(switcher.default_idt_entries):
        write_descriptor(memory, place.guest_idt, vector, default_idt_entry(vector, handler))


def guest_tss(place: SwitcherPlace = SWITCHER) -> bytes:
    """The TSS while a Guest runs: traps to ring 0 push onto the regs page, and no I/O port is allowed."""
    tss = bytearray(TSS_SIZE)
    struct.pack_into("<II", tss, _TSS_ESP0, place.lguest_state, LGUEST_DS)
    struct.pack_into("<H", tss, _TSS_IO_BITMAP, TSS_SIZE)
    return bytes(tss)


def write_default_gdt_entries(memory: PhysicalMemory, place: SwitcherPlace = SWITCHER) -> None:
    """The entries that no Guest can change: the Switcher's own segments and the TSS."""
    gdt = place.guest_gdt
    write_descriptor(memory, gdt, LGUEST_CS >> 3, flat_descriptor(DESC_CODE))
    write_descriptor(memory, gdt, LGUEST_DS >> 3, flat_descriptor(DESC_DATA))
    tss = tss_descriptor(place.lguest_pages + place.layout.guest_tss)
    write_descriptor(memory, gdt, TSS_SELECTOR >> 3, tss)


def write_descriptor(
    memory: PhysicalMemory, table: int, index: int, words: tuple[int, int]
) -> None:
    """Store two words as entry `index` of a descriptor table at a host-physical address."""
    memory.write(table + 8 * index, struct.pack("<II", *words))


def _write_table_register(memory: PhysicalMemory, at: int, table: tuple[int, int]) -> None:
    address, size = table
    memory.write(at, _DESCRIPTOR.pack(size - 1, address))


def switcher_pte_page(
    regs_page: HostPhysical, place: SwitcherPlace = SWITCHER, *, state_writable: bool = False
) -> bytes:
    """The page table that shows the Switcher: text, then `regs_page`, then the CPU's state page.

    A Guest must not be able to write to the state page, or it could give itself any segment. To the Host it is
    writable. All of it is the supervisor's, which on i386 includes a Guest kernel in ring 1.
    """
    seen = Pte.P | Pte.A
    written = seen | Pte.RW | Pte.D
    entries = (
        place.text | seen,
        regs_page | written,
        place.cpu_pages + PAGE_SIZE | (written if state_writable else seen),
    )
    before = bytes(4 * (place.base - SWITCHER_BASE >> PAGE_SHIFT))
    return (before + struct.pack("<3I", *entries)).ljust(PAGE_SIZE, b"\0")


def switcher_directory_entry(page_table: HostPhysical) -> int:
    """What slot SWITCHER_SLOT of a page directory holds to show the Switcher."""
    return page_table | _DIRECTORY_FLAGS


def map_switcher(memory: PhysicalMemory, pgdir: HostPhysical, page_table: HostPhysical) -> None:
    """Show the Switcher in a page directory."""
    address = pgdir + 4 * SWITCHER_SLOT
    entry = switcher_directory_entry(page_table)
    if memory.read_u32(address) != entry:
        memory.write_u32(address, entry)


class GuestOnCpu(Protocol):
    """What copy_in_guest_info must know of a Guest.

    The `copy_` methods write into the tables at the host-physical address that they are given.
    """

    changed: int
    switcher_page_table: HostPhysical

    @property
    def esp1(self) -> int:
        """Stack pointer for direct traps."""
        ...

    @property
    def ss1(self) -> int:
        """Stack segment for direct traps."""
        ...

    @property
    def shadow_root(self) -> HostPhysical:
        """Host-physical address of the shadow directory in use."""
        ...

    def copy_traps(self, idt: HostPhysical, default_idt_entries: Sequence[int]) -> None:
        """Put the traps that may go directly into the Guest, and default gates for the others."""
        ...

    def copy_gdt(self, gdt: HostPhysical) -> None:
        """Put all entries that the Guest can change."""
        ...

    def copy_gdt_tls(self, gdt: HostPhysical) -> None:
        """Put the three thread-local entries."""
        ...


def copy_in_guest_info(
    memory: PhysicalMemory,
    guest: GuestOnCpu,
    switcher: Switcher,
    *,
    ran_last: bool,
    host_cr3: HostPhysical = HOST_PGDIR,
) -> None:
    """Prepare the CPU's pages for `guest`; `ran_last` tells whether it was this Guest that ran before."""
    if not ran_last:
        guest.changed = _ALL
    place = switcher.place
    layout = place.layout
    host = place.cpu_pages + layout.host_cr3
    wanted = host_cr3, guest.esp1, guest.ss1
    if place.host_and_stack.unpack_from(memory.view, host - memory.base) != wanted:
        tss = place.cpu_pages + layout.guest_tss
        for address, value in zip((host, tss + _TSS_ESP1, tss + _TSS_SS1), wanted, strict=True):
            _keep(memory, address, value)
    map_switcher(memory, guest.shadow_root, guest.switcher_page_table)
    changed = guest.changed
    if changed:
        _copy_changed(guest, changed, switcher)
        guest.changed = 0


def _keep(memory: PhysicalMemory, address: int, value: int) -> None:
    # A page that is not written need not be looked at by whoever keeps track of pages.
    if memory.read_u32(address) != value:
        memory.write_u32(address, value)


def _copy_changed(guest: GuestOnCpu, changed: int, switcher: Switcher) -> None:
    if changed & _IDT:
        guest.copy_traps(switcher.place.guest_idt, switcher.default_idt_entries)
    copy_gdt = _gdt_copier(guest, changed)
    if copy_gdt is not None:
        copy_gdt(switcher.place.guest_gdt)


def _gdt_copier(guest: GuestOnCpu, changed: int) -> Callable[[HostPhysical], None] | None:
    if changed & _GDT:
        return guest.copy_gdt
    if changed & _GDT_TLS:
        return guest.copy_gdt_tls
    return None


__all__ = [
    "GDT_ENTRIES",
    "GUEST_RING",
    "IDT_ENTRIES",
    "LGUEST_CS",
    "LGUEST_DS",
    "LGUEST_TRAP_ENTRY",
    "OLD_PAGES",
    "OLD_SWITCHER",
    "PAGES",
    "SWITCHER",
    "TSS_SELECTOR",
    "TSS_SIZE",
    "Changed",
    "GuestOnCpu",
    "PagesLayout",
    "Switcher",
    "SwitcherPlace",
    "copy_in_guest_info",
    "default_idt_entry",
    "flat_descriptor",
    "guest_tss",
    "load_switcher",
    "map_switcher",
    "set_up_switcher",
    "shipped_image",
    "switcher_directory_entry",
    "switcher_pte_page",
    "tss_descriptor",
    "write_default_gdt_entries",
    "write_descriptor",
]
