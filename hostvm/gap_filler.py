"""Instructions that the engine gets wrong, carried out or refused here (number (vi) of cpu.py).

engine_gaps.py says which they are. (i) Most are met by a hook in front of them: it looks whether there is anything to
be done, and if there is, the engine stops there and `fill` does it. (ii) Ports and fast system calls have a hook that
the engine calls from inside; there the state before the instruction is remembered, and `refuse` goes back to it and
delivers the fault. Read next: engine_gaps.py, x87_unit.py.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any, Protocol

from hostvm.cpu_state import EDX, ESP, HF_CPL, HF_SHADOW, SS, write_flags
from hostvm.engine import IN, ON_INSTRUCTION, OUT, Engine
from hostvm.engine import SYSCALL as SYSCALL_INSTRUCTION
from hostvm.engine import SYSENTER as SYSENTER_INSTRUCTION
from hostvm.engine_gaps import MAX_INSTRUCTION, Gap, classify, loop
from hostvm.engine_hooks import CODE, PORT_IN, PORT_OUT, SYSCALL
from hostvm.engine_layout import ENV_BYTES, FLAGS_ARE_EXPLICIT
from hostvm.engine_stop import EngineStop, Why, guarded
from hostvm.io_permission import may_use_port
from hostvm.native.blocks import Blocks
from hostvm.x86 import Cr0, Eflags, Vector
from hostvm.x87_unit import ERROR_SUMMARY, execute

_VM, _FLAGS_OF_IRET, _BIG_STACK = int(Eflags.VM), 8, 1 << 22
_SYSCALL_OPCODE = 0x05
_SINGLE_STEP = 1 << 14


@dataclass(frozen=True, slots=True)
class _Refused:
    """An instruction to be undone and answered with a fault: state before it, step count, vector."""

    env: bytes
    count: int
    vector: int


class Deliver(Protocol):
    """How a fault is delivered."""

    def __call__(self, vector: int, error_code: int = 0, /) -> None:
        """Have the CPU enter the handler."""
        ...


class GapFiller:
    """Fills the gaps of one engine. `blocks` is the compiled part, if there is one."""

    def __init__(
        self, engine: Engine, stopping: EngineStop, deliver: Deliver, blocks: Blocks | None
    ) -> None:
        self.engine = engine
        self.env = engine.env
        self.stopping = stopping
        self._deliver = deliver
        self._blocks = blocks
        self._refused: _Refused | None = None
        self.gap_callback = CODE(self._on_gap)
        self.iret_callback = CODE(self._on_iret)

    def install(self) -> None:
        """Have the instructions reported that have hooks of their own."""
        hooks: tuple[tuple[int, Any], ...] = (
            (IN, PORT_IN(self._on_in)),
            (OUT, PORT_OUT(self._on_out)),
            (SYSENTER_INSTRUCTION, SYSCALL(self._on_sysenter)),
            (SYSCALL_INSTRUCTION, SYSCALL(self._on_syscall)),
        )
        for instruction, callback in hooks:
            self.engine.hooks.add(ON_INSTRUCTION, callback, instruction=instruction)

    # ---- (i) in front of the instruction ------------------------------------------------------

    @guarded
    def _on_gap(self, _uc: int, address: int, _size: int, _data: int) -> None:
        by_blocks = self._blocks is not None and self._blocks.on
        if self.stopping.why is Why.PROBE or (
            not by_blocks and self.engine.counter.value > self.engine.budget.value
        ):
            return
        if self._must_fill(classify(self.engine.read_linear(address, MAX_INSTRUCTION))):
            if self._blocks is not None and by_blocks:
                self._blocks.leave(address)
            self.stopping.stop(Why.GAP)

    @guarded
    def _on_iret(self, uc: int, address: int, size: int, data: int) -> None:
        if self._finds_vm():
            self._on_gap(uc, address, size, data)

    def _finds_vm(self) -> bool:
        """Whether an IRET here would find VM in the flags, outside of ring 0."""
        flags = self._on_stack(_FLAGS_OF_IRET, 4) if self.env.hflags & HF_CPL else b""
        return bool(int.from_bytes(flags, "little") & _VM)

    def _on_stack(self, offset: int, count: int) -> bytes:
        stack = self.env.segs[SS]
        mask = 0xFFFFFFFF if stack.flags & _BIG_STACK else 0xFFFF
        at = stack.base + (self.env.regs[ESP] + offset & mask)
        return self.engine.read_linear(at & 0xFFFFFFFF, count)

    def _must_fill(self, found: tuple[Gap, int, int] | None) -> bool:
        match found:
            case (Gap.PORT, opcode, number):
                port = number if number >= 0 else self.env.regs[EDX] & 0xFFFF
                return not self._may_use_port(port, 4 if opcode & 1 else 1)
            case (Gap.FAST_CALL | Gap.LOOP, _, _):
                return True
            case (Gap.X87, _, _):
                return not self.env.cr[0] & (Cr0.TS | Cr0.EM)
            case (Gap.IRET, _, _):
                # Where the stack ends before the flags, the engine has a page fault.
                is_nested = self.env.eflags & Eflags.NT
                return not is_nested and self._finds_vm() and len(self._on_stack(0, 12)) == 12
        return False

    def fill(self) -> None:
        """The engine has stopped in front of an instruction: carry it out, or deliver what it raises."""
        code = self.engine.read_linear(self.engine.linear_eip(), MAX_INSTRUCTION)
        match classify(code):
            case (Gap.X87, _, _) if self.env.fpus & ERROR_SUMMARY:
                self._deliver(Vector.MF)
            case (Gap.X87, opcode, length):
                execute(self.env, opcode)
                self.env.eip = self.env.eip + length & 0xFFFFFFFF
                self._end_instruction()
            case (Gap.LOOP, _, _):
                loop(self.env, code, zero=bool(self.engine.eflags() & Eflags.ZF))
                self._end_instruction()
            case (Gap.FAST_CALL, opcode, _) if opcode == _SYSCALL_OPCODE:
                self._deliver(Vector.UD)
            case (Gap.IRET, _, _):
                selector = int.from_bytes(self._on_stack(4, 2), "little")
                self._deliver(Vector.GP, selector & ~3)
            case _:
                self._deliver(Vector.GP)

    def _end_instruction(self) -> None:
        """What is due behind an instruction that was carried out here: no shadow any more, and a trap of TF."""
        env = self.env
        env.hflags &= ~HF_SHADOW
        if env.eflags & Eflags.TF:
            env.dr[6] |= _SINGLE_STEP
            self._deliver(Vector.DB)

    # ---- (ii) from inside of it ---------------------------------------------------------------

    @guarded
    def _on_in(self, _uc: int, port: int, size: int, _data: int) -> int:
        self.env.cc_op = FLAGS_ARE_EXPLICIT
        if not self._may_use_port(port, size):
            self._undo(Vector.GP)
        return 0xFFFFFFFF

    @guarded
    def _on_out(self, _uc: int, port: int, size: int, _value: int, _data: int) -> None:
        self.env.cc_op = FLAGS_ARE_EXPLICIT
        if not self._may_use_port(port, size):
            self._undo(Vector.GP)

    @guarded
    def _on_sysenter(self, _uc: int, _data: int) -> None:
        self.env.cc_op = FLAGS_ARE_EXPLICIT
        self._undo(Vector.GP)

    @guarded
    def _on_syscall(self, _uc: int, _data: int) -> None:
        self.env.cc_op = FLAGS_ARE_EXPLICIT
        self._undo(Vector.UD)

    def _undo(self, vector: int) -> None:
        """Remember the state before this instruction: the engine stops only behind it."""
        if self._refused is None:
            before = ctypes.string_at(self.engine.layout.env, ENV_BYTES)
            self._refused = _Refused(before, self.engine.counter.value, vector)
        self.stopping.stop(Why.UNDO)

    def counted(self, count: int) -> int:
        """Of so many instructions counted, those up to the refused one, if there is one."""
        return count if self._refused is None else self._refused.count

    def refuse(self) -> None:
        """The engine has stopped behind an instruction: undo it and deliver the fault instead."""
        assert self._refused is not None
        refused, self._refused = self._refused, None
        ctypes.memmove(self.engine.layout.env, refused.env, ENV_BYTES)
        # Inside a call the engine keeps arithmetic flags apart; between calls it expects them in EFLAGS.
        write_flags(self.env, self.engine.eflags())
        self._deliver(refused.vector)

    def _may_use_port(self, port: int, size: int) -> bool:
        return may_use_port(self.env, self.engine.read_linear, port, size)


__all__ = ["GapFiller"]
