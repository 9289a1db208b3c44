"""What a new engine is tried with before it is trusted: where it keeps its state, and how it reports faults.

All of this runs a few instructions on an engine that has no hooks yet, and leaves memory as it was. What is found wrong
is an EngineMisfit. Read next: engine_layout.py, engine_check.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hostvm.engine_check import Write, check_page_fault, check_software_interrupt
from hostvm.engine_layout import (
    EMPTY_EXCEPTION,
    Env,
    Layout,
    SelfReader,
    find_counter,
    find_env,
    find_jump_cache,
)
from hostvm.errors import EngineMisfit
from hostvm.memory import PhysicalMemory
from hostvm.x86 import PAGE_SIZE, Cr0

_PLACE = 0x840


class EngineTrial:
    """Trials of `engine` (the binding's object) over `memory`; `write` sets a register by its name."""

    def __init__(self, engine: Any, memory: PhysicalMemory, write: Write) -> None:
        self._engine = engine
        self._memory = memory
        self._write = write

    @property
    def place(self) -> int:
        """Where the trials' programs lie: 64 bytes."""
        return self._memory.base + _PLACE

    def find_layout(self, handle: int, look: Callable[[SelfReader, Layout, int], None]) -> Layout:
        """Locate the engine's structures by running jumps: it reports blocks only once one has run to its end.

        `look` is called while the block at the address that it is given is still there.
        """
        engine, start = self._engine, self.place
        before = self._memory.read(start, 64)
        self._memory.write(start, b"\xeb\x00" * 32)
        reader = SelfReader()
        try:
            cpu, env = find_env(reader, handle, self._plant)
            counter = find_counter(reader, handle, lambda n: engine.emu_start(start, 0, count=n))
            cache = find_jump_cache(reader, cpu, env, (start, start + 2, start + 6))
            layout = Layout(env, counter, counter + 8, cache)
            look(reader, layout, start)
        finally:
            reader.close()
            self._memory.write(start, before)
        engine.ctl_flush_tb()
        return layout

    def _plant(self, number: int) -> bytes:
        """Write recognisable values into the first four registers; returns them as the engine keeps them."""
        values = [0x51110000 * number + at & 0xFFFFFFFF for at in range(4)]
        for name, value in zip(("EAX", "ECX", "EDX", "EBX"), values, strict=True):
            self._write(name, value)
        return b"".join(value.to_bytes(8, "little") for value in values)

    def check_exceptions(self, env: Env, interrupt_hook: int) -> None:
        """Make a software interrupt, a data fault and a fetch fault happen, and look at how the engine reports them."""
        memory, page = self._memory, self._memory.base
        far = page + (1 << 22)
        load = b"\xa1" + far.to_bytes(4, "little")
        jump = b"\xb8" + far.to_bytes(4, "little") + b"\xff\xe0"
        before = memory.read(page, 3 * PAGE_SIZE)
        memory.write_u32(page + PAGE_SIZE + (page >> 22) * 4, page + 2 * PAGE_SIZE | 7)
        memory.write_u32(page + 2 * PAGE_SIZE, page | 7)
        self._write("CR3", page + PAGE_SIZE)
        self._write("CR0", int(Cr0.PE | Cr0.PG | Cr0.ET))
        for program, look in (
            (b"\xcd\x40", lambda: check_software_interrupt(env, self.place + 2)),
            (load, lambda: check_page_fault(env, 0, fetch=False)),
            (jump, lambda: check_page_fault(env, 0, fetch=True)),
        ):
            self._interrupt(env, interrupt_hook, program, look)
        self._write("CR0", int(Cr0.PE | Cr0.ET))
        memory.write(page, before)
        self._engine.ctl_flush_tb()

    def _interrupt(
        self, env: Env, interrupt_hook: int, program: bytes, look: Callable[[], None]
    ) -> None:
        """Run `program` and call `look` from the hook of the interrupt that it must cause."""
        seen: list[int] = []

        def on_interrupt(engine: Any, vector: int, _data: Any) -> None:
            seen.append(vector)
            look()
            env.old_exception = EMPTY_EXCEPTION
            engine.emu_stop()

        self._memory.write(self.place, program)
        self._engine.ctl_flush_tb()
        hook = self._engine.hook_add(interrupt_hook, on_interrupt)
        self._engine.emu_start(self.place, 0, count=3)
        self._engine.hook_del(hook)
        if not seen:
            raise EngineMisfit("the CPU engine reports no interrupts; is unicorn 2.1.4 installed?")


__all__ = ["EngineTrial"]
