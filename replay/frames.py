"""Frames of traps and interrupts on a Guest kernel's stack: how deep the kernel is in handlers.

A trap or interrupt leaves three words, EIP CS EFLAGS, on the kernel's stack, and two more, ESP SS, when it came from
user mode. No list of them exists; they are recognised by their look: a code selector of the Guest in the place of CS,
flags that could be flags behind it, and before it an address on the side that the selector says. A kernel that pushes
just such words for other reasons is miscounted.

Source: Intel SDM 3A 6.12. Read next: predicate.py (`nesting`).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from hostvm.cpu_state import ESP
from hostvm.lguest_regs import KERNEL_CS
from hostvm.x86 import PAGE_SIZE
from replay.look import GuestSpace, Look

_USER_CS = 0x73
_FRAME = struct.Struct("<III")
_STACK = 2 * PAGE_SIZE
_FIXED_ON = 1 << 1
_FIXED_OFF = ~0x3F7FD7 & 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class Frame:
    """An interrupted place; `at` is the linear address of its EIP word."""

    at: int
    eip: int
    cs: int
    eflags: int

    @property
    def from_user(self) -> bool:
        """Whether user code was interrupted: there is no frame beyond this one."""
        return self.cs & 3 == 3


def frames(look: Look) -> list[Frame]:
    """The frames on the kernel stack of the Guest looked at, innermost first; none while a user program runs."""
    cpu = look.machine.cpu
    regs = look.guest.regs
    is_in = cpu.cpl and look.guest is look.machine.current_guest
    esp, cs = (int(cpu.env.regs[ESP]) & 0xFFFFFFFF, cpu.cpl) if is_in else (regs.esp, regs.cs & 3)
    if cs == 3:
        return []
    end = (esp & ~(_STACK - 1)) + _STACK
    raw = look.read(esp & ~3, end - (esp & ~3), GuestSpace(look.guest.number))
    return _recognised(raw, esp & ~3, look.guest.tables.kernel_address)


def _recognised(raw: bytes, base: int, kernel: int) -> list[Frame]:
    found: list[Frame] = []
    for at in _selectors(raw):
        eip, cs, eflags = _FRAME.unpack_from(raw, at - 4)
        if eflags & _FIXED_OFF or not eflags & _FIXED_ON:
            continue
        if (eip >= kernel) is (cs == KERNEL_CS):
            found.append(Frame(base + at - 4, eip, cs, eflags))
            if cs == _USER_CS:
                break
    return found


def _selectors(raw: bytes) -> list[int]:
    """Offsets of aligned words that are a code selector of the Guest, with a word before and behind them."""
    found: list[int] = []
    for selector in (KERNEL_CS, _USER_CS):
        word = selector.to_bytes(4, "little")
        at = raw.find(word, 4)
        while 0 <= at <= len(raw) - 8:
            if at % 4 == 0:
                found.append(at)
            at = raw.find(word, at + 1)
    return sorted(found)


def nesting(look: Look) -> int:
    """How many traps and interrupts the Guest kernel is in."""
    return len(frames(look))


__all__ = ["Frame", "frames", "nesting"]
