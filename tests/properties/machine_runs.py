"""Runs of a whole machine for comparison: in one go, or disturbed, or handed on to a fresh process.

`main` is that process: it takes `Leg`s on its standard input and gives what became of them on its standard output.
Machine and World travel as values.
"""

from __future__ import annotations

import os
import pickle
import struct
import subprocess
import sys
from copy import deepcopy
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path
from random import Random

from hostvm.cpu import ExitKind
from hostvm.launcher import GuestConfig
from hostvm.machine import Machine, MachineState
from hostvm.units import Tick
from tests.hostvm.bare_machine import CODE, DATA, BareMachine
from tests.hostvm.quiet_world import END_OF_TIME, QuietWorld, machine_of

ROOT = Path(__file__).parents[2]
WITHOUT_FMA = "glibc.cpu.hwcaps=-AVX2_Usable,-FMA_Usable,-AVX2,-FMA"

_RESULTS = 0x40000
_FLD, _FSTP, _FNINIT, _HLT = b"\xdd\x05", b"\xdb\x3d", b"\xdb\xe3", b"\xf4"
# fsin fcos fptan fpatan fyl2x f2xm1 fsincos fyl2xp1 fprem fprem1 fscale fsqrt frndint; fadd fmul fdiv.
_X87 = [b"\xd9" + bytes([op]) for op in b"\xfe\xff\xf2\xf3\xf1\xf0\xfb\xf9\xf8\xf5\xfd\xfa\xfc"]
_X87 += [b"\xde\xc1", b"\xde\xc9", b"\xde\xf9"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """All that must be equal: where a run stands, what the World saw and gave, and everything inside."""

    tick: int
    finished: bool
    digest: bytes
    world: QuietWorld


@dataclass(frozen=True, slots=True)
class Leg:
    """Part of a run: a machine, from power-on or from `state`, to be run to `until`, disturbed as `seed` says.

    `stride` is how far it goes undisturbed at most.
    """

    guests: tuple[GuestConfig, ...]
    world: QuietWorld
    state: MachineState | None = None
    until: int = END_OF_TIME
    seed: int | None = None
    stride: int = 60_000


def outcome_of(machine: Machine) -> Outcome:
    """What there is to compare."""
    assert isinstance(machine.world, QuietWorld)
    return Outcome(machine.tick, machine.finished, machine.digest(), deepcopy(machine.world))


def run_leg(leg: Leg) -> Machine:
    """Run it here."""
    machine, _ = machine_of(*leg.guests, world=deepcopy(leg.world))
    if leg.state is not None:
        machine.restore(leg.state)
    if leg.seed is None:
        machine.run(Tick(leg.until))
        return machine
    return _disturbed(machine, leg)


def _disturbed(machine: Machine, leg: Leg) -> Machine:
    """Cut in pieces of any size, long ones for most of the way; between them caches are dropped, engines changed."""
    r = Random(leg.seed)
    while machine.tick < leg.until and not machine.finished:
        widest = r.choice((1, 3, 30, 400, 5000, *3 * [leg.stride]))
        for _ in range(max(1, min(20, 100_000 // widest))):
            machine.run(Tick(min(machine.tick + r.randint(1, widest), leg.until)))
            machine = _between(machine, leg, r.randrange(60))
    return machine


def _between(machine: Machine, leg: Leg, what: int) -> Machine:
    match what:
        case 0 | 1 | 2:
            machine.cpu.flush()
        case 3 | 4 | 5:
            machine.cpu.flush_tlb()
        case 6:
            machine.digest()
        case 7:
            machine.restore(machine.state())
        case 8:
            return resumed(leg, machine)
    return machine


def resumed(leg: Leg, machine: Machine) -> Machine:
    """A new machine, which goes on where the old one is."""
    assert isinstance(machine.world, QuietWorld)
    new, _ = machine_of(*leg.guests, world=machine.world)
    new.restore(machine.state())
    return new


def handed_on(leg: Leg, machine: Machine) -> Leg:
    """The rest of a run, for somebody else."""
    assert isinstance(machine.world, QuietWorld)
    return replace(leg, state=machine.state(), world=deepcopy(machine.world))


def in_fresh_process(
    legs: list[Leg], environment: dict[str, str] | None = None
) -> tuple[list[tuple[Outcome, MachineState]], bytes]:
    """Run legs in a new process: their outcomes, and what the x87 computes there."""
    done = subprocess.run(
        [sys.executable, "-c", f"import {__name__} as here; here.main()"],
        input=pickle.dumps(legs),
        capture_output=True,
        cwd=ROOT,
        env={**os.environ, **(environment or {})},
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    outcomes, mathematics = pickle.loads(done.stdout)
    return outcomes, mathematics


def x87_digest(cases: int = 15) -> bytes:
    """What the emulated FPU makes of the same random numbers, in every instruction whose result is not obvious."""
    r = Random(87)
    program, numbers, at = bytearray(), bytearray(), _RESULTS
    for op in _X87 * cases:
        first, second = r.uniform(-1000, 1000), r.uniform(-0.99, 0.99)
        where = DATA + len(numbers)
        numbers += struct.pack("<dd", first, abs(second) if op in b"\xd9\xf1\xd9\xf3" else second)
        loads = (_FLD + struct.pack("<I", where + offset) for offset in (0, 8))
        stores = (_FSTP + struct.pack("<I", at + offset) for offset in (0, 16))
        program += _FNINIT + b"".join(loads) + op + b"".join(stores)
        at += 32
    bare = BareMachine(bytes(program) + _HLT)
    bare.memory.write(DATA, bytes(numbers))
    bare.start(0)
    done = bare.cpu.run(1 << 20)
    assert (done.kind, bare.cpu.eip) == (ExitKind.HALT, CODE + len(program) + 1)
    return blake2b(bare.memory.read(_RESULTS, at - _RESULTS), digest_size=16).digest()


def main() -> None:
    """Be the fresh process."""
    legs: list[Leg] = pickle.load(sys.stdin.buffer)
    machines = [run_leg(leg) for leg in legs]
    done = [(outcome_of(machine), machine.state()) for machine in machines]
    pickle.dump((done, x87_digest()), sys.stdout.buffer)
