"""The processor: the CPU engine made exact.

The engine (engine.py) executes i386 code with paging, rings and segments, and counts instructions. What it does not do
is done here and in the parts of `Cpu`: delivering interrupts and faults, refusing port I/O, and saying at which machine
step anything happened. `run` promises: never past its budget, every step counted once, and the same states however a
run is cut into pieces. (i) to (iii) are carried out in instruction_count.py, (iv) in translations.py.

(i) *Counting.* The engine counts each instruction begun, each REP iteration and each faulting attempt, but no fetch
fault. So steps = its count + fetch faults delivered - stores executed twice.
(ii) *Early fetch faults.* A block is translated as a whole; if it runs onto a page that is not mapped, the fault comes
before the block's first instruction runs. So it runs up to the page's last instruction and is tried again from there,
with exits on the last bytes of the page so that the translator stops at every boundary (page_ends.py).
(iii) *Late budget.* A fetch fault may come when the budget is already used up. It is taken back; the next run meets it.
(iv) *Self-modifying code.* A store into its own block is executed a second time in a block of its own, and counted
twice. Such a block is recognised when it is made (engine_layout.py); the run then stops behind it and drops the
translations, so that the next such block is made, and seen, again.
(v) *Flags.* Before each instruction the engine works the flags out into their explicit form, but when the instruction
then faults, or a hook makes the engine synchronise its state, it says that they still have the form of the instruction
before. So every hook that is called from inside an instruction says again that they are explicit.
(vi) *Instructions the engine gets wrong* are caught by hooks and finished by us (gap_filler.py).
(vii) *Two ways of counting.* All this is the way in which the engine counts. Where there is a compiled part (native/),
it counts instead, by blocks, as long as nobody wants to be told of single instructions; then (i) to (v) are done in C,
and the flags keep their form.

Limits: segment limits and null data segments are not enforced; `int n` with a redundant prefix that faults is
reported one prefix late; CR2 written by ring-0 code is lost when a fetch fault is taken back in the same run. An
unaligned store that changes what it has read, begins before its own block and reaches into it, changes the bytes before
the block twice; where blocks begin depends on how a run is cut. A bit test of a register with LOCK makes the engine
abort, and this process with it. IRET outside of ring 0 with VM in the flags that it finds raises #GP(CS), also where
CS would do and hardware would ignore VM.

Read next: instruction_count.py, delivery.py, then machine.py.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from enum import Enum
from typing import NamedTuple

from hostvm import engine
from hostvm.block_count import BlockCount
from hostvm.cpu_state import (
    EAX,
    EBX,
    ECX,
    EDX,
    HF_CPL,
    CpuState,
    read_state,
    write_fpu,
    write_state,
)
from hostvm.cpuid import cpuid
from hostvm.delivery import CpuShutdown, Delivery, Source, interruptible
from hostvm.engine import Engine
from hostvm.engine_gaps import MAX_INSTRUCTION, skip_prefixes
from hostvm.engine_hooks import (
    CPUID,
    INTERRUPT,
    INVALID,
    UNMAPPED,
)
from hostvm.engine_layout import (
    EMPTY_EXCEPTION,
    FLAGS_ARE_EXPLICIT,
    Env,
    Layout,
    SelfReader,
)
from hostvm.engine_stop import EngineStop, Why, guarded
from hostvm.errors import EngineMisfit, MachineCheck
from hostvm.gap_filler import GapFiller
from hostvm.instruction_count import InstructionCount
from hostvm.memory import PhysicalMemory
from hostvm.native import load
from hostvm.native.blocks import Blocks, Callbacks
from hostvm.paging import AddressSpace
from hostvm.probe_hooks import ProbeHooks
from hostvm.probes import Probes
from hostvm.translations import Translations
from hostvm.x86 import PAGE_SHIFT, Cr0, Vector

# Plain integers for the hooks: an IntFlag operation costs as much as ten of these.
_TS, _HF_TS = int(Cr0.TS), 1 << 11
_RDPMC, _ICEBP = b"\x0f\x33", b"\xf1"
_PATIENCE = 8
# Fields of the processor state as numbers of 64-bit words.
_EIP, _CR0, _CR2 = Env.eip.offset // 8, Env.cr.offset // 8, Env.cr.offset // 8 + 2
_LONG_RUN = 1 << 20

_u64, _ptr = ctypes.c_uint64, ctypes.c_void_p


class ExitKind(Enum):
    """Why `Cpu.run` came back."""

    BUDGET = "the budget is used up"
    HALT = "the CPU executed hlt in ring 0"
    SHUTDOWN = "a fault while delivering a double fault"
    PROBE = "a probe asked to stop"


class Exit(NamedTuple):
    """Steps executed (each counted once, a hlt included) and the reason for the return."""

    steps: int
    kind: ExitKind


def _no_tsc() -> int:
    return 0


class Cpu:
    """One emulated i386 over `memory`. Not thread-safe; one engine per Cpu.

    Raises EngineMisfit when the installed engine is not the one whose behaviour is known.
    """

    def __init__(self, memory: PhysicalMemory, read_tsc: Callable[[], int] = _no_tsc) -> None:
        self.memory = memory
        self.read_tsc = read_tsc
        self._direct_traps: dict[int, int] = {}
        self._native: Blocks | None = self._no_blocks()
        self.engine = its = Engine(memory, self._load_native)
        self.env = its.env
        self.stopping = stopping = EngineStop(its)
        self._delivery = Delivery(self.env, memory, its.eflags)
        self._filler = filler = GapFiller(its, stopping, self._deliver, self._native)
        pages = memory.size >> PAGE_SHIFT
        code_pages = self._native.code_pages if self._native else (ctypes.c_uint8 * pages)()
        self._translations = translations = Translations(its, stopping, filler, code_pages)
        self._probes = probes = ProbeHooks(its, stopping, self.stop_soon)
        self._by_instructions = InstructionCount(
            its, stopping, translations, filler, probes, self._deliver_met
        )
        self._by_blocks: BlockCount | None = None
        self._done = 0
        self._asked_to_stop = False
        self.running = False
        self._install_hooks()
        self._try_blocks()

    # ---- construction -------------------------------------------------------------------------

    @staticmethod
    def _no_blocks() -> Blocks | None:
        return None

    def _load_native(self, handle: int, reader: SelfReader, layout: Layout, pc: int) -> None:
        native = load()
        self.native = native.text
        if native.library is not None:
            blocks = Blocks(native.library, handle, layout, self.memory)
            if blocks.find(reader, layout, pc):
                self._native = blocks
            else:
                self.native = "does not find its way in this engine"

    def _install_hooks(self) -> None:
        hooks = self.engine.hooks
        if self._native is None:
            hooks.add(engine.ON_INTERRUPT, self._by_instructions.interrupt_callback)
            hooks.add(engine.ON_MADE, self._translations.made_callback)
        else:
            self._by_blocks = self._count_by(self._native)
        hooks.add(engine.ON_INVALID, INVALID(self._on_invalid))
        hooks.add(engine.ON_UNMAPPED, UNMAPPED(self._on_nowhere))
        hooks.add(engine.ON_INSTRUCTION, CPUID(self._on_cpuid), instruction=engine.CPUID)
        hooks.add(engine.ON_INSTRUCTION, CPUID(self._on_rdtsc), instruction=engine.RDTSC)
        self._filler.install()

    def _count_by(self, blocks: Blocks) -> BlockCount:
        callbacks = Callbacks(
            self._by_instructions.interrupt_callback,
            self._translations.made_callback,
            INTERRUPT(self._on_delivery),
            self._filler.gap_callback,
        )
        self._delivery.plans.listener = blocks.learn
        return BlockCount(blocks, self.engine, self.stopping, self._translations, callbacks)

    def _try_blocks(self) -> None:
        counting = self._by_blocks
        if counting is not None and not counting.works(self.engine.trial_place):
            counting.end()
            self._by_blocks, self.native = None, "does not count as it should"

    def _choose_counting(self, budget: int) -> None:
        counting = self._by_blocks
        if counting is None:
            return
        watched = self._probes.on or self.memory.listener is not None
        if counting.blocks.on:
            if watched:
                counting.end()
        elif not watched and (self._translations.flushed or budget >= _LONG_RUN):
            counting.begin()
        self._translations.flushed = False

    # ---- probes -------------------------------------------------------------------------------

    def set_probes(self, probes: Probes) -> None:
        """Replace all probes. New ranges cost all translations; new listeners for the same ranges cost nothing."""
        if self._probes.replace(probes):
            self.flush()

    def stop_soon(self) -> None:
        """From inside a hook: end the run behind the step under way. Also ends a run that is not in the engine."""
        self._asked_to_stop = True
        self.engine.budget.value = min(self.engine.budget.value, self.engine.counter.value)

    # ---- state --------------------------------------------------------------------------------

    def eflags(self) -> int:
        """The full EFLAGS."""
        return self.engine.eflags()

    def state(self) -> CpuState:
        """The architectural state as a value."""
        return read_state(self.env, self.engine.eflags())

    def restore(self, state: CpuState) -> None:
        """Put the CPU into `state`; memory is the caller's business. Drops all cached translations."""
        self.revert(state)
        self.flush()

    def revert(self, state: CpuState) -> None:
        """As `restore`, where memory was changed by PhysicalMemory only: translations that still hold are kept."""
        write_state(self.env, state)
        self._set_rounding(state)
        self.engine.set_exits(())
        self.flush_tlb()

    def load_fpu(self, state: CpuState) -> None:
        """Put the FPU's part of `state` into the CPU, and nothing else."""
        write_fpu(self.env, state)
        self._set_rounding(state)

    def _set_rounding(self, state: CpuState) -> None:
        self.engine.write_register("FPCW", state.fpu[2])
        self.engine.write_register("MXCSR", state.mxcsr)

    def flush(self) -> None:
        """Forget cached translations of addresses and code. Changes no architectural state."""
        self.engine.set_exits(())
        self._translations.flush()
        self.flush_tlb()

    def flush_tlb(self) -> None:
        """Forget cached address translations, after page tables changed from outside."""
        self.engine.flush_tlb()

    def address_space(self) -> AddressSpace:
        """How linear addresses are translated at this moment."""
        return self.engine.address_space()

    def read_linear(self, address: int, count: int) -> bytes:
        """Up to `count` bytes at a linear address, without any effect; short where unmapped."""
        return self.engine.read_linear(address, count)

    @property
    def eip(self) -> int:
        """Instruction pointer."""
        return self.engine.words[_EIP] & 0xFFFFFFFF

    @property
    def cr2(self) -> int:
        """Linear address of the last page fault."""
        return self.engine.words[_CR2] & 0xFFFFFFFF

    @property
    def cpl(self) -> int:
        """Current privilege level."""
        return int(self.env.hflags & HF_CPL)

    @property
    def progress(self) -> int:
        """Steps of the current `run` so far; inside a hook the step under way is included."""
        blocks = self._counting_blocks
        if blocks is not None:
            return self._done + blocks.begun(self.engine.linear_eip())
        return self._done + self._by_instructions.begun()

    @property
    def _counting_blocks(self) -> Blocks | None:
        """The compiled part, while it counts."""
        counting = self._by_blocks
        return counting.blocks if counting is not None and counting.blocks.on else None

    @property
    def direct_traps(self) -> dict[int, int]:
        """Traps that went straight to a Guest since this was last cleared: how many for each vector."""
        if self._by_blocks is not None:
            self._by_blocks.blocks.take_direct_traps(self._direct_traps)
        return self._direct_traps

    @direct_traps.setter
    def direct_traps(self, counts: dict[int, int]) -> None:
        if self._by_blocks is not None:
            self._by_blocks.blocks.take_direct_traps({})
        self._direct_traps = counts

    def check(self) -> int:
        """A checksum of the registers below 251, such that a change of one register by one changes it."""
        total = self.engine.eflags() & 0xFFF
        for weight, value in enumerate(self.env.regs[:8], start=2):
            total += weight * (value & 0xFFFFFFFF)
        return int(total % 251)

    def set_task_switched(self, on: bool) -> None:
        """Set or clear CR0.TS: whether the next use of the FPU traps."""
        words = self.engine.words
        if bool(words[_CR0] & _TS) != on:
            words[_CR0] ^= _TS
            self.env.hflags ^= _HF_TS

    def call_host(self, eip: int, eax: int, ebx: int) -> None:
        """Go on at `eip` with two registers set: how the Host's turn ends."""
        words = self.engine.words
        words[_EIP], words[EAX], words[EBX] = eip, eax, ebx

    # ---- asynchronous delivery ----------------------------------------------------------------

    def interruptible(self, vector: int) -> bool:
        """Whether a hardware interrupt or NMI (vector 2) would be taken now."""
        return interruptible(self.env, vector)

    def take_interrupt(self, vector: int) -> None:
        """Deliver a hardware interrupt: one step of its own. Raises CpuShutdown."""
        assert self.interruptible(vector)
        self._delivery.deliver(vector, source=Source.HARDWARE)

    # ---- running ------------------------------------------------------------------------------

    def run(self, budget: int) -> Exit:
        """Execute at most `budget` (> 0) steps. A step that faults is delivered within it."""
        self._done = 0
        self._asked_to_stop = False
        self._choose_counting(budget)
        self.running = True
        try:
            return self._run(budget)
        finally:
            self.running = False

    def _run(self, budget: int) -> Exit:
        idle = 0
        by_blocks, written = self._by_blocks, self.memory.written
        while self._done < budget:
            if written:
                self._translations.forget_changed()
            if by_blocks is not None and by_blocks.blocks.on:
                steps = by_blocks.run(budget - self._done)
                self._done += steps
                if by_blocks.halted:
                    return Exit(self._done, ExitKind.HALT)
            else:
                steps = self._by_instructions.run(budget - self._done)
                self._done += steps
            kind = self._after(steps)
            if kind is not None:
                return Exit(self._done, kind)
            if self._asked_to_stop and steps:
                return Exit(self._done, ExitKind.PROBE)
            idle = 0 if steps else idle + 1
            if idle > _PATIENCE:
                self.flush()
            if idle > 2 * _PATIENCE:
                raise EngineMisfit(f"the CPU engine makes no progress at eip {self.eip:#010x}")
        return Exit(self._done, ExitKind.BUDGET)

    def _after(self, steps: int) -> ExitKind | None:
        """Finish what a hook left to be done outside the engine."""
        why = self.stopping.take()
        if self._translations.stale:
            self._translations.flush_stale()
        try:
            match why:
                case Why.UNDO:
                    self._filler.refuse()
                case Why.GAP:
                    self._filler.fill()
                case Why.SHUTDOWN:
                    return ExitKind.SHUTDOWN
                case Why.PROBE:
                    return ExitKind.PROBE
                case Why.NOTHING if steps and self._stands_behind_hlt():
                    return ExitKind.HALT
                case _:
                    self._by_instructions.go_on_from(why)
        except CpuShutdown:
            return ExitKind.SHUTDOWN
        return None

    def _stands_behind_hlt(self) -> bool:
        return self._counting_blocks is None and self._by_instructions.stands_behind_hlt()

    # ---- hooks --------------------------------------------------------------------------------

    @guarded
    def _on_delivery(self, _uc: int, vector: int, _data: int) -> None:
        self._deliver_met(vector)

    def _deliver_met(self, vector: int) -> None:
        """Deliver the interrupt or fault that the engine has met."""
        if self.env.exception_is_int:
            self._deliver(vector, source=Source.SOFTWARE)
        else:
            self._deliver(vector, self.env.error_code)

    def _deliver(self, vector: int, error_code: int = 0, source: Source = Source.EXCEPTION) -> None:
        env = self.env
        entered = self._delivery.deliver(vector, error_code, source, self._software_length)
        env.exception_is_int = 0
        self._by_instructions.save_fault_registers()
        if env.hflags & HF_CPL:
            self.direct_traps[entered] = self.direct_traps.get(entered, 0) + 1
        if self.memory.written:
            self._translations.forget_changed()

    def _software_length(self, vector: int) -> int:
        """Length of the software interrupt that ends at EIP: INT3 and INTO have one byte, INT n two."""
        last = self.engine.read_linear(self.engine.linear_eip() - 2 & 0xFFFFFFFF, 2)
        return 2 if last == bytes((0xCD, vector)) else 1

    @guarded
    def _on_invalid(self, _uc: int, _data: int) -> bool:
        self.env.old_exception = EMPTY_EXCEPTION
        self._flags_are_explicit()
        blocks = self._counting_blocks
        if blocks is not None:
            blocks.leave(self.engine.linear_eip())
        code = self.engine.read_linear(self.engine.linear_eip(), MAX_INSTRUCTION)
        at = skip_prefixes(code)
        if code[at : at + 2] == _RDPMC:
            self._deliver(Vector.GP)
        elif code[at : at + 1] == _ICEBP:
            self.env.eip += at + 1
            self._deliver(Vector.DB)
        else:
            self._deliver(Vector.UD)
        return True

    def _flags_are_explicit(self) -> None:
        """(v) What a hook says that is called from inside of an instruction."""
        if self._counting_blocks is None:
            self.env.cc_op = FLAGS_ARE_EXPLICIT

    @guarded
    def _on_nowhere(
        self, _uc: int, _kind: int, address: int, _size: int, _value: int, _data: int
    ) -> bool:
        raise MachineCheck(address, self.eip)

    @guarded
    def _on_cpuid(self, _uc: int, _data: int) -> int:
        self._flags_are_explicit()
        regs = self.env.regs
        regs[EAX], regs[EBX], regs[ECX], regs[EDX] = cpuid(regs[EAX] & 0xFFFFFFFF)
        return 1

    @guarded
    def _on_rdtsc(self, _uc: int, _data: int) -> int:
        self._flags_are_explicit()
        by_blocks = self._counting_blocks is not None
        if by_blocks or self.engine.counter.value <= self.engine.budget.value:
            value = self.read_tsc()
            self.env.regs[EAX], self.env.regs[EDX] = value & 0xFFFFFFFF, value >> 32 & 0xFFFFFFFF
        return 1


__all__ = ["Cpu", "Exit", "ExitKind"]
