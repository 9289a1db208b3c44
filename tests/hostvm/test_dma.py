"""DMA of 2.6.23: who gets what is sent to a key, and who dies of what."""

from __future__ import annotations

import struct

import pytest

from hostvm.abi import Call
from hostvm.dma import copy_data, get_dma_buffer, release_all_dma
from hostvm.hypercalls import do_hypercalls
from hostvm.lguest_dma import DMA_SIZE, MOST_BINDINGS, LguestDma, pack_dma, parse_dma
from hostvm.quirks import CORRECTED, UPSTREAM, Quirk
from hostvm.units import HostPhysical
from hostvm.x86 import PAGE_SIZE
from tests.hostvm.lguest_kit import DATA, GUEST_PAGES, Bench, kills

SHARED = 0x200000
ELSEWHERE = HostPhysical(0x7000)
DMAS, SENT, BUFFER, TEXT = 0x10000, 0x11000, 0x12000, 0x13000
END = GUEST_PAGES * PAGE_SIZE
IRQ = 5


def guest(quirks: Quirk = UPSTREAM, number: int = 0) -> Bench:
    """A Guest that has initialised, with a page that others share."""
    bench = Bench("2.6.23", quirks=quirks)
    bench.guest.number = number
    bench.memory.shared = {SHARED: ELSEWHERE}
    bench.guest.data.address = DATA
    bench.memory.write(DATA + bench.abi.data.hcall_status, b"\xff" * 64)
    return bench


def pair(quirks: Quirk = UPSTREAM) -> tuple[Bench, Bench]:
    """Two that know of each other."""
    one, other = guest(quirks), guest(quirks, 1)
    one.notes.others.append(other.guest)
    other.notes.others.append(one.guest)
    return one, other


def call(bench: Bench, which: Call, *args: int) -> int:
    """Make a hypercall; what is in %eax then."""
    number = next(n for n, c in bench.abi.hypercalls.items() if c is which)
    names = bench.abi.hypercall_registers
    for name, value in zip(names, (number, *args), strict=False):
        setattr(bench.regs, name, value)
    bench.guest.hcall = True
    do_hypercalls(bench.guest)
    return bench.regs.eax


def bind(bench: Bench, key: int, dmas: int = DMAS, count: int = 1, irq: int = IRQ) -> int:
    return call(bench, Call.BIND_DMA, key, dmas, count << 8 | irq)


def send(bench: Bench, key: int, *sections: tuple[int, int]) -> None:
    bench.memory.write(SENT, pack_dma(sections))
    call(bench, Call.SEND_DMA, key, SENT)


def used(bench: Bench, dma: int) -> int:
    return bench.memory.read_u32(dma)


def receiving(bench: Bench, *sections: tuple[int, int], key: int = SHARED) -> None:
    bench.memory.write(DMAS, pack_dma(sections))
    assert bind(bench, key) == 1


def test_a_buffer_lies_as_its_guest_has_it() -> None:
    raw = pack_dma(((0x1000, 7), (0x2000, 9)), used_len=3)
    assert len(raw) == DMA_SIZE
    assert struct.unpack_from("<III", raw) == (3, 0x1000, 0x2000)
    assert struct.unpack_from("<HHH", raw, 68) == (7, 9, 0)
    assert parse_dma(raw) == LguestDma(3, ((0x1000, 7), (0x2000, 9)))
    assert len(parse_dma(b"\xff" * DMA_SIZE).sections) == 16


def test_what_is_sent_to_ones_own_memory_waits_for_the_launcher() -> None:
    bench = guest()
    send(bench, 0x3000)
    assert bench.guest.pending_dma == (SENT, 0x3000)
    assert bench.guest.wants_launcher


def test_nothing_else_is_done_before_the_launcher_has_been() -> None:
    bench = guest()
    layout = bench.abi.data
    ring = struct.pack("<4I", 13, 0x3000, SENT, 0) + struct.pack("<4I", 8, 1, 0, 0)
    bench.memory.write(DATA + layout.hcalls, ring)
    bench.memory.write(DATA + layout.hcall_status, b"\0\0")
    bench.guest.hcall = True
    bench.regs.eax = 10
    do_hypercalls(bench.guest)
    assert (bench.guest.pending_dma, bench.guest.ts, bench.guest.halted) == (
        (SENT, 0x3000),
        0,
        False,
    )
    bench.guest.pending_dma = None
    do_hypercalls(bench.guest)
    assert (bench.guest.ts, bench.guest.halted) == (1, True)


def test_the_ring_is_looked_at_also_when_there_was_no_hypercall() -> None:
    bench = guest()
    layout = bench.abi.data
    bench.memory.write(DATA + layout.hcalls, struct.pack("<4I", 8, 1, 0, 0))
    bench.memory.write(DATA + layout.hcall_status, b"\0")
    do_hypercalls(bench.guest)
    assert bench.guest.ts == 1
    assert bench.memory.read(DATA + layout.hcall_status, 1) == b"\xff"


def test_the_launcher_gets_the_first_free_buffer_or_else_the_last() -> None:
    bench = guest()
    for rank, used_len in enumerate((1, 0, 0)):
        bench.memory.write(DMAS + rank * DMA_SIZE, pack_dma(((BUFFER, 8),), used_len))
    assert get_dma_buffer(bench.guest, 0) is None
    assert bind(bench, 0, count=3) == 1
    assert get_dma_buffer(bench.guest, 0) == (DMAS + DMA_SIZE, IRQ)
    assert used(bench, DMAS + DMA_SIZE) == IRQ
    assert get_dma_buffer(bench.guest, 0) == (DMAS + 2 * DMA_SIZE, IRQ)
    assert get_dma_buffer(bench.guest, 0) == (DMAS + 2 * DMA_SIZE, IRQ)


def test_32_arrays_can_be_bound_and_one_is_free_again_when_it_is_unbound() -> None:
    bench = guest()
    assert [bind(bench, 4 * n) for n in range(MOST_BINDINGS)] == [1] * MOST_BINDINGS
    assert bind(bench, 0x1000) == 0
    assert bind(bench, 4, DMAS + 4, irq=0) == 0
    assert bind(bench, 4, irq=0) == 1
    assert bind(bench, 4, irq=0) == 0
    assert bind(bench, 0x1000) == 1


def test_an_interrupt_that_there_is_not_is_refused_and_a_queued_call_has_no_answer() -> None:
    bench = guest()
    assert bind(bench, 0, irq=32) == 0
    assert bind(bench, 0, irq=31) == 1
    layout = bench.abi.data
    bench.memory.write(DATA + layout.hcalls, struct.pack("<4I", 12, 8, DMAS, 0x101))
    bench.memory.write(DATA + layout.hcall_status, b"\0")
    bench.regs.eax = 0xABC
    do_hypercalls(bench.guest)
    assert bench.regs.eax == 0xABC
    assert [binding.interrupt for binding in bench.guest.dma if binding] == [31, 1]


def test_data_go_into_the_other_guests_buffer_and_both_learn_how_many() -> None:
    one, other = pair()
    receiving(other, (BUFFER, 100))
    one.memory.write(TEXT, b"from one Guest to another")
    send(one, SHARED, (TEXT, 25))
    assert other.memory.read(BUFFER, 26) == b"from one Guest to another\0"
    assert (used(one, SENT), used(other, DMAS)) == (25, 25)
    assert other.guest.irqs_pending == 1 << IRQ
    assert one.guest.pending_dma is None


def test_what_does_not_fit_is_cut_off() -> None:
    one, other = pair()
    receiving(other, (BUFFER, 3), (BUFFER + 0x1000, 2))
    one.memory.write(TEXT, b"abcdefgh")
    send(one, SHARED, (TEXT, 8))
    assert used(one, SENT) == used(other, DMAS) == 5


@pytest.mark.parametrize(("quirks", "second"), [(UPSTREAM, b"abcde"), (CORRECTED, b"defgh")])
def test_lguest_begins_a_section_again_in_each_that_it_goes_into(
    quirks: Quirk, second: bytes
) -> None:
    one, other = pair(quirks)
    receiving(other, (BUFFER, 3), (BUFFER + 0x1000, 8))
    one.memory.write(TEXT, b"abcdefgh")
    send(one, SHARED, (TEXT, 8))
    assert other.memory.read(BUFFER, 3) == b"abc"
    assert other.memory.read(BUFFER + 0x1000, 5) == second


def test_without_a_free_buffer_nothing_is_copied_and_the_receiver_is_interrupted() -> None:
    one, other = pair()
    receiving(other, (BUFFER, 8))
    other.memory.write_u32(DMAS, 1)
    one.memory.write(SENT, pack_dma(((TEXT, 4),), used_len=77))
    call(one, Call.SEND_DMA, SHARED, SENT)
    assert used(one, SENT) == 77
    assert other.guest.irqs_pending == 1 << IRQ


def test_buffers_are_filled_in_turn() -> None:
    one, other = pair()
    for rank in range(3):
        other.memory.write(DMAS + rank * DMA_SIZE, pack_dma(((BUFFER + rank * 16, 16),)))
    assert bind(other, SHARED, count=3) == 1
    for text in (b"a", b"b"):
        one.memory.write(TEXT, text)
        send(one, SHARED, (TEXT, 1))
    other.memory.write_u32(DMAS, 0)
    one.memory.write(TEXT, b"c")
    send(one, SHARED, (TEXT, 1))
    assert [other.memory.read(BUFFER + rank * 16, 1) for rank in range(3)] == [b"a", b"b", b"c"]


def test_nobody_sends_to_himself_or_to_who_has_gone() -> None:
    one, other = pair()
    receiving(one, (BUFFER, 8))
    send(one, SHARED, (TEXT, 4))
    receiving(other, (BUFFER, 8))
    release_all_dma(other.guest)
    send(one, SHARED, (TEXT, 4))
    assert (one.guest.irqs_pending, other.guest.irqs_pending) == (0, 0)
    assert one.guest.pending_dma is None


def test_of_two_at_one_key_the_last_one_gets_it() -> None:
    one, other = pair()
    third = guest(number=2)
    for bench in (one, other):
        bench.notes.others.append(third.guest)
    third.notes.others += [one.guest, other.guest]
    receiving(third, (BUFFER, 8))
    receiving(other, (BUFFER, 8))
    send(one, SHARED, (TEXT, 4))
    assert (other.guest.irqs_pending, third.guest.irqs_pending) == (1 << IRQ, 0)


@pytest.mark.parametrize("key", [1, 0x2002, END, 0xFFFFFFFC])
def test_a_bad_key_kills(key: int) -> None:
    bench = guest()
    with kills(f"bad dma key {key:#x}"):
        bind(bench, key)
    with kills("bad sending DMA key"):
        call(bench, Call.SEND_DMA, key, SENT)
    with kills("bad registered DMA buffer"):
        get_dma_buffer(bench.guest, key)


@pytest.mark.parametrize("dma", [END - 4, END, 0xFFFFFFF0])
def test_a_buffer_outside_kills_who_named_it(dma: int) -> None:
    one, other = pair()
    receiving(other, (BUFFER, 8))
    with kills(f"bad read address {dma:#x} len 100"):
        call(one, Call.SEND_DMA, SHARED, dma)
    one, other = pair()
    assert bind(other, SHARED, dma) == 1
    send(one, SHARED, (TEXT, 4))
    assert ("killed", 1, "bad address in registered DMA struct") in one.notes.told


@pytest.mark.parametrize(
    ("address", "length"), [(END, 1), (0x2FFF, 2), (0x2000, PAGE_SIZE + 1), (0xFFFFFFFF, 0xFFFF)]
)
def test_a_bad_section_kills_whose_it_is(address: int, length: int) -> None:
    reason = f"bad DMA entry: {length}@{address:#x}"
    one, other = pair()
    receiving(other, (BUFFER, 8))
    with kills(reason):
        send(one, SHARED, (address, length))
    one, other = pair()
    receiving(other, (address, length))
    one.memory.write(SENT, pack_dma(((TEXT, 4),), used_len=77))
    call(one, Call.SEND_DMA, SHARED, SENT)
    assert ("killed", 1, reason) in one.notes.told
    assert used(one, SENT) == 0
    assert other.guest.irqs_pending == 0


def test_as_many_buffers_as_a_register_can_say_do_no_harm() -> None:
    one, other = pair()
    assert bind(other, SHARED, 0xFFFFF000, 0xFFFFFF) == 1
    send(one, SHARED, (TEXT, 4))
    assert ("killed", 1, "bad address in registered DMA struct") in one.notes.told
    one, other = pair()
    assert bind(other, SHARED, 0, 0) == 1
    send(one, SHARED, (TEXT, 4))
    assert other.guest.irqs_pending == 1 << IRQ
    assert get_dma_buffer(other.guest, SHARED) is None


def test_copying_uses_every_byte_of_both_sides_when_it_is_done_as_meant() -> None:
    bench = guest()
    text = bytes(range(1, 60))
    bench.memory.write(TEXT, text)
    what = LguestDma(0, ((TEXT, 20), (TEXT + 20, 1), (TEXT + 21, 38)))
    where = LguestDma(0, ((BUFFER, 5), (BUFFER + 5, 30), (BUFFER + 35, 40)))
    assert copy_data(bench.memory, what, bench.memory, where, starts_again=False) == 59
    assert bench.memory.read(BUFFER, 59) == text


def test_states_carry_bindings_and_only_those_who_have_any_differ_in_their_digest() -> None:
    bench = guest()
    before = bench.guest.digest_bytes()
    assert bind(bench, 0x40) == 1
    send(bench, 0x40)
    state = bench.guest.state()
    assert bench.guest.digest_bytes() != before
    again = guest()
    again.guest.restore(state)
    assert again.guest.state() == state
    assert Bench("3.2").guest.state().dma == ()
