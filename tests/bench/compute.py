"""How fast a Guest computes, against the bare engine told to count the instructions of the same code."""

from __future__ import annotations

import struct

from hostvm.machine import Machine, MachineConfig
from hostvm.units import Tick
from replay.worlds import VirtualWorld
from tests.bench.bare_engine import bare_engine, registers
from tests.bench.figures import Action, Aim, Figure, Measured, ratio, timed
from tests.bench.programs import COMPUTE, ENTRY, MEMORY, guest

TICKS = 10_000_000
STRETCH = 200_000
_DIRECTORY, _TABLE = 0x1000, 0x2000
_PRESENT, _PG = 0x67, 1 << 31


def in_the_machine() -> Action:
    """Under lguest, in ring 1, in stretches as a 500 Hz timer would cut them."""
    machine = Machine(MachineConfig((guest(COMPUTE),), digest_interval=1 << 40), VirtualWorld())

    def compute() -> None:
        end = machine.tick + TICKS
        while machine.tick < end:
            machine.run(Tick(machine.tick + STRETCH))
        assert not machine.finished

    return compute


def on_the_bare_engine() -> Action:
    """With the same paging, and nothing around it."""
    return on_the_bare_engine_for(TICKS)


def on_the_bare_engine_for(ticks: int) -> Action:
    """So many instructions."""
    engine = bare_engine()
    engine.mem_map(0, MEMORY)
    engine.mem_write(ENTRY, COMPUTE)
    engine.mem_write(_DIRECTORY, struct.pack("<I", _TABLE | _PRESENT))
    pages = (page << 12 | _PRESENT for page in range(MEMORY >> 12))
    engine.mem_write(_TABLE, struct.pack(f"<{MEMORY >> 12}I", *pages))
    engine.reg_write(registers.UC_X86_REG_CR3, _DIRECTORY)
    cr0 = engine.reg_read(registers.UC_X86_REG_CR0)
    engine.reg_write(registers.UC_X86_REG_CR0, cr0 | _PG)
    engine.reg_write(registers.UC_X86_REG_EIP, ENTRY)

    def compute() -> None:
        for _ in range(ticks // STRETCH):
            engine.emu_start(engine.reg_read(registers.UC_X86_REG_EIP), 0, count=STRETCH)

    return compute


def _speed(rounds: int) -> Measured:
    names = ("bare engine", "machine")
    return ratio(timed(on_the_bare_engine()), timed(in_the_machine()), rounds, names)


FIGURES = (Figure("guest compute / bare engine", "x the speed", Aim(0.85, at_least=True), _speed),)
