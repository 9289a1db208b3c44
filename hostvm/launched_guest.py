"""A Guest in its place: what the Launcher has set up for it, and what the machine does for its Host part.

lguest's Host code (hostvm.lguest and its files) knows nothing of ticks, of the World or of where a page lies. This is
the object between: it carries out the Guest's wishes through the machine (`HostServices`), and gives the Switcher what
it copies into the CPU's pages (`GuestOnCpu`). It stands between the devices and the machine in the same way
(`DeviceHost`): there it is the Launcher, and what it has to say to the Host it says through /dev/lguest.

Source: lguest, drivers/lguest/lguest_user.c and the Launcher. Read next: dev_lguest.py, devices/bus.py,
machine.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Protocol

from hostvm.abi import DevicePage, generation
from hostvm.dev_lguest import (
    DMA_SENT,
    NOTIFY,
    PENDING,
    REGISTER,
    REGISTER_OFFSETS,
    WAKER,
    DeviceError,
    DevLguest,
    Initialize,
    pack_initialize,
)
from hostvm.dev_lguest import Request as DeviceRequest
from hostvm.devices.bus import DeviceBus
from hostvm.devices.launcher_memory import LauncherMemory
from hostvm.devices.pci_bus import PciBus
from hostvm.emulate_io import emulate_mmio, emulate_port
from hostvm.errors import GuestKilled
from hostvm.gates import copy_traps
from hostvm.host_module import Errno
from hostvm.launcher import GuestConfig, LoadedGuest, load_guest
from hostvm.lguest import SYSCALL_VECTOR, Lguest
from hostvm.lguest_dma import USED_LEN
from hostvm.lguest_regs import LguestRegs
from hostvm.memory import BoundedMemory, MemoryAccess, PhysicalMemory
from hostvm.memory_map import (
    guest_regs_page,
    guest_shadow_pool,
    guest_switcher_page_table,
    guest_vmi_pages,
    shared_page,
)
from hostvm.observations import (
    ConsoleOutput,
    Hypercall,
    IrqDelivered,
    IrqRaised,
    Observation,
    PacketSent,
    TrapReflected,
)
from hostvm.page_pool import PagePool
from hostvm.page_tables import ShadowPageTables
from hostvm.quirks import UPSTREAM, Quirk
from hostvm.segments import copy_gdt, copy_gdt_tls
from hostvm.shared_pages import SharedPages
from hostvm.switcher import OLD_SWITCHER, SWITCHER, switcher_pte_page
from hostvm.units import HostPhysical, Nanoseconds, Tick
from hostvm.vmi_pages import VmiPages
from hostvm.world import Action, Completion, Request
from hostvm.x86 import PAGE_SIZE, Vector

_LONGEST_OUTPUT = 1 << 16
_ZEROES = bytes(PAGE_SIZE)


class Surroundings(Protocol):
    """What a Guest needs of the machine: the tick of the step under way, the World's answers, an ear."""

    @property
    def step_tick(self) -> Tick:
        """Tick at which the step under way began."""
        ...

    def clock(self, guest: int) -> Nanoseconds:
        """Wall-clock time from the World."""
        ...

    def choose(self, guest: int, bound: int) -> int:
        """A random choice from the World."""
        ...

    def observe(self, observation: Observation) -> None:
        """Report to the World."""
        ...

    def submit(self, request: Request) -> None:
        """Tell the World what a device waits for."""
        ...

    def timer_changed(self) -> None:
        """A Guest's deadline changed."""
        ...

    def other_guests(self, guest: int) -> Sequence[Lguest]:
        """The Guests that have not ended, but for this one."""
        ...

    def kill(self, guest: int, reason: str) -> None:
        """End a Guest that is not the one that runs."""
        ...


class LaunchedGuest:
    """Guest `number` over `memory`, whose slice begins at `base`."""

    tsc_khz = 0

    def __init__(
        self,
        number: int,
        surroundings: Surroundings,
        memory: PhysicalMemory,
        base: HostPhysical,
        loaded: LoadedGuest,
        abi_name: str,
        quirks: Quirk = UPSTREAM,
        syscall_vector: int = SYSCALL_VECTOR,
    ) -> None:
        abi = generation(abi_name)
        self.number = number
        self.base = base
        self.loaded = loaded
        self._machine = surroundings
        self._memory = memory
        self._abi = abi
        self._quirks = quirks
        self._syscall_vector = syscall_vector
        self._shared = {page: shared_page(network) for page, network in loaded.shared}
        seen: MemoryAccess = memory
        if self._shared:
            there = {base + page: place for page, place in self._shared.items()}
            seen = SharedPages(memory, there)
        self._seen = seen
        self.place = OLD_SWITCHER if abi.has_old_switcher else SWITCHER
        self.switcher_page_table = guest_switcher_page_table(number)
        self.regs = LguestRegs(memory, guest_regs_page(number), abi.regs_order)
        self.file = DevLguest(abi, self._install)
        self._open()
        limit = loaded.pfn_limit * PAGE_SIZE
        old = abi.device_page is DevicePage.LGUEST_BUS
        theirs = LauncherMemory(seen, base, limit, exclusive=old)
        self.devices = (
            PciBus(loaded.devices, theirs, self)
            if abi.device_page is DevicePage.PCI
            else DeviceBus(loaded.devices, theirs, self, drivers=abi.device_page)
        )

    def _open(self) -> None:
        """The Launcher has opened /dev/lguest: it has the Guest made, binds its doorbells and begins to read."""
        loaded = self.loaded
        pgdir = loaded.pgdir or 0
        wishes = Initialize(
            loaded.pfn_limit,
            loaded.start,
            pgdir,
            self.base,
            loaded.page_offset,
            loaded.device_limit,
        )
        self.file.write(pack_initialize(self._abi, wishes))
        if self.file.has_eventfds:
            for queue in (queue for device in loaded.devices for queue in device.queues):
                self.file.write((DeviceRequest.EVENTFD, queue.address), signal=self._rung)
        self.file.begin_read()

    def _install(self, wishes: Initialize) -> Lguest:
        """INITIALIZE, in the Host: a Guest over its memory. In some generations the Host makes its first tables."""
        abi, number, memory = self._abi, self.number, self._memory
        self.guest_memory = BoundedMemory(
            self._seen,
            self.base,
            wishes.pfn_limit,
            abi.limit_is_exclusive,
            abi.word_kill_names_length,
            self._shared,
            wishes.device_limit,
        )
        memory.write(self.switcher_page_table, switcher_pte_page(self.regs.page, self.place))
        self.tables = ShadowPageTables(
            abi,
            self.guest_memory,
            PagePool(memory, *guest_shadow_pool(number)),
            self.switcher_page_table,
            self.choose,
            first_pgdir=wishes.pgdir or self.loaded.pgdir or 0,
            quirks=self._quirks,
            kernel_address=wishes.page_offset,
        )
        self.regs.initialize(wishes.start)
        self.lguest = Lguest(
            number,
            abi,
            self.guest_memory,
            self.tables,
            self.regs,
            self,
            self._quirks,
            self._syscall_vector,
        )
        if self.loaded.shims is not None:
            self.lguest.vmi = VmiPages(self.loaded.shims, memory, guest_vmi_pages(number))
            self.lguest.vmi.set_up(self.switcher_page_table)
        return self.lguest

    # ---- HostServices: what lguest's Host code asks for ------------------------------------------

    def wall_clock(self) -> Nanoseconds:
        """Wall-clock time now."""
        return self._machine.clock(self.number)

    def choose(self, bound: int) -> int:
        """A random choice in range(bound)."""
        return self._machine.choose(self.number, bound)

    def start_timer(self, deadline: Nanoseconds) -> None:
        """The deadline itself stands in the Guest's state; the machine sets its hardware timer by it."""
        self.lguest.timer = deadline
        self._machine.timer_changed()

    def cancel_timer(self) -> None:
        """No deadline any more."""
        self.lguest.timer = None
        self._machine.timer_changed()

    def hypercall_made(self, number: int, args: tuple[int, ...], queued: bool) -> None:
        """Report a hypercall."""
        tick = self._machine.step_tick
        self._machine.observe(Hypercall(tick, self.number, number, args, queued))

    def trap_reflected(self, vector: int, error_code: int, eip: int) -> None:
        """Report a reflected trap."""
        tick = self._machine.step_tick
        self._machine.observe(TrapReflected(tick, self.number, vector, error_code, eip))

    def irq_raised(self, irq: int) -> None:
        """Report a virtual interrupt that became pending."""
        self._machine.observe(IrqRaised(self._machine.step_tick, self.number, irq))

    def irq_delivered(self, irq: int) -> None:
        """Report a virtual interrupt that enters its handler."""
        self._machine.observe(IrqDelivered(self._machine.step_tick, self.number, irq))

    def other_guests(self) -> Sequence[Lguest]:
        """The Guests beside this one that have not ended."""
        return self._machine.other_guests(self.number)

    def kill_other(self, number: int, reason: str) -> None:
        """Another Guest ends of its own fault."""
        self._machine.kill(number, reason)

    # ---- GuestOnCpu: what the Switcher's pages get -----------------------------------------------

    @property
    def esp1(self) -> int:
        """The Guest kernel's stack pointer for direct traps."""
        return self.lguest.esp1

    @property
    def ss1(self) -> int:
        """The Guest kernel's stack segment for direct traps."""
        return self.lguest.ss1

    @property
    def changed(self) -> int:
        """What must be copied before the Guest runs again."""
        return self.lguest.changed

    @changed.setter
    def changed(self, value: int) -> None:
        self.lguest.changed = value

    @property
    def shadow_root(self) -> HostPhysical:
        """The shadow page directory in use."""
        tables = self.tables
        return HostPhysical(tables.roots[tables.current])

    def copy_traps(self, idt: HostPhysical, default_idt_entries: Sequence[int]) -> None:
        """Fill the CPU's IDT."""
        copy_traps(self.lguest, self._memory, idt, default_idt_entries)

    def copy_gdt(self, gdt: HostPhysical) -> None:
        """Fill the CPU's GDT."""
        copy_gdt(self.lguest, self._memory, gdt)

    def copy_gdt_tls(self, gdt: HostPhysical) -> None:
        """Fill the thread-local entries of the CPU's GDT."""
        copy_gdt_tls(self.lguest, self._memory, gdt)

    # ---- the Launcher ----------------------------------------------------------------------------

    def serve_launcher(self) -> None:
        """The Launcher's read() returned: with a NOTIFY, in 2.6.23 with a buffer and its key, or with an instruction.

        It reads again, and in the last case only when it has done what the Guest wants.
        """
        said = self.file.end_read()
        if said is None:
            return
        if len(said) == PENDING.size:
            self._emulate(*PENDING.unpack(said))
            self.file.begin_read()
            return
        self.file.begin_read()
        if len(said) == NOTIFY.size:
            self.devices.notify(*NOTIFY.unpack(said))
        else:
            self.devices.dma_sent(*DMA_SENT.unpack(said))

    def _emulate(self, vector: int, insn: bytes, address: int) -> None:
        """Carry out an instruction, or have the Guest take its trap. Raises GuestKilled."""
        bus = self.devices
        assert isinstance(bus, PciBus)
        touched = vector == Vector.PF
        if emulate_mmio(insn, address, self, bus) if touched else emulate_port(insn, self, bus):
            return
        try:
            self.file.write((DeviceRequest.TRAP, vector))
        except DeviceError:
            eip = self.get("eip")
            text = f"Reinjecting trap {vector} for fault at {eip:#x}: Invalid argument"
            raise GuestKilled(text) from None

    def get(self, name: str) -> int:
        """A register of the Guest's, asked of the Host."""
        self.file.write((DeviceRequest.GETREG, REGISTER_OFFSETS[name]))
        said = self.file.begin_read()
        assert said is not None
        (value,) = REGISTER.unpack(said)
        return int(value)

    def set(self, name: str, value: int) -> None:
        """Have the Host set a register of the Guest's."""
        self.file.write((DeviceRequest.SETREG, REGISTER_OFFSETS[name], value))

    def _rung(self, address: int) -> None:
        self.devices.notify(address)

    def complete(self, done: Completion) -> None:
        """The World has something for a device: the Waker gets the Launcher out of its read. Raises GuestKilled.

        From 4.1 on each device has a thread of its own in the Launcher, which just does it.
        """
        if self._abi.device_page is DevicePage.PCI:
            self.devices.complete(done.device, done.irq, done.data)
            return
        self.file.write((DeviceRequest.BREAK, 1), WAKER)
        with suppress(DeviceError):
            self.file.end_read()
        self.file.write((DeviceRequest.BREAK, 0))
        self.file.begin_read()
        self.devices.complete(done.device, done.irq, done.data)

    def last_words(self) -> str:
        """What the Launcher hears of a Guest that has ended: its read fails, and the next one says why."""
        assert self.lguest.ended is not None
        try:
            self.file.end_read()
        except DeviceError as failed:
            if failed.error is Errno.ERESTART:
                return self.lguest.ended[1]
        said = self.file.begin_read()
        assert said is not None
        return said.removesuffix(b"\0").decode("latin-1")

    def close(self) -> None:
        """The Launcher runs itself again."""
        self.file.close()

    # ---- DeviceHost: what devices ask for ----------------------------------------------------------

    def console_output(self, data: bytes) -> None:
        """Report what the Guest printed."""
        for at in range(0, len(data) or 1, _LONGEST_OUTPUT):
            text = data[at : at + _LONGEST_OUTPUT]
            self._machine.observe(ConsoleOutput(self._machine.step_tick, self.number, text))

    def raise_irq(self, irq: int) -> None:
        """Make a virtual interrupt pending, as a write to /dev/lguest does: a number that is none is refused."""
        with suppress(DeviceError):
            self.file.write((DeviceRequest.IRQ, irq))

    def packet_sent(self, device: int, frame: bytes) -> None:
        """Report a frame that the Guest sends."""
        self._machine.observe(PacketSent(self._machine.step_tick, self.number, device, frame))

    def dma_buffer(self, key: int) -> tuple[int, int] | None:
        """A buffer that the Guest has bound to `key`: guest-physical address and interrupt, which is in it."""
        try:
            address = self.file.write((DeviceRequest.GETDMA, key))
        except DeviceError:
            return None
        return address, self.guest_memory.read_u32(address + USED_LEN)

    def request(self, device: int, irq: int, action: Action, position: int, count: int) -> None:
        """Tell the World what a device waits for."""
        self._machine.submit(Request(self.number, device, irq, action, position, count))


def launch(
    number: int,
    surroundings: Surroundings,
    memory: PhysicalMemory,
    base: HostPhysical,
    config: GuestConfig,
    quirks: Quirk = UPSTREAM,
    syscall_vector: int = SYSCALL_VECTOR,
) -> LaunchedGuest:
    """Do as the Launcher does: fill the memory at `base`, which is all zero, and make the Guest known to the Host.

    Raises ConfigurationError.
    """
    loaded = load_guest(memory, base, config)
    return LaunchedGuest(
        number, surroundings, memory, base, loaded, config.abi, quirks, syscall_vector
    )


def relaunch(
    guest: LaunchedGuest,
    surroundings: Surroundings,
    memory: PhysicalMemory,
    config: GuestConfig,
    quirks: Quirk = UPSTREAM,
    syscall_vector: int = SYSCALL_VECTOR,
) -> LaunchedGuest:
    """Do as the Launcher does when its Guest restarts: it runs itself again, so only what is on the disks is left.

    What the World still has to deliver to the old Guest finds nobody who waits.
    """
    guest.close()
    _clear(memory, guest.base, guest.loaded.pfn_limit)
    _clear(memory, *guest_shadow_pool(guest.number))
    again = launch(guest.number, surroundings, memory, guest.base, config, quirks, syscall_vector)
    devices = zip(again.devices.state(), guest.devices.state(), strict=True)
    again.devices.restore(tuple(replace(new, sectors=old.sectors) for new, old in devices))
    return again


def _clear(memory: PhysicalMemory, first: HostPhysical, pages: int) -> None:
    """Zero pages, without a touch to those that are zero: most of a Guest's memory was never used."""
    for page in range(first, first + pages * PAGE_SIZE, PAGE_SIZE):
        if memory.read(page, PAGE_SIZE) != _ZEROES:
            memory.write(page, _ZEROES)


__all__ = ["LaunchedGuest", "Surroundings", "launch", "relaunch"]
