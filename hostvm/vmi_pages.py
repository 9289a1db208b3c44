"""The two pages that the Host shows to a kernel with VMI hooks: shims, and words that shims read.

They lie in the Switcher's part of the address space, which the Guest leaves alone and which is in each of its shadow
directories. The Guest can execute and read them, and not write: so the words are as much the Host's own as its
structures are, and what the Host must remember of the processor that it pretends to be - three model-specific
registers - is kept there and nowhere else. They are two pages because code on a page that is written has to be
translated again.

Read next: vmi_shims.py, vmi.py.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from hostvm.host_tables import CR0
from hostvm.memory import PhysicalMemory
from hostvm.memory_map import SWITCHER_BASE, VMI_TEXT
from hostvm.units import HostPhysical
from hostvm.vmi_shims import Shims, Word
from hostvm.x86 import PAGE_SHIFT, PAGE_SIZE, Cr0, Pte

_SEEN = int(Pte.P | Pte.A)
_FIRST_ENTRY = VMI_TEXT - SWITCHER_BASE >> PAGE_SHIFT


@dataclass(frozen=True, slots=True)
class VmiPages:
    """The pages of one Guest, the first of them at host-physical `pages`, and what is on them."""

    shims: Shims
    memory: PhysicalMemory
    pages: HostPhysical

    def set_up(self, switcher_page_table: HostPhysical) -> None:
        """Fill both pages, and show them."""
        self.memory.write(self.pages, self.shims.text.ljust(2 * PAGE_SIZE, b"\0"))
        data = self.pages + PAGE_SIZE
        entries = struct.pack("<II", self.pages | _SEEN, data | _SEEN)
        self.memory.write(switcher_page_table + 4 * _FIRST_ENTRY, entries)
        self.show_cr0(task_switched=False)

    def __getitem__(self, word: Word) -> int:
        return self.memory.read_u32(self.pages + PAGE_SIZE + word)

    def __setitem__(self, word: Word, value: int) -> None:
        self.memory.write_u32(self.pages + PAGE_SIZE + word, value)

    def show_cr0(self, *, task_switched: bool) -> None:
        """Let the kernel see the Host's CR0, with the one bit in it that is the kernel's."""
        self[Word.CR0] = CR0 | (Cr0.TS if task_switched else 0)


__all__ = ["VmiPages"]
