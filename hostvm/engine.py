"""The CPU engine itself: made, found out about, and called. The only importer of unicorn.

What leaves this module is typed and speaks of steps, blocks and addresses; the binding's objects and numbers stay here.
Nothing here is exact yet: the engine counts what it likes, stops late and reports faults early. cpu.py makes it exact.

Some of its calls disturb the fault registers (CR2, error code): `faults_kept` puts them back.
Read next: engine_layout.py, then cpu.py.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.metadata import version
from typing import Any, NoReturn

from unicorn import unicorn_const as uc_const
from unicorn import x86_const
from unicorn.unicorn_py3.unicorn import uclib

from hostvm.cpu_state import ARITHMETIC_FLAGS, CS
from hostvm.engine_check import check_registers
from hostvm.engine_hooks import Hooks, address_of
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
from hostvm.errors import EngineMisfit
from hostvm.memory import PhysicalMemory
from hostvm.native.blocks import EngineCalls
from hostvm.paging import AddressSpace, peek, peek_bytes
from hostvm.x86 import Cr0, Cr4, Eflags

ENGINE_VERSION = "2.1.4"
# Plain integers: an IntFlag operation costs as much as ten of these.
_PG, _PSE, _DF = int(Cr0.PG), int(Cr4.PSE), int(Eflags.DF)

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

# Kinds of hooks, and the instructions that have hooks of their own.
ON_INTERRUPT: int = uc_const.UC_HOOK_INTR
ON_MADE: int = uc_const.UC_HOOK_EDGE_GENERATED
ON_BLOCK: int = uc_const.UC_HOOK_BLOCK
ON_CODE: int = uc_const.UC_HOOK_CODE
ON_READ: int = uc_const.UC_HOOK_MEM_READ
ON_WRITE: int = uc_const.UC_HOOK_MEM_WRITE
ON_UNMAPPED: int = uc_const.UC_HOOK_MEM_UNMAPPED
ON_INVALID: int = uc_const.UC_HOOK_INSN_INVALID
ON_INSTRUCTION: int = uc_const.UC_HOOK_INSN
IN: int = x86_const.UC_X86_INS_IN
OUT: int = x86_const.UC_X86_INS_OUT
SYSENTER: int = x86_const.UC_X86_INS_SYSENTER
SYSCALL: int = x86_const.UC_X86_INS_SYSCALL
CPUID: int = x86_const.UC_X86_INS_CPUID
RDTSC: int = x86_const.UC_X86_INS_RDTSC

Look = Callable[[int, SelfReader, Layout, int], None]


class Engine:
    """One engine over `memory`. `env` is its processor state, `words` the same as 64-bit words, reached at less cost.

    While the place of its structures is being found out, `look` is called with its handle, a reader, the layout and
    the address of a block that has just run. Raises EngineMisfit when it is not the engine whose behaviour is known.
    """

    def __init__(self, memory: PhysicalMemory, look: Look) -> None:
        if version("unicorn") != ENGINE_VERSION:
            raise EngineMisfit(
                f"unicorn {version('unicorn')} is installed, {ENGINE_VERSION} is needed"
            )
        self.memory = memory
        self._uc = self._make()
        self.handle: int = self._uc._uch.value  # noqa: SLF001 - the engine's own handle
        self.hooks = Hooks(self.handle, uclib.uc_hook_add, _HOOK_DEL)
        trial = EngineTrial(self._uc, memory, self.write_register)
        self.trial_place = trial.place
        self.layout = trial.find_layout(self.handle, lambda *found: look(self.handle, *found))
        self.env = Env.from_address(self.layout.env)
        check_registers(self.env, self.write_register)
        trial.check_exceptions(self.env, ON_INTERRUPT)
        words = (_u64 * (ENV_BYTES // 8)).from_address(self.layout.env)
        self.words = memoryview(words).cast("B").cast("Q")
        self.counter = _u64.from_address(self.layout.counter)
        self.budget = _u64.from_address(self.layout.budget)
        self._flags = ctypes.c_uint64()
        self._exits: tuple[int, ...] = ()

    def _make(self) -> Any:
        require_engine_room()
        engine: Any = _ENGINE.Uc(uc_const.UC_ARCH_X86, uc_const.UC_MODE_32)
        engine.ctl_set_cpu_model(x86_const.UC_CPU_X86_COREDUO)
        start = ctypes.addressof(ctypes.c_char.from_buffer(self.memory.mapping))
        engine.mem_map_ptr(self.memory.base, self.memory.size, uc_const.UC_PROT_ALL, start)
        engine.ctl_exits_enabled(True)
        engine.ctl_set_exits([])
        return engine

    @staticmethod
    def calls() -> EngineCalls:
        """What the compiled part calls."""
        names = ("uc_emu_start", "uc_emu_stop", "uc_reg_read", "uc_ctl")
        start, stop, read, control = (address_of(getattr(uclib, name)) for name in names)
        eflags = x86_const.UC_X86_REG_EFLAGS
        return EngineCalls(start, stop, read, control, eflags, _REMOVE_BLOCK)

    def refuse(self, status: int) -> NoReturn:
        """Raise EngineMisfit: the engine has ended a run with this error number."""
        at = self.env.eip & 0xFFFFFFFF
        raise EngineMisfit(f"the CPU engine stopped at {at:#010x}: {_ENGINE.UcError(status)}")

    # ---- running ------------------------------------------------------------------------------

    def start(self, budget: int) -> int:
        """Run for at most so many of its own steps; returns its error number, 0 for none."""
        status: int = _EMU_START(self.handle, self.env.eip & 0xFFFFFFFF, 0, 0, budget)
        return status

    def stop(self) -> None:
        """From inside a hook: come back as soon as possible."""
        _EMU_STOP(self.handle)

    @property
    def exits(self) -> tuple[int, ...]:
        """Linear addresses at which it stops besides."""
        return self._exits

    def set_exits(self, exits: tuple[int, ...]) -> None:
        """Have it stop at these."""
        if exits != self._exits:
            self._exits = exits
            self._uc.ctl_set_exits(list(exits))

    # ---- what it has cached -------------------------------------------------------------------

    def flush_code(self) -> None:
        """Drop all translations."""
        self._uc.ctl_flush_tb()

    def flush_tlb(self) -> None:
        """Forget cached address translations."""
        _CONTROL(self.handle, _FLUSH_TLB)

    def drop_blocks(self, begin: int, end: int) -> None:
        """Drop translated blocks that touch a range of one page."""
        if peek(self.memory, self.address_space(), begin) is None:
            return
        with self.faults_kept():
            self._uc.ctl_remove_cache(begin, end)

    @contextmanager
    def faults_kept(self) -> Iterator[None]:
        """Do something that disturbs the fault registers."""
        env = self.env
        kept = env.cr[2], env.error_code, env.retaddr
        yield
        env.cr[2], env.error_code, env.retaddr = kept
        env.old_exception = EMPTY_EXCEPTION

    # ---- the processor's state ----------------------------------------------------------------

    def write_register(self, name: str, value: Any) -> None:
        """Set a register by the engine's own setter, which does more than store it."""
        self._uc.reg_write(getattr(x86_const, f"UC_X86_REG_{name}"), value)

    def eflags(self) -> int:
        """The full EFLAGS."""
        env = self.env
        if env.cc_op == FLAGS_ARE_EXPLICIT:
            direction = _DF if env.df < 0 else 0
            return int(env.eflags & ~(ARITHMETIC_FLAGS | _DF) | env.cc_src | direction) & 0xFFFFFFFF
        _REG_READ(self.handle, x86_const.UC_X86_REG_EFLAGS, ctypes.byref(self._flags))
        return self._flags.value & 0xFFFFFFFF

    def address_space(self) -> AddressSpace:
        """How linear addresses are translated at this moment."""
        cr = self.env.cr
        return AddressSpace(cr[3], bool(cr[0] & _PG), bool(cr[4] & _PSE))

    def linear_eip(self) -> int:
        """Linear address of the instruction at EIP."""
        return int(self.env.eip + self.env.segs[CS].base & 0xFFFFFFFF)

    def read_linear(self, address: int, count: int) -> bytes:
        """Up to `count` bytes at a linear address, without any effect; short where unmapped."""
        return peek_bytes(self.memory, self.address_space(), address, count)


__all__ = [
    "CPUID",
    "ENGINE_VERSION",
    "IN",
    "ON_BLOCK",
    "ON_CODE",
    "ON_INSTRUCTION",
    "ON_INTERRUPT",
    "ON_INVALID",
    "ON_MADE",
    "ON_READ",
    "ON_UNMAPPED",
    "ON_WRITE",
    "OUT",
    "RDTSC",
    "SYSCALL",
    "SYSENTER",
    "Engine",
]
