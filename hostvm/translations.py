"""What the engine has translated: noticed when it is made, dropped when it no longer holds.

The engine tells of each block that it translates, before it runs. Then is the time (i) to note the pages on which it
lies: when Python writes to such a page (a device, the Host, a delivery), all translations go, since the engine sees
only its own stores; (ii) to look for instructions that it gets wrong (engine_gaps.py) and put a hook in front of each,
with which the block must be translated once more; (iii) to recognise a block that executes a store for the second time
(number (iv) of cpu.py). Read next: gap_filler.py.
"""

from __future__ import annotations

import ctypes
from typing import Any

from hostvm.cpu_state import HF_CPL
from hostvm.engine import ON_CODE, Engine
from hostvm.engine_gaps import IRET, GapFinder
from hostvm.engine_hooks import MADE
from hostvm.engine_layout import FLAGS_ARE_EXPLICIT
from hostvm.engine_stop import EngineStop, Why, guarded
from hostvm.gap_filler import GapFiller
from hostvm.memory import PhysicalMemory
from hostvm.paging import peek
from hostvm.x86 import PAGE_SHIFT, PAGE_SIZE


class Translations:
    """The translations of one engine over `memory`. `code_pages` has a byte for each page: whether code lies on it."""

    def __init__(
        self, engine: Engine, stopping: EngineStop, filler: GapFiller, code_pages: Any
    ) -> None:
        self.engine = engine
        self.memory: PhysicalMemory = engine.memory
        self.stopping = stopping
        self._filler = filler
        self._code_pages = code_pages
        self._has_code = memoryview(code_pages).cast("B")
        self._gaps = GapFinder()
        self._hooked: dict[int, int] = {}
        self.repeated = 0
        """Steps that the engine has counted twice since this was last cleared."""
        self.stale = False
        """Whether all must go as soon as the engine has come back."""
        self.flushed = True
        """Whether all have gone since this was last cleared."""
        self.made_callback = MADE(self._on_made)

    def flush(self) -> None:
        """Drop all."""
        self.engine.flush_code()
        self.flushed = True
        ctypes.memset(self._code_pages, 0, len(self._code_pages))

    def flush_stale(self) -> None:
        """Drop all, which has been put off."""
        self.stale = False
        self.flush()

    def forget_changed(self) -> None:
        """Drop translations when Python wrote to a page that holds translated code."""
        written, has_code = self.memory.written, self._has_code
        first = self.memory.base >> PAGE_SHIFT
        for page in written:
            if has_code[page - first]:
                self.flush()
                break
        written.clear()

    def remove_hooks(self) -> None:
        """Forget all gaps; they are found again. What was translated with them must go."""
        for hook in self._hooked.values():
            self.engine.hooks.remove(hook)
        self._hooked.clear()

    @guarded
    def _on_made(self, _uc: int, block: Any, _before: Any, _data: int) -> None:
        made = block[0]
        pc, size = made.pc, made.size
        if made.icount == 1 and self.engine.layout.is_restart(pc):
            self.engine.env.cc_op = FLAGS_ARE_EXPLICIT
            self.repeated += 1
            self.engine.budget.value = self.engine.counter.value + 1
            self.stale = True
        if self._hook_gaps(pc, self._code_of(pc, size)):
            self.stale = True
            self.stopping.stop(Why.NEW_HOOK)

    def _hook_gaps(self, pc: int, code: bytes) -> bool:
        """Put hooks in front of the gaps in a block; whether there are any that had none."""
        if not self.engine.env.hflags & HF_CPL:
            # There IRET may go where it likes.
            code = code.removesuffix(IRET)
        new = [address for address in self._gaps.find(pc, code) if address not in self._hooked]
        for address in new:
            is_iret = code[address - pc :] == IRET
            callback = self._filler.iret_callback if is_iret else self._filler.gap_callback
            self._hooked[address] = self.engine.hooks.add(ON_CODE, callback, address, address)
        return bool(new)

    def _code_of(self, pc: int, size: int) -> bytes:
        """The bytes of a block; notes the pages on which they lie."""
        space, memory = self.engine.address_space(), self.memory
        physical = peek(memory, space, pc)
        if physical is not None:
            self._note_code(physical)
            on_one_page = (pc & PAGE_SIZE - 1) + size <= PAGE_SIZE
            if on_one_page and memory.base <= physical < memory.base + memory.size:
                return memory.read(physical, size)
        physical = peek(memory, space, pc + size - 1 & 0xFFFFFFFF)
        if physical is not None:
            self._note_code(physical)
        return self.engine.read_linear(pc, size)

    def _note_code(self, physical: int) -> None:
        page = physical - self.memory.base >> PAGE_SHIFT
        if 0 <= page < len(self._code_pages):
            self._code_pages[page] = 1


__all__ = ["Translations"]
