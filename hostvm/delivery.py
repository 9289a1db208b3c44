"""Hardware delivery of interrupts, faults and traps through the IDT, as the CPU does it.

The engine stops at every interrupt and leaves the rest to us: read the gate, check it, change stacks through the TSS
when the ring changes, push the frame, load CS:EIP, clear flags. Each step can fault in its turn; then that fault is
delivered instead, or a double fault when the two do not go together, or the CPU shuts down.

The parts: (i) `Delivery.deliver`, with the escalation rules; (ii) the gate and its checks; (iii) the frame. Nothing of
the state changes before every check has passed. What was delivered once can be followed again (delivery_plans.py).
Only 32-bit interrupt and trap gates exist here: lguest's Host accepts no others, and any other type is a #GP. RF is
never pushed as one (cpu_state.py says why).

Source: Intel SDM 3A 6.12-6.15. Read next: cpu.py, which calls this from the engine's hooks.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from hostvm.cpu_state import CS, ESP, HF2_NMI_BLOCKED, HF_CPL, HF_SHADOW, SS, hflags_of
from hostvm.delivery_plans import Key, Plans
from hostvm.engine_layout import Env
from hostvm.memory import PhysicalMemory
from hostvm.paging import AddressSpace, PageNotAccessible, translate
from hostvm.x86 import (
    PAGE_SIZE,
    VECTORS_WITH_ERROR_CODE,
    Cr0,
    Cr4,
    Eflags,
    GateType,
    Vector,
    descriptor_base,
    descriptor_limit,
    gate_dpl,
    gate_offset,
    gate_present,
    gate_selector,
    gate_type,
)

_CONTRIBUTORY = frozenset({Vector.DE, Vector.TS, Vector.NP, Vector.SS, Vector.GP})
_DESC_PRESENT, _DESC_SEGMENT, _DESC_CODE = 1 << 15, 1 << 12, 1 << 11
_PAIR = struct.Struct("<II")
# Plain integers: this is the hottest path of a hypercall.
_IF, _RF = int(Eflags.IF), int(Eflags.RF)
_KEPT_BY_TRAP_GATE = 0xFFFFFFFF & ~int(Eflags.TF | Eflags.NT | Eflags.RF | Eflags.VM)
_KEPT_BY_INTERRUPT_GATE = _KEPT_BY_TRAP_GATE & ~_IF
_PG, _PSE = int(Cr0.PG), int(Cr4.PSE)
_INTERRUPT_GATE, _TRAP_GATE = int(GateType.INTERRUPT), int(GateType.TRAP)
_NMI = int(Vector.NMI)
_DESC_CONFORMING, _DESC_WRITABLE, _DESC_BIG = 1 << 10, 1 << 9, 1 << 22


class Source(Enum):
    """What asks for delivery; it decides the privilege check and the error code's EXT bit."""

    EXCEPTION = "exception"
    SOFTWARE = "software"
    HARDWARE = "hardware"


@dataclass(frozen=True, slots=True)
class Fault(Exception):
    """A fault met while delivering; `address` is the new CR2 of a page fault."""

    vector: int
    error_code: int
    address: int | None = None


# Members of an enumeration are slow to reach.
_EXCEPTION, _SOFTWARE = Source.EXCEPTION, Source.SOFTWARE


def _no_length(_vector: int) -> int:
    return 0


class CpuShutdown(Exception):
    """A fault while delivering a double fault: the processor stops for good."""


class _Descriptor(NamedTuple):
    selector: int
    lo: int
    hi: int

    @property
    def dpl(self) -> int:
        return self.hi >> 13 & 3


class Delivery:
    """Delivers through the tables that `env` points to; `delivered` is told (vector, new ring) of each success."""

    def __init__(self, env: Env, memory: PhysicalMemory, full_flags: Callable[[], int]) -> None:
        self._env = env
        self._memory = memory
        self._full_flags = full_flags
        self._space = AddressSpace(0, enabled=False, large_pages=False)
        self.plans = Plans(env, memory)
        self._pairs: list[int] = []

    def deliver(
        self,
        vector: int,
        error_code: int = 0,
        source: Source = Source.EXCEPTION,
        length_of: Callable[[int], int] = _no_length,
    ) -> int:
        """Deliver; returns the vector whose handler was entered.

        `length_of(vector)`: bytes to step EIP back when a software interrupt itself faults. Raises CpuShutdown.
        """
        number = 0 if source is _EXCEPTION else 1 if source is _SOFTWARE else 2
        key = self.plans.key(vector, number)
        if self.plans.follow(key, self._full_flags() & ~_RF, error_code):
            return vector
        return self._deliver_anew(vector, error_code, source, length_of, key)

    def _deliver_anew(
        self,
        vector: int,
        error_code: int,
        source: Source,
        length_of: Callable[[int], int],
        key: Key | None,
    ) -> int:
        while True:
            self._space = self._address_space()
            try:
                self._enter(vector, error_code, source, key)
                return vector
            except Fault as fault:
                if fault.address is not None:
                    self._env.cr[2] = fault.address
                if source is Source.SOFTWARE:
                    self._env.eip = self._env.eip - length_of(vector) & 0xFFFFFFFF
                vector, error_code = self._escalate(vector, source, fault)
                source, key = Source.EXCEPTION, None

    @staticmethod
    def _escalate(vector: int, source: Source, fault: Fault) -> tuple[int, int]:
        """SDM 3A table 6-5: which faults combine into a double fault."""
        if source is not Source.EXCEPTION:
            return fault.vector, fault.error_code
        if vector == Vector.DF:
            raise CpuShutdown
        second_contributes = fault.vector in _CONTRIBUTORY
        after_page_fault = vector == Vector.PF and (second_contributes or fault.vector == Vector.PF)
        if after_page_fault or (vector in _CONTRIBUTORY and second_contributes):
            return Vector.DF, 0
        return fault.vector, fault.error_code

    def _enter(self, vector: int, error_code: int, source: Source, key: Key | None) -> None:
        env = self._env
        self._pairs.clear()
        ext = 0 if source is Source.SOFTWARE else 1
        lo, hi = self._gate(vector, source, ext)
        code = self._code_segment(gate_selector(lo), ext)
        cpl = env.hflags & HF_CPL
        ring = cpl if code.hi & _DESC_CONFORMING else code.dpl
        frame = [env.eip & 0xFFFFFFFF, env.segs[CS].selector, self._full_flags() & ~_RF]
        has_code = source is Source.EXCEPTION and vector in VECTORS_WITH_ERROR_CODE
        if has_code:
            frame.insert(0, error_code)
        inwards = ring < cpl
        if inwards:
            stack, esp = self._inner_stack(ring, ext)
            frame += [env.regs[ESP] & 0xFFFFFFFF, env.segs[SS].selector]
            esp = self._push(frame, descriptor_base(stack.lo, stack.hi), esp, stack.hi, ring)
            self._load_segment(SS, stack, ring)
        else:
            old = env.segs[SS]
            esp = self._push(frame, old.base, env.regs[ESP] & 0xFFFFFFFF, old.flags, ring)
        env.regs[ESP] = esp
        self._load_segment(CS, code, ring)
        env.eip = gate_offset(lo, hi)
        kept = _KEPT_BY_INTERRUPT_GATE if gate_type(hi) == _INTERRUPT_GATE else _KEPT_BY_TRAP_GATE
        env.eflags &= kept
        env.hflags = hflags_of(env, shadow=False)
        if vector == _NMI and source is Source.HARDWARE:
            env.hflags2 |= HF2_NMI_BLOCKED
        elif inwards and key is not None:
            top = env.segs[SS].base + esp & 0xFFFFFFFF
            self.plans.learn(key, self._pairs, top, kept, has_code=has_code)

    def _gate(self, vector: int, source: Source, ext: int) -> tuple[int, int]:
        env = self._env
        code = vector * 8 + 2
        if vector * 8 + 7 > env.idt.limit:
            raise Fault(Vector.GP, code | ext)
        lo, hi = self._read_pair(env.idt.base + vector * 8)
        if gate_type(hi) not in (_INTERRUPT_GATE, _TRAP_GATE):
            raise Fault(Vector.GP, code | ext)
        if source is Source.SOFTWARE and gate_dpl(hi) < env.hflags & HF_CPL:
            raise Fault(Vector.GP, code)
        if not gate_present(hi):
            raise Fault(Vector.NP, code | ext)
        return lo, hi

    def _descriptor(self, selector: int, missing: Fault) -> _Descriptor:
        table = self._env.ldt if selector & 4 else self._env.gdt
        index = selector & 0xFFF8
        if index + 7 > table.limit:
            raise missing
        return _Descriptor(selector, *self._read_pair(table.base + index))

    def _code_segment(self, selector: int, ext: int) -> _Descriptor:
        code = (selector & 0xFFFC) | ext
        if not selector & 0xFFFC:
            raise Fault(Vector.GP, ext)
        found = self._descriptor(selector, Fault(Vector.GP, code))
        is_code = found.hi & _DESC_SEGMENT and found.hi & _DESC_CODE
        if not is_code or found.dpl > self._env.hflags & HF_CPL:
            raise Fault(Vector.GP, code)
        if not found.hi & _DESC_PRESENT:
            raise Fault(Vector.NP, code)
        return found

    def _inner_stack(self, ring: int, ext: int) -> tuple[_Descriptor, int]:
        """SSn:ESPn of the task-state segment for a more privileged ring."""
        tss = self._env.tr
        at = 4 + ring * 8
        if at + 7 > tss.limit:
            raise Fault(Vector.TS, (tss.selector & 0xFFFC) | ext)
        esp, selector = self._read_pair(tss.base + at)
        selector &= 0xFFFF
        code = (selector & 0xFFFC) | ext
        if not selector & 0xFFFC:
            raise Fault(Vector.TS, ext)
        found = self._descriptor(selector, Fault(Vector.TS, code))
        wrong_ring = selector & 3 != ring or found.dpl != ring
        is_data = found.hi & _DESC_SEGMENT and not found.hi & _DESC_CODE
        if wrong_ring or not is_data or not found.hi & _DESC_WRITABLE:
            raise Fault(Vector.TS, code)
        if not found.hi & _DESC_PRESENT:
            raise Fault(Vector.SS, code)
        return found, esp

    def _load_segment(self, index: int, descriptor: _Descriptor, ring: int) -> None:
        cache = self._env.segs[index]
        cache.selector = (descriptor.selector & 0xFFFC) | ring
        cache.base = descriptor_base(descriptor.lo, descriptor.hi)
        cache.limit = descriptor_limit(descriptor.lo, descriptor.hi)
        cache.flags = descriptor.hi
        if index == CS and descriptor.hi & _DESC_CONFORMING:
            cache.flags = descriptor.hi

    def _address_space(self) -> AddressSpace:
        cr = self._env.cr
        return AddressSpace(cr[3], bool(cr[0] & _PG), bool(cr[4] & _PSE))

    def _read_pair(self, linear: int) -> tuple[int, int]:
        """Two words of a system table, which are read with supervisor rights whatever the ring."""
        self._pairs.append(linear & 0xFFFFFFFF)
        low, high = self._reach(linear & 0xFFFFFFFF, 8, write=False, user=False)
        if high is None:
            return _PAIR.unpack_from(self._memory.view, low[0] - self._memory.base)
        return _PAIR.unpack(self._memory.read(*low) + self._memory.read(*high))

    def _push(self, frame: list[int], base: int, esp: int, flags: int, ring: int) -> int:
        """Store the frame (first word lowest) below `esp`; returns the new ESP. All or nothing."""
        raw = struct.pack(f"<{len(frame)}I", *frame)
        mask = 0xFFFFFFFF if flags & _DESC_BIG else 0xFFFF
        new = esp - len(raw) & mask
        low, high = self._reach(base + new & 0xFFFFFFFF, len(raw), write=True, user=ring == 3)
        self._memory.write(low[0], raw[: low[1]])
        if high is not None:
            self._memory.write(high[0], raw[low[1] :])
        return esp & ~mask & 0xFFFFFFFF | new

    def _reach(
        self, linear: int, count: int, *, write: bool, user: bool
    ) -> tuple[tuple[int, int], tuple[int, int] | None]:
        """Physical (address, bytes) of a short range, in two parts where it crosses a page.

        The higher part is looked at first: frames grow downwards, and so does the order of faults.
        """
        memory, space = self._memory, self._space
        room = PAGE_SIZE - (linear & 0xFFF)
        try:
            high = None
            if count > room:
                after = linear + room & 0xFFFFFFFF
                high = translate(memory, space, after, write=write, user=user), count - room
            low = translate(memory, space, linear, write=write, user=user)
        except PageNotAccessible as failed:
            raise Fault(Vector.PF, failed.error_code, failed.address) from None
        return (low, min(room, count)), high


def interruptible(env: Env, vector: int) -> bool:
    """Whether a hardware interrupt (or, for vector 2, an NMI) may be taken between these two instructions."""
    if env.hflags & HF_SHADOW:
        return False
    if vector == _NMI:
        return not env.hflags2 & HF2_NMI_BLOCKED
    return bool(env.eflags & _IF)


__all__ = ["CpuShutdown", "Delivery", "Fault", "Source", "interruptible"]
