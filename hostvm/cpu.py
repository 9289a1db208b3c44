"""The processor: the CPU engine made exact. The only importer of unicorn.

The engine executes i386 code with paging, rings and segments, and counts instructions. What it does not do is done
here: delivering interrupts and faults, refusing port I/O, and saying at which machine step anything happened. `run`
promises: never past its budget, every step counted once, and the same states however a run is cut into pieces.

(i) *Counting.* The engine counts each instruction begun, each REP iteration and each faulting attempt, but no fetch
fault. So steps = its count + fetch faults delivered - stores executed twice.
(ii) *Early fetch faults.* A block is translated as a whole; if it runs onto a page that is not mapped, the fault comes
before the block's first instruction runs. `_cross_page` runs up to the page's last instruction and tries again from
there, with exits on the last bytes of the page so that the translator stops at every boundary.
(iii) *Late budget.* A fetch fault may come when the budget is already used up. It is taken back; the next run meets it.
(iv) *Self-modifying code.* A store into its own block is executed a second time in a block of its own, and counted
twice. Such a block is recognised when it is made (engine_layout.py); the run then stops behind it and drops the
translations, so that the next such block is made, and seen, again.
(v) *Flags.* Before each instruction the engine works the flags out into their explicit form, but when the instruction
then faults, or a hook makes the engine synchronise its state, it says that they still have the form of the instruction
before. So every hook that is called from inside an instruction says again that they are explicit.
(vi) *Instructions the engine gets wrong* are caught by hooks (engine_gaps.py) and finished here.
(vii) *Two ways of counting.* All this is the way in which the engine counts. Where there is a compiled part (native/),
it counts instead, by blocks, as long as nobody wants to be told of single instructions; then (i) to (v) are done in C,
and the flags keep their form.

Limits: segment limits and null data segments are not enforced; `int n` with a redundant prefix that faults is
reported one prefix late; CR2 written by ring-0 code is lost when a fetch fault is taken back in the same run. An
unaligned store that changes what it has read, begins before its own block and reaches into it, changes the bytes before
the block twice; where blocks begin depends on how a run is cut. A bit test of a register with LOCK makes the engine
abort, and this process with it. IRET outside of ring 0 with VM in the flags that it finds raises #GP(CS), also where
CS would do and hardware would ignore VM.

Read next: delivery.py, then machine.py.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from importlib import import_module
from importlib.metadata import version
from typing import Any, NamedTuple

from unicorn import unicorn_const as uc_const
from unicorn import x86_const
from unicorn.unicorn_py3.unicorn import uclib

from hostvm.cpu_state import (
    ARITHMETIC_FLAGS,
    CS,
    EAX,
    EBX,
    ECX,
    EDX,
    ESP,
    HF_CPL,
    HF_SHADOW,
    SS,
    CpuState,
    read_state,
    write_flags,
    write_fpu,
    write_state,
)
from hostvm.cpuid import cpuid
from hostvm.delivery import CpuShutdown, Delivery, Source, interruptible
from hostvm.engine_check import check_registers
from hostvm.engine_gaps import IRET, MAX_INSTRUCTION, Gap, GapFinder, classify, loop, skip_prefixes
from hostvm.engine_hooks import (
    ACCESS,
    CODE,
    CPUID,
    INTERRUPT,
    INVALID,
    MADE,
    PORT_IN,
    PORT_OUT,
    SYSCALL,
    UNMAPPED,
    Hooks,
    address_of,
)
from hostvm.engine_layout import (
    EMPTY_EXCEPTION,
    ENV_BYTES,
    FLAGS_ARE_EXPLICIT,
    Env,
    Layout,
    SelfReader,
)
from hostvm.engine_room import require_engine_room
from hostvm.engine_trial import EngineTrial
from hostvm.errors import EngineMisfit, MachineCheck
from hostvm.io_permission import may_use_port
from hostvm.memory import PhysicalMemory
from hostvm.native import Why, load
from hostvm.native.blocks import NOWHERE, Blocks, Callbacks, EngineCalls
from hostvm.paging import AddressSpace, peek, peek_bytes
from hostvm.probes import NO_PROBES, Access, Probes, Span, stretched, touches
from hostvm.x86 import PAGE_MASK, PAGE_SHIFT, PAGE_SIZE, Cr0, Cr4, Eflags, Vector
from hostvm.x87_unit import ERROR_SUMMARY, execute

ENGINE_VERSION = "2.1.4"
_FLAG_BITS = ARITHMETIC_FLAGS
# Plain integers for the hooks: an IntFlag operation costs as much as ten of these.
_PG, _PSE, _DF = int(Cr0.PG), int(Cr4.PSE), int(Eflags.DF)
_TS, _HF_TS = int(Cr0.TS), 1 << 11
_VM, _FLAGS_OF_IRET, _BIG_STACK = int(Eflags.VM), 8, 1 << 22
_PF, _DB = int(Vector.PF), int(Vector.DB)
_RDPMC, _ICEBP, _SYSCALL_OPCODE = b"\x0f\x33", b"\xf1", 0x05
_PATIENCE = 8
_SINGLE_STEP = 1 << 14
# Fields of the processor state as numbers of 64-bit words.
_EIP, _CR0, _CR2 = Env.eip.offset // 8, Env.cr.offset // 8, Env.cr.offset // 8 + 2
_LONG_RUN = 1 << 20

# The binding carries no types: it is Any here, and nothing of it leaves this module.
_ENGINE: Any = import_module("unicorn")
_u64, _ptr = ctypes.c_uint64, ctypes.c_void_p
_EMU_START = ctypes.CFUNCTYPE(ctypes.c_int, _ptr, _u64, _u64, _u64, ctypes.c_size_t)(
    ("uc_emu_start", uclib)
)
_EMU_STOP = ctypes.PYFUNCTYPE(ctypes.c_int, _ptr)(("uc_emu_stop", uclib))
_CONTROL = ctypes.PYFUNCTYPE(ctypes.c_int, _ptr, ctypes.c_int)(("uc_ctl", uclib))
_REMOVE_BLOCK = uc_const.UC_CTL_TB_REMOVE_CACHE | 2 << 26 | uc_const.UC_CTL_IO_WRITE << 30
_FLUSH_TLB = uc_const.UC_CTL_TLB_FLUSH | uc_const.UC_CTL_IO_WRITE << 30
_HOOK_DEL = ctypes.PYFUNCTYPE(ctypes.c_int, _ptr, ctypes.c_size_t)(("uc_hook_del", uclib))
_REG_READ = ctypes.PYFUNCTYPE(ctypes.c_int, _ptr, ctypes.c_int, _ptr)(("uc_reg_read", uclib))


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


def _guarded(hook: Callable[..., Any]) -> Callable[..., Any]:
    """Let no exception pass through the engine's C frames: ctypes would swallow it."""

    def call(self: Cpu, *arguments: Any) -> Any:
        try:
            return hook(self, *arguments)
        except BaseException as failure:  # noqa: BLE001 - raised again by _slice
            self._fail(failure)
            return 0

    return call


class _Why(Enum):
    """Why the engine was stopped from inside a hook."""

    NOTHING = 0
    EARLY_FETCH = 1
    LATE_FETCH = 2
    UNDO = 3
    GAP = 4
    NEW_HOOK = 5
    SHUTDOWN = 6
    PROBE = 7


@dataclass(frozen=True, slots=True)
class _Refused:
    """An instruction to be undone and answered with a fault: state before it, step count, vector and error code."""

    env: bytes
    count: int
    vector: int
    error_code: int


def _no_tsc() -> int:
    return 0


class Cpu:
    """One emulated i386 over `memory`. Not thread-safe; one engine per Cpu.

    Raises EngineMisfit when the installed engine is not the one whose behaviour is known.
    """

    def __init__(self, memory: PhysicalMemory, read_tsc: Callable[[], int] = _no_tsc) -> None:
        if version("unicorn") != ENGINE_VERSION:
            raise EngineMisfit(
                f"unicorn {version('unicorn')} is installed, {ENGINE_VERSION} is needed"
            )
        self.memory = memory
        self.read_tsc = read_tsc
        self._direct_traps: dict[int, int] = {}
        self._uc = self._new_engine()
        self._handle: int = self._uc._uch.value  # noqa: SLF001 - the engine's own handle
        self._hooks = Hooks(self._handle, uclib.uc_hook_add, _HOOK_DEL)
        self._blocks: Blocks | None = self._no_blocks()
        self._trial = EngineTrial(self._uc, memory, self._write_register)
        self._layout = self._trial.find_layout(self._handle, self._load_native)
        self.env = Env.from_address(self._layout.env)
        check_registers(self.env, self._write_register)
        self._trial.check_exceptions(self.env, uc_const.UC_HOOK_INTR)
        # The same words, but each costs a tenth of what it does as a field.
        words = (_u64 * (ENV_BYTES // 8)).from_address(self._layout.env)
        self._words = memoryview(words).cast("B").cast("Q")
        self._counter = _u64.from_address(self._layout.counter)
        self._budget = _u64.from_address(self._layout.budget)
        self._flags = ctypes.c_uint64()
        self._delivery = Delivery(self.env, memory, self.eflags)
        self._gaps = GapFinder()
        self._hooked: dict[int, int] = {}
        size = memory.size >> PAGE_SHIFT
        self._code_pages = self._blocks.code_pages if self._blocks else (ctypes.c_uint8 * size)()
        self._has_code = memoryview(self._code_pages).cast("B")
        self._exits: tuple[int, ...] = ()
        self._why = _Why.NOTHING
        self._failure: BaseException | None = None
        self._refused: _Refused | None = None
        self._fetch_faults = self._repeated = self._done = 0
        self._saved = (0, 0)
        self._counted_out = self._stale = self._halted = False
        self._gap_callback = CODE(self._on_gap)
        self._iret_callback = CODE(self._on_iret)
        self._probes = NO_PROBES
        self._watched = False
        self._probe_hooks: list[int] = []
        self._probe_callbacks = (
            CODE(self._on_code_probe),
            ACCESS(self._on_read_probe),
            ACCESS(self._on_write_probe),
        )
        self._asked_to_stop = False
        self.running = False
        self._flushed = True
        self._install_hooks()
        self._try_blocks()

    # ---- construction -------------------------------------------------------------------------

    def _new_engine(self) -> Any:
        require_engine_room()
        engine: Any = _ENGINE.Uc(uc_const.UC_ARCH_X86, uc_const.UC_MODE_32)
        engine.ctl_set_cpu_model(x86_const.UC_CPU_X86_COREDUO)
        start = ctypes.addressof(ctypes.c_char.from_buffer(self.memory.mapping))
        engine.mem_map_ptr(self.memory.base, self.memory.size, uc_const.UC_PROT_ALL, start)
        engine.ctl_exits_enabled(True)
        engine.ctl_set_exits([])
        return engine

    @staticmethod
    def _no_blocks() -> Blocks | None:
        return None

    def _load_native(self, reader: SelfReader, layout: Layout, pc: int) -> None:
        native = load()
        self.native = native.text
        if native.library is not None:
            blocks = Blocks(native.library, self._handle, layout, self.memory)
            if blocks.find(reader, layout, pc):
                self._blocks = blocks
            else:
                self.native = "does not find its way in this engine"

    def _write_register(self, name: str, value: Any) -> None:
        self._uc.reg_write(getattr(x86_const, f"UC_X86_REG_{name}"), value)

    def _install_hooks(self) -> None:
        interrupt, made = INTERRUPT(self._on_interrupt), MADE(self._on_block)
        if self._blocks is None:
            self._hooks.add(uc_const.UC_HOOK_INTR, interrupt)
            self._hooks.add(uc_const.UC_HOOK_EDGE_GENERATED, made)
        else:
            self._install_blocks(self._blocks, interrupt, made)
        self._hooks.add(uc_const.UC_HOOK_INSN_INVALID, INVALID(self._on_invalid))
        self._hooks.add(uc_const.UC_HOOK_MEM_UNMAPPED, UNMAPPED(self._on_nowhere))
        for instruction, callback in (
            (x86_const.UC_X86_INS_IN, PORT_IN(self._on_in)),
            (x86_const.UC_X86_INS_OUT, PORT_OUT(self._on_out)),
            (x86_const.UC_X86_INS_SYSENTER, SYSCALL(self._on_sysenter)),
            (x86_const.UC_X86_INS_SYSCALL, SYSCALL(self._on_syscall)),
            (x86_const.UC_X86_INS_CPUID, CPUID(self._on_cpuid)),
            (x86_const.UC_X86_INS_RDTSC, CPUID(self._on_rdtsc)),
        ):
            self._hooks.add(uc_const.UC_HOOK_INSN, callback, instruction=instruction)

    def _install_blocks(self, blocks: Blocks, interrupt: Any, made: Any) -> None:
        names = ("uc_emu_start", "uc_emu_stop", "uc_reg_read", "uc_ctl")
        start, stop, read, control = (address_of(getattr(uclib, name)) for name in names)
        eflags = x86_const.UC_X86_REG_EFLAGS
        calls = EngineCalls(start, stop, read, control, eflags, _REMOVE_BLOCK)
        delivery = INTERRUPT(self._on_delivery)
        callbacks = Callbacks(interrupt, made, delivery, self._gap_callback)
        for callback in callbacks:
            self._hooks.keep(callback)
        self._compiled = compiled = blocks.connect(calls, callbacks)
        for kind, address in (
            (uc_const.UC_HOOK_INTR, compiled.interrupt),
            (uc_const.UC_HOOK_EDGE_GENERATED, compiled.made),
            (uc_const.UC_HOOK_BLOCK, compiled.block),
        ):
            self._hooks.add_compiled(kind, address, compiled.data)
        self._delivery.plans.listener = blocks.learn

    def _try_blocks(self) -> None:
        """Have the compiled part run a few instructions, before it is trusted with others."""
        if self._blocks is None:
            return
        start = self._trial.place
        before = self.memory.read(start, 64)
        self.memory.write(start, b"\x40" * 9 + b"\xf4")
        self.env.eip = start
        self._count_by_blocks()
        found = [(*self._blocks.run(budget), self.env.eip - start) for budget in (4, 1, 2, 9)]
        expected = [(4, 1, 0, 4), (1, 1, 0, 5), (2, 1, 0, 7), (3, 7, 0, 10)]
        self.memory.write(start, before)
        self._flush_code()
        if found != expected:
            self._count_by_instructions()
            self._blocks, self.native = None, "does not count as it should"

    def _count_by_blocks(self) -> None:
        """Let the engine drop its hook on each instruction, by a run of no step."""
        assert self._blocks is not None
        env = self.env
        kept = env.cr[2], env.error_code, env.retaddr
        self._set_exits(())
        for hook in self._hooked.values():
            self._hooks.remove(hook)
        self._hooked.clear()
        code, compiled = uc_const.UC_HOOK_CODE, self._compiled
        self._blocks_hook = self._hooks.add_compiled(
            code, compiled.looked_at, compiled.data, NOWHERE, NOWHERE
        )
        if not self._blocks.begin(self._blocks_hook):
            raise EngineMisfit("the CPU engine keeps its hooks elsewhere")
        self._blocks.run(0)
        self._why, self._failure = _Why.NOTHING, None
        self._flush_code()
        env.cr[2], env.error_code, env.retaddr = kept
        env.old_exception = EMPTY_EXCEPTION

    def _count_by_instructions(self) -> None:
        assert self._blocks is not None
        env = self.env
        kept = env.cr[2], env.error_code, env.retaddr
        self._blocks.end()
        self._hooks.remove(self._blocks_hook)
        self._flush_code()
        env.cr[2], env.error_code, env.retaddr = kept
        env.old_exception = EMPTY_EXCEPTION

    def _choose_counting(self, budget: int) -> None:
        if self._blocks is None:
            return
        watched = self._watched or self.memory.listener is not None
        if self._blocks.on:
            if watched:
                self._count_by_instructions()
        elif not watched and (self._flushed or budget >= _LONG_RUN):
            self._count_by_blocks()
        self._flushed = False

    # ---- probes -------------------------------------------------------------------------------

    def set_probes(self, probes: Probes) -> None:
        """Replace all probes. New ranges cost all translations; new listeners for the same ranges cost nothing."""
        old, self._probes = self._probes, probes
        self._watched = bool(probes)
        if (old.code, old.reads, old.writes) == (probes.code, probes.reads, probes.writes):
            return
        env = self.env
        kept = env.cr[2], env.error_code, env.retaddr
        for hook in self._probe_hooks:
            self._hooks.remove(hook)
        env.cr[2], env.error_code, env.retaddr = kept
        env.old_exception = EMPTY_EXCEPTION
        self._probe_hooks.clear()
        code, read, write = self._probe_callbacks
        self._install_probes(uc_const.UC_HOOK_CODE, code, probes.code)
        self._install_probes(uc_const.UC_HOOK_MEM_READ, read, map(stretched, probes.reads))
        self._install_probes(uc_const.UC_HOOK_MEM_WRITE, write, map(stretched, probes.writes))
        self.flush()

    def _install_probes(self, kind: int, callback: Any, spans: Iterable[Span]) -> None:
        for begin, end in spans:
            self._probe_hooks.append(self._hooks.add(kind, callback, begin, end))

    def stop_soon(self) -> None:
        """From inside a hook: end the run behind the step under way. Also ends a run that is not in the engine."""
        self._asked_to_stop = True
        self._budget.value = min(self._budget.value, self._counter.value)

    # ---- state --------------------------------------------------------------------------------

    def eflags(self) -> int:
        """The full EFLAGS."""
        env = self.env
        if env.cc_op == FLAGS_ARE_EXPLICIT:
            direction = _DF if env.df < 0 else 0
            return int(env.eflags & ~(_FLAG_BITS | _DF) | env.cc_src | direction) & 0xFFFFFFFF
        _REG_READ(self._handle, x86_const.UC_X86_REG_EFLAGS, ctypes.byref(self._flags))
        return self._flags.value & 0xFFFFFFFF

    def state(self) -> CpuState:
        """The architectural state as a value."""
        return read_state(self.env, self.eflags())

    def restore(self, state: CpuState) -> None:
        """Put the CPU into `state`; memory is the caller's business. Drops all cached translations."""
        self.revert(state)
        self.flush()

    def revert(self, state: CpuState) -> None:
        """As `restore`, where memory was changed by PhysicalMemory only: translations that still hold are kept."""
        write_state(self.env, state)
        self._set_rounding(state)
        self._set_exits(())
        self.flush_tlb()

    def load_fpu(self, state: CpuState) -> None:
        """Put the FPU's part of `state` into the CPU, and nothing else."""
        write_fpu(self.env, state)
        self._set_rounding(state)

    def _set_rounding(self, state: CpuState) -> None:
        self._uc.reg_write(x86_const.UC_X86_REG_FPCW, state.fpu[2])
        self._uc.reg_write(x86_const.UC_X86_REG_MXCSR, state.mxcsr)

    def flush(self) -> None:
        """Forget cached translations of addresses and code. Changes no architectural state."""
        self._set_exits(())
        self._flush_code()
        self.flush_tlb()

    def _flush_code(self) -> None:
        self._uc.ctl_flush_tb()
        self._flushed = True
        ctypes.memset(self._code_pages, 0, len(self._code_pages))

    def flush_tlb(self) -> None:
        """Forget cached address translations, after page tables changed from outside."""
        _CONTROL(self._handle, _FLUSH_TLB)

    def address_space(self) -> AddressSpace:
        """How linear addresses are translated at this moment."""
        cr = self.env.cr
        return AddressSpace(cr[3], bool(cr[0] & _PG), bool(cr[4] & _PSE))

    def read_linear(self, address: int, count: int) -> bytes:
        """Up to `count` bytes at a linear address, without any effect; short where unmapped."""
        return peek_bytes(self.memory, self.address_space(), address, count)

    @property
    def eip(self) -> int:
        """Instruction pointer."""
        return self._words[_EIP] & 0xFFFFFFFF

    @property
    def cr2(self) -> int:
        """Linear address of the last page fault."""
        return self._words[_CR2] & 0xFFFFFFFF

    @property
    def cpl(self) -> int:
        """Current privilege level."""
        return int(self.env.hflags & HF_CPL)

    @property
    def progress(self) -> int:
        """Steps of the current `run` so far; inside a hook the step under way is included."""
        if self._blocks is not None and self._blocks.on:
            return self._done + self._blocks.begun(self._linear_eip())
        count = min(self._counter.value, self._budget.value)
        return self._done + int(count) - self._repeated + self._fetch_faults

    @property
    def direct_traps(self) -> dict[int, int]:
        """Traps that went straight to a Guest since this was last cleared: how many for each vector."""
        if self._blocks is not None:
            self._blocks.take_direct_traps(self._direct_traps)
        return self._direct_traps

    @direct_traps.setter
    def direct_traps(self, counts: dict[int, int]) -> None:
        if self._blocks is not None:
            self._blocks.take_direct_traps({})
        self._direct_traps = counts

    def check(self) -> int:
        """A checksum of the registers below 251, such that a change of one register by one changes it."""
        total = self.eflags() & 0xFFF
        for weight, value in enumerate(self.env.regs[:8], start=2):
            total += weight * (value & 0xFFFFFFFF)
        return int(total % 251)

    def set_task_switched(self, on: bool) -> None:
        """Set or clear CR0.TS: whether the next use of the FPU traps."""
        words = self._words
        if bool(words[_CR0] & _TS) != on:
            words[_CR0] ^= _TS
            self.env.hflags ^= _HF_TS

    def call_host(self, eip: int, eax: int, ebx: int) -> None:
        """Go on at `eip` with two registers set: how the Host's turn ends."""
        words = self._words
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
        blocks, written = self._blocks, self.memory.written
        while self._done < budget:
            if written:
                self._forget_changed_code()
            if blocks is not None and blocks.on:
                steps = self._slice_by_blocks(blocks, budget - self._done)
            else:
                steps = self._slice(budget - self._done)
            if self._halted:
                self._halted = False
                return Exit(self._done, ExitKind.HALT)
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

    def _slice(self, budget: int) -> int:
        """One call of the engine; returns the steps that it made and adds them to `_done`."""
        env = self.env
        self._saved = (env.cr[2], env.error_code)
        status = _EMU_START(self._handle, env.eip & 0xFFFFFFFF, 0, 0, budget)
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure
        if status:
            raise EngineMisfit(
                f"the CPU engine stopped at {self.eip:#010x}: {_ENGINE.UcError(status)}"
            )
        if self._exits:
            self._restore_fault_registers()
        counter, limit = self._counter.value, self._budget.value
        self._counted_out = counter > limit
        counted = min(counter, limit) if self._refused is None else self._refused.count
        steps = int(counted) - self._repeated + self._fetch_faults
        self._counter.value = self._repeated = self._fetch_faults = 0
        self._done += steps
        return steps

    def _slice_by_blocks(self, blocks: Blocks, budget: int) -> int:
        steps, why, status = blocks.run(budget)
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure
        if status or why == Why.MISFIT:
            raise EngineMisfit(
                f"the CPU engine stopped at {self.eip:#010x}: {_ENGINE.UcError(status)}"
            )
        self._counted_out = True
        self._halted = why == Why.HALTED and self._why is _Why.NOTHING and not self._stale
        self._done += steps
        return steps

    def _after(self, steps: int) -> ExitKind | None:
        """Finish what a hook left to be done outside the engine."""
        why, self._why = self._why, _Why.NOTHING
        if self._stale:
            self._stale = False
            self._flush_code()
        try:
            match why:
                case _Why.EARLY_FETCH:
                    self._cross_page()
                case _Why.UNDO:
                    self._refuse()
                case _Why.GAP:
                    self._fill_gap()
                case _Why.SHUTDOWN:
                    return ExitKind.SHUTDOWN
                case _Why.PROBE:
                    return ExitKind.PROBE
                case _Why.NOTHING if steps and self._stands_behind_hlt():
                    return ExitKind.HALT
                case _ if self._exits:
                    self._pass_exit()
        except CpuShutdown:
            return ExitKind.SHUTDOWN
        return None

    def _stands_behind_hlt(self) -> bool:
        if self._counted_out or self.env.hflags & HF_CPL:
            return False
        at = self.env.eip + self.env.segs[CS].base - 1 & 0xFFFFFFFF
        return self.read_linear(at, 1) == b"\xf4"

    def _forget_changed_code(self) -> None:
        """Drop translations when Python wrote to a page that holds translated code."""
        written, has_code = self.memory.written, self._has_code
        first = self.memory.base >> PAGE_SHIFT
        for page in written:
            if has_code[page - first]:
                self._flush_code()
                break
        written.clear()

    # ---- fetch faults at the end of a page ----------------------------------------------------

    def _linear_eip(self) -> int:
        return int(self.env.eip + self.env.segs[CS].base & 0xFFFFFFFF)

    def _cross_page(self) -> None:
        """Make the translator stop at every instruction boundary in the last bytes of this page."""
        here = self._linear_eip()
        end = (here & PAGE_MASK) + PAGE_SIZE
        self._set_exits(tuple(a for a in range(end - MAX_INSTRUCTION, end + 1) if a > here))
        self._drop_blocks(end - MAX_INSTRUCTION, end)

    def _pass_exit(self) -> None:
        """The engine stopped at one of our exits: go on to the next, or leave the page."""
        here = self._linear_eip()
        if here == self._exits[-1]:
            end = self._exits[-1]
            self._set_exits(())
            self._drop_blocks(end - MAX_INSTRUCTION, end)
            self._drop_blocks(end, end + 1)
        elif here in self._exits:
            self._cross_page()

    def _set_exits(self, exits: tuple[int, ...]) -> None:
        if exits != self._exits:
            self._exits = exits
            self._uc.ctl_set_exits(list(exits))

    def _drop_blocks(self, begin: int, end: int) -> None:
        """Drop translated blocks that touch a range of one page; the engine's call disturbs fault registers."""
        if peek(self.memory, self.address_space(), begin) is None:
            return
        env = self.env
        kept = env.cr[2], env.error_code, env.retaddr
        self._uc.ctl_remove_cache(begin, end)
        env.cr[2], env.error_code, env.retaddr = kept
        env.old_exception = EMPTY_EXCEPTION

    def _is_early(self) -> bool:
        """Whether the fetch fault just reported belongs to a later instruction than the one at EIP."""
        here = self._linear_eip()
        if here & PAGE_MASK == self.env.cr[2] & PAGE_MASK:
            return False
        end = (here & PAGE_MASK) + PAGE_SIZE
        # Exits left from a fault further on would let the block at EIP run over the instructions before them.
        guarded = bool(self._exits) and self._exits[-1] == end and self._exits[0] <= here + 1
        return not (guarded and here >= end - MAX_INSTRUCTION)

    def _take_back(self, why: _Why) -> None:
        """Undo what a fetch fault that must not be delivered now did to the fault registers."""
        self._restore_fault_registers()
        self._stop(why)

    def _restore_fault_registers(self) -> None:
        """Also needed after each call with exits set: the engine looks them up, and a failure shows in CR2."""
        self.env.cr[2], self.env.error_code = self._saved
        self.env.old_exception = EMPTY_EXCEPTION

    # ---- hooks --------------------------------------------------------------------------------

    def _stop(self, why: _Why) -> None:
        self._why = why
        _EMU_STOP(self._handle)

    def _fail(self, failure: BaseException) -> None:
        """Carry an exception over the engine's frames: `_slice` raises it again."""
        if isinstance(failure, CpuShutdown):
            self._stop(_Why.SHUTDOWN)
            return
        self._failure = failure
        _EMU_STOP(self._handle)

    @_guarded
    def _on_interrupt(self, _uc: int, vector: int, _data: int) -> None:
        env = self.env
        env.old_exception = EMPTY_EXCEPTION
        # INT 14 is none, though a fetch fault may have been the last.
        if vector == _PF and not env.retaddr and not env.exception_is_int:
            if self._counter.value >= self._budget.value:
                self._take_back(_Why.LATE_FETCH)
                return
            if self._is_early():
                self._take_back(_Why.EARLY_FETCH)
                return
            self._fetch_faults += 1
            if self._fetch_is_probed():
                self._fetch_faults -= 1
                self._take_back(_Why.PROBE)
                return
            self._budget.value -= 1
        elif vector != _DB:
            env.cc_op = FLAGS_ARE_EXPLICIT
        if env.exception_is_int:
            self._deliver(vector, source=Source.SOFTWARE)
        else:
            self._deliver(vector, env.error_code)

    @_guarded
    def _on_delivery(self, _uc: int, vector: int, _data: int) -> None:
        if self.env.exception_is_int:
            self._deliver(vector, source=Source.SOFTWARE)
        else:
            self._deliver(vector, self.env.error_code)

    def _hook_gap(self, address: int, *, is_iret: bool) -> None:
        callback = self._iret_callback if is_iret else self._gap_callback
        self._hooked[address] = self._hooks.add(uc_const.UC_HOOK_CODE, callback, address, address)

    def _flags_are_explicit(self) -> None:
        """(v) What a hook says that is called from inside of an instruction."""
        if self._blocks is None or not self._blocks.on:
            self.env.cc_op = FLAGS_ARE_EXPLICIT

    def _deliver(self, vector: int, error_code: int = 0, source: Source = Source.EXCEPTION) -> None:
        env = self.env
        entered = self._delivery.deliver(vector, error_code, source, self._software_length)
        env.exception_is_int = 0
        self._saved = (env.cr[2], env.error_code)
        if env.hflags & HF_CPL:
            self.direct_traps[entered] = self.direct_traps.get(entered, 0) + 1
        self._forget_changed_code()

    def _software_length(self, vector: int) -> int:
        """Length of the software interrupt that ends at EIP: INT3 and INTO have one byte, INT n two."""
        last = self.read_linear(self._linear_eip() - 2 & 0xFFFFFFFF, 2)
        return 2 if last == bytes((0xCD, vector)) else 1

    @_guarded
    def _on_invalid(self, _uc: int, _data: int) -> bool:
        self.env.old_exception = EMPTY_EXCEPTION
        if self._blocks is not None and self._blocks.on:
            self._blocks.leave(self._linear_eip())
        else:
            self.env.cc_op = FLAGS_ARE_EXPLICIT
        code = self.read_linear(self._linear_eip(), MAX_INSTRUCTION)
        at = skip_prefixes(code)
        if code[at : at + 2] == _RDPMC:
            self._deliver(Vector.GP)
        elif code[at : at + 1] == _ICEBP:
            self.env.eip += at + 1
            self._deliver(Vector.DB)
        else:
            self._deliver(Vector.UD)
        return True

    @_guarded
    def _on_block(self, _uc: int, block: Any, _before: Any, _data: int) -> None:
        made = block[0]
        pc, size = made.pc, made.size
        if made.icount == 1 and self._layout.is_restart(pc):
            self.env.cc_op = FLAGS_ARE_EXPLICIT
            self._repeated += 1
            self._budget.value = self._counter.value + 1
            self._stale = True
        code = self._code_of(pc, size)
        if not self.env.hflags & HF_CPL:
            # There IRET may go where it likes.
            code = code.removesuffix(IRET)
        new = [a for a in self._gaps.find(pc, code) if a not in self._hooked]
        for address in new:
            self._hook_gap(address, is_iret=code[address - pc :] == IRET)
        if new:
            self._stale = True
            self._stop(_Why.NEW_HOOK)

    def _code_of(self, pc: int, size: int) -> bytes:
        """The bytes of a block; notes the pages on which they lie."""
        space, memory = self.address_space(), self.memory
        physical = peek(memory, space, pc)
        if physical is not None:
            self._note_code(physical)
            on_one_page = (pc & PAGE_SIZE - 1) + size <= PAGE_SIZE
            if on_one_page and memory.base <= physical < memory.base + memory.size:
                return memory.read(physical, size)
        physical = peek(memory, space, pc + size - 1 & 0xFFFFFFFF)
        if physical is not None:
            self._note_code(physical)
        return self.read_linear(pc, size)

    def _note_code(self, physical: int) -> None:
        page = physical - self.memory.base >> PAGE_SHIFT
        if 0 <= page < len(self._code_pages):
            self._code_pages[page] = 1

    @_guarded
    def _on_code_probe(self, _uc: int, address: int, _size: int, _data: int) -> None:
        if self._counter.value > self._budget.value or self._why is _Why.PROBE:
            return
        if self._probes.on_code(address & 0xFFFFFFFF):
            # The step under way has been counted and will not be made.
            self._counter.value -= 1
            self._stop(_Why.PROBE)

    def _fetch_is_probed(self) -> bool:
        """Report an instruction that begins, but cannot be fetched: no translation of it exists to report itself."""
        address = self._linear_eip()
        if not touches(self._probes.code, address, 1):
            return False
        return self._probes.on_code(address)

    @_guarded
    def _on_read_probe(
        self, _uc: int, _kind: int, address: int, size: int, _value: int, _data: int
    ) -> None:
        self.env.cc_op = FLAGS_ARE_EXPLICIT
        if touches(self._probes.reads, address, size):
            self._report_access(Access(address, size, is_write=False, by_cpu=True))

    @_guarded
    def _on_write_probe(
        self, _uc: int, _kind: int, address: int, size: int, _value: int, _data: int
    ) -> None:
        self.env.cc_op = FLAGS_ARE_EXPLICIT
        if touches(self._probes.writes, address, size):
            self._report_access(Access(address, size, is_write=True, by_cpu=True))

    def _report_access(self, access: Access) -> None:
        if self._probes.on_access(access):
            self.stop_soon()

    @_guarded
    def _on_gap(self, _uc: int, address: int, _size: int, _data: int) -> None:
        by_blocks = self._blocks is not None and self._blocks.on
        if self._why is _Why.PROBE or (not by_blocks and self._counter.value > self._budget.value):
            return
        if self._must_fill(classify(self.read_linear(address, MAX_INSTRUCTION))):
            if self._blocks is not None and by_blocks:
                self._blocks.leave(address)
            self._stop(_Why.GAP)

    @_guarded
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
        return self.read_linear(at & 0xFFFFFFFF, count)

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

    def _fill_gap(self) -> None:
        code = self.read_linear(self._linear_eip(), MAX_INSTRUCTION)
        match classify(code):
            case (Gap.X87, _, _) if self.env.fpus & ERROR_SUMMARY:
                self._deliver(Vector.MF)
            case (Gap.X87, opcode, length):
                execute(self.env, opcode)
                self.env.eip = self.env.eip + length & 0xFFFFFFFF
                self._end_instruction()
            case (Gap.LOOP, _, _):
                loop(self.env, code, zero=bool(self.eflags() & Eflags.ZF))
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

    @_guarded
    def _on_in(self, _uc: int, port: int, size: int, _data: int) -> int:
        self.env.cc_op = FLAGS_ARE_EXPLICIT
        if not self._may_use_port(port, size):
            self._undo(Vector.GP)
        return 0xFFFFFFFF

    @_guarded
    def _on_out(self, _uc: int, port: int, size: int, _value: int, _data: int) -> None:
        self.env.cc_op = FLAGS_ARE_EXPLICIT
        if not self._may_use_port(port, size):
            self._undo(Vector.GP)

    @_guarded
    def _on_sysenter(self, _uc: int, _data: int) -> None:
        self.env.cc_op = FLAGS_ARE_EXPLICIT
        self._undo(Vector.GP)

    @_guarded
    def _on_syscall(self, _uc: int, _data: int) -> None:
        self.env.cc_op = FLAGS_ARE_EXPLICIT
        self._undo(Vector.UD)

    def _undo(self, vector: int) -> None:
        """Remember the state before this instruction: the engine stops only behind it."""
        if self._refused is None:
            before = ctypes.string_at(self._layout.env, ENV_BYTES)
            self._refused = _Refused(before, self._counter.value, vector, 0)
        self._stop(_Why.UNDO)

    def _refuse(self) -> None:
        assert self._refused is not None
        refused, self._refused = self._refused, None
        ctypes.memmove(self._layout.env, refused.env, ENV_BYTES)
        # Inside a call the engine keeps arithmetic flags apart; between calls it expects them in EFLAGS.
        write_flags(self.env, self.eflags())
        self._deliver(refused.vector, refused.error_code)

    def _may_use_port(self, port: int, size: int) -> bool:
        return may_use_port(self.env, self.read_linear, port, size)

    @_guarded
    def _on_nowhere(
        self, _uc: int, _kind: int, address: int, _size: int, _value: int, _data: int
    ) -> bool:
        raise MachineCheck(address, self.eip)

    @_guarded
    def _on_cpuid(self, _uc: int, _data: int) -> int:
        self._flags_are_explicit()
        regs = self.env.regs
        regs[EAX], regs[EBX], regs[ECX], regs[EDX] = cpuid(regs[EAX] & 0xFFFFFFFF)
        return 1

    @_guarded
    def _on_rdtsc(self, _uc: int, _data: int) -> int:
        self._flags_are_explicit()
        by_blocks = self._blocks is not None and self._blocks.on
        if by_blocks or self._counter.value <= self._budget.value:
            value = self.read_tsc()
            self.env.regs[EAX], self.env.regs[EDX] = value & 0xFFFFFFFF, value >> 32 & 0xFFFFFFFF
        return 1


__all__ = ["ENGINE_VERSION", "Cpu", "Exit", "ExitKind"]
