"""The whole state of the emulated processor as a value.

`CpuState` holds architectural values only, so two engines that stand at the same tick give equal states whatever their
caches hold: arithmetic flags are computed, never kept in the engine's lazy form. `hflags`, the engine's digest of
control bits for its translator, is recomputed on the way back, so no value from a file reaches the engine unchecked.
RF is left out: the engine clears it at the end of a translated block, not after one instruction.

Source: Intel SDM volume 1 chapters 3, 8 and 10. Read next: engine_layout.py (where the engine has it).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import NamedTuple

from hostvm.engine_layout import EMPTY_EXCEPTION, FLAGS_ARE_EXPLICIT, Env, SegmentCache
from hostvm.x86 import Cr0, Cr4, Eflags

ARITHMETIC_FLAGS = int(Eflags.CF | Eflags.PF | Eflags.AF | Eflags.ZF | Eflags.SF | Eflags.OF)
ES, CS, SS, DS, FS, GS = range(6)
EAX, ECX, EDX, EBX, ESP, EBP, ESI, EDI = range(8)

HF_SHADOW = 1 << 3
HF_CPL = 3
HF2_NMI_BLOCKED = 1 << 2
_HF_SOFTMMU = 1 << 2
_HF_CS32 = 1 << 4
_HF_SS32 = 1 << 5
_HF_ADDSEG = 1 << 6
_HF_PE = 1 << 7
_HF_TF = 1 << 8
_HF_MP_SHIFT = 9
_HF_OSFXSR = 1 << 22
_DESC_BIG = 1 << 22
_EFLAGS_IN_HFLAGS = int(Eflags.IOPL | Eflags.VM | Eflags.AC)
_TF, _VM, _PE = int(Eflags.TF), int(Eflags.VM), int(Cr0.PE)
_FPU_BITS, _OSFXSR = int(Cr0.MP | Cr0.EM | Cr0.TS), int(Cr4.OSFXSR)


class Segment(NamedTuple):
    """A segment register: selector, and the base, limit (bytes) and flags (second word) of its descriptor."""

    selector: int
    base: int
    limit: int
    flags: int


@dataclass(frozen=True, slots=True)
class CpuState:
    """Architectural state between two instructions.

    `regs`: EAX ECX EDX EBX ESP EBP ESI EDI. `segs`: ES CS SS DS FS GS. `tables`: LDT TR GDT IDT (for the last two only
    base and limit count). `cr`: CR0 CR2 CR3 CR4. `dr`: DR0..DR7. `fpu`: top, status, control, tags (8 bytes, 1 empty),
    registers (8 x 10 bytes), opcode, CS, DS, instruction and data pointer. `xmm`: 8 x 16 bytes.
    `shadow`: interrupts are held off for one instruction (after STI, MOV SS). `nmi_blocked`: until the next IRET.
    """

    regs: tuple[int, ...]
    eip: int
    eflags: int
    segs: tuple[Segment, ...]
    tables: tuple[Segment, ...]
    cr: tuple[int, int, int, int]
    dr: tuple[int, ...]
    fpu: tuple[int, int, int, bytes, bytes, int, int, int, int, int]
    mxcsr: int
    xmm: bytes
    sysenter_cs: int
    shadow: bool
    nmi_blocked: bool

    @property
    def cpl(self) -> int:
        """Current privilege level: that of the stack segment's descriptor; 0 in real mode."""
        return self.segs[SS].flags >> 13 & 3 if self.cr[0] & Cr0.PE else 0

    def pack(self) -> bytes:
        """A fixed byte layout for digests and comparison."""
        top, status, control, tags, registers, *rest = self.fpu
        words = [*self.regs, self.eip, self.eflags]
        for segment in self.segs + self.tables:
            words += segment
        words += [*self.cr, *self.dr, top, status, control, *rest]
        words += [self.mxcsr, self.sysenter_cs, self.shadow, self.nmi_blocked]
        return struct.pack(f"<{len(words)}I", *words) + tags + registers + self.xmm


def _segment(cache: SegmentCache) -> Segment:
    return Segment(cache.selector, cache.base & 0xFFFFFFFF, cache.limit, cache.flags)


def _table(cache: SegmentCache) -> Segment:
    return Segment(0, cache.base & 0xFFFFFFFF, cache.limit, 0)


def read_state(env: Env, eflags: int) -> CpuState:
    """The state in `env`; `eflags` are the full flags as the engine computes them."""
    registers = b"".join(
        r.significand.to_bytes(8, "little") + r.sign_exponent.to_bytes(2, "little")
        for r in env.fpregs
    )
    fpu = (
        env.fpstt,
        env.fpus & ~0x3800,
        env.fpuc,
        bytes(env.fptags),
        registers,
        env.fpop,
        env.fpcs,
        env.fpds,
        env.fpip & 0xFFFFFFFF,
        env.fpdp & 0xFFFFFFFF,
    )
    return CpuState(
        regs=tuple(v & 0xFFFFFFFF for v in env.regs[:8]),
        eip=env.eip & 0xFFFFFFFF,
        eflags=eflags & ~int(Eflags.RF),
        segs=tuple(_segment(s) for s in env.segs),
        tables=(_segment(env.ldt), _segment(env.tr), _table(env.gdt), _table(env.idt)),
        cr=(
            env.cr[0] & 0xFFFFFFFF,
            env.cr[2] & 0xFFFFFFFF,
            env.cr[3] & 0xFFFFFFFF,
            env.cr[4] & 0xFFFFFFFF,
        ),
        dr=tuple(v & 0xFFFFFFFF for v in env.dr),
        fpu=fpu,
        mxcsr=env.mxcsr,
        xmm=b"".join(bytes(x.low) for x in env.xmm),
        sysenter_cs=env.sysenter_cs,
        shadow=bool(env.hflags & HF_SHADOW),
        nmi_blocked=bool(env.hflags2 & HF2_NMI_BLOCKED),
    )


def _load(cache: SegmentCache, segment: Segment) -> None:
    cache.selector, cache.base, cache.limit, cache.flags = segment


def write_flags(env: Env, eflags: int) -> None:
    """Put full flags into the engine's split form.

    The arithmetic flags and DF go into `eflags` too: from there the engine takes them at its next call, and there it
    leaves them at the end of one.
    """
    env.eflags = eflags & ~int(Eflags.RF) | Eflags.FIXED
    env.cc_src = eflags & ARITHMETIC_FLAGS
    env.cc_dst = env.cc_src2 = 0
    env.cc_op = FLAGS_ARE_EXPLICIT
    env.df = -1 if eflags & Eflags.DF else 1


def hflags_of(env: Env, shadow: bool) -> int:
    """The engine's translator flags for the control registers, segments and EFLAGS in `env`."""
    cr0, eflags = env.cr[0], env.eflags
    code, stack = env.segs[CS], env.segs[SS]
    flags = _HF_SOFTMMU | (HF_SHADOW if shadow else 0) | (eflags & _EFLAGS_IN_HFLAGS)
    flags |= (cr0 & _FPU_BITS) << _HF_MP_SHIFT - 1
    flags |= _HF_TF if eflags & _TF else 0
    flags |= _HF_OSFXSR if env.cr[4] & _OSFXSR else 0
    if not cr0 & _PE:
        return int(flags | _HF_ADDSEG)
    flags |= _HF_PE | (stack.flags >> 13 & 3)
    flags |= _HF_CS32 if code.flags & _DESC_BIG else 0
    flags |= _HF_SS32 if stack.flags & _DESC_BIG else 0
    bases = env.segs[DS].base | env.segs[ES].base | stack.base
    if eflags & _VM or not flags & _HF_CS32 or bases:
        flags |= _HF_ADDSEG
    return int(flags)


def write_state(env: Env, state: CpuState) -> None:
    """Put `state` into `env`. FPU control and MXCSR need the engine's own setters besides (cpu.py)."""
    for index, value in enumerate(state.regs):
        env.regs[index] = value
    env.eip = state.eip
    for cache, segment in zip(env.segs, state.segs, strict=True):
        _load(cache, segment)
    for name, segment in zip(("ldt", "tr", "gdt", "idt"), state.tables, strict=True):
        _load(getattr(env, name), segment)
    for index, value in zip((0, 2, 3, 4), state.cr, strict=True):
        env.cr[index] = value
    for index, value in enumerate(state.dr):
        env.dr[index] = value
    write_fpu(env, state)
    env.sysenter_cs = state.sysenter_cs
    env.old_exception, env.error_code = EMPTY_EXCEPTION, 0
    write_flags(env, state.eflags)
    env.hflags = hflags_of(env, state.shadow)
    env.hflags2 = env.hflags2 & ~HF2_NMI_BLOCKED | (HF2_NMI_BLOCKED if state.nmi_blocked else 0)


def write_fpu(env: Env, state: CpuState) -> None:
    """Put the FPU's part of `state` into `env`, except what needs the engine's own setters."""
    top, status, _, tags, registers, fpop, fpcs, fpds, fpip, fpdp = state.fpu
    env.fpstt, env.fpus = top & 7, status & ~0x3800
    for index in range(8):
        raw = registers[index * 10 : index * 10 + 10]
        env.fptags[index] = tags[index] & 1
        env.fpregs[index].significand = int.from_bytes(raw[:8], "little")
        env.fpregs[index].sign_exponent = int.from_bytes(raw[8:], "little")
        env.xmm[index].low[:] = state.xmm[index * 16 : index * 16 + 16]
    env.fpop, env.fpcs, env.fpds, env.fpip, env.fpdp = fpop, fpcs, fpds, fpip, fpdp


__all__ = [
    "ARITHMETIC_FLAGS",
    "CS",
    "DS",
    "EAX",
    "EBP",
    "EBX",
    "ECX",
    "EDI",
    "EDX",
    "ES",
    "ESI",
    "ESP",
    "FS",
    "GS",
    "HF2_NMI_BLOCKED",
    "HF_CPL",
    "HF_SHADOW",
    "SS",
    "CpuState",
    "Segment",
    "hflags_of",
    "read_state",
    "write_flags",
    "write_fpu",
    "write_state",
]
