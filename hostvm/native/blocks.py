"""The compiled part at work for one engine: what Python tells it, asks it, and must take note of after each run.

While it counts, the engine has no hook on every instruction; what costs then is a call for each block, in C. It does
not count while there are probes (hostvm/probes.py): these want to be told of single instructions, and `Cpu` goes back
to the engine's own counting for as long.
"""

from __future__ import annotations

import ctypes
from typing import Any, NamedTuple

from hostvm.delivery_plans import Key, Plan
from hostvm.engine_hooks import address_of
from hostvm.engine_layout import Layout, SegmentCache, SelfReader, find_next_block_flags
from hostvm.memory import PhysicalMemory
from hostvm.native import MOST_WORDS, CompiledPlan, Shared
from hostvm.x86 import PAGE_MASK, PAGE_SHIFT

_LINE = 64
_MOST_HEADER = 1024
_HOOK_RANGE = 24
NOWHERE = (1 << 64) - 1
_WITH_CODE = 24
_STEPS, _WHY, _STATUS = Shared.steps.offset // 8, Shared.why.offset // 8, Shared.status.offset // 8
_WRITTEN_COUNT = Shared.written_count.offset // 8


class EngineCalls(NamedTuple):
    """Addresses of the engine's functions; its numbers for EFLAGS, and for forgetting a block."""

    start: int
    stop: int
    read_register: int
    control: int
    eflags: int
    remove_block: int


class Callbacks(NamedTuple):
    """What stays Python's, as C functions.

    `interrupt` and `made` are the hooks for as long as the engine counts. `delivery` is called for an interrupt that
    has no plan, and `looked_at` for an instruction that Python must look at.
    """

    interrupt: Any
    made: Any
    delivery: Any
    looked_at: Any


class Hooks(NamedTuple):
    """Addresses of the compiled hooks; each is to be given `data`."""

    block: int
    made: int
    interrupt: int
    looked_at: int
    data: int


class Blocks:
    """Counting by blocks, for the engine with this handle and layout over `memory`."""

    def __init__(self, library: Any, handle: int, layout: Layout, memory: PhysicalMemory) -> None:
        self._library = library
        self._memory = memory
        self._shared = shared = Shared()
        self._reference = ctypes.byref(shared)
        self._run = library.lg_run
        # The same as 64-bit words, which cost less to reach.
        words = (ctypes.c_uint64 * (_WRITTEN_COUNT + 1)).from_buffer(shared)
        self._words = memoryview(words).cast("B").cast("Q")
        self.code_pages = (ctypes.c_uint8 * (memory.size >> PAGE_SHIFT))()
        shared.uc, shared.env = handle, layout.env
        shared.memory = ctypes.addressof(ctypes.c_char.from_buffer(memory.mapping))
        shared.memory_base, shared.memory_size = memory.base, memory.size
        shared.code_pages = ctypes.addressof(self.code_pages)
        shared.recent_blocks = layout.jump_cache
        shared.by_instruction = 1
        shared.looked_at = NOWHERE
        shared.plans = library.lg_new_plans()
        self.on = False
        """Whether it counts; otherwise the engine does."""

    def __del__(self) -> None:
        self._library.lg_free_plans(self._shared.plans)

    # ---- construction -------------------------------------------------------------------------

    def find(self, reader: SelfReader, layout: Layout, pc: int) -> bool:
        """Find what only the compiled part needs, by the block at `pc`, which has just run; False if it cannot."""
        flags = find_next_block_flags(reader, self._shared.uc, layout.jump_cache)
        block = layout.block_at(pc)
        if flags is None or block is None:
            return False
        header = block.code - ctypes.addressof(block)
        if not 0 < header <= _MOST_HEADER or block.code % _LINE:
            return False
        self._shared.next_block_flags = flags
        self._shared.block_header = header
        self._shared.first_page = block.pages[0] - (pc - self._memory.base & PAGE_MASK)
        return True

    def connect(self, calls: EngineCalls, callbacks: Callbacks) -> Hooks:
        """Tell it how to reach the engine and Python; returns the hooks for the engine."""
        shared = self._shared
        shared.start, shared.stop, shared.read_register, shared.control = calls[:4]
        shared.eflags_register, shared.remove_block = calls[4:]
        shared.python_interrupt = address_of(callbacks.interrupt)
        shared.python_block = address_of(callbacks.made)
        shared.python_delivery = address_of(callbacks.delivery)
        shared.python_suspect = address_of(callbacks.looked_at)
        names = ("lg_on_block", "lg_on_made", "lg_on_interrupt", "lg_on_suspect")
        block, made, interrupt, looked_at = (
            address_of(getattr(self._library, name)) for name in names
        )
        return Hooks(block, made, interrupt, looked_at, ctypes.addressof(shared))

    # ---- running ------------------------------------------------------------------------------

    def begin(self, hook: int) -> bool:
        """Count from now on. `hook` is that of `looked_at`, from NOWHERE to NOWHERE; False if it looks otherwise."""
        if (ctypes.c_uint64 * 2).from_address(hook + _HOOK_RANGE)[:] != [NOWHERE] * 2:
            return False
        self._shared.hook = hook
        self._shared.by_instruction = 0
        self.on = True
        return True

    def end(self) -> None:
        """Leave counting to the engine."""
        self._shared.by_instruction = 1
        self.on = False

    def run(self, budget: int) -> tuple[int, int, int]:
        """Run at most `budget` steps; returns how many were made, why it ended (`Why`), and the engine's error."""
        words = self._words
        self._run(self._reference, budget)
        if words[_WRITTEN_COUNT]:
            shared = self._shared
            self._memory.dirty.update(shared.written[: shared.written_count])
            shared.written_count = 0
        return words[_STEPS], words[_WHY], words[_STATUS]

    def begun(self, address: int) -> int:
        """Steps of the run under way, inside a hook of the instruction at a linear address; that one is included."""
        return int(self._library.lg_begun(self._reference, address))

    def leave(self, address: int) -> None:
        """The run is being stopped in the hook of the instruction at a linear address, and Python carries that out."""
        self._library.lg_leave(self._reference, address)

    # ---- deliveries ---------------------------------------------------------------------------

    def take_direct_traps(self, into: dict[int, int]) -> None:
        """Add the traps that went straight to a Guest since the last call: how many for each vector."""
        if self._shared.delivered:
            self._shared.delivered = 0
            counts = self._shared.direct_traps
            for vector, count in enumerate(counts):
                if count:
                    into[vector] = into.get(vector, 0) + count
                    counts[vector] = 0

    def learn(self, key: Key, plan: Plan) -> None:
        """A plan has been made for the state in which the processor is, but for what the delivery changed."""
        if len(plan.words) > MOST_WORDS:
            return
        compiled = CompiledPlan(
            word_count=len(plan.words),
            with_code=plan.pack.size == _WITH_CODE,
            frame=plan.frame,
            esp=plan.esp,
            eip=plan.eip,
            stack=_segment(*plan.stack_segment),
            code=_segment(*plan.code_segment),
            kept_flags=plan.kept_flags,
            hflags=plan.hflags,
        )
        for at, (index, value) in enumerate(plan.words):
            compiled.index[at], compiled.value[at] = index, value
        self._library.lg_learn(self._reference, key[0], ctypes.byref(compiled))


def _segment(selector: int, base: int, limit: int, flags: int) -> SegmentCache:
    return SegmentCache(selector=selector, base=base, limit=limit, flags=flags)


__all__ = ["NOWHERE", "Blocks", "Callbacks", "EngineCalls", "Hooks"]
