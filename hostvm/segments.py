"""Segments: the Global Descriptor Table that a Guest asks for, and what of it reaches the CPU.

The Guest's 32 descriptors are kept here in the Host and copied into the state page that the CPU uses. Two things are
mended on the way in: ring 0 becomes ring 1, and the accessed bit is set, because the CPU could not set it itself in a
page that the Guest must not write. Four entries belong to the Host and stay what they are. Whether a descriptor makes
sense is nobody's business: loading a bad one faults inside the Switcher, and the Guest dies of trap 256.

One thing is stricter than upstream: a present *system* descriptor (a gate or TSS of the Guest's own) never reaches the
CPU. A far jump through one is a hardware task switch to whatever ring its TSS names, ring 0 included.

Source: lguest, drivers/lguest/segments.c; Intel SDM 3A 3.4.5 and 7.2. Read next: interrupts_and_traps.py.
"""

from __future__ import annotations

from struct import unpack
from typing import TYPE_CHECKING, TypeAlias

from hostvm.errors import GuestKilled
from hostvm.lguest_regs import KERNEL_CS, KERNEL_DS
from hostvm.memory import PhysicalMemory
from hostvm.printf import signed
from hostvm.switcher import GDT_ENTRIES, GUEST_RING, LGUEST_CS, LGUEST_DS, TSS_SELECTOR, Changed
from hostvm.x86 import DESC_ACCESSED, DESC_DPL_SHIFT, DESC_PRESENT, pack_descriptor

if TYPE_CHECKING:
    from hostvm.lguest import Lguest

TLS_ENTRIES = range(6, 9)
DOUBLEFAULT_TSS_ENTRY = 31
OURS = frozenset({LGUEST_CS >> 3, LGUEST_DS >> 3, TSS_SELECTOR >> 3, DOUBLEFAULT_TSS_ENTRY})

FULL_CODE = pack_descriptor(0, 0xFFFFF, 0x9B, 0xC)
FULL_DATA = pack_descriptor(0, 0xFFFFF, 0x93, 0xC)
_DPL = 3 << DESC_DPL_SHIFT
_GUEST_DPL = GUEST_RING << DESC_DPL_SHIFT
_NOT_SYSTEM = 1 << 12

Descriptor: TypeAlias = tuple[int, int]


def boot_gdt() -> list[Descriptor]:
    """The table of a Guest that has not given one: flat code and data for its kernel."""
    gdt = [(0, 0)] * GDT_ENTRIES
    gdt[KERNEL_CS >> 3] = FULL_CODE[0], FULL_CODE[1] | _GUEST_DPL
    gdt[KERNEL_DS >> 3] = FULL_DATA[0], FULL_DATA[1] | _GUEST_DPL
    return gdt


def copy_gdt(guest: Lguest, memory: PhysicalMemory, gdt: int) -> None:
    """Bring all of the Guest's entries into the CPU's table at host-physical `gdt`."""
    for index in range(GDT_ENTRIES):
        if index not in OURS:
            _copy_entry(guest, memory, gdt, index)


def copy_gdt_tls(guest: Lguest, memory: PhysicalMemory, gdt: int) -> None:
    """Bring the three entries that change with each process into the CPU's table."""
    for index in TLS_ENTRIES:
        _copy_entry(guest, memory, gdt, index)


def _copy_entry(guest: Lguest, memory: PhysicalMemory, gdt: int, index: int) -> None:
    lo, hi = guest.gdt[index]
    if hi & (DESC_PRESENT | _NOT_SYSTEM) == DESC_PRESENT:
        lo = hi = 0
    _write_descriptor(memory, gdt + index * 8, lo, hi)


def _write_descriptor(memory: PhysicalMemory, address: int, lo: int, hi: int) -> None:
    memory.write_u32(address, lo)
    memory.write_u32(address + 4, hi)


def load_guest_gdt(guest: Lguest, table: int, count: int) -> None:
    """LOAD_GDT: take the first `count` descriptors of the table at guest-physical `table`."""
    if count > GDT_ENTRIES:
        raise GuestKilled(f"too many gdt entries {signed(count)}")
    _load(guest, 0, table, count)
    _fix_up(guest, range(GDT_ENTRIES))
    guest.changed |= Changed.GDT.value


def load_guest_gdt_entry(guest: Lguest, index: int, lo: int, hi: int) -> None:
    """LOAD_GDT_ENTRY: one descriptor."""
    if index >= GDT_ENTRIES:
        raise GuestKilled(f"too many gdt entries {signed(index)}")
    guest.gdt[index] = lo, hi
    _fix_up(guest, range(index, index + 1))
    guest.changed |= Changed.GDT.value


def load_tls(guest: Lguest, table: int) -> None:
    """LOAD_TLS: the three descriptors at guest-physical `table`."""
    _load(guest, TLS_ENTRIES.start, table, len(TLS_ENTRIES))
    _fix_up(guest, TLS_ENTRIES)
    guest.changed |= Changed.GDT_TLS.value


def _load(guest: Lguest, first: int, table: int, count: int) -> None:
    words = unpack(f"<{count * 2}I", guest.memory.read(table, count * 8))
    guest.gdt[first : first + count] = zip(words[::2], words[1::2], strict=True)


def _fix_up(guest: Lguest, entries: range) -> None:
    for index in entries:
        if index in OURS:
            continue
        lo, hi = guest.gdt[index]
        if not hi & _DPL:
            hi |= _GUEST_DPL
        guest.gdt[index] = lo, hi | DESC_ACCESSED


__all__ = [
    "TLS_ENTRIES",
    "Descriptor",
    "boot_gdt",
    "copy_gdt",
    "copy_gdt_tls",
    "load_guest_gdt",
    "load_guest_gdt_entry",
    "load_tls",
]
