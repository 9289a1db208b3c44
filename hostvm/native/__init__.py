"""The compiled part: counting by blocks and the usual deliveries, in C. Optional, and the same to the last bit.

What is worth compiling is little: what the engine calls at each block (count.c), at each interrupt (deliver.c), and
the loop around it (run.c). The C code is told where everything is and calls the engine through pointers; so it needs
neither the engine's headers nor Python's to be built, and is loaded with ctypes. `load` gives it, or says why there is
none:

(i) it was not built, because there was no compiler when lgreplay was installed (build.py);
(ii) LGREPLAY_NATIVE=0 says that it is not wanted;
(iii) it was built from other sources, or lays the engine's state out differently than hostvm/engine_layout.py.

Without it the engine counts instruction by instruction and Python delivers: slower, the same states at the same ticks.
Read next: run.c, then hostvm/block_count.py.
"""

from __future__ import annotations

import ctypes
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from hostvm.engine_layout import Env, SegmentCache
from hostvm.native.build import LIBRARY, SOURCES, source_digest

VARIABLE = "LGREPLAY_NATIVE"
HERE = Path(__file__).parent
MOST_WORDS = 40

_u32, _u64, _ptr = ctypes.c_uint32, ctypes.c_uint64, ctypes.c_void_p


class Why:
    """Why a run ended: `enum why` of engine.h, as far as Python sees it."""

    LEFT = 0
    BUDGET = 1
    LATE_FETCH = 4
    MISFIT = 5
    HALTED = 7


class Shared(ctypes.Structure):
    """`struct machine` of engine.h, where what each field means is said."""

    _fields_ = (
        ("uc", _ptr),
        ("env", _ptr),
        ("memory", _ptr),
        ("code_pages", _ptr),
        ("memory_base", _u64),
        ("memory_size", _u64),
        ("next_block_flags", _ptr),
        ("recent_blocks", _ptr),
        ("block_header", _u64),
        ("first_page", _u64),
        ("start", _ptr),
        ("stop", _ptr),
        ("read_register", _ptr),
        ("python_interrupt", _ptr),
        ("python_delivery", _ptr),
        ("python_block", _ptr),
        ("python_suspect", _ptr),
        ("control", _ptr),
        ("eflags_register", _u64),
        ("remove_block", _u64),
        ("plans", _ptr),
        ("by_instruction", _u64),
        ("hook", _ptr),
        ("steps", _u64),
        ("limit", _u64),
        ("block", _ptr),
        ("not_hooked", _ptr),
        ("limited", _u64),
        ("why", _u64),
        ("status", _u64),
        ("looked_at", _u64),
        ("saved_cr2", _u64),
        ("saved_error_code", _u64),
        ("written_count", _u64),
        ("written", _u64 * 64),
        ("direct_traps", _u64 * 256),
        ("delivered", _u64),
    )


class CompiledPlan(ctypes.Structure):
    """`struct plan` of deliver.c."""

    _fields_ = (
        ("word_count", _u32),
        ("with_code", _u32),
        ("index", _u32 * MOST_WORDS),
        ("value", _u32 * MOST_WORDS),
        ("frame", _u64),
        ("esp", _u64),
        ("eip", _u64),
        ("stack", SegmentCache),
        ("code", SegmentCache),
        ("kept_flags", _u32),
        ("hflags", _u32),
    )


_FIELDS = (
    *("regs", "eip", "eflags", "cc_src", "cc_op", "df", "hflags", "segs", "tr", "gdt", "idt", "cr"),
    *("error_code", "exception_is_int", "exception_next_eip", "old_exception", "retaddr"),
)


@dataclass(frozen=True, slots=True)
class Native:
    """The compiled part, or `library` None and the reason; `text` says which in a few words."""

    library: Any
    text: str


def load() -> Native:
    """The compiled part, if there is one, it fits, and the environment does not forbid it."""
    if os.environ.get(VARIABLE, "1") == "0":
        return Native(None, f"switched off by {VARIABLE}=0")
    return _load()


@cache
def _load() -> Native:
    path = HERE / LIBRARY
    if not path.exists():
        return Native(None, "not built; install again where there is a C compiler")
    try:
        library = ctypes.CDLL(str(path))
        built_from = ctypes.c_char.in_dll(library, "lg_source")
    except (OSError, ValueError) as error:
        return Native(None, f"cannot be loaded: {error}")
    if ctypes.string_at(ctypes.addressof(built_from)).decode() != source_digest(HERE):
        return Native(None, "built from other sources; install again")
    expected = [getattr(Env, name).offset for name in _FIELDS]
    expected += [ctypes.sizeof(Shared), ctypes.sizeof(CompiledPlan)]
    if list((_u64 * len(expected)).in_dll(library, "lg_layout")) != expected:
        return Native(None, "lays out the engine's state differently")
    _declare(library)
    return Native(library, "counts and delivers")


def _declare(library: Any) -> None:
    machine = ctypes.POINTER(Shared)
    library.lg_run.argtypes, library.lg_run.restype = (machine, _u64), None
    library.lg_begun.argtypes, library.lg_begun.restype = (machine, _u64), _u64
    library.lg_leave.argtypes, library.lg_leave.restype = (machine, _u64), None
    library.lg_new_plans.argtypes, library.lg_new_plans.restype = (), _ptr
    library.lg_free_plans.argtypes, library.lg_free_plans.restype = (_ptr,), None
    learn = library.lg_learn
    learn.argtypes, learn.restype = (machine, _u32, ctypes.POINTER(CompiledPlan)), None


__all__ = [
    "HERE",
    "LIBRARY",
    "MOST_WORDS",
    "SOURCES",
    "VARIABLE",
    "CompiledPlan",
    "Native",
    "Shared",
    "Why",
    "load",
    "source_digest",
]
