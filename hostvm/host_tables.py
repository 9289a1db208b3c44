"""The world that the Host lives in: its page tables, descriptor tables and stack, and the CPU's first state.

A Host kernel would have built all this long before lguest is loaded. Here it is built in one go, and lguest is loaded
into it (host_module.py), before the first machine step; after that the emulated CPU needs nothing from Python but what
a Host does at each of its turns. As in the Switcher's page table, Accessed and Dirty are set everywhere, so the CPU
writes to no page table of the Host's.

Read next: guest/host.S, the code that runs in this world. Source: Intel SDM 3A, chapters 3 to 7.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from hostvm.cpu_state import Segment
from hostvm.elf_image import parse_elf
from hostvm.host_module import HostKernel, LguestModule
from hostvm.memory import PhysicalMemory
from hostvm.memory_map import (
    HOST_AREA,
    HOST_BASE,
    HOST_MAPPED_SIZE,
    HOST_PAGE_TABLE,
    HOST_PGDIR,
    HOST_STACK,
    HOST_SWITCHER_PAGE_TABLE,
    HOST_TABLES,
    HOST_TEXT,
    HOST_TEXT_SIZE,
    OLD_CPU_PAGES,
    OLD_SWITCHER_BASE,
    SWITCHER_BASE,
    host_virtual,
)
from hostvm.switcher import (
    GDT_ENTRIES,
    IDT_ENTRIES,
    LGUEST_CS,
    LGUEST_DS,
    OLD_SWITCHER,
    SWITCHER,
    TSS_SELECTOR,
    TSS_SIZE,
    Switcher,
    flat_descriptor,
    load_switcher,
    set_up_switcher,
    shipped_image,
    switcher_pte_page,
    write_descriptor,
)
from hostvm.units import HostPhysical
from hostvm.x86 import (
    DESC_CODE,
    DESC_DATA,
    PAGE_SHIFT,
    PAGE_SIZE,
    Cr0,
    Eflags,
    GateType,
    Pte,
    pack_descriptor,
    pack_gate,
)

KERNEL_CS = 0x60
KERNEL_DS = 0x68

_GDT = HOST_TABLES
_TSS = HostPhysical(HOST_TABLES + 0x100)
_IDT = HostPhysical(HOST_TABLES + 0x800)
_BUSY_TSS = 0x8B
_CODE = flat_descriptor(DESC_CODE)
_DATA = flat_descriptor(DESC_DATA)
CR0 = Cr0.PG | Cr0.PE | Cr0.WP | Cr0.NE | Cr0.MP | Cr0.ET


@dataclass(frozen=True, slots=True)
class HostStart:
    """The CPU before its first step, as far as the Host decides it; `segs` and `tables` ordered as in CpuState."""

    eip: int
    esp: int
    eflags: int
    cr0: int
    cr3: int
    cr4: int
    segs: tuple[Segment, ...]
    tables: tuple[Segment, ...]


@dataclass(frozen=True, slots=True)
class HostWorld:
    """What the Host must know of the world it has built. The CPU stands on `host_loop` during a Host turn.

    `lguest_entry` holds the address of the Switcher that is called next.
    """

    host_loop: int
    host_turn_done: int
    switcher: Switcher
    old_switcher: Switcher | None
    start: HostStart
    lguest_entry: HostPhysical


def build_host_world(
    memory: PhysicalMemory, *, with_old_switcher: bool = False, other_switcher: bytes = b""
) -> HostWorld:
    """Build Host and Switcher in `memory`, which must hold the Host area; if need be, 2.6.23's Switcher as well.

    `other_switcher`: an ELF file to take the Switcher from. Raises ConfigurationError when it is none.
    """
    file = (
        parse_elf("switcher", other_switcher) if other_switcher else shipped_image(SWITCHER.image)
    )
    switcher = load_switcher(file)
    old = None
    if with_old_switcher:
        old = load_switcher(shipped_image(OLD_SWITCHER.image), OLD_SWITCHER)
    image = shipped_image("host.elf")
    _load_text(memory, switcher)
    _build_page_tables(memory)
    _build_gdt(memory)
    _build_idt(memory, image.address_of("host_interrupt_handlers"))
    gdt = host_virtual(_GDT), 8 * GDT_ENTRIES
    idt = host_virtual(_IDT), 8 * IDT_ENTRIES
    kernel = HostKernel(memory)
    LguestModule(kernel).load(switcher, gdt, idt)
    if old is not None:
        _map_old_switcher(memory)
        set_up_switcher(memory, old, gdt, idt)
    host_loop = image.address_of("host_loop")
    lguest_entry = image.address_of("lguest_entry") - host_virtual(HOST_TEXT) + HOST_TEXT
    return HostWorld(
        host_loop=host_loop,
        host_turn_done=image.address_of("host_turn_done"),
        switcher=switcher,
        old_switcher=old,
        start=_start(host_loop, kernel.cr4, gdt, idt),
        lguest_entry=HostPhysical(lguest_entry),
    )


def _load_text(memory: PhysicalMemory, switcher: Switcher) -> None:
    image = shipped_image("host.elf")
    text = bytearray(image.bytes_at(host_virtual(HOST_TEXT), len(image.segments[0].data)))
    lguest_entry = image.address_of("lguest_entry") - host_virtual(HOST_TEXT)
    struct.pack_into("<IH", text, lguest_entry, switcher.switch_to_guest, LGUEST_CS)
    memory.write(HOST_TEXT, bytes(text).ljust(HOST_TEXT_SIZE, b"\0"))


def _build_page_tables(memory: PhysicalMemory) -> None:
    flags = Pte.P | Pte.RW | Pte.A | Pte.D
    pages = range(HOST_AREA, HOST_AREA + HOST_MAPPED_SIZE, PAGE_SIZE)
    table = struct.pack(f"<{len(pages)}I", *(page | flags for page in pages))
    memory.write(HOST_PAGE_TABLE, table.ljust(PAGE_SIZE, b"\0"))
    memory.write(HOST_PGDIR, bytes(PAGE_SIZE))
    directory_entry = HOST_PAGE_TABLE | Pte.P | Pte.RW | Pte.A
    memory.write_u32(HOST_PGDIR + 4 * (HOST_BASE >> PAGE_SHIFT + 10), directory_entry)


def _map_old_switcher(memory: PhysicalMemory) -> None:
    """The three pages of the Switcher of 2.6.23, behind those of the other."""
    page_table = switcher_pte_page(OLD_CPU_PAGES, OLD_SWITCHER, state_writable=True)
    first = 4 * (OLD_SWITCHER_BASE - SWITCHER_BASE >> PAGE_SHIFT)
    memory.write(HOST_SWITCHER_PAGE_TABLE + first, page_table[first:][:12])


def _build_gdt(memory: PhysicalMemory) -> None:
    entries = {
        LGUEST_CS: _CODE,
        LGUEST_DS: _DATA,
        KERNEL_CS: _CODE,
        KERNEL_DS: _DATA,
        TSS_SELECTOR: _tss_descriptor(),
    }
    memory.write(HOST_TABLES, bytes(PAGE_SIZE))
    for selector, words in entries.items():
        write_descriptor(memory, _GDT, selector >> 3, words)
    tss = bytearray(TSS_SIZE)
    struct.pack_into("<II", tss, 4, _stack_top(), KERNEL_DS)
    struct.pack_into("<H", tss, 102, TSS_SIZE)
    memory.write(_TSS, bytes(tss))


def _build_idt(memory: PhysicalMemory, handlers: int) -> None:
    for vector in range(IDT_ENTRIES):
        gate = pack_gate(KERNEL_CS, handlers + 4 * vector, GateType.INTERRUPT, 0)
        write_descriptor(memory, _IDT, vector, gate)


def _tss_descriptor() -> tuple[int, int]:
    """Busy, as the TSS of a running CPU is."""
    return pack_descriptor(host_virtual(_TSS), TSS_SIZE - 1, _BUSY_TSS, 0)


def _stack_top() -> int:
    return host_virtual(HOST_STACK) + PAGE_SIZE


def _start(host_loop: int, cr4: int, gdt: tuple[int, int], idt: tuple[int, int]) -> HostStart:
    code = Segment(KERNEL_CS, 0, 0xFFFFFFFF, _CODE[1])
    data = Segment(KERNEL_DS, 0, 0xFFFFFFFF, _DATA[1])
    null = Segment(0, 0, 0, 0)
    tr = Segment(TSS_SELECTOR, host_virtual(_TSS), TSS_SIZE - 1, _BUSY_TSS << 8)
    return HostStart(
        eip=host_loop,
        esp=_stack_top(),
        eflags=Eflags.FIXED,
        cr0=CR0,
        cr3=HOST_PGDIR,
        cr4=cr4,
        segs=(data, code, data, data, null, null),
        tables=(null, tr, _table(gdt), _table(idt)),
    )


def _table(table: tuple[int, int]) -> Segment:
    address, size = table
    return Segment(0, address, size - 1, 0)


__all__ = ["CR0", "KERNEL_CS", "KERNEL_DS", "HostStart", "HostWorld", "build_host_world"]
