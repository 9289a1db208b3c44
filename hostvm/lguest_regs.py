"""A Guest's registers as they lie in memory while the Guest does not run: `struct lguest_regs`.

The structure is at the very end of the Guest's regs page, because it doubles as a stack: the Switcher pops it to enter
the Guest, and the CPU and the Switcher push it again when the Guest is left (guest/switcher.S has the picture). Two of
its words are not registers: `trapnum` and `errcode` say why the Guest came out.

The order of the words is a parameter. Source: lguest, include/linux/lguest.h and arch/x86/include/asm/lguest.h.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from operator import itemgetter

from hostvm.memory import PhysicalMemory
from hostvm.units import HostPhysical
from hostvm.x86 import PAGE_SIZE, WORD_MASK, Eflags

REGS_ORDER = (
    *("eax", "ebx", "ecx", "edx", "esi", "edi", "ebp", "gs", "fs", "ds", "es"),
    *("trapnum", "errcode", "eip", "cs", "eflags", "esp", "ss"),
)
REGS_SIZE = 4 * len(REGS_ORDER)

# A value of trapnum that no CPU gives: a trap while the Guest is being entered is told by it.
TRAP_IN_SWITCHER = 256

KERNEL_CS = 0x61
KERNEL_DS = 0x69


class _Word:
    """One word of the structure as an attribute."""

    def __set_name__(self, owner: type[LguestRegs], name: str) -> None:
        self.name = name

    def __get__(self, regs: LguestRegs, owner: type[LguestRegs]) -> int:
        return regs.words[regs.places[self.name]]

    def __set__(self, regs: LguestRegs, value: int) -> None:
        regs.memory.write_u32(regs.start + 4 * regs.places[self.name], value & WORD_MASK)


class LguestRegs:
    """The registers of one Guest, read from and written to its regs page at each access."""

    __slots__ = ("memory", "page", "places", "start", "words")

    eax = _Word()
    ebx = _Word()
    ecx = _Word()
    edx = _Word()
    esi = _Word()
    edi = _Word()
    ebp = _Word()
    gs = _Word()
    fs = _Word()
    ds = _Word()
    es = _Word()
    trapnum = _Word()
    errcode = _Word()
    eip = _Word()
    cs = _Word()
    eflags = _Word()
    esp = _Word()
    ss = _Word()

    def __init__(
        self, memory: PhysicalMemory, page: HostPhysical, order: tuple[str, ...] = REGS_ORDER
    ) -> None:
        assert sorted(order) == sorted(REGS_ORDER)
        self.memory = memory
        self.page = page
        self.start = page + PAGE_SIZE - REGS_SIZE
        self.words = memory.words(self.start, len(order))
        self.places: Mapping[str, int] = {name: place for place, name in enumerate(order)}

    @property
    def addresses(self) -> Mapping[str, int]:
        """Host-physical addresses by name."""
        return {name: self.start + 4 * place for name, place in self.places.items()}

    def reader(self, names: tuple[str, ...]) -> Callable[[], tuple[int, ...]]:
        """A function that tells what these registers hold when it is called."""
        places = [self.places[name] for name in names]
        return partial(itemgetter(*places), self.words)

    def pack(self) -> bytes:
        """The structure as it lies in memory."""
        return self.memory.read(self.start, REGS_SIZE)

    def initialize(self, start: int) -> None:
        """What every Guest begins with: its kernel's segments, interrupts on, and nothing in the other registers."""
        self.memory.write(self.page, bytes(PAGE_SIZE))
        self.ds = self.es = self.ss = KERNEL_DS
        self.cs = KERNEL_CS
        self.eflags = Eflags.IF | Eflags.FIXED
        self.eip = start


__all__ = [
    "KERNEL_CS",
    "KERNEL_DS",
    "REGS_ORDER",
    "REGS_SIZE",
    "TRAP_IN_SWITCHER",
    "LguestRegs",
]
