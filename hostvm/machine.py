"""The machine: Host, Switcher and Guests on one emulated CPU, moved forward step by step.

A machine step is one tick: an instruction with whatever it causes synchronously, or one hardware interrupt taken, or
one turn of the Host. The Host's turn is what the `hlt` in its loop does (guest/host.S): the CPU executes the hlt,
Python acts, and the CPU goes on behind it into the Switcher. So the machine is (i) `run`, which cuts the way into
stretches that nothing from outside interrupts; (ii) `_host_turn`, lguest's run_guest loop in its order; (iii) the
interrupts of the hardware, which the Host hears of when one has thrown a Guest out or woken it from idleness.

Nothing here reads a clock or draws a number: `World` is asked, at points that the machine's state alone determines.
A Guest's mistake is a `GuestKilled`, raised anywhere below and caught here.

Source: lguest, drivers/lguest/core.c (run_guest). Read next: launched_guest.py, then world.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import blake2b

from hostvm.abi import generation
from hostvm.cpu import Cpu, ExitKind
from hostvm.dma import release_all_dma
from hostvm.edits import Edit
from hostvm.edits import make as make_edit
from hostvm.edits import refusal as edit_refusal
from hostvm.errors import GuestKilled
from hostvm.fpu_context import change_fpu
from hostvm.handle_trap import handle_trap
from hostvm.host_tables import build_host_world
from hostvm.hypercalls import do_hypercalls
from hostvm.interrupts_and_traps import clock_expired, maybe_do_interrupt
from hostvm.launched_guest import LaunchedGuest, launch, relaunch
from hostvm.lguest import Lguest
from hostvm.lguest_regs import TRAP_IN_SWITCHER
from hostvm.machine_state import MachineConfig, MachineState, power_on
from hostvm.memory import PhysicalMemory
from hostvm.memory_digest import MemoryDigest, Range
from hostvm.memory_map import (
    HOST_AREA,
    SHADOW_POOL,
    SWITCHER_BASE,
    guest_bases,
    guest_shadow_pool,
    guest_slice_size,
)
from hostvm.observations import (
    DirectTraps,
    EndReason,
    GuestEnded,
    GuestRestarted,
    Observation,
    StateDigest,
)
from hostvm.switcher import Switcher, copy_in_guest_info
from hostvm.units import Nanoseconds, Tick
from hostvm.world import DEVICE_VECTOR, TIMER_VECTOR, Completion, Request, World
from hostvm.x86 import PAGE_SHIFT, PAGE_SIZE


class Machine:
    """A machine at power-on. Raises ConfigurationError when it cannot be built."""

    def __init__(self, config: MachineConfig, world: World) -> None:
        self.config = config
        self.world = world
        self.tick = Tick(0)
        self.step_tick = Tick(0)
        self.finished = False
        self.paused = False
        self.editing = False
        bases = guest_bases([guest.memory for guest in config.guests])
        top = bases[-1] + guest_slice_size(config.guests[-1].memory)
        self.memory = PhysicalMemory(HOST_AREA, top - HOST_AREA)
        self.cpu = Cpu(self.memory, self._read_tsc)
        old = any(generation(guest.abi).has_old_switcher for guest in config.guests)
        host = build_host_world(self.memory, with_old_switcher=old, other_switcher=config.switcher)
        self._host_turn_done = host.host_turn_done
        self._host = host
        self.guests = tuple(
            launch(number, self, self.memory, base, guest, config.quirks, config.syscall_vector)
            for number, (base, guest) in enumerate(zip(bases, config.guests, strict=True))
        )
        self._current = 0
        self._last_guest = -1
        self._entered = False
        self._programmed: Nanoseconds | None = None
        self._timers_moved = False
        self._restored = False
        self._time_is_up = False
        self._digest = MemoryDigest(self.memory, self._digest_ranges())
        self.cpu.restore(power_on(host.start))

    @property
    def current_guest(self) -> LaunchedGuest:
        """The Guest that is on the CPU, or whose turn it is."""
        return self.guests[self._current]

    @property
    def host_turn_end(self) -> int:
        """Linear address of the Host's first instruction behind its turn."""
        return self._host_turn_done

    @property
    def switchers(self) -> tuple[Switcher, ...]:
        """The Switchers that there are, in order of their addresses."""
        host = self._host
        return (host.switcher,) if host.old_switcher is None else (host.switcher, host.old_switcher)

    def switcher_of(self, guest: LaunchedGuest) -> Switcher:
        """The Switcher of a Guest's generation."""
        old = self._host.old_switcher
        return old if old is not None and guest.place is old.place else self._host.switcher

    @property
    def switcher_text(self) -> tuple[int, int]:
        """First and last linear address of the Switchers' code."""
        last = self.switchers[-1]
        return SWITCHER_BASE, last.place.base + len(last.text) - 1

    @property
    def probed_tick(self) -> Tick:
        """The tick of the step under way; for probes, which are answered in the middle of one."""
        if self.cpu.running:
            return Tick(self.step_tick + self.cpu.progress - 1)
        return self.step_tick

    # ---- running ------------------------------------------------------------------------------

    def run(self, until: Tick) -> None:
        """Move forward to tick `until`, or to the end of the last Guest if that comes first.

        A probe (probes.py) that asks to stop sets `paused`, and the run ends there; calling again goes on.
        """
        self.paused = False
        while self.tick < until and not self.finished and not self.paused:
            tick = self.tick
            horizon = self.world.horizon(tick)
            if horizon <= tick:
                self.make_edits()
                if self._take_interrupt():
                    self.make_edits()
                    continue
                if self.paused:
                    return
                horizon = Tick(tick + 1)
            self._stretch(min(until, horizon, self._next_digest()))
            if self.tick >= horizon:
                self.make_edits()

    def make_edits(self) -> None:
        """Make what a debugger writes at this tick, as far as that has not been done; for use between two steps."""
        while (edit := self.world.edit(self.tick, self._edit_refusal)) is not None:
            # For who listens: it is the end of the step before.
            self.step_tick = Tick(max(self.tick - 1, 0))
            self.editing = True
            make_edit(self, edit)
            self.editing = False

    def _edit_refusal(self, edit: Edit) -> str | None:
        return edit_refusal(self, edit)

    def _next_digest(self) -> Tick:
        interval = self.config.digest_interval
        return Tick((self.tick // interval + 1) * interval)

    def _stretch(self, until: Tick) -> None:
        """Run to `until` or to the Host's turn; nothing comes in on the way."""
        start = self.step_tick = self.tick
        steps, kind = self.cpu.run(until - start)
        self.tick = end = Tick(start + steps)
        if kind is ExitKind.HALT:
            self.step_tick = Tick(end - 1)
            self._host_turn()
        elif kind is ExitKind.PROBE:
            self.paused = True
        elif kind is ExitKind.SHUTDOWN:
            self._end(self.guests[self._current], EndReason.KILLED, "CPU shutdown")
        if end % self.config.digest_interval == 0 and end > start:
            self._report()

    def _take_interrupt(self) -> bool:
        """Take the hardware interrupt whose line is up, if the CPU accepts it: a step of its own."""
        vector = self.world.interrupt_line(self.tick)
        if vector is None or not self.cpu.interruptible(vector):
            return False
        eip, check = self.cpu.eip, self.cpu.check()
        self.world.interrupt_taken(self.tick, self._current, vector, eip, check)
        self.step_tick = self.tick
        self.cpu.take_interrupt(vector)
        self.tick = Tick(self.tick + 1)
        if self.tick % self.config.digest_interval == 0:
            self._report()
        return True

    # ---- the Host's turn ----------------------------------------------------------------------

    def _host_turn(self) -> None:
        """What the Host does between leaving a Guest and entering one."""
        self._time_is_up = False
        while not self.finished:
            guest = self.guests[self._current]
            try:
                if self._entered:
                    self._entered = False
                    self._came_out(guest)
                if self._prepare(guest):
                    self._enter(guest)
                    return
            except GuestKilled as killed:
                self._end(guest, EndReason.KILLED, killed.reason)

    def _came_out(self, guest: LaunchedGuest) -> None:
        # With an interrupt of the hardware there is nothing to be done for the Guest itself.
        vector = handle_trap(guest.lguest, self.cpu.cr2)
        if vector in (TIMER_VECTOR, DEVICE_VECTOR):
            self._hardware_interrupt(vector)

    def _prepare(self, guest: LaunchedGuest) -> bool:
        """run_guest's loop up to the point of entry; False when this Guest cannot run now."""
        lguest = guest.lguest
        while True:
            self._drain_hypercalls(guest)
            if lguest.ended is not None:
                self._end(guest, *lguest.ended)
                return False
            vector = self.world.host_interrupt(self.step_tick, guest.number)
            if vector is not None:
                self._hardware_interrupt(vector)
            if lguest.irqs_pending:
                maybe_do_interrupt(lguest)
            if self._timers_moved:
                self._program_timer()
            if self._restored:
                self._ask_again()
            if not lguest.halted:
                return not (self._time_is_up and self._preempted(guest))
            if not self._idle(guest):
                return False

    def _drain_hypercalls(self, guest: LaunchedGuest) -> None:
        lguest = guest.lguest
        while True:
            do_hypercalls(lguest)
            if not lguest.wants_launcher:
                return
            guest.serve_launcher()

    def _idle(self, guest: LaunchedGuest) -> bool:
        """The Guest is halted: let another run, or wait for an interrupt. False: somebody else's turn, or the end."""
        if self._another(guest):
            return False
        vector = self.world.wait(self.step_tick, guest.number)
        if vector is None:
            self._finish()
            return False
        self._hardware_interrupt(vector)
        awake = [g.number for g in self._alive() if g.lguest.irqs_pending]
        if awake and guest.number not in awake:
            self._current = awake[0]
            return False
        return True

    def _preempted(self, guest: LaunchedGuest) -> bool:
        """Whether the Host's tick takes the CPU from a Guest that could run: each is a process of its own in Linux."""
        self._time_is_up = False
        return self._another(guest)

    def _another(self, guest: LaunchedGuest) -> bool:
        """Give the CPU to the next Guest that can run, in turn, if there is one."""
        alive = self._alive()
        behind = [g for g in alive if g.number > guest.number]
        before = [g for g in alive if g.number < guest.number]
        other = next((g for g in behind + before if self._awake(g)), None)
        if other is not None:
            self._current = other.number
        return other is not None

    def _awake(self, guest: LaunchedGuest) -> bool:
        """Whether a Guest can run; a halted one is woken by what came for it while another Guest ran."""
        if guest.lguest.halted:
            try:
                maybe_do_interrupt(guest.lguest)
            except GuestKilled as killed:
                self._end(guest, EndReason.KILLED, killed.reason)
                return False
        return not guest.lguest.halted

    def _enter(self, guest: LaunchedGuest) -> None:
        """Set the CPU up to go behind the hlt into the Switcher, and so into the Guest."""
        ran_last = self._last_guest == guest.number
        if not ran_last and self._last_guest >= 0:
            change_fpu(self.cpu, self.memory, self._last_guest, guest.number)
        self._last_guest = guest.number
        switcher = self.switcher_of(guest)
        copy_in_guest_info(self.memory, guest, switcher, ran_last=ran_last)
        if self.memory.read_u32(self._host.lguest_entry) != switcher.switch_to_guest:
            self.memory.write_u32(self._host.lguest_entry, switcher.switch_to_guest)
        guest.regs.trapnum = TRAP_IN_SWITCHER
        guest.tables.tlb_dirty = False
        self.cpu.set_task_switched(bool(guest.lguest.ts))
        pages = switcher.place.lguest_pages
        self.cpu.call_host(self._host_turn_done, eax=pages, ebx=guest.tables.root)
        self._entered = True

    # ---- hardware interrupts, as the Host's handlers see them -------------------------------------

    def _hardware_interrupt(self, vector: int) -> None:
        if vector == TIMER_VECTOR:
            self._time_is_up = True
            self._programmed = None
            self._timers_moved = True
            now = self.clock(self._current)
            for guest in self._alive():
                deadline = guest.lguest.timer
                if deadline is not None and deadline <= now:
                    guest.lguest.timer = None
                    clock_expired(guest.lguest)
        elif vector == DEVICE_VECTOR:
            self._complete(self.world.completions(self.step_tick))

    def _complete(self, completions: Sequence[Completion]) -> None:
        """Hand over what devices delivered. It may kill its Guest, which need not be the one that runs."""
        killed: GuestKilled | None = None
        for done in completions:
            guest = self.guests[done.guest]
            if guest.lguest.ended is not None or (killed and guest.number == self._current):
                continue
            try:
                guest.complete(done)
            except GuestKilled as reason:
                if guest.number == self._current:
                    killed = reason
                else:
                    self._end(guest, EndReason.KILLED, reason.reason)
        if killed:
            raise killed

    def _program_timer(self) -> None:
        """A deadline has changed: set the hardware timer to the earliest."""
        self._timers_moved = False
        deadlines = [g.lguest.timer for g in self._alive() if g.lguest.timer is not None]
        earliest = min(deadlines, default=None)
        if earliest != self._programmed:
            self._programmed = earliest
            self.world.program_timer(self.step_tick, earliest)

    def _ask_again(self) -> None:
        """After a restore the World may be one that does not know what devices wait for."""
        self._restored = False
        for guest in self._alive():
            guest.devices.ask_again()

    # ---- ends ---------------------------------------------------------------------------------

    def _alive(self) -> list[LaunchedGuest]:
        return [guest for guest in self.guests if guest.lguest.ended is None]

    def _end(self, guest: LaunchedGuest, reason: EndReason, text: str) -> None:
        if reason is EndReason.RESTART and self.config.restarts:
            self._restart(guest, text)
            return
        guest.lguest.ended = (reason, text)
        self.observe(GuestEnded(self.step_tick, guest.number, reason, guest.last_words()))
        guest.lguest.timer = None
        release_all_dma(guest.lguest)
        self._timers_moved = True
        alive = self._alive()
        if not alive:
            self._finish()
        elif guest.number == self._current:
            self._current = alive[0].number

    def _restart(self, guest: LaunchedGuest, text: str) -> None:
        self.observe(GuestRestarted(self.step_tick, guest.number, text))
        config = self.config.guests[guest.number]
        again = relaunch(
            guest, self, self.memory, config, self.config.quirks, self.config.syscall_vector
        )
        self.guests = tuple(again if each is guest else each for each in self.guests)
        self._timers_moved = True
        # Launching takes long enough for another Guest to get its turn.
        others = [g.number for g in self._alive() if g is not again and not g.lguest.halted]
        self._current = others[0] if others else guest.number

    def _finish(self) -> None:
        self.finished = True

    # ---- what Guests ask of the machine -----------------------------------------------------------

    def clock(self, guest: int) -> Nanoseconds:
        """Wall-clock time from the World."""
        return self.world.clock(self.step_tick, guest)

    def choose(self, guest: int, bound: int) -> int:
        """A random choice from the World."""
        return self.world.choose(self.step_tick, guest, bound)

    def observe(self, observation: Observation) -> None:
        """Report to the World."""
        self.world.observe(observation)

    def submit(self, request: Request) -> None:
        """Tell the World what a device waits for."""
        self.world.submit(self.step_tick, request)

    def timer_changed(self) -> None:
        """A Guest's deadline changed."""
        self._timers_moved = True

    def other_guests(self, guest: int) -> Sequence[Lguest]:
        """The Guests that have not ended, but for this one."""
        return [each.lguest for each in self._alive() if each.number != guest]

    def kill(self, guest: int, reason: str) -> None:
        """End a Guest that is not the one that runs."""
        assert guest != self._current
        self._end(self.guests[guest], EndReason.KILLED, reason)

    def _read_tsc(self) -> int:
        tick = Tick(self.step_tick + self.cpu.progress - 1)
        return self.world.tsc(tick, self._current)

    # ---- digests and states -----------------------------------------------------------------------

    def _digest_ranges(self) -> list[Range]:
        slices = [
            Range(guest.base, guest.base + guest.loaded.pfn_limit * PAGE_SIZE)
            for guest in self.guests
        ]
        pools = [guest_shadow_pool(guest.number) for guest in self.guests]
        tables = [Range(base, base + count * PAGE_SIZE, masked=True) for base, count in pools]
        return [Range(HOST_AREA, SHADOW_POOL), *tables, *slices]

    def _report(self) -> None:
        counts = tuple(sorted(self.cpu.direct_traps.items()))
        if counts:
            self.observe(DirectTraps(self.tick, self._current, counts))
            self.cpu.direct_traps.clear()
        rounds = self.tick // self.config.digest_interval
        memory = b"" if rounds % self.config.memory_digest_every else self._digest.value()
        self.observe(StateDigest(self.tick, self._current, self.register_digest(), memory))

    def register_digest(self) -> bytes:
        """8 bytes over the CPU's architectural state and the Host's own values."""
        digest = blake2b(self.cpu.state().pack(), digest_size=8)
        flags = (self.tick, self._entered, self._current, self._last_guest, self.finished)
        digest.update(repr(flags).encode())
        for guest in self.guests:
            digest.update(guest.lguest.digest_bytes())
            digest.update(guest.devices.digest_bytes())
        return digest.digest()

    def digest(self) -> bytes:
        """24 bytes over everything: register digest, then memory digest. Changes nothing."""
        return self.register_digest() + self._digest.value()

    def state(self, *, with_pages: bool = True) -> MachineState:
        """The whole machine as a value; without pages for somebody who keeps track of those himself."""
        return MachineState(
            tick=self.tick,
            cpu=self.cpu.state(),
            guests=tuple(guest.lguest.state() for guest in self.guests),
            devices=tuple(guest.devices.state() for guest in self.guests),
            entered=self._entered,
            current=self._current,
            last_guest=self._last_guest,
            finished=self.finished,
            direct_traps=tuple(sorted(self.cpu.direct_traps.items())),
            pages=self.memory.used_pages() if with_pages else (),
        )

    def enter(self, world: World) -> None:
        """Go on in another World, which is told anew what the one before knew: the timer, and what devices wait for."""
        self.world = world
        self._programmed, self._timers_moved, self._restored = None, True, True

    def restore(self, state: MachineState) -> None:
        """Be as in `state`, which a machine of the same configuration gave."""
        self.memory.clear()
        self.revert(state, state.pages)
        self.cpu.flush()

    def revert(self, state: MachineState, pages: Iterable[tuple[int, bytes]]) -> None:
        """Be as in `state`, given the (number, content) of all pages that differ from it."""
        for page, content in pages:
            self.memory.write(page << PAGE_SHIFT, content)
        for guest, its in zip(self.guests, state.guests, strict=True):
            guest.lguest.restore(its)
        for guest, theirs in zip(self.guests, state.devices, strict=True):
            guest.devices.restore(theirs)
        self.tick = self.step_tick = state.tick
        self._entered, self._current = state.entered, state.current
        self._last_guest, self.finished = state.last_guest, state.finished
        self.enter(self.world)
        self.cpu.direct_traps = dict(state.direct_traps)
        self.paused = False
        self.cpu.revert(state.cpu)


__all__ = [
    "Machine",
    "MachineConfig",
    "MachineState",
]
