"""The worlds of a machine as threads: who is at work, what the others will go on with, and what memory each sees.

Thread 1 is the Host with the Switcher (ring 0); Guest number n has thread 2n + 2, its kernel (ring 1), and 2n + 3, its
programs (ring 3). All of them always exist. One is at work, and its registers are the CPU's. The others wait, and of
them only so much is known as they have left behind somewhere:

(i) *The Host* put its registers on its own stack before it entered the Guest, and the Switcher keeps where.
(ii) *A Guest that was left* for the Host lies in its regs page, which is the stack on which the Switcher pushes and
pops it. While it does so, the words below the stack pointer are still, or already, in the CPU.
(iii) *A program* whose kernel is at work left the hardware's frame at the top of the kernel's stack, and no more.
(iv) *A kernel* whose program is at work has no place to go on at; only its stack is known.

Memory is read as the thread would see it, by the Guest's own page tables rather than the shadow ones: the Host fills
those in only when they are missed. Read next: timeline_target.py. Source: hostvm/guest/switcher.S.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping

from gdbstub.registers import partial_set, register_set
from gdbstub.target import RegisterSet
from hostvm.launched_guest import LaunchedGuest
from hostvm.lguest_regs import REGS_ORDER
from hostvm.memory_map import (
    HOST_AREA,
    HOST_BASE,
    HOST_MAPPED_SIZE,
    HOST_PGDIR,
    SWITCHER_BASE,
)
from hostvm.paging import AddressSpace, peek_bytes
from hostvm.x86 import GENERAL_REGISTERS
from replay.look import GuestSpace, Look, World

HOST_THREAD = 1
_KERNEL, _USER = 2, 3
_RPL = 3
_HOST_SPACE = AddressSpace(HOST_PGDIR, enabled=True, large_pages=False)
_HOST_FRAME = ("ebp", "fs", "gs", "ds", "es", "eip", "cs", "eflags")
_TRAP_FRAME = ("eip", "cs", "eflags", "esp", "ss")
_IN_CPU = {name: at for at, name in enumerate(GENERAL_REGISTERS)}
# Words of the regs page that are no registers.
_NO_REGISTERS = frozenset({"trapnum", "errcode"})


def kernel_thread(guest: int) -> int:
    """The thread of a Guest's kernel."""
    return _KERNEL + 2 * guest


def user_thread(guest: int) -> int:
    """The thread of a Guest's programs."""
    return _USER + 2 * guest


def guest_of(thread: int) -> int:
    """The Guest that a thread other than the Host's is of."""
    return (thread - _KERNEL) // 2


def is_user(thread: int) -> bool:
    """Whether it is a thread of programs."""
    return thread != HOST_THREAD and thread % 2 == 1


class Contexts:
    """The threads of the machine at `look`."""

    def __init__(self, look: Look) -> None:
        self._look = look
        guests = range(len(look.machine.guests))
        self.threads = (
            HOST_THREAD,
            *(thread for n in guests for thread in (kernel_thread(n), user_thread(n))),
        )

    def current(self) -> int:
        """The thread at work."""
        match self._look.world:
            case World.HOST | World.SWITCHER:
                return HOST_THREAD
            case World.KERNEL:
                return kernel_thread(self._look.guest.number)
            case World.USER:
                return user_thread(self._look.guest.number)

    def name(self, thread: int) -> str:
        """What a thread is called."""
        if thread == HOST_THREAD:
            return "Switcher and Host"
        guest = guest_of(thread)
        which = f" {guest}" if len(self._look.machine.guests) > 1 else ""
        return f"Guest{which} {'user' if is_user(thread) else 'kernel'}"

    def state(self, thread: int) -> str:
        """What a thread does."""
        if thread == self.current():
            return f"running, {self._look.world.value}"
        if thread == HOST_THREAD:
            return "waiting for the Guest to come out"
        guest = self._look.machine.guests[guest_of(thread)].lguest
        if guest.ended is not None:
            return f"ended: {' '.join(guest.ended[1].split())}"
        return "halted" if guest.halted else "waiting"

    # ---- registers ------------------------------------------------------------------------------

    def registers(self, thread: int) -> RegisterSet:
        """All registers of the thread at work; what is known of another."""
        tick = self._look.tick
        if thread == self.current():
            return register_set(self._look.cpu, tick)
        return partial_set({**self._left_behind(thread), "tick": tick})

    def program_counter(self, thread: int) -> int | None:
        """Where a thread is or will go on."""
        if thread == self.current():
            return int(self._look.machine.cpu.eip)
        return self._left_behind(thread).get("eip")

    def _left_behind(self, thread: int) -> Mapping[str, int]:
        if thread == HOST_THREAD:
            return self._host()
        guest = self._look.machine.guests[guest_of(thread)]
        if self._is_out(guest) and is_user(thread) == (guest.regs.cs & _RPL == _RPL):
            return {**self._saved(guest), "cpl": guest.regs.cs & _RPL}
        return self._program(guest) if is_user(thread) else self._kernel(guest)

    def _host(self) -> Mapping[str, int]:
        memory = self._look.machine.memory
        place = self._look.guest.place
        stack = memory.read_u32(place.cpu_pages + place.layout.host_sp)
        if not HOST_BASE <= stack < HOST_BASE + HOST_MAPPED_SIZE - 4 * len(_HOST_FRAME):
            return {}
        frame = memory.read(stack - HOST_BASE + HOST_AREA, 4 * len(_HOST_FRAME))
        known = dict(zip(_HOST_FRAME, struct.unpack(f"<{len(_HOST_FRAME)}I", frame), strict=True))
        return {**known, "esp": stack + len(frame), "cr3": HOST_PGDIR, "cpl": 0}

    def _is_out(self, guest: LaunchedGuest) -> bool:
        """Whether a Guest's registers are those in its regs page, or on the way there or back."""
        return guest is not self._look.guest or self.current() == HOST_THREAD

    def _saved(self, guest: LaunchedGuest) -> Mapping[str, int]:
        """What is in the regs page, or, below the stack pointer that moves through it, still in the CPU."""
        known = {
            name: getattr(guest.regs, name) for name in REGS_ORDER if name not in _NO_REGISTERS
        }
        esp = self._look.machine.cpu.state().regs[_IN_CPU["esp"]]
        place = guest.place
        if guest is self._look.guest and place.lguest_pages < esp <= place.lguest_state:
            saved_from = guest.regs.page + (esp - place.lguest_pages)
            regs = self._look.cpu.regs
            for name, at in _IN_CPU.items():
                if name != "esp" and guest.regs.addresses[name] < saved_from:
                    known[name] = regs[at]
        return {**known, "cr3": guest.tables.root}

    def _program(self, guest: LaunchedGuest) -> Mapping[str, int]:
        """The frame at the top of the kernel's stack, if it is one."""
        size = 4 * len(_TRAP_FRAME)
        data = self._look.read(guest.lguest.esp1 - size, size, GuestSpace(guest.number))
        if len(data) < size:
            return {}
        known = dict(zip(_TRAP_FRAME, struct.unpack(f"<{len(_TRAP_FRAME)}I", data), strict=True))
        return known if known["cs"] & 0xFFFF & _RPL == _RPL else {}

    def _kernel(self, guest: LaunchedGuest) -> Mapping[str, int]:
        known = {"esp": guest.lguest.esp1, "ss": guest.lguest.ss1, "cr3": guest.tables.root}
        return known if guest.lguest.esp1 else {}

    # ---- memory ---------------------------------------------------------------------------------

    def read(self, thread: int, address: int, length: int) -> bytes:
        """Memory as a thread sees it, up to the first byte that is nowhere."""
        out = b""
        while len(out) < length:
            at = address + len(out)
            part = self._read_alike(thread, at, self._alike(at, length - len(out)))
            if not part:
                break
            out += part
        return out

    def _alike(self, address: int, length: int) -> int:
        """How many of these bytes are read in the same way."""
        return min(length, SWITCHER_BASE - address) if address < SWITCHER_BASE else length

    def _read_alike(self, thread: int, address: int, length: int) -> bytes:
        if thread != HOST_THREAD and address < SWITCHER_BASE:
            found = self._look.read(address, length, GuestSpace(guest_of(thread)))
            # A Guest may run on shadow entries when its own tables are gone or wrong: then see what the CPU sees.
            runs = not found and thread == self.current()
            return self._look.read(address, length) if runs else found
        if thread == self.current():
            return self._look.read(address, length)
        return peek_bytes(self._look.machine.memory, _HOST_SPACE, address, length)


__all__ = ["HOST_THREAD", "Contexts", "guest_of", "is_user", "kernel_thread", "user_thread"]
