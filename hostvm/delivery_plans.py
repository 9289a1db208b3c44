"""The usual way into a handler, remembered: a delivery that changes rings, done again by comparing a dozen words.

Almost all deliveries are like one before: the same vector from the same ring through the same tables, onto the stack
that the TSS names. Then nothing needs to be looked up again. A `Plan` holds every word of memory that the delivery
depended on - the gate, both descriptors, the stack in the TSS, and the page table entries that lead to them and to
that stack - with the value that it had, and what came of them. If all those words still hold these values, what the
long way would do is known. If one does not, the long way is gone, and leaves a new plan.

So a plan is never wrong, only out of date: it is keyed by all that a delivery takes from registers (table registers,
CR0, CR3, CR4, ring, vector, source), and it changes nothing in memory but the frame, since all the Accessed and Dirty
bits on the way were set when the words were noted.

Read next: delivery.py, which is the long way.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Sequence
from struct import Struct
from typing import NamedTuple

from hostvm.cpu_state import CS, DS, ES, ESP, HF_CPL, SS, hflags_of
from hostvm.engine_layout import Env, SegmentCache
from hostvm.memory import PhysicalMemory
from hostvm.x86 import PAGE_MASK, PAGE_SIZE, Cr0, Eflags, Pte

_MOST_PLANS = 512
_WORD = 0xFFFFFFFF
_P, _PSE, _PG = int(Pte.P), int(Pte.PSE), int(Cr0.PG)
_FLAGS_IN_HFLAGS = int(Eflags.IOPL | Eflags.AC)
_BIG = 1 << 22
_FRAME, _FRAME_WITH_CODE = Struct("<5I"), Struct("<6I")

Key = tuple[int, bytes, bytes]
_Segment = tuple[int, int, int, int]


class Plan(NamedTuple):
    """What a delivery does while each of `words`, (index in memory, value), is as it was.

    `hflags` is without what EFLAGS adds to it, and for flat DS and ES.
    """

    words: tuple[tuple[int, int], ...]
    frame: int
    pack: Struct
    esp: int
    stack_segment: _Segment
    code_segment: _Segment
    eip: int
    kept_flags: int
    hflags: int


class Plans:
    """The plans of one processor, whose tables are in `memory`. `listener` is told of each that is made."""

    def __init__(self, env: Env, memory: PhysicalMemory) -> None:
        self._env = env
        self._memory = memory
        self._plans: dict[Key, Plan] = {}
        self.listener: Callable[[Key, Plan], None] | None = None
        # A word of the view is little-endian only where the computer is.
        self._words = memory.view.cast("I") if sys.byteorder == "little" else None
        begin, end = Env.tr.offset, Env.cr.offset + 5 * 8
        system = (ctypes.c_uint8 * (end - begin)).from_address(ctypes.addressof(env) + begin)
        self._to_cr2 = memoryview(system).cast("B")[: Env.cr.offset + 2 * 8 - begin]
        self._from_cr3 = memoryview(system).cast("B")[Env.cr.offset + 3 * 8 - begin :]

    def key(self, vector: int, source: int) -> Key:
        """All but memory that decides how this is delivered now: TR, GDT, IDT, CR0, CR3, CR4, and the ring."""
        what = vector | source << 8 | (self._env.hflags & HF_CPL) << 10
        return what, self._to_cr2.tobytes(), self._from_cr3.tobytes()

    def follow(self, key: Key, flags: int, error_code: int) -> bool:
        """Deliver by the plan for `key`, if there is one that still holds. `flags` are those to push."""
        plan = self._plans.get(key)
        words = self._words
        if plan is None or words is None:
            return False
        for index, value in plan.words:
            if words[index] != value:
                return False
        env = self._env
        segs, regs = env.segs, env.regs
        code, stack = segs[CS], segs[SS]
        frame = (env.eip & _WORD, code.selector, flags, regs[ESP] & _WORD, stack.selector)
        pack = plan.pack
        raw = pack.pack(*frame) if pack is _FRAME else pack.pack(error_code, *frame)
        self._memory.write(plan.frame, raw)
        regs[ESP] = plan.esp
        stack.selector, stack.base, stack.limit, stack.flags = plan.stack_segment
        code.selector, code.base, code.limit, code.flags = plan.code_segment
        env.eip = plan.eip
        env.eflags = kept = env.eflags & plan.kept_flags
        if segs[DS].base or segs[ES].base:
            env.hflags = hflags_of(env, shadow=False)
        else:
            env.hflags = plan.hflags | kept & _FLAGS_IN_HFLAGS
        return True

    def learn(
        self, key: Key, pairs: Sequence[int], stack: int, kept_flags: int, *, has_code: bool
    ) -> None:
        """Remember the delivery just made for `key`, if it can be followed.

        It read two words at each of the linear addresses `pairs`, and pushed its frame at the linear address `stack`.
        """
        env = self._env
        pack = _FRAME_WITH_CODE if has_code else _FRAME
        if self._words is None or not env.cr[0] & _PG or not env.segs[SS].flags & _BIG:
            return
        if env.segs[DS].base or env.segs[ES].base:
            return
        words: dict[int, int] = {}
        frame = self._walk(words, stack, pack.size)
        places = [self._walk(words, pair, 8) for pair in pairs]
        if frame is None:
            return
        for place in places:
            if place is None or place & 3:
                return
            self._note(words, place)
            self._note(words, place + 4)
        if len(self._plans) >= _MOST_PLANS:
            self._plans.clear()
        self._plans[key] = plan = Plan(
            tuple(words.items()),
            frame,
            pack,
            env.regs[ESP] & _WORD,
            _content(env.segs[SS]),
            _content(env.segs[CS]),
            env.eip,
            kept_flags,
            env.hflags & ~_FLAGS_IN_HFLAGS,
        )
        if self.listener is not None:
            self.listener(key, plan)

    def _note(self, words: dict[int, int], address: int) -> int:
        assert self._words is not None
        index = address - self._memory.base >> 2
        words[index] = value = self._words[index]
        return value

    def _walk(self, words: dict[int, int], linear: int, count: int) -> int | None:
        """Physical address of a range that has just been reached; None if it is not within one small page.

        The entries on the way are noted. They are present, and they allow what was done.
        """
        if (linear & PAGE_SIZE - 1) + count > PAGE_SIZE:
            return None
        directory = self._note(words, (self._env.cr[3] & PAGE_MASK) + (linear >> 20 & 0xFFC))
        if directory & (_P | _PSE) != _P:
            return None
        entry = self._note(words, (directory & PAGE_MASK) + (linear >> 10 & 0xFFC))
        return (entry & PAGE_MASK) | (linear & PAGE_SIZE - 1) if entry & _P else None


def _content(cache: SegmentCache) -> _Segment:
    return cache.selector, cache.base, cache.limit, cache.flags


__all__ = ["Key", "Plan", "Plans"]
