"""A Guest to test the Host with: real memory and shadow tables, plain registers, a machine that takes notes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import repeat
from operator import attrgetter

import pytest

from hostvm.abi import generation
from hostvm.errors import GuestKilled
from hostvm.lguest import Lguest
from hostvm.memory import BoundedMemory, PhysicalMemory
from hostvm.page_pool import PagePool
from hostvm.page_tables import ShadowPageTables
from hostvm.quirks import UPSTREAM, Quirk
from hostvm.units import HostPhysical, Nanoseconds
from hostvm.x86 import PAGE_SIZE

MIB = 1 << 20
GUEST_BASE = HostPhysical(4 * MIB)
GUEST_PAGES = 16 * MIB // PAGE_SIZE
POOL_BASE = HostPhysical(32 * MIB)
POOL_PAGES = 1024
SWITCHER_PAGE_TABLE = HostPhysical(63 * MIB)
DATA = 0x5000


@dataclass
class PlainRegs:
    """`struct lguest_regs` as a plain object."""

    eax: int = 0
    ebx: int = 0
    ecx: int = 0
    edx: int = 0
    esi: int = 0
    edi: int = 0
    ebp: int = 0
    gs: int = 0
    fs: int = 0
    ds: int = 0
    es: int = 0
    trapnum: int = 0
    errcode: int = 0
    eip: int = 0
    cs: int = 0x61
    eflags: int = 0x202
    esp: int = 0
    ss: int = 0x69

    def reader(self, names: tuple[str, ...]) -> Callable[[], tuple[int, ...]]:
        return partial(attrgetter(*names), self)


@dataclass
class Notes:
    """HostServices that answer from `now` and `choices` and write down what they are told."""

    now: int = 1_000_000_000_000_000_007
    choices: Iterator[int] = field(default_factory=lambda: repeat(0))
    tsc_khz: int = 0
    told: list[tuple[object, ...]] = field(default_factory=list)
    others: list[Lguest] = field(default_factory=list)

    def wall_clock(self) -> Nanoseconds:
        return Nanoseconds(self.now)

    def choose(self, bound: int) -> int:
        choice = next(self.choices)
        assert 0 <= choice < bound
        return choice

    def start_timer(self, deadline: Nanoseconds) -> None:
        self.told.append(("start_timer", deadline))

    def cancel_timer(self) -> None:
        self.told.append(("cancel_timer",))

    def hypercall_made(self, number: int, args: tuple[int, ...], queued: bool) -> None:
        self.told.append(("hypercall", number, args, queued))

    def trap_reflected(self, vector: int, error_code: int, eip: int) -> None:
        self.told.append(("trap", vector, error_code, eip))

    def irq_raised(self, irq: int) -> None:
        self.told.append(("raised", irq))

    def irq_delivered(self, irq: int) -> None:
        self.told.append(("delivered", irq))

    def other_guests(self) -> list[Lguest]:
        return self.others

    def kill_other(self, number: int, reason: str) -> None:
        self.told.append(("killed", number, reason))


class Bench:
    """One Guest with 16 MiB of memory at a base that is not zero, and handles on all that it is made of."""

    def __init__(
        self,
        name: str = "3.2",
        *,
        choices: Iterable[int] = repeat(0),
        quirks: Quirk = UPSTREAM,
        pool_pages: int = POOL_PAGES,
        first_pgdir: int = 0,
    ) -> None:
        self.abi = generation(name)
        self.physical = PhysicalMemory(HostPhysical(0), 64 * MIB)
        self.memory = BoundedMemory(
            self.physical, GUEST_BASE, GUEST_PAGES, self.abi.limit_is_exclusive
        )
        self.pool = PagePool(self.physical, POOL_BASE, pool_pages)
        self.notes = Notes(choices=iter(choices))
        self.tables = ShadowPageTables(
            self.abi,
            self.memory,
            self.pool,
            SWITCHER_PAGE_TABLE,
            self.notes.choose,
            first_pgdir,
            quirks,
        )
        self.regs = PlainRegs()
        self.guest = Lguest(0, self.abi, self.memory, self.tables, self.regs, self.notes, quirks)

    def map(self, gpgdir: int, gpt: int, vaddr: int, gpte: int, directory_flags: int = 0x67) -> int:
        """Put `gpte` into the Guest's own tables for `vaddr`; guest-physical address of the entry."""
        self.memory.write_u32(gpgdir + (vaddr >> 22) * 4, gpt | directory_flags)
        entry = gpt + (vaddr >> 12 & 0x3FF) * 4
        self.memory.write_u32(entry, gpte)
        return entry

    def shadow(self, vaddr: int, root: int | None = None) -> tuple[int, int]:
        """Directory entry and table entry that the CPU would find for `vaddr`; 0 where there is none."""
        root = self.tables.root if root is None else root
        directory = int.from_bytes(self.physical.read(root + (vaddr >> 22) * 4, 4), "little")
        if not directory & 1:
            return directory, 0
        at = (directory & ~0xFFF) + (vaddr >> 12 & 0x3FF) * 4
        return directory, int.from_bytes(self.physical.read(at, 4), "little")


@contextmanager
def kills(reason: str) -> Iterator[None]:
    """The Guest dies of exactly this."""
    with pytest.raises(GuestKilled) as death:
        yield
    assert death.value.reason == reason


__all__ = [
    "DATA",
    "GUEST_BASE",
    "GUEST_PAGES",
    "SWITCHER_PAGE_TABLE",
    "Bench",
    "Notes",
    "PlainRegs",
    "kills",
]
