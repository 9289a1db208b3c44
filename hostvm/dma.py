"""I/O of 2.6.23: buffers that go from a Guest to its Launcher, from the Launcher to its Guest, or to another Guest.

(i) *Binding*: a Guest may have 32 arrays of buffers, each with a key and an interrupt. (ii) *Sending*: where the key
lies in memory that Guests share, the data are copied at once into a free buffer of another Guest that bound this key,
and that Guest is interrupted; if nobody did, they are lost. Any other key is the Launcher's affair, and the Guest
stands still until it has seen to it. (iii) *The Launcher* asks for a buffer in which to put what came in.

What makes it tricky is that two Guests meet. A structure outside its own memory kills the Guest that named it, and so
the receiver may die of what it bound, while the sender goes on. Nothing of the other Guest's is believed here that is
not checked by that Guest's own limit.

Upstream gives a receiver without a free buffer one chance to find one: it lets go of its lock for a moment and tries
again. Nobody else runs meanwhile on one CPU, so the second attempt has the outcome of the first.

Source: lguest in Linux 2.6.23, drivers/lguest/io.c. Read next: devices/lguest_bus.py, the Launcher's side.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from hostvm.errors import GuestKilled
from hostvm.interrupts_and_traps import LGUEST_IRQS, set_interrupt
from hostvm.lguest_dma import (
    DMA_SIZE,
    KEY_ALIGNMENT,
    MOST_BINDINGS,
    USED_LEN,
    DmaBinding,
    DmaKey,
    LguestDma,
    Sections,
    parse_dma,
)
from hostvm.quirks import Quirk
from hostvm.x86 import PAGE_SIZE, WORD_MASK

if TYPE_CHECKING:
    from hostvm.lguest import Lguest
    from hostvm.memory import BoundedMemory

_COUNT_MASK = 0xFFFF
_INTERRUPT_MASK = 0xFF

# (i) Binding.


def bind_dma(guest: Lguest, key: int, dmas: int, count_and_interrupt: int) -> int:
    """BIND_DMA: receive what is sent to `key` in the array at `dmas`; with interrupt 0, no longer. 1 if that worked.

    The number of buffers and the interrupt, in the lowest byte, share one register. Raises GuestKilled for a bad key.
    """
    count = count_and_interrupt >> 8 & _COUNT_MASK
    interrupt = count_and_interrupt & _INTERRUPT_MASK
    if interrupt >= LGUEST_IRQS:
        return 0
    where = _key(guest, key)
    if where is None:
        raise GuestKilled(f"bad dma key {key:#x}")
    if not interrupt:
        return _unbind(guest, where, dmas)
    if None not in guest.dma:
        return 0
    last = max((binding.order for _, binding in _everybodys(guest)), default=0)
    binding = DmaBinding(where, dmas, count, interrupt, last + 1)
    guest.dma[guest.dma.index(None)] = binding
    return 1


def _unbind(guest: Lguest, key: DmaKey, dmas: int) -> int:
    for place, binding in enumerate(guest.dma):
        if binding is not None and binding.key == key and binding.dmas == dmas:
            guest.dma[place] = None
            return 1
    return 0


def release_all_dma(guest: Lguest) -> None:
    """The Guest is gone: nobody can send to it any more."""
    guest.dma = [None] * MOST_BINDINGS


def _key(guest: Lguest, address: int) -> DmaKey | None:
    """What an address means as a key; None where it means nothing."""
    if address % KEY_ALIGNMENT or address >= guest.memory.pfn_limit * PAGE_SIZE:
        return None
    page = address & ~(PAGE_SIZE - 1)
    return DmaKey(guest.memory.host_address(address), page in guest.memory.shared)


def _everybodys(guest: Lguest) -> Iterator[tuple[Lguest, DmaBinding]]:
    for each in (guest, *guest.services.other_guests()):
        for binding in each.dma:
            if binding is not None:
                yield each, binding


# (ii) Sending.


def send_dma(guest: Lguest, key: int, dma: int) -> None:
    """SEND_DMA: the buffer at `dma` goes to whoever `key` belongs to. Raises GuestKilled."""
    where = _key(guest, key)
    if where is None:
        raise GuestKilled("bad sending DMA key")
    if not where.shared:
        guest.pending_dma = dma, key
        return
    bound = [
        (binding.order, other.number, other, binding)
        for other, binding in _everybodys(guest)
        if other is not guest and binding.key == where
    ]
    if bound:
        _, _, receiver, binding = max(bound, key=lambda one: one[:2])
        _dma_transfer(guest, dma, receiver, binding)


def _dma_transfer(guest: Lguest, dma: int, receiver: Lguest, binding: DmaBinding) -> None:
    source = parse_dma(guest.memory.read(dma, DMA_SIZE))
    target = None
    try:
        free = _free_buffer(receiver, binding)
        if free is not None:
            target = _read_other(receiver, _address(binding, free))
            _check_dma_list(receiver, target.sections)
    except GuestKilled as killed:
        guest.services.kill_other(receiver.number, killed.reason)
        if target is not None:
            guest.memory.write_u32(dma + USED_LEN & WORD_MASK, 0)
        return
    if target is not None and free is not None:
        _check_dma_list(guest, source.sections)
        skips = Quirk.DMA_SOURCE_STARTS_AGAIN in guest.quirks
        done = copy_data(guest.memory, source, receiver.memory, target, starts_again=skips)
        guest.memory.write_u32(dma + USED_LEN & WORD_MASK, done)
        if not done and source.sections:
            return
        receiver.memory.write_u32(_address(binding, free) + USED_LEN & WORD_MASK, done)
        _advance(receiver, binding)
    # Also if there was no room: so the receiver may find some.
    set_interrupt(receiver, binding.interrupt)


def _free_buffer(receiver: Lguest, binding: DmaBinding) -> int | None:
    for step in range(binding.count):
        rank = (binding.following + step) % binding.count
        if not _read_other(receiver, _address(binding, rank)).used_len:
            return rank
    return None


def _address(binding: DmaBinding, rank: int) -> int:
    return binding.dmas + rank * DMA_SIZE & WORD_MASK


def _read_other(receiver: Lguest, address: int) -> LguestDma:
    if not receiver.memory.ok(address, DMA_SIZE):
        raise GuestKilled("bad address in registered DMA struct")
    return parse_dma(receiver.memory.read(address, DMA_SIZE))


def _check_dma_list(guest: Lguest, sections: Sections) -> None:
    for address, length in sections:
        fits = guest.memory.ok(address, length) and length <= PAGE_SIZE
        if not fits or address % PAGE_SIZE + length > PAGE_SIZE:
            raise GuestKilled(f"bad DMA entry: {length}@{address:#x}")


def _advance(receiver: Lguest, binding: DmaBinding) -> None:
    following = binding.following + 1 & _COUNT_MASK
    receiver.dma[receiver.dma.index(binding)] = replace(binding, following=following)


def copy_data(
    source: BoundedMemory,
    what: LguestDma,
    target: BoundedMemory,
    where: LguestDma,
    *,
    starts_again: bool,
) -> int:
    """Copy section by section until one side has no more; the number of bytes.

    With `starts_again`, a section that goes into several others is copied from its start each time.
    """
    done = source_rank = target_rank = source_offset = target_offset = 0
    while source_rank < len(what.sections) and target_rank < len(where.sections):
        (come, come_length), (go, go_length) = (
            what.sections[source_rank],
            where.sections[target_rank],
        )
        length = min(come_length - source_offset, go_length - target_offset)
        from_ = come if starts_again else come + source_offset
        target.write(go + target_offset, source.read(from_, length))
        done += length
        source_offset += length
        target_offset += length
        if source_offset == come_length:
            source_rank, source_offset = source_rank + 1, 0
        if target_offset == go_length:
            target_rank, target_offset = target_rank + 1, 0
    return done


# (iii) The Launcher.


def get_dma_buffer(guest: Lguest, key: int) -> tuple[int, int] | None:
    """A buffer that the Guest has bound to `key`, for its Launcher: guest-physical address and interrupt.

    If none of them is free it is the last one, which the Guest has not yet looked at: upstream's way. Raises
    GuestKilled.
    """
    where = _key(guest, key)
    if where is None:
        raise GuestKilled("bad registered DMA buffer")
    mine = [binding for binding in guest.dma if binding is not None and binding.key == where]
    if not mine:
        return None
    binding = max(mine, key=lambda one: one.order)
    address = 0
    for rank in range(binding.count):
        address = _address(binding, rank)
        if not parse_dma(guest.memory.read(address, DMA_SIZE)).used_len:
            break
    if not address:
        return None
    guest.memory.write_u32(address + USED_LEN, binding.interrupt)
    return address, binding.interrupt


__all__ = ["bind_dma", "copy_data", "get_dma_buffer", "release_all_dma", "send_dma"]
