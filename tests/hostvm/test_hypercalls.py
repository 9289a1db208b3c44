"""Hypercalls, direct and queued: what each does, in what order, and what a Guest dies of."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import repeat
from struct import pack

import pytest

from hostvm.hypercalls import do_hypercalls
from hostvm.lguest import Lguest
from hostvm.observations import EndReason
from hostvm.switcher import Changed
from tests.hostvm.lguest_kit import DATA, GUEST_PAGES, Bench, kills

OUTSIDE = GUEST_PAGES * 4096
MESSAGE = 0x9000
STATUS, SLOTS = DATA + 24, DATA + 88
FREE = 0xFF
KERNEL = 0xC0000000
INIT, SHUTDOWN, NEW_PGTABLE, FLUSH_TLB, LOAD_IDT, SET_STACK = 1, 2, 4, 5, 6, 7
TS, CLOCKEVENT, HALT, SET_PTE, SET_PGD, LOAD_TLS, NOTIFY, GDT_ENTRY, SEND = (
    *(8, 9, 10, 14, 15, 16, 17, 18, 19),
)
P, RW, A, D = 1, 2, 0x20, 0x40


def call(bench: Bench, *args: int) -> Lguest:
    """One direct hypercall, and whatever waits in the ring before it."""
    values = (*args, 0, 0, 0, 0)
    for register, value in zip(bench.abi.hypercall_registers, values, strict=False):
        setattr(bench.regs, register, value)
    bench.guest.hcall = True
    do_hypercalls(bench.guest)
    return bench.guest


def prepared(name: str = "3.2", **options: object) -> Bench:
    """A Guest whose shared page at DATA has been filled in by the Guest but not named yet."""
    bench = Bench(name, **options)  # type: ignore[arg-type]
    data = bench.abi.data
    bench.memory.write(DATA + data.hcall_status, bytes([FREE]) * 64)
    fields = ((data.noirq_start, 0xC0001000), (data.noirq_end, 0xC0001008))
    for offset, value in (*fields, (data.kernel_address, KERNEL), (data.syscall_vec, 0x80)):
        assert offset is not None
        bench.memory.write_u32(DATA + offset, value)
    return bench


def running(name: str = "3.2", **options: object) -> Bench:
    bench = prepared(name, **options)
    call(bench, INIT, DATA)
    bench.notes.told.clear()
    return bench


def first_args(bench: Bench) -> list[int]:
    """First argument of each hypercall told of."""
    made = []
    for told in bench.notes.told:
        if told[0] == "hypercall":
            args = told[2]
            assert isinstance(args, tuple)
            made.append(args[0])
    return made


def queue(bench: Bench, slot: int, *args: int) -> None:
    words = (*args, 0, 0, 0, 0, 0)[:5]
    bench.memory.write(SLOTS + slot * 20, pack("<5I", *words))
    bench.memory.write(STATUS + slot, b"\0")


def statuses(bench: Bench) -> bytes:
    return bench.memory.read(STATUS, 64)


# LGUEST_INIT.


def test_init_takes_what_the_guest_says_and_gives_what_it_needs() -> None:
    bench = prepared()
    bench.notes.tsc_khz = 1_000
    guest = call(bench, INIT, DATA)
    assert guest.data.address == DATA
    assert (guest.noirq_start, guest.noirq_end) == (0xC0001000, 0xC0001008)
    assert guest.tables.kernel_address == KERNEL
    assert not guest.hcall
    assert bench.memory.read_u32(DATA + 1368) == 0x400000
    assert bench.memory.read_u32(DATA + 1372) == 1_000
    assert bench.memory.read(DATA + 12, 8) == pack("<2I", 1_000_000_000, 7)
    assert bench.notes.told == [("hypercall", INIT, (DATA, 0, 0, 0), False)]


def test_an_old_generation_is_told_where_its_page_tables_are() -> None:
    bench = prepared("2.6.24", first_pgdir=0x123000)
    call(bench, INIT, DATA)
    assert bench.memory.read_u32(DATA + 1116) == 0x123000
    assert bench.regs.edx == DATA


def test_init_drops_every_mapping_made_before() -> None:
    bench = prepared()
    bench.tables.demand_page(0x5000, 2)
    call(bench, INIT, DATA)
    assert bench.shadow(0x5000) == (0, 0)
    assert bench.tables.linear


def test_anything_else_before_init_kills() -> None:
    with kills("hypercall 8 before INIT"):
        call(Bench(), TS)
    with kills("hypercall -1 before INIT"):
        call(Bench(), 0xFFFFFFFF)


@pytest.mark.parametrize(
    ("name", "text"), [("2.6.24", "00000000"), ("2.6.27", "00000000"), ("3.2", "(null)")]
)
def test_a_shared_page_outside_memory_kills(name: str, text: str) -> None:
    for address in (OUTSIDE, OUTSIDE - 1024, 0xFFFFFF00):
        with kills(f"bad guest page {text}"):
            call(Bench(name), INIT, address)


def test_a_system_call_vector_that_the_host_did_not_reserve_kills() -> None:
    bench = prepared()
    bench.memory.write_u32(DATA + 1388, 0x40)
    with kills("bad syscall vector"):
        call(bench, INIT, DATA)
    bench = prepared()
    bench.memory.write_u32(DATA + 1388, 0x40)
    bench.guest.syscall_vector = 0x40
    assert call(bench, INIT, DATA).data.address == DATA


def test_a_kernel_in_the_switchers_range_kills() -> None:
    bench = prepared()
    bench.memory.write_u32(DATA + 1384, 0xFFC00000)
    with kills("bad kernel address 0xffc00000"):
        call(bench, INIT, DATA)


def test_a_second_init_kills() -> None:
    with kills("already have lguest_data"):
        call(running(), INIT, DATA)


# The ring.


def test_queued_calls_are_done_in_order_before_the_direct_one() -> None:
    bench = running()
    queue(bench, 0, TS, 5)
    queue(bench, 1, TS, 6)
    guest = call(bench, TS, 7)
    assert [told[1:] for told in bench.notes.told] == [
        (TS, (5, 0, 0, 0), True),
        (TS, (6, 0, 0, 0), True),
        (TS, (7, 0, 0, 0), False),
    ]
    assert guest.ts == 7
    assert statuses(bench) == bytes([FREE]) * 64
    assert guest.next_hcall == 2


def test_the_cursor_stays_and_a_hole_ends_the_round() -> None:
    bench = running()
    bench.guest.next_hcall = 62
    for slot in (62, 63, 0, 2):
        queue(bench, slot, TS, slot)
    call(bench, 0)
    assert first_args(bench) == [62, 63, 0, 0]
    assert bench.guest.next_hcall == 1
    assert statuses(bench)[2] == 0


def test_a_full_ring_is_done_once() -> None:
    bench = running()
    bench.guest.next_hcall = 5
    for slot in range(64):
        queue(bench, slot, TS, slot)
    call(bench, 0)
    assert len(bench.notes.told) == 65
    assert bench.guest.next_hcall == 5


def test_a_notify_in_the_ring_holds_up_everything_behind_it() -> None:
    bench = running()
    queue(bench, 0, NOTIFY, 0x1000)
    queue(bench, 1, TS, 1)
    guest = call(bench, TS, 2)
    assert guest.pending_notify == 0x1000
    assert guest.hcall
    assert guest.ts == 0
    assert statuses(bench)[:2] == bytes([FREE, 0])
    guest.pending_notify = 0
    do_hypercalls(guest)
    assert not guest.hcall
    assert first_args(bench) == [0x1000, 1, 2]


def test_a_direct_notify_is_done_with() -> None:
    guest = call(running(), NOTIFY, 0x2000)
    assert guest.pending_notify == 0x2000
    assert not guest.hcall


def test_an_old_generations_slots_have_its_own_order() -> None:
    bench = running("2.6.24")
    bench.memory.write(DATA + 84, pack("<4I", SET_STACK, 0xC0300000, 0, 0x69))
    bench.memory.write(DATA + 20, b"\0")
    guest = call(bench, 0)
    assert (guest.ss1, guest.esp1, guest.stack_pages) == (0x69, 0xC0300000, 0)


def test_nothing_is_done_unless_a_call_is_pending() -> None:
    bench = running()
    queue(bench, 0, TS, 1)
    do_hypercalls(bench.guest)
    assert bench.guest.ts == 0
    assert statuses(bench)[0] == 0


@pytest.mark.parametrize(("name", "number"), [("3.2", 3), ("3.2", 13), ("2.6.24", 18), ("3.2", 99)])
def test_an_unknown_number_kills(name: str, number: int) -> None:
    bench = running(name)
    with kills(f"Bad hypercall {number}\n"):
        call(bench, number)
    assert [told[1] for told in bench.notes.told] == [number]


def test_a_number_is_printed_with_its_sign() -> None:
    with kills("Bad hypercall -2\n"):
        call(running(), 0xFFFFFFFE)


# Ends.


def say(bench: Bench, text: bytes) -> int:
    bench.memory.write(MESSAGE, text)
    return MESSAGE


@pytest.mark.parametrize(
    ("text", "how", "end"),
    [
        (b"Power down\0", 1, (EndReason.POWEROFF, "Power down")),
        (b"Attempted to kill init!\0x", 1, (EndReason.CRASHED, "Attempted to kill init!")),
        (b"Power down\0", 0, (EndReason.POWEROFF, "Power down")),
        (b"again\0", 2, (EndReason.RESTART, "again")),
        (b"\xff\xe9\0", 1, (EndReason.CRASHED, "\xff\xe9")),
    ],
)
def test_a_shutdown_is_an_end_and_not_a_kill(
    text: bytes, how: int, end: tuple[EndReason, str]
) -> None:
    bench = running()
    assert call(bench, SHUTDOWN, say(bench, text), how).ended == end


def test_a_message_without_an_end_is_cut() -> None:
    bench = running()
    ended = call(bench, SHUTDOWN, say(bench, b"x" * 200), 1).ended
    assert ended == (EndReason.CRASHED, "x" * 127)


def test_an_unreadable_message_kills_unless_it_is_a_restart() -> None:
    with kills(f"bad read address {OUTSIDE:#x} len 128"):
        call(running(), SHUTDOWN, OUTSIDE, 1)
    assert call(running(), SHUTDOWN, 0x40000000, 2).ended == (EndReason.RESTART, "")


def test_the_oldest_generation_only_crashes() -> None:
    bench = running("2.6.24")
    assert call(bench, 2, say(bench, b"Power down\0")).ended == (EndReason.POWEROFF, "Power down")
    bench = running("2.6.24")
    assert call(bench, 2, say(bench, b"bad\0"), 2).ended == (EndReason.CRASHED, "bad")


def test_nothing_is_done_after_the_end() -> None:
    bench = running()
    queue(bench, 0, SHUTDOWN, say(bench, b"Power down\0"), 1)
    queue(bench, 1, TS, 1)
    assert call(bench, TS, 2).ts == 0
    assert len(bench.notes.told) == 1


# The others.


def test_calls_that_only_bring_the_guest_here_do_nothing_more() -> None:
    bench = running()
    before = bench.guest.state()
    for number in (0, SEND):
        call(bench, number)
    assert bench.guest.state() == before


def test_ts_halt_and_the_clock() -> None:
    bench = running()
    assert call(bench, TS, 9).ts == 9
    assert call(bench, HALT).halted
    assert call(bench, CLOCKEVENT, 250).timer == bench.notes.now + 250
    assert call(bench, CLOCKEVENT, 0).timer is None
    timers = [told for told in bench.notes.told if told[0] != "hypercall"]
    assert timers == [("start_timer", bench.notes.now + 250), ("cancel_timer",)]


def test_tables_are_loaded() -> None:
    bench = running()
    bench.guest.changed = 0
    call(bench, LOAD_IDT, 14, 0x00601000, 0xC0008E00)
    assert bench.guest.idt[14] == (0x00611000, 0xC0008E00)
    call(bench, GDT_ENTRY, 15, 0xFFFF, 0x00CF9200)
    assert bench.guest.gdt[15] == (0xFFFF, 0x00CFB300)
    bench.memory.write(MESSAGE, pack("<6I", *(0xFFFF, 0x00CFF200) * 3))
    call(bench, LOAD_TLS, MESSAGE)
    assert bench.guest.gdt[6:9] == [(0xFFFF, 0x00CFF300)] * 3
    assert bench.guest.changed == Changed.ALL


def test_an_old_generation_loads_its_whole_table() -> None:
    bench = running("2.6.27")
    bench.memory.write(MESSAGE, pack("<2I", 0xFFFF, 0x00CFF200) * 32)
    call(bench, 3, MESSAGE, 32)
    assert bench.guest.gdt[31] == (0xFFFF, 0x00CFF200)
    assert bench.guest.gdt[30] == (0xFFFF, 0x00CFF300)


PGD, PT = 0x10000, 0x11000
STACK = 0xC0302000


def with_stack(choices: Iterable[int] = repeat(0)) -> Bench:
    """A Guest on its own tables, in which one page of stack is mapped, and pinned."""
    bench = running(choices=choices)
    bench.map(PGD, PT, STACK - 4096, 0x20000 | P | RW)
    call(bench, NEW_PGTABLE, PGD)
    call(bench, SET_STACK, 0x69, STACK, 1)
    return bench


def pinned(bench: Bench) -> bool:
    return bench.shadow(STACK - 4096)[1] & (P | RW) == P | RW


def test_a_stack_is_pinned_when_it_is_set() -> None:
    bench = with_stack()
    assert (bench.guest.ss1, bench.guest.esp1, bench.guest.stack_pages) == (0x69, STACK, 1)
    assert pinned(bench)
    with kills(f"bad stack page {STACK + 0x1FFF:#x}"):
        call(bench, SET_STACK, 0x69, STACK + 0x2000, 2)


def test_the_stack_is_pinned_again_after_everything_was_flushed() -> None:
    bench = with_stack()
    call(bench, FLUSH_TLB, 1)
    assert pinned(bench)
    bench.memory.write_u32(PGD + (STACK >> 22) * 4, 0)
    with kills(f"bad stack page {STACK - 1:#x}"):
        call(bench, FLUSH_TLB, 0xFFFFFFFF)


def test_flushing_user_mappings_does_not_touch_the_kernels() -> None:
    bench = with_stack()
    bench.map(PGD, PT, 0x1000, 0x21000 | P)
    bench.tables.demand_page(0x1000, 0)
    call(bench, FLUSH_TLB, 0)
    assert bench.shadow(0x1000) == (0, 0)
    assert pinned(bench)


def test_the_stack_is_pinned_in_a_blank_shadow_only() -> None:
    other = PGD + 0x2000
    bench = with_stack(choices=[0, 0, 1, *[1] * 9])
    bench.map(other, PT, STACK - 4096, 0x20000 | P | RW)
    call(bench, NEW_PGTABLE, other)
    assert bench.tables.current == 1
    assert pinned(bench)
    call(bench, NEW_PGTABLE, PGD + 0x4000)
    assert bench.tables.current == 1
    assert pinned(bench)


def test_page_table_entries_are_passed_on() -> None:
    bench = with_stack()
    call(bench, SET_PTE, PGD, STACK - 4096, 0x22000 | P | RW | A | D)
    assert bench.shadow(STACK - 4096)[1] & ~0xFFF == bench.memory.base + 0x22000
    call(bench, SET_PGD, PGD, STACK >> 22)
    assert bench.shadow(STACK - 4096) == (0, 0)


# State.


def test_a_guest_goes_on_from_its_state_as_if_nothing_had_happened() -> None:
    bench = with_stack()
    queue(bench, 0, NOTIFY, 0x1000)
    call(bench, HALT)
    bench.guest.irqs_pending = 0x30
    state = bench.guest.state()
    hash(state)
    digest = bench.guest.digest_bytes()
    bench.guest.pending_notify = 0
    do_hypercalls(bench.guest)
    call(bench, CLOCKEVENT, 5)
    call(bench, SHUTDOWN, say(bench, b"Power down\0"), 1)
    assert bench.guest.digest_bytes() != digest
    bench.guest.restore(state)
    assert bench.guest.state() == state
    assert bench.guest.digest_bytes() == digest
    assert bench.guest.ended is None
    assert not bench.guest.halted


def test_an_end_survives_in_the_state_as_plain_values() -> None:
    bench = running(choices=repeat(0))
    call(bench, SHUTDOWN, say(bench, b"Power down\0"), 1)
    state = bench.guest.state()
    assert state.ended == (1, "Power down")
    assert type(state.ended[0]) is int
    bench.guest.restore(state)
    assert bench.guest.ended == (EndReason.POWEROFF, "Power down")
