"""Histories to travel in, and what somebody sees of them who makes every single step: the oracle for time travel.

The oracle uses nothing of the timeline: a Session, a step at a time, and its own idea of what begins an instruction.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from hostvm.launcher import GuestConfig
from hostvm.machine import MachineConfig
from hostvm.units import Tick
from replay.catalogue import find_kernel
from replay.events import HostInterrupt
from replay.log import TraceReader
from replay.look import Look
from replay.machine_header import Origin
from replay.recording import record
from replay.session import Session
from replay.stops import Condition
from replay.timeline import Timeline
from replay.virtual_world import VirtualWorld
from tests.replay.recorded import Silent

MEMORY = 16 << 20
_REP_OPCODES = frozenset(b"\x6c\x6d\x6e\x6f\xa4\xa5\xa6\xa7\xaa\xab\xac\xad\xae\xaf")


def record_guest(
    path: Path, guest: str = "hello", command_line: str = "loops=1", seed: int = 1
) -> Path:
    """Record a shipped Guest to its end, in virtual time."""
    kernel = find_kernel(guest)
    setup = GuestConfig(kernel.content, command_line, MEMORY, abi=kernel.abi, name=kernel.name)
    origin = Origin("virtual", seed)
    record(MachineConfig((setup,), 1 << 16), VirtualWorld(seed), path, origin, Silent())
    return path


def timeline_of(path: Path, room: int = 64 << 20) -> Timeline:
    """The timeline of a trace."""
    return Timeline(TraceReader(path), room)


@dataclass(frozen=True, slots=True)
class Instant:
    """The state before the step `tick`: `begins` tells whether that step begins an instruction."""

    tick: Tick
    eip: int
    esp: int
    cpl: int
    begins: bool
    registers: bytes
    watched: tuple[bytes, ...]


def walk(
    path: Path, first: int, last: int, watched: Iterable[tuple[int, int]] = ()
) -> list[Instant]:
    """Every tick from `first` to `last`; `watched` are (host-physical address, bytes) to note at each."""
    watched = tuple(watched)
    with TraceReader(path) as reader:
        taken = {e.tick for e in reader.events() if isinstance(e, HostInterrupt)}
        machine = Session(reader).machine
        machine.run(Tick(first - 1))
        instants: list[Instant] = []
        for tick in range(first, last + 1):
            before = machine.cpu.eip
            machine.run(Tick(tick))
            if machine.tick != tick:
                break
            eip = machine.cpu.eip
            again = eip == before and _is_rep(machine.cpu.read_linear(eip, 15))
            instants.append(
                Instant(
                    machine.tick,
                    eip,
                    machine.cpu.env.regs[4] & 0xFFFFFFFF,
                    machine.cpu.cpl,
                    machine.tick not in taken and not again,
                    machine.register_digest(),
                    tuple(machine.memory.read(*place) for place in watched),
                )
            )
    return instants


def true_ticks(path: Path, first: int, last: int, condition: Condition) -> set[int]:
    """The ticks in first..last at which `condition` holds, by looking at each."""
    found: set[int] = set()
    with TraceReader(path) as reader:
        machine = Session(reader).machine
        look = Look(machine)
        for tick in range(first, last + 1):
            machine.run(Tick(tick))
            if condition(look):
                found.add(tick)
    return found


def _is_rep(code: bytes) -> bool:
    at = 0
    repeats = False
    while at < len(code) and code[at] in b"\x26\x2e\x36\x3e\x64\x65\x66\x67\xf2\xf3":
        repeats |= code[at] in b"\xf2\xf3"
        at += 1
    return repeats and code[at : at + 1] != b"" and code[at] in _REP_OPCODES


def forward_digests(path: Path, ticks: Iterable[int]) -> dict[int, bytes]:
    """The machine's digest at each of these ticks, from one plain forward replay."""
    found = {}
    with TraceReader(path) as reader:
        machine = Session(reader).machine
        for tick in sorted(set(ticks)):
            machine.run(Tick(tick))
            found[tick] = machine.digest()
    return found


@cache
def interrupt_ticks(path: Path) -> tuple[Tick, ...]:
    """Ticks at which a hardware interrupt is taken."""
    with TraceReader(path) as reader:
        return tuple(e.tick for e in reader.events() if isinstance(e, HostInterrupt))


__all__ = [
    "Instant",
    "forward_digests",
    "interrupt_ticks",
    "record_guest",
    "timeline_of",
    "true_ticks",
    "walk",
]
