"""The engine's hooks: what each kind is called with, as C sees it, and adding and removing them.

A hook that is a Python function must be kept alive for as long as the engine may call it. One of the compiled part is
an address, and is given its data. Read next: engine.py.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

from hostvm.errors import EngineMisfit

_u32, _u64, _ptr, _int = ctypes.c_uint32, ctypes.c_uint64, ctypes.c_void_p, ctypes.c_int


class Block(ctypes.Structure):
    """A block that has been translated, as far as a hook is told."""

    _fields_ = (("pc", _u64), ("icount", ctypes.c_uint16), ("size", ctypes.c_uint16))


INTERRUPT = ctypes.CFUNCTYPE(None, _ptr, _u32, _ptr)
INVALID = ctypes.CFUNCTYPE(ctypes.c_bool, _ptr, _ptr)
PORT_IN = ctypes.CFUNCTYPE(_u32, _ptr, _u32, _int, _ptr)
PORT_OUT = ctypes.CFUNCTYPE(None, _ptr, _u32, _int, _u32, _ptr)
SYSCALL = ctypes.CFUNCTYPE(None, _ptr, _ptr)
CPUID = ctypes.CFUNCTYPE(_int, _ptr, _ptr)
CODE = ctypes.CFUNCTYPE(None, _ptr, _u64, _u32, _ptr)
ACCESS = ctypes.CFUNCTYPE(None, _ptr, _int, _u64, _int, ctypes.c_int64, _ptr)
UNMAPPED = ctypes.CFUNCTYPE(ctypes.c_bool, _ptr, _int, _u64, _int, ctypes.c_int64, _ptr)
MADE = ctypes.CFUNCTYPE(None, _ptr, ctypes.POINTER(Block), ctypes.POINTER(Block), _ptr)


def address_of(function: Any) -> int:
    """Where a C function is."""
    return ctypes.cast(function, _ptr).value or 0


class Hooks:
    """The hooks of the engine with this handle; `add` and `remove` are its functions for them."""

    def __init__(
        self, handle: int, add: Callable[..., int], remove: Callable[[int, int], int]
    ) -> None:
        self._handle = handle
        self._add = add
        self._remove = remove
        self._kept: list[Any] = []

    def add(
        self, kind: int, callback: Any, begin: int = 1, end: int = 0, instruction: int = 0
    ) -> int:
        """Have a Python function called for addresses from `begin` to `end`; for all, if `end` comes first."""
        self.keep(callback)
        return self.add_compiled(kind, address_of(callback), 0, begin, end, instruction)

    def keep(self, callback: Any) -> None:
        """Let a Python function live as long as the engine."""
        if callback not in self._kept:
            self._kept.append(callback)

    def add_compiled(
        self, kind: int, address: int, data: int, begin: int = 1, end: int = 0, instruction: int = 0
    ) -> int:
        """Have the C function at `address` called with `data`."""
        hook = ctypes.c_size_t()
        status = self._add(
            _ptr(self._handle),
            ctypes.byref(hook),
            _int(kind),
            _ptr(address),
            _ptr(data),
            _u64(begin),
            _u64(end),
            _int(instruction),
        )
        if status:
            raise EngineMisfit(
                f"the CPU engine refused hook {kind} ({instruction}): error {status}"
            )
        return hook.value

    def remove(self, hook: int) -> None:
        """Have it called no more. Disturbs the fault registers; what was translated with it must go."""
        self._remove(self._handle, hook)


__all__ = [
    "ACCESS",
    "CODE",
    "CPUID",
    "INTERRUPT",
    "INVALID",
    "MADE",
    "PORT_IN",
    "PORT_OUT",
    "SYSCALL",
    "UNMAPPED",
    "Block",
    "Hooks",
    "address_of",
]
