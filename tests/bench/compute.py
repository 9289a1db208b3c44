"""How fast a Guest computes, against the bare engine told to count the instructions of the same code."""

from __future__ import annotations

import struct
from statistics import median
from typing import Any

from hostvm.machine import Machine, MachineConfig
from hostvm.units import Tick
from replay.virtual_world import VirtualWorld
from tests.bench.bare_engine import bare_engine, registers
from tests.bench.figures import (
    Action,
    Aim,
    Figure,
    Measured,
    alternate,
    ratio,
    summary,
    timed,
)
from tests.bench.programs import (
    COMPUTE,
    COMPUTE_AND_STOP,
    ENTRY,
    MEMORY,
    ROUNDS,
    guest,
)
from tests.bench.ways import in_python

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
    """So many instructions, counted one by one."""
    engine = _paged_engine(COMPUTE)

    def compute() -> None:
        for _ in range(ticks // STRETCH):
            engine.emu_start(engine.reg_read(registers.UC_X86_REG_EIP), 0, count=STRETCH)

    return compute


def on_the_plain_engine() -> Action:
    """Not counted at all: ROUNDS rounds, to the end."""
    engine = _paged_engine(COMPUTE_AND_STOP)
    return lambda: engine.emu_start(ENTRY, 0)


def instructions_to_the_end() -> int:
    """How many instructions that is."""
    number, instructions = 1, 5
    for _ in range(ROUNDS):
        instructions += 5
        for _ in range(4096):
            number = number * 1664525 + 1013904223 & 0xFFFFFFFF
            instructions += 10 + (number >> 8 & 1)
    return instructions


def _paged_engine(code: bytes) -> Any:
    engine = bare_engine()
    engine.mem_map(0, MEMORY)
    engine.mem_write(ENTRY, code)
    engine.mem_write(_DIRECTORY, struct.pack("<I", _TABLE | _PRESENT))
    pages = (page << 12 | _PRESENT for page in range(MEMORY >> 12))
    engine.mem_write(_TABLE, struct.pack(f"<{MEMORY >> 12}I", *pages))
    engine.reg_write(registers.UC_X86_REG_CR3, _DIRECTORY)
    cr0 = engine.reg_read(registers.UC_X86_REG_CR0)
    engine.reg_write(registers.UC_X86_REG_CR0, cr0 | _PG)
    engine.reg_write(registers.UC_X86_REG_EIP, ENTRY)
    return engine


def _speed(rounds: int) -> Measured:
    names = ("bare engine", "machine")
    return ratio(timed(on_the_bare_engine()), timed(in_the_machine()), rounds, names)


def _speed_against_plain(rounds: int) -> Measured:
    """Instructions a second, by those of the engine when nobody counts."""
    plain = instructions_to_the_end()
    times = alternate(timed(in_the_machine()), timed(on_the_plain_engine()), rounds)
    ratios = [(TICKS / here) / (plain / there) for here, there in times]
    here, there = (median(column) for column in zip(*times, strict=True))
    note = f"machine {TICKS / here / 1e6:.0f} M, plain engine {plain / there / 1e6:.0f} M a second"
    return summary(ratios, note)


_AGAINST_PLAIN = Figure(
    "guest compute / plain engine", "x the speed", Aim(0.6, at_least=True), _speed_against_plain
)

FIGURES = (
    Figure("guest compute / bare engine", "x the speed", Aim(0.85, at_least=True), _speed),
    _AGAINST_PLAIN,
    in_python(_AGAINST_PLAIN),
)
