"""Hypercalls: what the Guest kernel asks of its Host.

They come in two ways. A direct one is `int $0x1f`, or what became one (vmcall.py), with the call in registers. Queued
ones stand in a ring of 64 slots in the shared page and wait until a direct one comes, or in 2.6.23 until the Guest is
left for any reason; the ring is then done first, in the order of a cursor that never starts again. If a queued call
is for the Launcher, everything stops there: the Launcher comes first, and the rest of the ring and the direct call are
done when the Host returns to them.

The very first hypercall must be LGUEST_INIT, which names the shared page.

A call is a name here (abi.Call); each generation has its numbers and its registers. A call that kills does so at once.

Source: lguest, drivers/lguest/hypercalls.c and x86/core.c. Read next: abi.py for the numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from operator import itemgetter
from struct import Struct
from typing import TYPE_CHECKING, TypeAlias

from hostvm import vmi
from hostvm.abi import Abi, Call
from hostvm.dma import bind_dma, send_dma
from hostvm.errors import GuestKilled
from hostvm.gates import check_syscall_vector, load_guest_idt_entry
from hostvm.interrupts_and_traps import (
    guest_set_clockevent,
    guest_set_stack,
    pin_stack_pages,
    write_timestamp,
)
from hostvm.lguest_data import RING_SLOTS, SLOT_FREE
from hostvm.observations import EndReason
from hostvm.printf import signed
from hostvm.segments import load_guest_gdt, load_guest_gdt_entry, load_tls

if TYPE_CHECKING:
    from hostvm.lguest import Lguest

Args: TypeAlias = tuple[int, ...]
Handler: TypeAlias = "Callable[[Lguest, Args], int | None]"

MESSAGE_SIZE = 128
SHUTDOWN_RESTART = 2
POWEROFF_MESSAGE = "Power down"


def do_hypercalls(guest: Lguest) -> None:
    """Carry out what the Guest asks for, to the end or until it is the Launcher's turn.

    Must not be called while `guest.wants_launcher`. Raises GuestKilled.
    """
    if not guest.hcall:
        drained = guest.abi.ring_drained_at_every_exit and guest.data.address is not None
        if drained and guest.ended is None:
            _do_async_hcalls(guest)
        return
    args = guest.call_registers()
    if guest.data.address is None:
        _initialize(guest, args)
        guest.hcall = False
        return
    _do_async_hcalls(guest)
    if not guest.wants_launcher and guest.ended is None:
        answer = _do_hcall(guest, args, queued=False)
        if answer is not None:
            guest.regs.eax = answer
        guest.hcall = False


def _do_async_hcalls(guest: Lguest) -> None:
    layout = guest.data.layout
    statuses = guest.data.get_bytes(layout.hcall_status, RING_SLOTS)
    if statuses is None:
        return
    for _ in range(RING_SLOTS):
        slot = guest.next_hcall
        if statuses[slot] == SLOT_FREE:
            return
        guest.next_hcall = (slot + 1) % RING_SLOTS
        _do_hcall(guest, _queued_call(guest, slot), queued=True)
        if not guest.data.put_byte(layout.hcall_status + slot, SLOT_FREE):
            raise GuestKilled("Writing result for async hypercall")
        if guest.wants_launcher or guest.ended is not None:
            return


def _queued_call(guest: Lguest, slot: int) -> Args:
    table = guest.calls
    size = table.slot.size
    words = guest.data.get_bytes(guest.data.layout.hcalls + slot * size, size)
    if words is None:
        raise GuestKilled("Fetching async hypercalls")
    return table.in_order(table.slot.unpack(words))


def _do_hcall(guest: Lguest, args: Args, queued: bool) -> int | None:
    """What a direct call answers in %eax; None if that stays as it is."""
    handler = guest.calls.handlers.get(args[0])
    guest.services.hypercall_made(args[0], args[1:], queued)
    if handler is None:
        raise GuestKilled(f"Bad hypercall {signed(args[0])}\n")
    return handler(guest, args)


def _initialize(guest: Lguest, args: Args) -> None:
    guest.services.hypercall_made(args[0], args[1:], queued=False)
    if guest.abi.hypercalls.get(args[0]) is not Call.LGUEST_INIT:
        raise GuestKilled(f"hypercall {signed(args[0])} before {guest.abi.first_call}")
    data, layout = guest.data, guest.data.layout
    if not guest.memory.ok(args[1], layout.size):
        raise GuestKilled(f"bad guest page {guest.abi.null_pointer}")
    data.address = args[1]
    data.put(layout.tsc_khz, guest.services.tsc_khz)
    if not check_syscall_vector(guest):
        raise GuestKilled("bad syscall vector")
    guest.noirq_start = data.get(layout.noirq_start) or 0
    guest.noirq_end = guest.noirq_start + 1
    if layout.noirq_end is not None:
        guest.noirq_end = data.get(layout.noirq_end) or 0
    if guest.vmi is not None:
        vmi.initialize(guest, args[1])
    write_timestamp(guest)
    _share_tables(guest)
    clear_all_tables(guest)


def _share_tables(guest: Lguest) -> None:
    data, layout, tables = guest.data, guest.data.layout, guest.tables
    data.put(layout.reserve_mem, guest.abi.reserve_mem)
    if layout.guestid is not None:
        data.put_u16(layout.guestid, guest.number)
    if layout.pgdir is not None:
        data.put(layout.pgdir, tables.shadowed[tables.current])
    if layout.kernel_address is not None:
        tables.set_kernel_address(data.get(layout.kernel_address) or 0)


def clear_all_tables(guest: Lguest) -> None:
    """Forget every mapping in every shadow; the kernel's stack is mapped again at once."""
    guest.tables.release_all()
    pin_stack_pages(guest)


# The calls. args[0] is the number.


def _nothing(_guest: Lguest, _args: Args) -> None:
    # FLUSH_ASYNC and SEND_INTERRUPTS: coming here was all that they are for.
    pass


def _init_again(_guest: Lguest, _args: Args) -> None:
    raise GuestKilled("already have lguest_data")


def _message(guest: Lguest, address: int) -> str:
    text = guest.memory.read(address, MESSAGE_SIZE)[: MESSAGE_SIZE - 1]
    return text.partition(b"\0")[0].decode("latin-1")


def _crash(guest: Lguest, args: Args) -> None:
    # A Guest that powers off says so in words and a panic gives its own; the call is the same.
    text = _message(guest, args[1])
    reason = EndReason.POWEROFF if text == POWEROFF_MESSAGE else EndReason.CRASHED
    guest.ended = reason, text


def _shutdown(guest: Lguest, args: Args) -> None:
    if args[2] != SHUTDOWN_RESTART:
        _crash(guest, args)
        return
    # A restart is one even if its message cannot be read: reboot(2) passes a null pointer.
    try:
        text = _message(guest, args[1])
    except GuestKilled:
        text = ""
    guest.ended = EndReason.RESTART, text


def _new_pgtable(guest: Lguest, args: Args) -> None:
    if guest.tables.new_pagetable(args[1]):
        pin_stack_pages(guest)


def _flush_tlb(guest: Lguest, args: Args) -> None:
    if args[1]:
        clear_all_tables(guest)
    else:
        guest.tables.flush_user()


def _set_pte(guest: Lguest, args: Args) -> None:
    guest.tables.set_pte(args[1], args[2], args[3])


def _set_pgd(guest: Lguest, args: Args) -> None:
    guest.tables.set_pgd(args[1], args[2])


def _ts(guest: Lguest, args: Args) -> None:
    guest.ts = args[1]
    if guest.vmi is not None:
        guest.vmi.show_cr0(task_switched=bool(guest.ts))


def _halt(guest: Lguest, _args: Args) -> None:
    guest.halted = True


def _notify(guest: Lguest, args: Args) -> None:
    guest.pending_notify = args[1]


_HANDLERS: Mapping[Call, Handler] = {
    Call.FLUSH_ASYNC: _nothing,
    Call.LGUEST_INIT: _init_again,
    Call.CRASH: _crash,
    Call.SHUTDOWN: _shutdown,
    Call.LOAD_GDT: lambda guest, args: load_guest_gdt(guest, args[1], args[2]),
    Call.NEW_PGTABLE: _new_pgtable,
    Call.FLUSH_TLB: _flush_tlb,
    Call.LOAD_IDT_ENTRY: lambda guest, args: load_guest_idt_entry(guest, *args[1:4]),
    Call.SET_STACK: lambda guest, args: guest_set_stack(guest, *args[1:4]),
    Call.TS: _ts,
    Call.SET_CLOCKEVENT: lambda guest, args: guest_set_clockevent(guest, args[1]),
    Call.HALT: _halt,
    Call.BIND_DMA: lambda guest, args: bind_dma(guest, *args[1:4]),
    Call.SEND_DMA: lambda guest, args: send_dma(guest, *args[1:3]),
    Call.SET_PTE: _set_pte,
    Call.SET_PGD: _set_pgd,
    Call.LOAD_TLS: lambda guest, args: load_tls(guest, args[1]),
    Call.NOTIFY: _notify,
    Call.LOAD_GDT_ENTRY: lambda guest, args: load_guest_gdt_entry(guest, *args[1:4]),
    Call.SEND_INTERRUPTS: _nothing,
    Call.VMI_RDMSR: vmi.rdmsr,
    Call.VMI_WRMSR: vmi.wrmsr,
    Call.VMI_CPUID: vmi.identify,
    Call.VMI_BAD_IRET: vmi.bad_iret,
}


class CallTable:
    """A generation's hypercalls made ready: how to read one from a ring slot, and who carries it out."""

    __slots__ = ("handlers", "in_order", "slot")

    def __init__(self, abi: Abi) -> None:
        self.slot = Struct(f"<{len(abi.slot_order)}I")
        places = [abi.slot_order.index(arg) for arg in range(len(abi.slot_order))]
        self.in_order: Callable[[Args], Args] = itemgetter(*places)
        self.handlers = {number: _HANDLERS[call] for number, call in abi.hypercalls.items()}


__all__ = ["POWEROFF_MESSAGE", "CallTable", "clear_all_tables", "do_hypercalls"]
