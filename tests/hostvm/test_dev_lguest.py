"""/dev/lguest: every request and every end of a read, in the words of each generation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from hostvm.dev_lguest import (
    LAUNCHER,
    WAKER,
    DeviceError,
    DevLguest,
    Initialize,
    Request,
    pack_initialize,
)
from hostvm.dma import bind_dma
from hostvm.host_module import Errno
from hostvm.hypercalls import do_hypercalls
from hostvm.lguest import Lguest, PendingTrap
from hostvm.lguest_dma import DMA_SIZE
from hostvm.machine import Machine
from hostvm.observations import EndReason, IrqRaised
from hostvm.units import Tick
from hostvm.world import DEVICE_VECTOR, Completion
from replay.virtual_world import VirtualWorld
from tests.hostvm.lguest_kit import DATA, Bench
from tests.hostvm.quiet_world import END_OF_TIME, QuietWorld, hello, machine_of
from tests.replay.test_restart import restarting

OFFSET = 0xC0000000
WISHES = Initialize(
    pfn_limit=0x1100,
    start=0x100000,
    pgdir=0xFFF000,
    base=0x10000000,
    page_offset=OFFSET,
    device_limit=0x1202,
)
OLDEST = "2.6.23"
WITH_EVENTFDS = ("2.6.32", "2.6.37", "3.2", "3.10")
LATER = ("2.6.29", "2.6.30", *WITH_EVENTFDS)
# The words of INITIALIZE, and what it returns.
VECTORS = {
    "2.6.23": ((0, 0x1100, 0xFFF000, 0x100000, 0xC0000000), 16),
    "2.6.24": ((0, 0x10000000, 0x1100, 0xFFF000, 0x100000), 16),
    "2.6.27": ((0, 0x10000000, 0x1100, 0xFFF000, 0x100000), 16),
    **dict.fromkeys(LATER, ((0, 0x10000000, 0x1100, 0x100000), 12)),
    "4.1": ((0, 0x10000000, 0x1100, 0x100000, 0x1202), 16),
}
NOTIFY, SHUTDOWN, SEND_DMA = 17, 2, 13
KEY, TABLE = 0x8000, 0x9000


@contextmanager
def fails(error: Errno) -> Iterator[None]:
    with pytest.raises(DeviceError) as caught:
        yield
    assert caught.value.error is error
    assert str(caught.value) == f"/dev/lguest: -{error.name}"


class Opened:
    """The device, and the Guest that INITIALIZE makes behind it."""

    def __init__(self, name: str = "3.2") -> None:
        self.bench = Bench(name)
        self.bench.tables.linear = True
        self.asked: list[Initialize] = []
        self.file = DevLguest(self.bench.abi, self._install)

    def _install(self, wishes: Initialize) -> Lguest:
        self.asked.append(wishes)
        return self.bench.guest

    def initialize(self) -> Opened:
        self.file.write(pack_initialize(self.bench.abi, WISHES))
        return self

    def calls(self, number: int, *args: int) -> Callable[[], None]:
        """A round of the Guest in which it makes this hypercall."""

        def once() -> None:
            regs = self.bench.regs
            registers = self.bench.abi.hypercall_registers
            for register, value in zip(registers, (number, *args), strict=False):
                setattr(regs, register, value)
            self.bench.guest.hcall = True
            do_hypercalls(self.bench.guest)

        return once


def opened(name: str = "3.2") -> Opened:
    it = Opened(name).initialize()
    it.bench.guest.data.address = DATA
    return it


@pytest.mark.parametrize("name", VECTORS)
def test_initialize_says_it_in_the_order_of_its_generation(name: str) -> None:
    it = Opened(name)
    words, result = VECTORS[name]
    assert pack_initialize(it.bench.abi, WISHES) == words
    assert it.file.write(words) == result
    (asked,) = it.asked
    assert (asked.pfn_limit, asked.start) == (0x1100, 0x100000)
    assert (asked.base, asked.page_offset) == ((0, OFFSET) if name == OLDEST else (0x10000000, 0))
    assert asked.pgdir == (0xFFF000 if 0xFFF000 in words else 0)
    assert asked.device_limit == (0x1202 if name == "4.1" else 0)


@pytest.mark.parametrize("name", VECTORS)
def test_words_that_end_too_soon_are_a_fault_and_no_guest_is_made(name: str) -> None:
    it = Opened(name)
    words, _ = VECTORS[name]
    for length in range(len(words)):
        with fails(Errno.EFAULT):
            it.file.write(words[:length])
    assert it.asked == []
    it.initialize()


def test_everything_else_needs_a_guest_first() -> None:
    it = Opened()
    for request in (Request.GETDMA, Request.IRQ, Request.BREAK, Request.EVENTFD, 5, 0xFFFFFFFF):
        with fails(Errno.EINVAL):
            it.file.write((request, 0))
    with fails(Errno.EINVAL):
        it.file.read(lambda: None)


def test_a_second_initialize_is_refused() -> None:
    it = opened()
    with fails(Errno.EBUSY):
        it.initialize()
    assert len(it.asked) == 1


def test_what_makes_no_guest_leaves_the_device_as_it_was() -> None:
    def no_room(_wishes: Initialize) -> Lguest:
        raise DeviceError(Errno.ENOMEM)

    abi = Bench().abi
    file = DevLguest(abi, no_room)
    with fails(Errno.ENOMEM):
        file.write(pack_initialize(abi, WISHES))
    with fails(Errno.EINVAL):
        file.write((Request.IRQ, 0))


@pytest.mark.parametrize("irq", [0, 1, 31])
def test_an_irq_becomes_pending(irq: int) -> None:
    it = opened()
    assert it.file.write((Request.IRQ, irq)) == 0
    assert it.bench.guest.irqs_pending == 1 << irq
    assert it.bench.notes.told == [("raised", irq)]


@pytest.mark.parametrize("irq", [32, 33, 0x80000000, 0xFFFFFFFF])
def test_an_irq_that_is_none_is_refused(irq: int) -> None:
    it = opened()
    with fails(Errno.EINVAL):
        it.file.write((Request.IRQ, irq))
    assert it.bench.guest.irqs_pending == 0


def test_requests_that_do_not_exist_are_refused() -> None:
    it = opened()
    for request in (5, 6, 7, 0xFFFFFFFF):
        with fails(Errno.EINVAL):
            it.file.write((request, 0))
    with fails(Errno.EFAULT):
        it.file.write((Request.IRQ,))
    with fails(Errno.EFAULT):
        it.file.write(())


def test_only_the_launcher_may_ask_and_anybody_may_break() -> None:
    it = opened()
    with fails(Errno.EPERM):
        it.file.write((Request.IRQ, 1), WAKER)
    with fails(Errno.EPERM):
        it.file.read(lambda: None, task=WAKER)
    assert it.file.write((Request.BREAK, 1), WAKER) == 0
    assert it.file.write((Request.IRQ, 1), LAUNCHER) == 0


def test_a_break_ends_the_read_until_it_is_taken_back() -> None:
    it = opened()
    rounds: list[int] = []

    def run() -> None:
        rounds.append(1)
        if len(rounds) == 3:
            it.file.write((Request.BREAK, 1), WAKER)

    with fails(Errno.EAGAIN):
        it.file.read(run)
    assert len(rounds) == 3
    with fails(Errno.EAGAIN):
        it.file.read(run)
    assert len(rounds) == 4
    it.file.write((Request.BREAK, 0))
    it.bench.guest.pending_notify = 0
    assert it.file.read(it.calls(NOTIFY, 0x5000)) == b"\x00\x50\x00\x00"


def test_a_notify_ends_the_read_with_its_address_and_is_done_with_at_the_next() -> None:
    it = opened()
    assert it.file.read(it.calls(NOTIFY, 0x1234000)) == (0x1234000).to_bytes(4, "little")
    assert it.bench.guest.pending_notify == 0x1234000
    assert it.file.begin_read() is None
    assert it.bench.guest.pending_notify == 0


def test_a_notify_comes_before_a_break() -> None:
    it = opened()
    it.file.write((Request.BREAK, 1), WAKER)
    assert it.file.read(it.calls(NOTIFY, 0x1000)) == b"\x00\x10\x00\x00"


@pytest.mark.parametrize("name", WITH_EVENTFDS)
def test_an_address_that_is_bound_does_not_end_the_read(name: str) -> None:
    it = opened(name)
    rung: list[int] = []
    assert it.file.write((Request.EVENTFD, 0x2000), signal=rung.append) == 0
    addresses = iter((0x2000, 0x3000))

    def run() -> None:
        it.calls(NOTIFY, next(addresses))()

    assert it.file.read(run) == b"\x00\x30\x00\x00"
    assert rung == [0x2000]


def test_older_generations_can_bind_nothing_and_nobody_can_bind_address_0() -> None:
    with fails(Errno.EINVAL):
        opened("2.6.27").file.write((Request.EVENTFD, 0x2000), signal=print)
    with fails(Errno.EINVAL):
        opened().file.write((Request.EVENTFD, 0), signal=print)


def test_a_guest_that_dies_ends_the_read_and_the_next_one_says_why() -> None:
    it = opened()

    def die() -> None:
        it.bench.guest.ended = EndReason.KILLED, "unhandled trap 6 at 0xc0de (0x0)"

    with fails(Errno.ENOENT):
        it.file.read(die)
    for _ in range(2):
        assert it.file.read(die) == b"unhandled trap 6 at 0xc0de (0x0)\0"
    assert it.file.read(die, size=9) == b"unhandled"


@pytest.mark.parametrize("words", [(2, 1), (3, 1), (4, 0x1000), (1, 0), (9, 9)])
def test_of_a_dead_guest_one_can_only_read(words: tuple[int, int]) -> None:
    it = opened()
    it.bench.guest.ended = EndReason.CRASHED, "panic"
    with fails(Errno.ENOENT):
        it.file.write(words)


def test_powering_off_is_a_death_with_a_text() -> None:
    it = opened()
    it.bench.memory.write(0x7000, b"Power down".ljust(128, b"\0"))
    with fails(Errno.ENOENT):
        it.file.read(it.calls(SHUTDOWN, 0x7000, 1))
    assert it.file.read(lambda: None) == b"Power down\0"


def test_a_restart_is_an_error_of_its_own_and_has_no_text() -> None:
    it = opened()
    it.bench.memory.write(0x7000, b"Restarting".ljust(128, b"\0"))
    for _ in range(2):
        with fails(Errno.ERESTART):
            it.file.read(it.calls(SHUTDOWN, 0x7000, 2))


def test_a_device_that_is_closed_has_no_guest_any_more() -> None:
    it = opened()
    it.file.close()
    with fails(Errno.EINVAL):
        it.file.write((Request.IRQ, 1))
    with fails(Errno.EINVAL):
        it.file.read(lambda: None)


# Instructions for the Launcher, from 4.1 on.


def pending(it: Opened) -> Callable[[], None]:
    """A round of the Guest that ends with an instruction that touched a device."""

    def once() -> None:
        it.bench.guest.pending_trap = PendingTrap(14, b"\x89\x01" + bytes(5), 0x1101004)

    return once


def test_an_instruction_ends_the_read_and_is_done_with_at_the_next() -> None:
    it = opened("4.1")
    assert it.file.read(pending(it)) == b"\x0e\x89\x01\0\0\0\0\0\x04\x10\x10\x01"
    assert it.file.begin_read() is None
    assert it.bench.guest.pending_trap is None


@pytest.mark.parametrize(
    ("name", "offset"),
    [
        *(("ebx", 0), ("ecx", 4), ("edx", 8), ("esi", 12), ("edi", 16), ("ebp", 20), ("eax", 24)),
        *(("eip", 48), ("esp", 60)),
    ],
)
def test_a_register_is_asked_for_by_a_write_and_read_without_a_run(name: str, offset: int) -> None:
    it = opened("4.1")
    assert it.file.write((Request.SETREG, offset, 0x12345678)) == 12
    assert getattr(it.bench.regs, name) == 0x12345678
    assert it.file.write((Request.GETREG, offset)) == 8
    ran: list[int] = []
    assert it.file.read(lambda: ran.append(1)) == b"\x78\x56\x34\x12"
    assert ran == []


@pytest.mark.parametrize("offset", [28, 40, 52, 56, 64])
def test_segments_and_flags_can_be_asked_for_and_not_be_set(offset: int) -> None:
    it = opened("4.1")
    assert it.file.write((Request.GETREG, offset)) == 8
    with fails(Errno.ENOENT):
        it.file.write((Request.SETREG, offset, 0))


@pytest.mark.parametrize("offset", [2, 44, 68, 0xFFFFFFFC])
def test_what_is_no_register_is_refused(offset: int) -> None:
    it = opened("4.1")
    for words in ((Request.GETREG, offset), (Request.SETREG, offset, 0)):
        with fails(Errno.ENOENT):
            it.file.write(words)


def test_a_trap_goes_to_the_handler_that_the_guest_has() -> None:
    it = opened("4.1")
    with fails(Errno.EINVAL):
        it.file.write((Request.TRAP, 13))
    with fails(Errno.EINVAL):
        it.file.write((Request.TRAP, 256))
    it.bench.guest.idt[13] = (0x00611000, 0xC0008E00)
    it.bench.regs.esp = 0x9000
    it.bench.regs.ss = 0x69
    assert it.file.write((Request.TRAP, 13)) == 0
    assert it.bench.regs.eip == 0xC0001000


def test_there_is_nothing_to_break_or_bind_and_every_thread_may_send_interrupts() -> None:
    it = opened("4.1")
    for words in ((Request.BREAK, 1), (Request.EVENTFD, 0x2000), (Request.GETDMA, 0), (8, 0)):
        with fails(Errno.EINVAL):
            it.file.write(words, signal=print)
    assert it.file.write((Request.IRQ, 3), WAKER) == 0
    assert it.bench.guest.irqs_pending == 8


# DMA, in 2.6.23.


def test_data_for_the_launcher_ends_the_read_with_buffer_and_key() -> None:
    it = opened(OLDEST)
    assert it.file.read(it.calls(SEND_DMA, 0x8004, 0x6000)) == b"\x00\x60\x00\x00\x04\x80\x00\x00"
    assert it.bench.guest.pending_dma == (0x6000, 0x8004)
    assert it.file.begin_read() is None
    assert it.bench.guest.pending_dma is None


def test_a_buffer_is_asked_for_by_its_key_and_has_its_interrupt_in_it() -> None:
    it = opened(OLDEST)
    bind_dma(it.bench.guest, KEY, TABLE, 2 << 8 | 3)
    memory = it.bench.memory
    assert it.file.write((Request.GETDMA, KEY)) == TABLE
    assert memory.read_u32(TABLE) == 3
    assert it.file.write((Request.GETDMA, KEY)) == TABLE + DMA_SIZE
    with fails(Errno.ENOENT):
        it.file.write((Request.GETDMA, KEY + 4))
    with fails(Errno.EFAULT):
        it.file.write((Request.GETDMA,))


@pytest.mark.parametrize("name", ["2.6.24", "2.6.27", *LATER])
def test_later_generations_have_no_such_request(name: str) -> None:
    with fails(Errno.EINVAL):
        opened(name).file.write((Request.GETDMA, KEY))


# The Launcher uses it.


def watched(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """All that the Launcher of the first Guest writes from now on."""
    written: list[tuple[int, ...]] = []
    file = machine.guests[0].file
    write = file.write

    def note(words: tuple[int, ...], task: int = LAUNCHER) -> int:
        written.append(words)
        return write(words, task)

    monkeypatch.setattr(file, "write", note)
    return written


def test_what_devices_deliver_comes_by_a_break_and_interrupts_by_a_write(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = QuietWorld(lines=[(300_000, DEVICE_VECTOR)])
    machine, _ = machine_of(hello(), world=world)
    world.to_deliver.append(Completion(0, 99, 5, b""))
    written = watched(machine, monkeypatch)
    machine.run(END_OF_TIME)
    assert written[:3] == [(Request.BREAK, 1), (Request.BREAK, 0), (Request.IRQ, 5)]
    assert [o.irq for o in world.observations if isinstance(o, IrqRaised) and o.irq] == [5]


def test_the_end_of_a_guest_is_what_its_launcher_reads() -> None:
    machine, world = machine_of(hello())
    machine.run(END_OF_TIME)
    (end,) = world.ends
    assert end.text == "Power down"
    assert machine.guests[0].last_words() == "Power down"
    with fails(Errno.ENOENT):
        machine.guests[0].file.end_read()


def test_a_guest_that_restarts_has_a_launcher_that_opens_the_device_anew() -> None:
    machine = Machine(restarting(), VirtualWorld(1))
    first = machine.guests[0].file
    machine.run(Tick(3_000_000))
    assert machine.guests[0].file is not first
    with fails(Errno.EINVAL):
        first.begin_read()
