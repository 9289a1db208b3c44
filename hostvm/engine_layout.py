"""Where the CPU engine keeps the state of the emulated processor in this process's memory.

The engine's API cannot say how many instructions ran, cannot show an error code, and cannot put a CPU into ring 0. All
of it stands in the engine's own structures, whose layout is fixed for one release of the engine but promised by
nobody. `Env` overlays the processor state (it is also the layout of a saved context); `find_layout` locates it, and
the instruction counter, by planting values through the official API and looking for them - so a different build fails
at start-up with a sentence, not later with a wrong answer.

Offsets were found by writing every register through the API and watching which bytes change. Read next: cpu.py.
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from hostvm.errors import EngineMisfit

_WORD = 8
_ENGINE_BYTES = 2048
_CPU_BYTES = 0x20000
_JUMP_CACHE_BITS = 12
_JUMP_PAGE_BITS = 6
_CPU_HEAD, _NEXT_BLOCK_FLAGS = 1024, 24

EMPTY_EXCEPTION = -1
FLAGS_ARE_EXPLICIT = 1
RESTART_MASK = 0x7FFF


class SegmentCache(ctypes.Structure):
    """One segment register: selector and the descriptor's hidden part (`flags` is its second word)."""

    _fields_ = (
        ("selector", ctypes.c_uint32),
        ("_pad", ctypes.c_uint32),
        ("base", ctypes.c_uint64),
        ("limit", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
    )


class FloatRegister(ctypes.Structure):
    """One x87 register: 64-bit significand, then sign and exponent."""

    _fields_ = (
        ("significand", ctypes.c_uint64),
        ("sign_exponent", ctypes.c_uint16),
        ("_pad", ctypes.c_uint8 * 6),
    )


class VectorRegister(ctypes.Structure):
    """One SSE register in the engine's 512-bit slot."""

    _fields_ = (("low", ctypes.c_uint8 * 16), ("_rest", ctypes.c_uint8 * 48))


class Env(ctypes.Structure):
    """The processor state of the engine, field by field; names are the engine's where it has good ones.

    `eflags` lacks the arithmetic flags and DF: they stand in `cc_*` and `df`. `hflags` repeats, for the translator,
    what CR0, CR4 and the segments say, and alone holds the interrupt shadow.
    """

    _fields_ = (
        ("regs", ctypes.c_uint64 * 16),
        ("eip", ctypes.c_uint64),
        ("eflags", ctypes.c_uint64),
        ("cc_dst", ctypes.c_uint64),
        ("cc_src", ctypes.c_uint64),
        ("cc_src2", ctypes.c_uint64),
        ("cc_op", ctypes.c_uint32),
        ("df", ctypes.c_int32),
        ("hflags", ctypes.c_uint32),
        ("hflags2", ctypes.c_uint32),
        ("segs", SegmentCache * 6),
        ("ldt", SegmentCache),
        ("tr", SegmentCache),
        ("gdt", SegmentCache),
        ("idt", SegmentCache),
        ("cr", ctypes.c_uint64 * 9),
        ("_to_fpu", ctypes.c_uint8 * (604 - 496)),
        ("fpstt", ctypes.c_uint32),
        ("fpus", ctypes.c_uint16),
        ("fpuc", ctypes.c_uint16),
        ("fptags", ctypes.c_uint8 * 8),
        ("_to_fpregs", ctypes.c_uint8 * 4),
        ("fpregs", FloatRegister * 8),
        ("fpop", ctypes.c_uint16),
        ("fpcs", ctypes.c_uint16),
        ("fpds", ctypes.c_uint16),
        ("_to_fpip", ctypes.c_uint8 * 2),
        ("fpip", ctypes.c_uint64),
        ("fpdp", ctypes.c_uint64),
        ("_to_mxcsr", ctypes.c_uint8 * (816 - 776)),
        ("mxcsr", ctypes.c_uint32),
        ("_to_xmm", ctypes.c_uint8 * 4),
        ("xmm", VectorRegister * 8),
        ("_to_sysenter", ctypes.c_uint8 * (4800 - 1336)),
        ("sysenter_cs", ctypes.c_uint32),
        ("_to_error", ctypes.c_uint8 * (5384 - 4804)),
        ("error_code", ctypes.c_int32),
        ("exception_is_int", ctypes.c_int32),
        ("exception_next_eip", ctypes.c_uint64),
        ("dr", ctypes.c_uint64 * 8),
        ("_to_old_exception", ctypes.c_uint8 * (5496 - 5464)),
        ("old_exception", ctypes.c_int32),
        ("_to_retaddr", ctypes.c_uint8 * (5560 - 5500)),
        ("retaddr", ctypes.c_uint64),
    )


ENV_BYTES = ctypes.sizeof(Env)


class _TranslationBlock(ctypes.Structure):
    _fields_ = (
        ("pc", ctypes.c_uint64),
        ("cs_base", ctypes.c_uint64),
        ("flags", ctypes.c_uint32),
        ("size", ctypes.c_uint16),
        ("icount", ctypes.c_uint16),
        ("cflags", ctypes.c_uint32),
        ("trace_state", ctypes.c_uint32),
        ("code", ctypes.c_uint64),
        ("code_bytes", ctypes.c_uint64),
        ("original", ctypes.c_uint64),
        ("page_next", ctypes.c_uint64 * 2),
        ("pages", ctypes.c_uint64 * 2),
    )


@dataclass(frozen=True, slots=True)
class Layout:
    """Addresses in this process: processor state, counter, budget, and the engine's table of recent blocks."""

    env: int
    counter: int
    budget: int
    jump_cache: int

    def block_at(self, pc: int) -> _TranslationBlock | None:
        """The block at linear address `pc`, if it is among the recent ones."""
        slot = self.jump_cache + _WORD * _jump_hash(pc)
        block = ctypes.c_uint64.from_address(slot).value
        found = _TranslationBlock.from_address(block) if block else None
        return found if found is not None and found.pc == pc else None

    def is_restart(self, pc: int) -> bool:
        """Whether the block just made at linear address `pc` re-executes a store that hit its own block.

        The engine gives only such blocks an instruction limit of one.
        """
        slot = self.jump_cache + _WORD * _jump_hash(pc)
        block = ctypes.c_uint64.from_address(slot).value
        assert block, f"the engine's block table has no block at {pc:#x}"
        found = _TranslationBlock.from_address(block)
        return bool(found.pc == pc and found.cflags & RESTART_MASK == 1)


def _jump_hash(pc: int) -> int:
    """The engine's index of a block address in its table of recent blocks."""
    shift = _JUMP_CACHE_BITS - _JUMP_PAGE_BITS
    mixed = pc ^ pc >> shift
    low = (1 << _JUMP_PAGE_BITS) - 1
    return (mixed >> shift & ((1 << _JUMP_CACHE_BITS) - 1 & ~low)) | mixed & low


class SelfReader:
    """Reads this process's memory at any address; None where nothing is mapped, instead of a crash."""

    def __init__(self) -> None:
        self._file = os.open("/proc/self/mem", os.O_RDONLY)

    def close(self) -> None:
        """Give the descriptor back."""
        os.close(self._file)

    def read(self, address: int, count: int) -> bytes | None:
        """`count` bytes, or None."""
        try:
            return os.pread(self._file, count, address)
        except (OSError, OverflowError):
            return None


def _pointers(reader: SelfReader, address: int, count: int) -> list[tuple[int, int]]:
    """Aligned values in a range that could be pointers, with their offsets."""
    blob = reader.read(address, count) or b""
    words = struct.unpack_from(f"<{len(blob) // _WORD}Q", blob)
    return [
        (number * _WORD, value)
        for number, value in enumerate(words)
        if 0x10000 < value < 1 << 47 and not value & 7
    ]


def find_env(reader: SelfReader, engine: int, plant: Callable[[int], bytes]) -> tuple[int, int]:
    """(cpu, env): addresses of the engine's CPU object and of the processor state.

    `plant(n)` writes registers derived from n and returns the bytes that the state then starts with. Two plantings
    are needed: an engine that is gone may have left the bytes of the first one in memory.
    """
    planted = plant(1)
    # Memory is full of zeros: it is searched ten times as quickly for what does not end with one.
    wanted = planted.rstrip(b"\0")
    found = []
    for _, pointer in _pointers(reader, engine, _ENGINE_BYTES):
        blob = reader.read(pointer, _CPU_BYTES)
        at = blob.find(wanted) if blob else -1
        if at >= 0:
            found.append((pointer, pointer + at))
    planted = plant(2)
    for cpu, env in found:
        if reader.read(env, len(planted)) == planted:
            return cpu, env
    raise EngineMisfit("the CPU engine's register file was not found; is unicorn 2.1.4 installed?")


def find_counter(reader: SelfReader, engine: int, run: Callable[[int], None]) -> int:
    """Address of the instruction counter: after a run cut at n it holds n + 1, with n itself behind it."""
    candidates: set[int] | None = None
    for count in (7, 12, 31):
        run(count)
        blob = reader.read(engine, _ENGINE_BYTES) or b""
        pattern = (count + 1).to_bytes(_WORD, "little") + count.to_bytes(_WORD, "little")
        here = {at for at in range(0, len(blob) - 15, _WORD) if blob[at : at + 16] == pattern}
        candidates = here if candidates is None else candidates & here
    if candidates is None or len(candidates) != 1:
        raise EngineMisfit(
            "the CPU engine's instruction counter was not found; is unicorn 2.1.4 installed?"
        )
    return engine + candidates.pop()


def find_next_block_flags(reader: SelfReader, engine: int, jump_cache: int) -> int | None:
    """Address of the word that says how the engine is to make its next block; all ones, when nothing is asked for.

    It stands at the head of the CPU object, behind two ones, a pointer and seven flags; the table of recent blocks is
    in the same object. None where it is not found.
    """
    for _, pointer in _pointers(reader, engine, _ENGINE_BYTES):
        if jump_cache - _CPU_HEAD < pointer < jump_cache:
            head = reader.read(pointer, _NEXT_BLOCK_FLAGS + 4) or b""
            if head[:8] == b"\1\0\0\0" * 2 and head[_NEXT_BLOCK_FLAGS:] == b"\xff" * 4:
                return pointer + _NEXT_BLOCK_FLAGS
    return None


def find_jump_cache(reader: SelfReader, cpu: int, env: int, blocks: Sequence[int]) -> int:
    """Address of the table of recent blocks, in whose slots blocks at all of these addresses must stand."""
    bases: set[int] | None = None
    for pc in blocks:
        here = set()
        for offset, pointer in _pointers(reader, cpu, env - cpu):
            head = reader.read(pointer, ctypes.sizeof(_TranslationBlock))
            if head and int.from_bytes(head[:_WORD], "little") == pc:
                here.add(offset - _WORD * _jump_hash(pc))
        bases = here if bases is None else bases & here
    if bases is None or len(bases) != 1 or min(bases) < 0:
        raise EngineMisfit(
            "the CPU engine's block table was not found; is unicorn 2.1.4 installed?"
        )
    return cpu + bases.pop()


__all__ = [
    "EMPTY_EXCEPTION",
    "ENV_BYTES",
    "FLAGS_ARE_EXPLICIT",
    "Env",
    "Layout",
    "SegmentCache",
    "SelfReader",
    "find_counter",
    "find_env",
    "find_jump_cache",
    "find_next_block_flags",
]
