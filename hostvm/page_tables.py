"""Shadow page tables: what the emulated CPU really walks while a Guest runs.

The Guest keeps page tables, but their frame numbers are guest-physical and nothing in them can be trusted. So the Host
keeps tables of its own in host-physical memory, in the hardware's format, and fills them one page at a time as the
Guest faults:

(i) looking up the Guest's entry when it faults (`demand_page`), which also sets A and D in the Guest's entry as a CPU
    would: a page that was only read is mapped read-only, so that the first write comes here again;
(ii) making sure that the kernel stack is mapped (`pin_page`): a direct trap pushes on it with nobody to ask;
(iii) being told that an entry changed (`set_pte`, `set_pgd`);
(iv) switching tables (`new_pagetable`): four shadows are kept, a random one makes room, and its kernel part stays,
    since that part is taken to be the same in all;
(v) throwing mappings away (`flush_user`, `release_all`).

Until the Guest gives its first table, generations from 3.2 on run it "linear": every page at its own address.

The engine's rule: every entry is installed with A set. The translator reads ahead of execution, so A would be set at a
time that depends on how a run is cut. D is the CPU's to set, on a store, which happens at one tick.

The last slot of each root holds the Switcher's page table from the beginning and is never released.

From 4.1 on there are addresses behind a Guest's memory where devices are. No such page is ever mapped: touching it
faults, and `iomem` then says what was touched.

Somebody who takes snapshots wants to know of pages written; while `lost_dirty` is a set, the frames of entries with D
that are thrown away go there (dirty_pages.py).

About TLBs: all of this happens while the Host's CR3 is loaded. The Switcher loads CR3 on the way in and G is stripped
from every entry, so by the Guest's next instruction no older translation is left. `tlb_dirty` says that entries
changed, for whoever continues the Guest without passing the Switcher.

Source: lguest, drivers/lguest/page_tables.c; Intel SDM 3A 4.3. Read next: page_pool.py; hypercalls.py, which calls.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from struct import unpack

from hostvm.abi import Abi, Translation
from hostvm.errors import ConfigurationError, GuestKilled
from hostvm.memory import BoundedMemory
from hostvm.page_pool import PagePool
from hostvm.quirks import UPSTREAM, Quirk
from hostvm.units import HostPhysical
from hostvm.x86 import PAGE_MASK, PAGE_SHIFT, PAGE_SIZE, WORD_MASK, PageFault, Pte

ROOTS = 4
ENTRIES = 1024
SWITCHER_SLOT = ENTRIES - 1

# Plain integers: an IntFlag operation costs more than the rest of a page fault.
_P, _RW, _US, _A, _D = int(Pte.P), int(Pte.RW), int(Pte.US), int(Pte.A), int(Pte.D)
_PSE = int(Pte.PSE)
_TABLE_FLAGS = _P | _RW | _US | _A | _D
_FLAGS_WITHOUT_G = 0xFFF & ~int(Pte.G)
_NOT_RW = WORD_MASK & ~_RW
_P_AND_D = _P | _D
_WRITE, _USER = int(PageFault.WRITE), int(PageFault.USER)


@dataclass(frozen=True, slots=True)
class TablesState:
    """Everything about the shadow tables but the pages themselves, which are part of memory."""

    roots: tuple[int, ...]
    shadowed: tuple[int, ...]
    current: int
    linear: bool
    kernel_address: int
    pool: tuple[int, ...]


class ShadowPageTables:
    """The shadow tables of one Guest.

    `roots` are host-physical addresses of page directories, 0 for one never used; `shadowed` are the guest-physical
    addresses that the Guest knows them by. `choose(bound)` is the World's random choice. `first_pgdir` is where the
    Launcher put the Guest's first tables, and `kernel_address` what it says of where the kernel begins, in generations
    where it does.
    """

    __slots__ = (
        "_checks_directory_always",
        "_checks_switcher_first",
        "_forbidden_gpte",
        "_guest_pa_walks",
        "_reflects_switcher",
        "_switcher_address",
        "choose",
        "current",
        "iomem",
        "kernel_address",
        "linear",
        "lost_dirty",
        "memory",
        "physical",
        "pool",
        "roots",
        "set_pte_skips_dirty",
        "shadowed",
        "switcher_entry",
        "tlb_dirty",
    )

    def __init__(
        self,
        abi: Abi,
        memory: BoundedMemory,
        pool: PagePool,
        switcher_page_table: HostPhysical,
        choose: Callable[[int], int],
        first_pgdir: int = 0,
        quirks: Quirk = UPSTREAM,
        kernel_address: int = 0,
    ) -> None:
        self.memory = memory
        self.iomem: int | None = None
        self.pool = pool
        self.physical = pool.physical
        self.choose = choose
        self.switcher_entry = switcher_page_table | _P | _RW | _A
        self.set_pte_skips_dirty = Quirk.SET_PTE_SKIPS_DIRTY in quirks
        self._checks_directory_always = abi.checks_directory_always
        self._checks_switcher_first = abi.checks_switcher_first
        self._forbidden_gpte = int(abi.forbidden_gpte)
        self._guest_pa_walks = abi.guest_pa_walks
        corrected = Quirk.SWITCHER_ADDRESS_KILLS not in quirks
        self._reflects_switcher = abi.checks_switcher_first or corrected
        self._switcher_address = abi.switcher_address
        self.roots = [0] * ROOTS
        self.shadowed = [0] * ROOTS
        self.kernel_address = kernel_address
        self.linear = abi.translation is Translation.LINEAR
        self.tlb_dirty = True
        self.lost_dirty: set[int] | None = None
        self.current = choose(ROOTS) if abi.first_root_is_chosen else 0
        self.roots[self.current] = self._blank_root()
        self.shadowed[self.current] = first_pgdir
        if not self.roots[self.current]:
            raise ConfigurationError("no memory for the Guest's first page directory")

    @property
    def root(self) -> int:
        """What CR3 must hold while the Guest runs."""
        return self.roots[self.current]

    def state(self) -> TablesState:
        """The part of the machine's state that is here."""
        return TablesState(
            tuple(self.roots),
            tuple(self.shadowed),
            self.current,
            self.linear,
            self.kernel_address,
            self.pool.state(),
        )

    def restore(self, state: TablesState) -> None:
        """Be as in `state`; the shadow pages themselves are restored with memory."""
        self.roots = list(state.roots)
        self.shadowed = list(state.shadowed)
        self.current = state.current
        self.linear = state.linear
        self.kernel_address = state.kernel_address
        self.pool.restore(state.pool)
        self.tlb_dirty = True

    # (i) Looking up an entry when the Guest faults.

    def demand_page(self, vaddr: int, error_code: int) -> bool:
        """Map the page that the Guest touched if its own tables allow it; False if the Guest must see the fault.

        Or if a device must: then `iomem` is the guest-physical address, and None otherwise.
        """
        self.iomem = None
        if self._reflects_switcher and vaddr >= self._switcher_address:
            return False
        memory = self.memory
        linear = self.linear
        if linear:
            gpgd = _TABLE_FLAGS
        else:
            gpgd = memory.read_u32(self._gpgd_address(vaddr))
            if not gpgd & _P:
                return False
            if self._checks_directory_always:
                self._check_gpgd(gpgd)
        page = self._shadow_page(vaddr, gpgd)
        entry_offset = vaddr >> 10 & 0xFFC
        gpte_address = (gpgd & PAGE_MASK) + entry_offset
        gpte = (vaddr & PAGE_MASK) | _P | _RW if linear else memory.read_u32(gpte_address)
        wanted = _P
        if error_code & _WRITE:
            wanted |= _RW
        if error_code & _USER:
            wanted |= _US
        if gpte & wanted != wanted:
            return False
        if self._in_iomem(gpte):
            self.iomem = (gpte & PAGE_MASK) | (vaddr & PAGE_SIZE - 1)
            return False
        self._check_gpte(gpte)
        marked = gpte | _A | _D if error_code & _WRITE else gpte | _A
        self._install(page + entry_offset, marked if marked & _D else marked & _NOT_RW)
        if marked != gpte and not linear:
            memory.write_u32(gpte_address, marked)
        return True

    def _gpgd_address(self, vaddr: int) -> int:
        return self.shadowed[self.current] + (vaddr >> 20 & 0xFFC) & WORD_MASK

    def _shadow_page(self, vaddr: int, gpgd: int) -> int:
        # The shadow's page of entries for vaddr; a new one takes the flags of the Guest's directory entry.
        slot = self._slot(self.roots[self.current], vaddr)
        entry = self.physical.read_u32(slot)
        if entry & _P:
            return entry & PAGE_MASK
        page = self.pool.allocate()
        if page is None:
            raise GuestKilled("out of memory allocating pte page")
        self._check_gpgd(gpgd)
        self.physical.write_u32(slot, page | (gpgd & 0xFFF) | _A)
        return page

    def _slot(self, root: int, vaddr: int) -> int:
        # Where a root's entry for vaddr lies: the one place where a Guest meets the Switcher's border.
        if vaddr >= self._switcher_address:
            raise GuestKilled("attempt to access switcher pages")
        return root + (vaddr >> 20 & 0xFFC)

    def _install(self, entry_address: int, gpte: int) -> None:
        frame = self.memory.host_address(gpte & PAGE_MASK)
        if self.lost_dirty is not None:
            self._note_lost(entry_address)
        self.physical.write_u32(entry_address, frame | (gpte & _FLAGS_WITHOUT_G) | _A)
        self.tlb_dirty = True

    def _note_lost(self, entry_address: int) -> None:
        # An entry is about to be overwritten: a store that only it knows of must not be forgotten.
        assert self.lost_dirty is not None
        entry = self.physical.read_u32(entry_address)
        if entry & _P and entry & _D:
            self.lost_dirty.add(entry >> 12)

    def _check_gpgd(self, gpgd: int) -> None:
        if gpgd & 0xFFF & ~_TABLE_FLAGS or gpgd >> 12 >= self.memory.pfn_limit:
            raise GuestKilled("bad page directory entry")

    def _in_iomem(self, gpte: int) -> bool:
        memory = self.memory
        return memory.pfn_limit <= gpte >> 12 < memory.device_limit and not gpte & _PSE

    def _check_gpte(self, gpte: int) -> None:
        if gpte & self._forbidden_gpte or gpte >> 12 >= self.memory.pfn_limit:
            raise GuestKilled("bad page table entry")

    def guest_pa(self, vaddr: int) -> int:
        """Guest-physical address of a Guest's virtual one, by the Guest's own tables."""
        found = self.find_guest_pa(vaddr)
        if found is None:
            raise GuestKilled(f"Bad address {vaddr:#x}")
        return found

    def find_guest_pa(self, vaddr: int) -> int | None:
        """The same, and None where there is nothing."""
        if self.linear:
            return vaddr
        if not self._guest_pa_walks:
            return vaddr - self.kernel_address & WORD_MASK
        gpgd = self.memory.read_u32(self._gpgd_address(vaddr))
        if gpgd & _P:
            gpte = self.memory.read_u32((gpgd & PAGE_MASK) + (vaddr >> 10 & 0xFFC))
            if gpte & _P:
                return (gpte & PAGE_MASK) | (vaddr & PAGE_SIZE - 1)
        return None

    # (ii) Making sure that a stack page is mapped.

    def pin_page(self, vaddr: int) -> None:
        """Have `vaddr` mapped writable."""
        if not self._page_writable(vaddr) and not self.demand_page(vaddr, _WRITE):
            raise GuestKilled(f"bad stack page {vaddr:#x}")

    def _page_writable(self, vaddr: int) -> bool:
        if self._reflects_switcher and vaddr >= self._switcher_address:
            return False
        directory = self.physical.read_u32(self._slot(self.roots[self.current], vaddr))
        if not directory & _P:
            return False
        entry = self.physical.read_u32((directory & PAGE_MASK) + (vaddr >> 10 & 0xFFC))
        return entry & (_P | _RW) == _P | _RW

    # (iii) Being told that an entry changed.

    def set_pte(self, gpgdir: int, vaddr: int, gpte: int) -> None:
        """The Guest's entry for `vaddr` is now `gpte`: in all tables for kernel addresses, else in `gpgdir`."""
        if self._checks_switcher_first and vaddr >= self._switcher_address:
            raise GuestKilled("attempt to set pte into Switcher pages")
        if vaddr >= self.kernel_address:
            for root in self.roots:
                if root:
                    self._set_shadow_pte(root, vaddr, gpte)
        else:
            index = self._find(gpgdir)
            if index is not None:
                self._set_shadow_pte(self.roots[index], vaddr, gpte)

    def _set_shadow_pte(self, root: int, vaddr: int, gpte: int) -> None:
        directory = self.physical.read_u32(self._slot(root, vaddr))
        if not directory & _P:
            return
        entry_address = (directory & PAGE_MASK) + (vaddr >> 10 & 0xFFC)
        if not gpte & (_D | _A) or self._in_iomem(gpte):
            if self.lost_dirty is not None:
                self._note_lost(entry_address)
            self.physical.write_u32(entry_address, 0)
            self.tlb_dirty = True
            return
        self._check_gpte(gpte)
        dirty = gpte & _D or self.set_pte_skips_dirty
        self._install(entry_address, gpte if dirty else gpte & _NOT_RW)

    def set_pgd(self, gpgdir: int, index: int) -> None:
        """The Guest's directory entry `index` of `gpgdir` changed: forget what it mapped."""
        if self._checks_switcher_first and index > ENTRIES:
            raise GuestKilled(f"Attempt to set pgd {index}/{ENTRIES}")
        if index >= SWITCHER_SLOT:
            return
        found = self._find(gpgdir)
        if found is not None:
            self._release(self.roots[found], index)

    # (iv) Switching tables.

    def new_pagetable(self, gpgdir: int) -> bool:
        """The Guest switches to the tables at `gpgdir`; True if the stack must be pinned in a blank shadow."""
        index = None
        if self.linear:
            self.release_all()
            self.linear = False
        else:
            index = self._find(gpgdir)
        blank = False
        if index is None:
            index, blank = self._make_room(gpgdir)
        self.current = index
        self.tlb_dirty = True
        return blank

    def _find(self, gpgdir: int) -> int | None:
        for index in range(ROOTS):
            if self.shadowed[index] == gpgdir and self.roots[index]:
                return index
        return None

    def _make_room(self, gpgdir: int) -> tuple[int, bool]:
        index = self.choose(ROOTS)
        blank = False
        if not self.roots[index]:
            self.roots[index] = self._blank_root()
            blank = bool(self.roots[index])
            if not blank:
                index = self.current
        self.shadowed[index] = gpgdir
        self._flush_user(self.roots[index])
        return index, blank

    def _blank_root(self) -> int:
        page = self.pool.allocate()
        if page is None:
            return 0
        self.physical.write_u32(page + SWITCHER_SLOT * 4, self.switcher_entry)
        return page

    # (v) Throwing mappings away.

    def flush_user(self) -> None:
        """Forget everything below the kernel's address in the current shadow."""
        self._flush_user(self.roots[self.current])

    def release_all(self) -> None:
        """Forget everything in every shadow but the Switcher."""
        for root in self.roots:
            if root:
                self._release_range(root, SWITCHER_SLOT)

    def _flush_user(self, root: int) -> None:
        self._release_range(root, self.kernel_address >> 22)

    def _release_range(self, root: int, count: int) -> None:
        directory = self.physical.read(root, count * 4)
        if directory.count(0) == len(directory):
            return
        for index, entry in enumerate(unpack(f"<{count}I", directory)):
            if entry & _P:
                self._release(root, index)

    def _release(self, root: int, index: int) -> None:
        entry = self.physical.read_u32(root + index * 4)
        if entry & _P:
            if self.lost_dirty is not None:
                table = self.physical.read(entry & PAGE_MASK, PAGE_SIZE)
                self.lost_dirty |= dirty_frames(table)
                self.lost_dirty.add(entry >> 12)
            self.pool.free(entry & PAGE_MASK)
            self.physical.write_u32(root + index * 4, 0)
            self.tlb_dirty = True

    def set_kernel_address(self, address: int) -> None:
        """Where the part begins that all of the Guest's tables share."""
        if address >= self._switcher_address:
            raise GuestKilled(f"bad kernel address {address:#x}")
        self.kernel_address = address


def dirty_frames(table: bytes) -> set[int]:
    """Page frames that a page table's entries say were written."""
    entries = unpack(f"<{ENTRIES}I", table)
    return {entry >> PAGE_SHIFT for entry in entries if entry & _P_AND_D == _P_AND_D}


__all__ = ["ROOTS", "SWITCHER_SLOT", "ShadowPageTables", "TablesState", "dirty_frames"]
