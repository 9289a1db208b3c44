"""The FPU when Guests take turns: each finds its registers as it left them.

A Guest that sleeps need not have saved its FPU: its kernel does so when another of *its* programs wants it. Under
lguest each Guest is a process of the Host, and so the Host's own lazy switching keeps Guests apart. Here the Host
saves and loads when another Guest than the last is entered, which is seldom. What is saved lies in the Host's part of
memory, so it belongs to every digest and snapshot. The area of a Guest that has not had to leave yet is all zero.

Source: lguest, drivers/lguest/core.c (run_guest, trap 7). Read next: machine.py.
"""

from __future__ import annotations

import struct
from dataclasses import replace

from hostvm.cpu import Cpu
from hostvm.cpu_state import CpuState
from hostvm.memory import PhysicalMemory
from hostvm.memory_map import guest_fpu_area

_LAYOUT = struct.Struct("<10I8s80s128s")
_USED = 1
_CONTROL_AT_RESET, _MXCSR_AT_RESET = 0x37F, 0x1F80


def change_fpu(cpu: Cpu, memory: PhysicalMemory, leaving: int, entering: int) -> None:
    """Keep the registers for the Guest that ran last, and load those of the one to run."""
    state = cpu.state()
    memory.write(guest_fpu_area(leaving), _packed(state))
    cpu.load_fpu(_with(state, memory.read(guest_fpu_area(entering), _LAYOUT.size)))


def _packed(state: CpuState) -> bytes:
    top, status, control, tags, registers, *rest = state.fpu
    return _LAYOUT.pack(_USED, top, status, control, *rest, state.mxcsr, tags, registers, state.xmm)


def _with(state: CpuState, area: bytes) -> CpuState:
    used, top, status, control, *rest, mxcsr, tags, registers, xmm = _LAYOUT.unpack(area)
    if not used:
        control, tags, mxcsr = _CONTROL_AT_RESET, b"\1" * 8, _MXCSR_AT_RESET
    opcode, code, data, instruction, operand = rest
    fpu = (top, status, control, tags, registers, opcode, code, data, instruction, operand)
    return replace(state, fpu=fpu, mxcsr=mxcsr, xmm=xmm)


__all__ = ["change_fpu"]
