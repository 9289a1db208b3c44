"""Where everything is: the one map of the machine's physical memory and of the Host's address space.

Host-physical memory has two parts, one behind the other, and nothing below them: a Guest's physical address taken for
the machine's leads nowhere. First comes the Host area; behind it each Guest has one contiguous slice, so that a Guest's
physical address is its slice's base plus an offset.

    HOST_AREA + 0x00000   Host page directory
              + 0x01000   page table for HOST_BASE (this area's first 4 MiB)
              + 0x02000   page table for the Switcher, as the Host sees it
              + 0x03000   Host GDT, TSS and IDT
              + 0x04000   Host text (two pages)
              + 0x06000   Host stack
              + 0x07000   Switcher text
              + 0x08000   the CPU's two pages of `struct lguest_pages`
              + 0x0a000   the same three once more, for Guests of 2.6.23
              + 0x10000   a regs page for each Guest
              + 0x20000   a Switcher page table for each Guest
              + 0x30000   the FPU of each Guest that does not run
              + 0x40000   two pages for each Guest whose kernel has VMI hooks
              + 0x60000   pages that Guests share
              + 0x100000  pool for shadow pages, up to the end of the area

Host-virtual memory shows the beginning of the Host area at HOST_BASE. The Switcher has one virtual address that must
be the same on both sides of the switch, because CR3 changes while it runs:

    SWITCHER_BASE + 0x0000   text, read-only for the Guest
                  + 0x1000   regs page: the stack on which the Switcher leaves the Guest; writable for the Guest kernel
                  + 0x2000   state page: descriptor tables and TSS, read-only for the Guest
                  + 0x8000   for VMI: shims, read-only for the Guest; at its beginning nobody is interrupted
                  + 0x9000   for VMI: words that shims read

The regs page is the Guest's own in that Guest's tables, and the CPU's spare one in the Host's tables. The Switcher of
2.6.23, which has another order of registers, is there too if a Guest of that generation is: OLD_SWITCHER_BASE is as far
above SWITCHER_BASE as the other three pages need. Each Guest sees its own. Read next: switcher.py for what stands in
those pages. Source: lguest, drivers/lguest/core.c (map_switcher).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

from hostvm.errors import ConfigurationError
from hostvm.units import HostPhysical
from hostvm.x86 import PAGE_SIZE

MAX_GUESTS = 16
DEVICE_PAGES = 256
GUEST_SLICE_ALIGNMENT = 4 << 20

HOST_AREA = HostPhysical(0x10000000)
HOST_AREA_SIZE = 256 << 20
GUEST_AREA = HostPhysical(HOST_AREA + HOST_AREA_SIZE)
GUEST_AREA_SIZE = (1 << 32) - GUEST_AREA

HOST_PGDIR = HostPhysical(HOST_AREA + 0x0000)
HOST_PAGE_TABLE = HostPhysical(HOST_AREA + 0x1000)
HOST_SWITCHER_PAGE_TABLE = HostPhysical(HOST_AREA + 0x2000)
HOST_TABLES = HostPhysical(HOST_AREA + 0x3000)
HOST_TEXT = HostPhysical(HOST_AREA + 0x4000)
HOST_TEXT_SIZE = 2 * PAGE_SIZE
HOST_STACK = HostPhysical(HOST_AREA + 0x6000)
SWITCHER_TEXT = HostPhysical(HOST_AREA + 0x7000)
CPU_PAGES = HostPhysical(HOST_AREA + 0x8000)
CPU_STATE = HostPhysical(CPU_PAGES + PAGE_SIZE)
OLD_SWITCHER_TEXT = HostPhysical(HOST_AREA + 0xA000)
OLD_CPU_PAGES = HostPhysical(HOST_AREA + 0xB000)
GUEST_REGS = HostPhysical(HOST_AREA + 0x10000)
GUEST_SWITCHER_PAGE_TABLES = HostPhysical(HOST_AREA + 0x20000)
GUEST_FPU = HostPhysical(HOST_AREA + 0x30000)
GUEST_VMI = HostPhysical(HOST_AREA + 0x40000)
SHARED_PAGES = HostPhysical(HOST_AREA + 0x60000)
SHADOW_POOL = HostPhysical(HOST_AREA + 0x100000)
SHADOW_POOL_SIZE = HOST_AREA + HOST_AREA_SIZE - SHADOW_POOL

# Host-virtual addresses; plain integers, since no Guest ever uses them.
HOST_BASE = 0xC0000000
HOST_MAPPED_SIZE = CPU_PAGES - HOST_AREA
SWITCHER_BASE = 0xFFC00000
SWITCHER_SLOT = SWITCHER_BASE >> 22
LGUEST_PAGES = SWITCHER_BASE + PAGE_SIZE
LGUEST_STATE = LGUEST_PAGES + PAGE_SIZE
OLD_SWITCHER_BASE = SWITCHER_BASE + 8 * PAGE_SIZE
MAX_SHARED_PAGES = 16
VMI_TEXT = SWITCHER_BASE + 8 * PAGE_SIZE
VMI_DATA = VMI_TEXT + PAGE_SIZE


def host_virtual(address: HostPhysical) -> int:
    """Host-virtual address of something in the mapped beginning of the Host area."""
    assert HOST_AREA <= address < HOST_AREA + HOST_MAPPED_SIZE
    return address - HOST_AREA + HOST_BASE


def guest_regs_page(guest: int) -> HostPhysical:
    """The page that holds Guest number `guest`'s `struct lguest_regs` at its end."""
    assert 0 <= guest < MAX_GUESTS
    return HostPhysical(GUEST_REGS + guest * PAGE_SIZE)


def guest_switcher_page_table(guest: int) -> HostPhysical:
    """The page table for slot SWITCHER_SLOT of every shadow directory of Guest number `guest`."""
    assert 0 <= guest < MAX_GUESTS
    return HostPhysical(GUEST_SWITCHER_PAGE_TABLES + guest * PAGE_SIZE)


def guest_fpu_area(guest: int) -> HostPhysical:
    """Where Guest number `guest`'s FPU is kept while another Guest runs."""
    assert 0 <= guest < MAX_GUESTS
    return HostPhysical(GUEST_FPU + guest * PAGE_SIZE)


def shared_page(network: int) -> HostPhysical:
    """The page that the Guests on network number `network` share."""
    assert 0 <= network < MAX_SHARED_PAGES
    return HostPhysical(SHARED_PAGES + network * PAGE_SIZE)


def guest_vmi_pages(guest: int) -> HostPhysical:
    """The two pages that Guest number `guest` sees at VMI_TEXT and VMI_DATA, if its kernel has VMI hooks."""
    assert 0 <= guest < MAX_GUESTS
    return HostPhysical(GUEST_VMI + guest * 2 * PAGE_SIZE)


def guest_shadow_pool(guest: int) -> tuple[HostPhysical, int]:
    """Base and number of the pages from which Guest number `guest`'s shadow tables are made.

    The share does not depend on how many Guests there are, so that a Guest behaves alike alone and in company.
    """
    assert 0 <= guest < MAX_GUESTS
    pages = SHADOW_POOL_SIZE // PAGE_SIZE // MAX_GUESTS
    return HostPhysical(SHADOW_POOL + guest * pages * PAGE_SIZE), pages


def guest_slice_size(mem: int) -> int:
    """Host-physical bytes set aside for a Guest with `mem` bytes of memory, its device pages included."""
    needed = mem + DEVICE_PAGES * PAGE_SIZE
    return -(-needed // GUEST_SLICE_ALIGNMENT) * GUEST_SLICE_ALIGNMENT


def guest_bases(mems: Sequence[int]) -> tuple[HostPhysical, ...]:
    """Base of each Guest's slice, given each Guest's memory in bytes.

    Raises ConfigurationError when there are too many Guests or they do not fit.
    """
    if len(mems) > MAX_GUESTS:
        raise ConfigurationError(f"{len(mems)} Guests asked for; the machine holds {MAX_GUESTS}")
    ends = list(accumulate((guest_slice_size(mem) for mem in mems), initial=0))
    if ends[-1] > GUEST_AREA_SIZE:
        raise ConfigurationError(
            f"the Guests need {ends[-1] >> 20} MiB; the machine has {GUEST_AREA_SIZE >> 20} MiB"
        )
    return tuple(HostPhysical(GUEST_AREA + end) for end in ends[:-1])


__all__ = [
    "CPU_PAGES",
    "CPU_STATE",
    "DEVICE_PAGES",
    "GUEST_AREA",
    "GUEST_AREA_SIZE",
    "GUEST_REGS",
    "GUEST_SLICE_ALIGNMENT",
    "GUEST_SWITCHER_PAGE_TABLES",
    "HOST_AREA",
    "HOST_AREA_SIZE",
    "HOST_BASE",
    "HOST_MAPPED_SIZE",
    "HOST_PAGE_TABLE",
    "HOST_PGDIR",
    "HOST_STACK",
    "HOST_SWITCHER_PAGE_TABLE",
    "HOST_TABLES",
    "HOST_TEXT",
    "HOST_TEXT_SIZE",
    "LGUEST_PAGES",
    "LGUEST_STATE",
    "MAX_GUESTS",
    "MAX_SHARED_PAGES",
    "OLD_CPU_PAGES",
    "OLD_SWITCHER_BASE",
    "OLD_SWITCHER_TEXT",
    "SHADOW_POOL",
    "SHADOW_POOL_SIZE",
    "SHARED_PAGES",
    "SWITCHER_BASE",
    "SWITCHER_SLOT",
    "SWITCHER_TEXT",
    "VMI_DATA",
    "VMI_TEXT",
    "guest_bases",
    "guest_regs_page",
    "guest_shadow_pool",
    "guest_slice_size",
    "guest_switcher_page_table",
    "guest_vmi_pages",
    "host_virtual",
    "shared_page",
]
