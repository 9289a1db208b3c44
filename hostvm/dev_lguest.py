"""/dev/lguest: what the Launcher, a program of the Host's, can do to its Guest in the kernel.

The Launcher opens the device and writes words to it, of which the first says what it wants. The first request must be
INITIALIZE, which makes the Guest. Then it reads: the Guest runs for as long as that read lasts, and it ends with bytes
that say what the Guest wants of its Launcher, or with an error that says why it runs no more:

    4 bytes   the address of a NOTIFY                        EAGAIN    somebody asked for a BREAK
    8 bytes   a buffer and its key, SEND_DMA (2.6.23)        ENOENT    the Guest has just died: read once more
    12 bytes  an instruction to carry out (from 4.1 on)      ERESTART  it wants to be started again
    text      of a Guest that is dead: why

A virtqueue's NOTIFY need not end the read: from 2.6.30 on the Launcher may bind addresses to files of its own, and is
told there (EVENTFD). Requests come from the Launcher while the Guest stands still; only a BREAK may come from another
program, the Waker, who upstream waits until the Launcher has taken it back. Here who calls goes on at once.

From 4.1 on a Launcher is several threads, each of which may send interrupts; there is no BREAK and no EVENTFD. Instead
it can ask for a register (GETREG: the next read gives it, and the Guest does not run), set one (SETREG), and have a
trap reflected (TRAP). Registers are named by their offsets in what ptrace calls `struct pt_regs`.

The machine runs all Guests in one loop, so a read is in two halves here: `begin_read` is what upstream does before the
Guest runs, `end_read` what it asks on each round; `read` puts them together around whatever runs the Guest. The
generations differ in what INITIALIZE has to say.

Source: lguest, drivers/lguest/lguest_user.c and core.c (run_guest). Read next: launched_guest.py, the Launcher.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from types import MappingProxyType

from hostvm.abi import Abi, DevicePage, Translation
from hostvm.dma import get_dma_buffer
from hostvm.errors import HostvmError
from hostvm.host_module import Errno
from hostvm.interrupts_and_traps import LGUEST_IRQS, deliver_trap, set_interrupt
from hostvm.lguest import Lguest
from hostvm.observations import EndReason
from hostvm.x86 import WORD_MASK

LAUNCHER, WAKER = 1, 2
LONGEST_REASON = 1024
NOTIFY, DMA_SENT = struct.Struct("<I"), struct.Struct("<II")
PENDING, REGISTER = struct.Struct("<B7sI"), struct.Struct("<I")


class Request(IntEnum):
    """What a write asks for."""

    INITIALIZE = 0
    GETDMA = 1
    IRQ = 2
    BREAK = 3
    EVENTFD = 4
    GETREG = 5
    SETREG = 6
    TRAP = 7


REGISTER_OFFSETS: Mapping[str, int] = MappingProxyType(
    {
        name: 4 * at
        for at, name in enumerate(
            ("ebx", "ecx", "edx", "esi", "edi", "ebp", "eax", "ds", "es", "fs", "gs")
        )
    }
    | {"eip": 48, "cs": 52, "eflags": 56, "esp": 60, "ss": 64}
)
_BY_OFFSET = {offset: name for name, offset in REGISTER_OFFSETS.items()}
_MAY_BE_SET = frozenset({"ebx", "ecx", "edx", "esi", "edi", "ebp", "eax", "eip", "esp"})


class DeviceError(HostvmError):
    """A call that failed, and with what."""

    def __init__(self, error: Errno) -> None:
        super().__init__(error)
        self.error = error

    def __str__(self) -> str:
        return f"/dev/lguest: -{self.error.name}"


@dataclass(frozen=True, slots=True)
class Initialize:
    """What a Guest is made of: pages that it may name, where it starts, its page directory, where it lies.

    `base` is where the Guest's memory begins in the Launcher, `page_offset` where its kernel sees it (2.6.23), and
    pages from `pfn_limit` to `device_limit` are devices' (from 4.1 on).
    """

    pfn_limit: int
    start: int
    pgdir: int = 0
    base: int = 0
    page_offset: int = 0
    device_limit: int = 0


_WORDS: Mapping[Translation, tuple[str, ...]] = MappingProxyType(
    {
        Translation.LAUNCHER_TABLES_AT_OFFSET: ("pfn_limit", "pgdir", "start", "page_offset"),
        Translation.LAUNCHER_TABLES_IDENTITY: ("base", "pfn_limit", "pgdir", "start"),
        Translation.HOST_TABLES: ("base", "pfn_limit", "start"),
        Translation.LINEAR: ("base", "pfn_limit", "start"),
    }
)
_WITH_DMA = (Translation.LAUNCHER_TABLES_AT_OFFSET,)
_WITH_EVENTFDS = (DevicePage.DRIVER_OK, DevicePage.FEATURES_FINAL)


def pack_initialize(abi: Abi, wishes: Initialize) -> tuple[int, ...]:
    """The words of INITIALIZE in the order of a generation, the request itself included."""
    return Request.INITIALIZE, *(getattr(wishes, name) for name in _words(abi))


def _on_pci(abi: Abi) -> bool:
    return abi.device_page is DevicePage.PCI


def _words(abi: Abi) -> tuple[str, ...]:
    more = ("device_limit",) if _on_pci(abi) else ()
    return _WORDS[abi.translation] + more


class DevLguest:
    """The device, opened once. `install` makes a Guest, or raises DeviceError.

    Calls raise DeviceError where upstream returns an error. `task` says who calls.
    """

    def __init__(self, abi: Abi, install: Callable[[Initialize], Lguest]) -> None:
        self._abi = abi
        self._install = install
        self._guest: Lguest | None = None
        self._owner = LAUNCHER
        self._eventfds: dict[int, Callable[[int], None]] = {}
        self._reg_read: str | None = None
        self.break_out = False

    @property
    def has_eventfds(self) -> bool:
        """Whether this generation can bind addresses."""
        return self._abi.device_page in _WITH_EVENTFDS

    # ---- write ------------------------------------------------------------------------------------

    def write(
        self,
        words: Sequence[int],
        task: int = LAUNCHER,
        signal: Callable[[int], None] | None = None,
    ) -> int:
        """One request; its result. `signal` stands for the file that an EVENTFD names: it is told the address."""
        request = self._word(words, 0)
        if request == Request.INITIALIZE:
            return self._initialize(words, task)
        guest = self._guest
        if guest is None:
            raise DeviceError(Errno.EINVAL)
        if guest.ended is not None:
            raise DeviceError(Errno.ENOENT)
        if _on_pci(self._abi):
            return self._write_on_pci(guest, request, words)
        if task != self._owner and request != Request.BREAK:
            raise DeviceError(Errno.EPERM)
        match request:
            case Request.IRQ:
                return self._send_irq(guest, self._word(words, 1))
            case Request.BREAK:
                self.break_out = bool(self._word(words, 1))
                return 0
            case Request.GETDMA if self._abi.translation in _WITH_DMA:
                return self._get_dma(guest, self._word(words, 1))
            case Request.EVENTFD if self.has_eventfds and signal is not None:
                return self._bind(self._word(words, 1), signal)
        raise DeviceError(Errno.EINVAL)

    def _write_on_pci(self, guest: Lguest, request: int, words: Sequence[int]) -> int:
        match request:
            case Request.IRQ:
                return self._send_irq(guest, self._word(words, 1))
            case Request.GETREG:
                self._reg_read = _BY_OFFSET.get(self._word(words, 1))
                if self._reg_read is None:
                    raise DeviceError(Errno.ENOENT)
                return 8
            case Request.SETREG:
                name, value = _BY_OFFSET.get(self._word(words, 1)), self._word(words, 2)
                if name not in _MAY_BE_SET:
                    raise DeviceError(Errno.ENOENT)
                setattr(guest.regs, name, value)
                return 12
            case Request.TRAP:
                if deliver_trap(guest, self._word(words, 1)):
                    return 0
        raise DeviceError(Errno.EINVAL)

    @staticmethod
    def _word(words: Sequence[int], index: int) -> int:
        """A word of the caller's memory, which may end sooner."""
        if index >= len(words):
            raise DeviceError(Errno.EFAULT)
        return words[index] & WORD_MASK

    def _initialize(self, words: Sequence[int], task: int) -> int:
        if self._guest is not None:
            raise DeviceError(Errno.EBUSY)
        names = _words(self._abi)
        given = {name: self._word(words, 1 + at) for at, name in enumerate(names)}
        self._guest = self._install(Initialize(**given))
        self._owner = task
        return 4 * len(names)

    @staticmethod
    def _send_irq(guest: Lguest, irq: int) -> int:
        if irq >= LGUEST_IRQS:
            raise DeviceError(Errno.EINVAL)
        set_interrupt(guest, irq)
        return 0

    @staticmethod
    def _get_dma(guest: Lguest, key: int) -> int:
        found = get_dma_buffer(guest, key)
        if found is None:
            raise DeviceError(Errno.ENOENT)
        return found[0]

    def _bind(self, address: int, signal: Callable[[int], None]) -> int:
        # An address of 0 would mean that there is no NOTIFY.
        if not address:
            raise DeviceError(Errno.EINVAL)
        self._eventfds[address] = signal
        return 0

    # ---- read -------------------------------------------------------------------------------------

    def begin_read(self, task: int = LAUNCHER) -> bytes | None:
        """Before the Guest runs: why it is dead if it is, or a register if one was asked for, and then it does not run.

        Else what the Launcher was told of is done with, and the Guest may run.
        """
        guest = self._guest
        if guest is None:
            raise DeviceError(Errno.EINVAL)
        if task != self._owner:
            raise DeviceError(Errno.EPERM)
        if guest.ended is not None:
            return self._last_words(guest)
        guest.pending_notify, guest.pending_dma, guest.pending_trap = 0, None, None
        if self._reg_read is not None:
            name, self._reg_read = self._reg_read, None
            return REGISTER.pack(getattr(guest.regs, name))
        return None

    def end_read(self) -> bytes | None:
        """On each round of the Guest: the end of the read, or None if the Guest is to go on."""
        guest = self._guest
        assert guest is not None
        if guest.ended is not None:
            restarts = guest.ended[0] is EndReason.RESTART
            raise DeviceError(Errno.ERESTART if restarts else Errno.ENOENT)
        if guest.pending_dma is not None:
            return DMA_SENT.pack(*guest.pending_dma)
        if guest.pending_trap is not None:
            trap = guest.pending_trap
            return PENDING.pack(trap.vector, trap.insn, trap.address)
        if guest.pending_notify:
            return self._notified(guest)
        if self.break_out:
            raise DeviceError(Errno.EAGAIN)
        return None

    def read(
        self, run: Callable[[], None], size: int = LONGEST_REASON, task: int = LAUNCHER
    ) -> bytes:
        """Let the Guest run, by `run` for one round at a time, until there is something for the Launcher."""
        said = self.begin_read(task)
        while said is None:
            run()
            said = self.end_read()
        return said[:size]

    def _notified(self, guest: Lguest) -> bytes | None:
        address = guest.pending_notify
        signal = self._eventfds.get(address)
        if signal is None:
            return NOTIFY.pack(address)
        guest.pending_notify = 0
        signal(address)
        return None

    @staticmethod
    def _last_words(guest: Lguest) -> bytes:
        assert guest.ended is not None
        reason, text = guest.ended
        if reason is EndReason.RESTART:
            raise DeviceError(Errno.ERESTART)
        return text.encode("latin-1", "replace") + b"\0"

    # ---- close ------------------------------------------------------------------------------------

    def close(self) -> None:
        """The Launcher is gone, and its Guest with it; the device can be used no more."""
        self._guest = None
        self._eventfds.clear()


__all__ = [
    "DMA_SENT",
    "LAUNCHER",
    "LONGEST_REASON",
    "NOTIFY",
    "PENDING",
    "REGISTER",
    "REGISTER_OFFSETS",
    "WAKER",
    "DevLguest",
    "DeviceError",
    "Initialize",
    "Request",
    "pack_initialize",
]
