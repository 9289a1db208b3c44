"""One Guest as the Host knows it: lguest's `struct lguest` together with its one `struct lg_cpu`.

Here is what there is to know about a Guest besides its memory and registers; what is done with it stands in one file
per idea. The Guest is moved only by the machine's run loop, which between two runs of the Guest calls, in this order:

(i) `do_hypercalls` (hypercalls.py), which acts while `hcall` is set; if it leaves `pending_notify` or `pending_dma`,
    or `handle_trap` left `pending_trap`, the Launcher takes that and clears it, and `do_hypercalls` goes on;
(ii) `maybe_do_interrupt` (interrupts_and_traps.py); a Guest that is `halted` after it waits for an interrupt;
(iii) `copy_traps`, `copy_gdt` or `copy_gdt_tls` as `changed` says, and the Guest runs;
(iv) `handle_trap` (handle_trap.py).

Each of them may raise GuestKilled, which is the Guest's end; a `SHUTDOWN` is an end too, and only sets `ended`.

Everything that changes is in `state()`, but for `pending_trap`, which is never left over when a turn of the Host's
ends; registers are in the regs page, shadow pages and tables in memory.
Source: lguest, drivers/lguest/lg.h.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from hostvm.abi import Abi
from hostvm.hypercalls import CallTable
from hostvm.lguest_data import LguestData
from hostvm.lguest_dma import MOST_BINDINGS, DmaBinding
from hostvm.memory import BoundedMemory
from hostvm.observations import EndReason
from hostvm.page_tables import ShadowPageTables, TablesState
from hostvm.quirks import UPSTREAM, Quirk
from hostvm.segments import Descriptor, boot_gdt
from hostvm.switcher import IDT_ENTRIES, Changed
from hostvm.units import Nanoseconds
from hostvm.vmi_pages import VmiPages

SYSCALL_VECTOR = 0x80


class Regs(Protocol):
    """`struct lguest_regs`: the Guest's registers while it does not run, each an unsigned 32-bit word."""

    eax: int
    ebx: int
    ecx: int
    edx: int
    esi: int
    edi: int
    ebp: int
    gs: int
    fs: int
    ds: int
    es: int
    trapnum: int
    errcode: int
    eip: int
    cs: int
    eflags: int
    esp: int
    ss: int

    def reader(self, names: tuple[str, ...]) -> Callable[[], tuple[int, ...]]:
        """A function that tells what these registers hold when it is called."""
        ...


class HostServices(Protocol):
    """What a Guest's Host needs from the machine around it: the World's answers, and an ear for what happens."""

    tsc_khz: int
    """Speed of the time stamp counter told to the Guest; 0 keeps the Guest from relying on it."""

    def wall_clock(self) -> Nanoseconds:
        """Wall-clock time now."""
        ...

    def choose(self, bound: int) -> int:
        """A random choice in range(bound)."""
        ...

    def start_timer(self, deadline: Nanoseconds) -> None:
        """Call `clock_expired` once the wall clock reaches `deadline`; replaces an earlier deadline."""
        ...

    def cancel_timer(self) -> None:
        """Forget the deadline."""
        ...

    def hypercall_made(self, number: int, args: tuple[int, ...], queued: bool) -> None:
        """The Host is about to carry out a hypercall."""
        ...

    def trap_reflected(self, vector: int, error_code: int, eip: int) -> None:
        """A trap at `eip` is about to be handed to the Guest's handler."""
        ...

    def irq_raised(self, irq: int) -> None:
        """A virtual interrupt is pending: wake the Guest if it is halted."""
        ...

    def irq_delivered(self, irq: int) -> None:
        """A virtual interrupt is about to enter the Guest's handler."""
        ...

    def other_guests(self) -> Sequence[Lguest]:
        """The Guests beside this one that have not ended."""
        ...

    def kill_other(self, number: int, reason: str) -> None:
        """Another Guest ends of its own fault, while this one runs."""
        ...


@dataclass(frozen=True, slots=True)
class PendingTrap:
    """An instruction that the Launcher is to carry out: vector, first bytes, and what memory of devices it touched."""

    vector: int
    insn: bytes
    address: int


@dataclass(frozen=True, slots=True)
class LguestState:
    """A Guest's part of the machine's state. `ended` is (EndReason, text); addresses are guest-physical.

    `dma` are the arrays bound, with their places, and `pending_dma` is buffer and key for the Launcher (2.6.23).
    """

    idt: tuple[Descriptor, ...]
    gdt: tuple[Descriptor, ...]
    changed: int
    ss1: int
    esp1: int
    stack_pages: int
    ts: int
    halted: bool
    hcall: bool
    next_hcall: int
    pending_notify: int
    irqs_pending: int
    timer: int | None
    cr2: int
    lguest_data: int | None
    noirq_start: int
    noirq_end: int
    ended: tuple[int, str] | None
    tables: TablesState
    dma: tuple[tuple[int, DmaBinding], ...] = ()
    pending_dma: tuple[int, int] | None = None


_ONLY_IF_ANY = ("dma", "pending_dma")


class Lguest:
    """One Guest. `syscall_vector` is the extra system call vector that the Host was told to allow.

    `vmi`: what the Host shows to a kernel with VMI hooks, else None.
    """

    __slots__ = (
        "abi",
        "call_registers",
        "calls",
        "changed",
        "cr2",
        "data",
        "dma",
        "ended",
        "esp1",
        "gdt",
        "halted",
        "hcall",
        "idt",
        "irqs_pending",
        "memory",
        "next_hcall",
        "noirq_end",
        "noirq_start",
        "number",
        "pending_dma",
        "pending_notify",
        "pending_trap",
        "quirks",
        "regs",
        "services",
        "ss1",
        "stack_pages",
        "syscall_vector",
        "tables",
        "timer",
        "ts",
        "vmi",
    )

    def __init__(
        self,
        number: int,
        abi: Abi,
        memory: BoundedMemory,
        tables: ShadowPageTables,
        regs: Regs,
        services: HostServices,
        quirks: Quirk = UPSTREAM,
        syscall_vector: int = SYSCALL_VECTOR,
    ) -> None:
        self.number = number
        self.abi = abi
        self.calls = CallTable(abi)
        self.call_registers = regs.reader(abi.hypercall_registers)
        self.memory = memory
        self.tables = tables
        self.regs = regs
        self.services = services
        self.quirks = quirks
        self.syscall_vector = syscall_vector
        self.data = LguestData(memory, abi.data)
        self.vmi: VmiPages | None = None
        self.idt: list[Descriptor] = [(0, 0)] * IDT_ENTRIES
        self.gdt = boot_gdt()
        self.changed: int = Changed.ALL.value
        self.ss1 = self.esp1 = self.stack_pages = 0
        self.ts = 0
        self.halted = self.hcall = False
        self.next_hcall = self.pending_notify = 0
        self.pending_dma: tuple[int, int] | None = None
        self.pending_trap: PendingTrap | None = None
        self.dma: list[DmaBinding | None] = [None] * MOST_BINDINGS
        self.irqs_pending = 0
        self.timer: Nanoseconds | None = None
        self.cr2 = 0
        self.noirq_start = self.noirq_end = 0
        self.ended: tuple[EndReason, str] | None = None

    @property
    def wants_launcher(self) -> bool:
        """Whether the Launcher must see to something before the Guest goes on."""
        if self.pending_notify or self.pending_trap is not None:
            return True
        return self.pending_dma is not None

    def state(self) -> LguestState:
        """All that can change, as a value."""
        return LguestState(
            idt=tuple(self.idt),
            gdt=tuple(self.gdt),
            changed=self.changed,
            ss1=self.ss1,
            esp1=self.esp1,
            stack_pages=self.stack_pages,
            ts=self.ts,
            halted=self.halted,
            hcall=self.hcall,
            next_hcall=self.next_hcall,
            pending_notify=self.pending_notify,
            irqs_pending=self.irqs_pending,
            timer=self.timer,
            cr2=self.cr2,
            lguest_data=self.data.address,
            noirq_start=self.noirq_start,
            noirq_end=self.noirq_end,
            ended=None if self.ended is None else (int(self.ended[0]), self.ended[1]),
            tables=self.tables.state(),
            dma=tuple((n, each) for n, each in enumerate(self.dma) if each is not None),
            pending_dma=self.pending_dma,
        )

    def digest_bytes(self) -> bytes:
        """All of `state()` as bytes that are equal exactly if the states are, on any machine."""
        state = self.state()
        apart = ("tables", *_ONLY_IF_ANY)
        values = [getattr(state, name) for name in LguestState.__slots__ if name not in apart]
        values += [getattr(state.tables, name) for name in TablesState.__slots__]
        # Generations without DMA have digests without it.
        values += [value for name in _ONLY_IF_ANY if (value := getattr(state, name))]
        return ascii(values).encode("ascii")

    def restore(self, state: LguestState) -> None:
        """Be as in `state`."""
        self.idt = list(state.idt)
        self.gdt = list(state.gdt)
        self.changed = state.changed
        self.ss1 = state.ss1
        self.esp1 = state.esp1
        self.stack_pages = state.stack_pages
        self.ts = state.ts
        self.halted = state.halted
        self.hcall = state.hcall
        self.next_hcall = state.next_hcall
        self.pending_notify = state.pending_notify
        self.irqs_pending = state.irqs_pending
        self.timer = None if state.timer is None else Nanoseconds(state.timer)
        self.cr2 = state.cr2
        self.data.address = state.lguest_data
        self.noirq_start = state.noirq_start
        self.noirq_end = state.noirq_end
        self.ended = None if state.ended is None else (EndReason(state.ended[0]), state.ended[1])
        self.tables.restore(state.tables)
        self.pending_dma = state.pending_dma
        self.pending_trap = None
        self.dma = [None] * MOST_BINDINGS
        for place, binding in state.dma:
            self.dma[place] = binding


__all__ = ["SYSCALL_VECTOR", "HostServices", "Lguest", "LguestState", "PendingTrap", "Regs"]
