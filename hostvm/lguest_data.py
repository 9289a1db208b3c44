"""The page that Guest and Host share: `struct lguest_data`, where its fields lie, and access to them.

The Guest names its address once, in the first hypercall; the Host checks the whole structure then and from there on
goes straight to the fields. Before that there is nothing, and every access fails without harm; what a failure means
is the caller's affair. The layout moved five times, always for fields that came or went; a field that a generation
does not have is None in its layout.

Source: lguest, include/linux/lguest.h; offsets as compiled for i386 with at most 32 virtual interrupts.
"""

from __future__ import annotations

from dataclasses import dataclass

from hostvm.memory import GuestMemory
from hostvm.units import Nanoseconds
from hostvm.x86 import WORD_MASK

RING_SLOTS = 64
SLOT_FREE = 0xFF
IRQ_ON = 0x200
_NS_PER_SECOND = 1_000_000_000


@dataclass(frozen=True, slots=True)
class DataLayout:
    """Byte offsets into `struct lguest_data`; the first four fields never moved.

    Without `noirq_end` the window is the one instruction at `noirq_start`.
    """

    size: int
    hcall_status: int
    hcalls: int
    slot_words: int
    reserve_mem: int
    tsc_khz: int
    noirq_start: int
    noirq_end: int | None
    irq_pending: int | None = None
    guestid: int | None = None
    pgdir: int | None = None
    kernel_address: int | None = None
    syscall_vec: int | None = None
    irq_enabled: int = 0
    blocked_interrupts: int = 4
    cr2: int = 8
    time: int = 12


LAYOUT_2_6_23 = DataLayout(
    size=1128,
    hcall_status=20,
    hcalls=84,
    slot_words=4,
    reserve_mem=1108,
    guestid=1112,
    tsc_khz=1116,
    noirq_start=1120,
    noirq_end=1124,
)
LAYOUT_2_6_24 = DataLayout(
    size=1136,
    hcall_status=20,
    hcalls=84,
    slot_words=4,
    reserve_mem=1108,
    tsc_khz=1112,
    pgdir=1116,
    noirq_start=1120,
    noirq_end=1124,
    kernel_address=1128,
    syscall_vec=1132,
)
LAYOUT_2_6_32 = DataLayout(
    size=1396,
    irq_pending=20,
    hcall_status=24,
    hcalls=88,
    slot_words=5,
    reserve_mem=1368,
    tsc_khz=1372,
    pgdir=1376,
    noirq_start=1380,
    noirq_end=1384,
    kernel_address=1388,
    syscall_vec=1392,
)
LAYOUT_3_2 = DataLayout(
    size=1392,
    irq_pending=20,
    hcall_status=24,
    hcalls=88,
    slot_words=5,
    reserve_mem=1368,
    tsc_khz=1372,
    noirq_start=1376,
    noirq_end=1380,
    kernel_address=1384,
    syscall_vec=1388,
)

LAYOUT_4_1 = DataLayout(
    size=1388,
    irq_pending=20,
    hcall_status=24,
    hcalls=88,
    slot_words=5,
    reserve_mem=1368,
    tsc_khz=1372,
    noirq_start=1376,
    noirq_end=None,
    kernel_address=1380,
    syscall_vec=1384,
)


class LguestData:
    """The shared structure of one Guest; `address` is guest-physical, None until the Guest has named it."""

    __slots__ = ("address", "layout", "memory")

    def __init__(self, memory: GuestMemory, layout: DataLayout) -> None:
        self.memory = memory
        self.layout = layout
        self.address: int | None = None

    def get(self, offset: int) -> int | None:
        """The word at `offset`, or None if there is no such thing."""
        if self.address is None:
            return None
        return self.memory.get_user(self.address + offset)

    def get_bytes(self, offset: int, count: int) -> bytes | None:
        """Bytes from `offset`, or None if there is no such thing."""
        if self.address is None:
            return None
        return self.memory.get_user_bytes(self.address + offset, count)

    def put(self, offset: int, value: int) -> bool:
        """Store a word at `offset`; False if there is no such thing."""
        return self.address is not None and self.memory.put_user(self.address + offset, value)

    def put_u16(self, offset: int, value: int) -> bool:
        """Store a half word at `offset`; False if there is no such thing."""
        return self.put_byte(offset, value & 0xFF) and self.put_byte(offset + 1, value >> 8)

    def put_byte(self, offset: int, value: int) -> bool:
        """Store a byte at `offset`; False if there is no such thing."""
        return self.address is not None and self.memory.put_user_byte(self.address + offset, value)

    def put_time(self, now: Nanoseconds) -> bool:
        """Store wall-clock time as seconds and nanoseconds; False if there is no such thing."""
        seconds, nanoseconds = divmod(now, _NS_PER_SECOND)
        at = self.layout.time
        return self.put(at, seconds & WORD_MASK) and self.put(at + 4, nanoseconds)


__all__ = [
    "IRQ_ON",
    "LAYOUT_2_6_23",
    "LAYOUT_2_6_24",
    "LAYOUT_2_6_32",
    "LAYOUT_3_2",
    "LAYOUT_4_1",
    "RING_SLOTS",
    "SLOT_FREE",
    "DataLayout",
    "LguestData",
]
