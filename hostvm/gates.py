"""Gates: the Interrupt Descriptor Table that a Guest asks for, and what of it reaches the CPU.

The Guest names a handler for each vector; the Host vets the gate and keeps it. In the CPU's own table every vector
leads to a stub of the Switcher, which brings the Host back, except where the Guest's gate may stand there itself: that
makes system calls cheap. A gate goes direct only if it is a trap gate, since an interrupt gate would have to clear a
flag that the CPU knows nothing of, and only for vectors that the Host need not see: not page faults, protection faults,
the FPU's trap and hypercalls. Of a gate that stays behind, its privilege level still counts: it decides who may use
the vector with `int`.

Source: lguest, drivers/lguest/interrupts_and_traps.c; Intel SDM 3A 6.11. Read next: interrupts_and_traps.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache, lru_cache
from typing import TYPE_CHECKING

from hostvm.errors import GuestKilled
from hostvm.lguest_regs import KERNEL_CS
from hostvm.memory import PhysicalMemory
from hostvm.segments import Descriptor
from hostvm.switcher import LGUEST_TRAP_ENTRY, Changed, default_idt_entry
from hostvm.x86 import GATE_PRESENT, GateType, gate_type

if TYPE_CHECKING:
    from hostvm.lguest import Lguest

FIRST_EXTERNAL_VECTOR = 32
NORMAL_SYSCALL_VECTOR = 0x80
_NEVER_THE_GUESTS = frozenset({2, 8, 15, LGUEST_TRAP_ENTRY})
_GATE_KEPT = 0xFFFFEF00
_INTERRUPT_GATE = int(GateType.INTERRUPT)
_TRAP_GATE = int(GateType.TRAP)


def vetted_gate(lo: int, hi: int) -> Descriptor:
    """The Guest's gate as the Host keeps it: its kernel's segment, and only what matters of the second word."""
    if not hi & GATE_PRESENT:
        return 0, 0
    kind = gate_type(hi)
    if kind not in (_INTERRUPT_GATE, _TRAP_GATE):
        raise GuestKilled(f"bad IDT type {kind}")
    return KERNEL_CS << 16 | (lo & 0xFFFF), hi & _GATE_KEPT


def load_guest_idt_entry(guest: Lguest, vector: int, lo: int, hi: int) -> None:
    """LOAD_IDT_ENTRY: the Guest's handler for `vector`. Four vectors are never the Guest's; those are ignored."""
    if vector in _NEVER_THE_GUESTS:
        return
    guest.changed |= Changed.IDT.value
    if vector >= guest.abi.idt_entries and not _is_kept_apart(guest, vector):
        if guest.abi.syscall_gate_apart:
            return
        raise GuestKilled(f"Setting idt entry {vector}")
    guest.idt[vector] = vetted_gate(lo, hi)


def _is_kept_apart(guest: Lguest, vector: int) -> bool:
    return guest.abi.syscall_gate_apart and vector == NORMAL_SYSCALL_VECTOR


def copy_traps(guest: Lguest, memory: PhysicalMemory, idt: int, handlers: Sequence[int]) -> None:
    """Bring the Guest's gates into the CPU's table at host-physical `idt`, where they may go direct."""
    there = memory.words(idt, 2 * len(handlers))
    for vector, gate in _gates_for_cpu(guest, handlers):
        # A kernel sets its gates one by one, with a visit to the Host for each: mostly a single one is new.
        if there[2 * vector] != gate[0] or there[2 * vector + 1] != gate[1]:
            memory.write_u32(idt + vector * 8, gate[0])
            memory.write_u32(idt + vector * 8 + 4, gate[1])


def _gates_for_cpu(guest: Lguest, handlers: Sequence[int]) -> Iterator[tuple[int, Descriptor]]:
    keeps_dpl, idt = guest.abi.default_gate_keeps_dpl, guest.idt
    for vector in _direct_vectors(guest.abi.never_direct, guest.syscall_vector):
        yield vector, _gate_for_cpu(vector, handlers[vector], idt[vector], keeps_dpl)


@lru_cache(maxsize=1024)
def _gate_for_cpu(vector: int, handler: int, gate: Descriptor, keeps_dpl: bool) -> Descriptor:
    if gate_type(gate[1]) == _TRAP_GATE:
        return gate
    return default_idt_entry(vector, handler, gate if keeps_dpl else None)


def could_be_syscall(guest: Lguest, vector: int) -> bool:
    """Whether `vector` is Linux's system call or the one that the Host was configured to allow."""
    return vector in (NORMAL_SYSCALL_VECTOR, guest.syscall_vector)


def check_syscall_vector(guest: Lguest) -> bool:
    """Whether the vector that the Guest wants for system calls is one it may have."""
    offset = guest.data.layout.syscall_vec
    if offset is None:
        return True
    vector = guest.data.get(offset)
    return vector is not None and could_be_syscall(guest, vector)


def direct_trap(guest: Lguest, vector: int) -> bool:
    """Whether `vector` may go straight into the Guest, if the gate allows."""
    return vector in _direct_vectors(guest.abi.never_direct, guest.syscall_vector)


@cache
def _direct_vectors(never: frozenset[int], syscall_vector: int) -> tuple[int, ...]:
    """Traps and system calls, but for those that no generation's Guest, or none of this one, may have."""
    vectors = {*range(FIRST_EXTERNAL_VECTOR), NORMAL_SYSCALL_VECTOR, syscall_vector}
    return tuple(sorted(vectors - never))


__all__ = [
    "FIRST_EXTERNAL_VECTOR",
    "NORMAL_SYSCALL_VECTOR",
    "check_syscall_vector",
    "copy_traps",
    "direct_trap",
    "load_guest_idt_entry",
    "vetted_gate",
]
