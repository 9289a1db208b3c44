"""lguest as a module of the Host's kernel: what it takes when it is loaded, and gives back when that fails or it goes.

Loading is a row of steps, each of which needs something of the kernel that the kernel may not have: an array, three
zeroed pages, one address that must be free, page tables to map it, a page more, a device. Whatever fails, all that was
taken before is given back, the last thing first, and the kernel's error comes out. Unloading is the same without a
failure. `HostKernel` is what there is to be had: a kernel that is short of something makes a step fail. Each step
leaves with the caller what undoes it.

The first step is a question: lguest plays with descriptor tables and page tables as if the processor were its own, so
it refuses to be loaded by a kernel that runs under another hypervisor, itself included.

One thing is done that upstream forgets: the array of pages is given back on unloading too.

Source: lguest, drivers/lguest/core.c (init, fini, map_switcher). Read next: switcher.py, for what goes into the pages.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from enum import IntEnum

from hostvm.errors import HostvmError
from hostvm.memory import PhysicalMemory
from hostvm.memory_map import (
    CPU_PAGES,
    CPU_STATE,
    HOST_PGDIR,
    HOST_SWITCHER_PAGE_TABLE,
    SWITCHER_BASE,
    SWITCHER_SLOT,
    SWITCHER_TEXT,
)
from hostvm.switcher import Switcher, map_switcher, set_up_switcher, switcher_pte_page
from hostvm.units import HostPhysical
from hostvm.x86 import PAGE_SIZE, Cr4

SWITCHER_PAGES = (SWITCHER_TEXT, HostPhysical(CPU_PAGES), CPU_STATE)
SWITCHER_SIZE = len(SWITCHER_PAGES) * PAGE_SIZE
PAGE_TABLES_PER_CPU = 1
DEVICE = "lguest"
_ZEROES = bytes(PAGE_SIZE)


class Errno(IntEnum):
    """Errors of the kernel that come up here, with Linux's numbers."""

    EPERM = 1
    ENOENT = 2
    EAGAIN = 11
    ENOMEM = 12
    EFAULT = 14
    EBUSY = 16
    EEXIST = 17
    EINVAL = 22
    ERESTART = 85


class ModuleRefused(HostvmError):
    """The module could not be loaded; `error` is what `init` returned, as a positive number."""

    def __init__(self, error: Errno) -> None:
        super().__init__(error)
        self.error = error

    def __str__(self) -> str:
        return f"lguest cannot be loaded: -{self.error.name}"


@dataclass
class HostKernel:
    """What the Host's kernel has for a module.

    `paravirt` is the name of what it runs under, empty on a processor of its own. `free_pages` is how many it can
    still give, `can_allocate` whether small things are to be had. `areas` are the (start, size) of virtual addresses
    that are taken. `map_error` and `device_error` are what mapping and registering end with, if not well. `log` is
    what it has printed. `cr4` and `features_pge`: whether pages of its own are global, and whether it believes so.
    """

    memory: PhysicalMemory
    paravirt: str = ""
    free_pages: int = 1 << 16
    can_allocate: bool = True
    areas: list[tuple[int, int]] = field(default_factory=list)
    map_error: Errno | None = None
    device_error: Errno | None = None
    cr4: int = int(Cr4.OSFXSR | Cr4.OSXMMEXCPT | Cr4.PGE)
    features_pge: bool = True
    devices: set[str] = field(default_factory=set)
    allocated: list[str] = field(default_factory=list)
    log: list[str] = field(default_factory=list)

    def small(self, name: str, undo: ExitStack) -> None:
        """A piece of memory for the kernel's own use."""
        if not self.can_allocate:
            raise ModuleRefused(Errno.ENOMEM)
        self.allocated.append(name)
        undo.callback(self.allocated.remove, name)

    def zeroed_page(self, name: str, undo: ExitStack, place: HostPhysical | None = None) -> None:
        """A page of zeroes; where it is matters if it is one of the Switcher's."""
        if not self.free_pages:
            raise ModuleRefused(Errno.ENOMEM)
        self.free_pages -= 1
        undo.callback(self._free_page, name)
        self.allocated.append(name)
        if place is not None:
            self.memory.write(place, _ZEROES)
            undo.callback(self.memory.write, place, _ZEROES)

    def _free_page(self, name: str) -> None:
        self.allocated.remove(name)
        self.free_pages += 1

    def area(self, start: int, size: int, undo: ExitStack) -> None:
        """Virtual addresses, if they are nobody's."""
        if any(start < at + its and at < start + size for at, its in self.areas):
            self.log.append("lguest: could not map switcher pages high")
            raise ModuleRefused(Errno.ENOMEM)
        self.areas.append((start, size))
        undo.callback(self.areas.remove, (start, size))

    def mapping(self, undo: ExitStack) -> None:
        """The Switcher's pages at the Switcher's address."""
        if self.map_error is not None:
            self.log.append(f"lguest: map_vm_area failed: -{self.map_error.value}")
            raise ModuleRefused(self.map_error)
        table = switcher_pte_page(CPU_PAGES, state_writable=True)
        self.memory.write(HOST_SWITCHER_PAGE_TABLE, table)
        undo.callback(self.memory.write, HOST_SWITCHER_PAGE_TABLE, _ZEROES)
        map_switcher(self.memory, HOST_PGDIR, HOST_SWITCHER_PAGE_TABLE)
        undo.callback(self.memory.write_u32, HOST_PGDIR + 4 * SWITCHER_SLOT, 0)

    def device(self, name: str, undo: ExitStack) -> None:
        """A device file for programs."""
        if self.device_error is not None or name in self.devices:
            raise ModuleRefused(self.device_error or Errno.EBUSY)
        self.devices.add(name)
        undo.callback(self.devices.remove, name)

    def no_global_pages(self, undo: ExitStack) -> None:
        """Global pages off: their translations would outlive the change to a Guest's tables."""
        if self.features_pge:
            undo.callback(self._global_pages_again)
        self.cr4 &= ~int(Cr4.PGE)
        self.features_pge = False

    def _global_pages_again(self) -> None:
        self.features_pge = True
        self.cr4 |= Cr4.PGE


class LguestModule:
    """The module, before and after. `load` raises ModuleRefused, and then nothing has changed but the log."""

    def __init__(self, kernel: HostKernel) -> None:
        self.kernel = kernel
        self._taken = ExitStack()

    def load(self, switcher: Switcher, gdt: tuple[int, int], idt: tuple[int, int]) -> None:
        """Load: the Switcher at its place, and all else. `gdt` and `idt` are the Host's tables, address and size."""
        kernel = self.kernel
        if kernel.paravirt:
            kernel.log.append(f"lguest is afraid of {kernel.paravirt}")
            raise ModuleRefused(Errno.EPERM)
        with ExitStack() as taken:
            kernel.small("switcher_page", taken)
            for number, page in enumerate(SWITCHER_PAGES):
                kernel.zeroed_page(f"switcher page {number}", taken, page)
            kernel.area(SWITCHER_BASE, SWITCHER_SIZE, taken)
            kernel.mapping(taken)
            set_up_switcher(kernel.memory, switcher, gdt, idt)
            kernel.log.append(f"lguest: mapped switcher at {SWITCHER_BASE:08x}")
            for number in range(PAGE_TABLES_PER_CPU):
                kernel.zeroed_page(f"switcher page table {number}", taken)
            kernel.device(DEVICE, taken)
            kernel.no_global_pages(taken)
            self._taken = taken.pop_all()

    def unload(self) -> None:
        """Give everything back."""
        self._taken.close()


__all__ = ["DEVICE", "SWITCHER_SIZE", "Errno", "HostKernel", "LguestModule", "ModuleRefused"]
