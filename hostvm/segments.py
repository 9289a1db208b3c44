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

from enum import IntFlag
from struct import unpack
from typing import TYPE_CHECKING, TypeAlias

from hostvm.errors import GuestKilled
from hostvm.memory import PhysicalMemory
from hostvm.printf import signed
from hostvm.x86 import DESC_ACCESSED, DESC_DPL_SHIFT, DESC_PRESENT, Eflags, pack_descriptor

if TYPE_CHECKING:
    from hostvm.lguest import Lguest

GDT_ENTRIES = 32
ENTRY_LGUEST_CS, ENTRY_LGUEST_DS = 10, 11
ENTRY_KERNEL_CS, ENTRY_KERNEL_DS = 12, 13
ENTRY_TSS, ENTRY_DOUBLEFAULT_TSS = 16, 31
TLS_ENTRIES = range(6, 9)
OURS = frozenset({ENTRY_LGUEST_CS, ENTRY_LGUEST_DS, ENTRY_TSS, ENTRY_DOUBLEFAULT_TSS})

GUEST_PL = 1
LGUEST_CS = ENTRY_LGUEST_CS * 8
LGUEST_DS = ENTRY_LGUEST_DS * 8
KERNEL_CS = ENTRY_KERNEL_CS * 8 | GUEST_PL
KERNEL_DS = ENTRY_KERNEL_DS * 8 | GUEST_PL

FULL_CODE = pack_descriptor(0, 0xFFFFF, 0x9B, 0xC)
FULL_DATA = pack_descriptor(0, 0xFFFFF, 0x93, 0xC)
_DPL = 3 << DESC_DPL_SHIFT
_GUEST_DPL = GUEST_PL << DESC_DPL_SHIFT
_NOT_SYSTEM = 1 << 12
_TSS_LIMIT = 0x67
_TSS_AVAILABLE = 0x89

Descriptor: TypeAlias = tuple[int, int]


class Changed(IntFlag):
    """What must be copied to the CPU's tables before the Guest runs again."""

    IDT = 1
    GDT = 2
    GDT_TLS = 4
    ALL = 7


def boot_gdt() -> list[Descriptor]:
    """The table of a Guest that has not given one: flat code and data for its kernel."""
    gdt = [(0, 0)] * GDT_ENTRIES
    gdt[ENTRY_KERNEL_CS] = FULL_CODE[0], FULL_CODE[1] | _GUEST_DPL
    gdt[ENTRY_KERNEL_DS] = FULL_DATA[0], FULL_DATA[1] | _GUEST_DPL
    return gdt


def setup_registers(guest: Lguest, start: int) -> None:
    """Registers of a Guest about to run its first instruction at `start`; those not named stay zero."""
    regs = guest.regs
    regs.ds = regs.es = regs.ss = KERNEL_DS
    regs.cs = KERNEL_CS
    regs.eflags = Eflags.IF | Eflags.FIXED
    regs.eip = start


def setup_default_gdt_entries(memory: PhysicalMemory, gdt: int, tss: int) -> None:
    """Write the Host's entries into the table at host-physical `gdt`; `tss` is a linear address."""
    for index, (lo, hi) in (
        (ENTRY_LGUEST_CS, FULL_CODE),
        (ENTRY_LGUEST_DS, FULL_DATA),
        (ENTRY_TSS, pack_descriptor(tss, _TSS_LIMIT, _TSS_AVAILABLE, 0)),
    ):
        _write_descriptor(memory, gdt + index * 8, lo, hi)


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
    "GDT_ENTRIES",
    "GUEST_PL",
    "KERNEL_CS",
    "KERNEL_DS",
    "LGUEST_CS",
    "LGUEST_DS",
    "TLS_ENTRIES",
    "Changed",
    "Descriptor",
    "boot_gdt",
    "copy_gdt",
    "copy_gdt_tls",
    "load_guest_gdt",
    "load_guest_gdt_entry",
    "load_tls",
    "setup_default_gdt_entries",
    "setup_registers",
]
