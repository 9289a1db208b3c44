"""Guests that mean harm: random code in ring 1 and 3, random hypercalls, random tables and rings, on the whole machine.

A hostile Guest is a few hundred bytes of kernel at its start address, with random words where the Host will look for
lguest_data, page tables and ring entries. Many runs share one machine: it is put back to power-on with another kernel
by `restore`, which is quicker than building a new one.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from random import Random

from hostvm.launcher import GuestConfig
from hostvm.machine import Machine, MachineConfig, MachineState
from hostvm.observations import GuestEnded, Observation
from hostvm.units import Tick
from hostvm.x86 import PAGE_SHIFT, PAGE_SIZE
from replay.worlds import VirtualWorld

START = 0x10000
MEMORY = 4 << 20
_DATA = 0x20000
_TABLES = 0x30000
_ADDRESSES = (
    0,
    1,
    0xFFC,
    START,
    _DATA,
    _TABLES,
    _TABLES + 0x1000,
    MEMORY - 4,
    MEMORY,
    MEMORY + 0x1000,
)
_WILD = (0x40000000, 0xC0000000, 0xFFC00000, 0xFFC01FB8, 0xFFC02000, 0xFFFFFFFF, 0x80000000)
_LAST_HYPERCALL = 20
# Offsets in the 3.2 generation's lguest_data: hcall_status, and kernel_address with syscall_vec behind it.
_STATUS, _KERNEL_ADDRESS = 24, 1384


def _elf(code: bytes) -> bytes:
    """The smallest ELF file that the Launcher takes: one segment at START."""
    header = b"\x7fELF\x01\x01\x01" + bytes(9)
    header += struct.pack("<HHIIIIIHHHHHH", 2, 3, 1, START, 52, 0, 0, 52, 32, 1, 0, 0, 0)
    segment = struct.pack("<IIIIIIII", 1, 84, START, START, len(code), len(code), 7, 4096)
    return header + segment + code


def _argument(r: Random) -> int:
    match r.randrange(5):
        case 0:
            return r.randrange(300)
        case 1:
            return r.choice(_ADDRESSES)
        case 2:
            return r.choice(_WILD)
        case 3:
            return r.choice(_ADDRESSES) | r.randrange(1 << 12)
        case _:
            return r.randrange(1 << 32)


def _hypercall(r: Random, number: int | None = None, first: int | None = None) -> bytes:
    number = r.randrange(_LAST_HYPERCALL + 1) if number is None else number
    arguments = [_argument(r) if first is None else first, *(_argument(r) for _ in range(3))]
    loads = zip(b"\xb8\xbb\xb9\xba\xbe", (number, *arguments), strict=True)
    return b"".join(bytes([op]) + struct.pack("<I", value) for op, value in loads) + b"\xcd\x1f"


def _store(r: Random) -> bytes:
    return b"\xc7\x05" + struct.pack("<II", _argument(r), _argument(r))


def _to_user(r: Random) -> bytes:
    frame = (0x7B, START + 0x800, 0x202 | r.randrange(1 << 16), 0x73, START + r.randrange(0x200))
    return b"".join(b"\x68" + struct.pack("<I", word) for word in frame) + b"\xcf"


def _instruction(r: Random) -> bytes:
    match r.randrange(9):
        case 0 | 1 | 2:
            return _hypercall(r)
        case 3:
            return _store(r)
        case 4:
            return b"\xbc" + struct.pack("<I", _argument(r))
        case 5:
            return _to_user(r)
        case 6:
            return r.choice(
                (
                    b"\xcd\x80",
                    b"\xcc",
                    b"\xcd" + bytes([r.randrange(256)]),
                    b"\xfb",
                    b"\xf4",
                    b"\xec",
                )
            )
        case 7:
            return b"\x8e" + bytes([0xC0 | r.randrange(6) << 3]) if r.random() < 0.3 else b"\x90"
        case _:
            return r.randbytes(r.randrange(1, 12))


def hostile_kernel(seed: int) -> bytes:
    """An ELF kernel for a seed. Most say hello properly first, so that the Host listens to the rest."""
    r = Random(seed)
    code = b""
    if r.random() < 0.8:
        code += b"\xbc" + struct.pack("<I", START + 0x1000) + _hypercall(r, 1, _DATA)
    if r.random() < 0.4:
        code += b"".join(
            _hypercall(r, 6, vector) for vector in r.sample(range(256), 3) for _ in range(2)
        )
    if r.random() < 0.3:
        code += _hypercall(r, 9, r.randrange(1, 200_000))
    while len(code) < 0x600:
        code += _instruction(r)
    return _elf(code)


class _Ear(VirtualWorld):
    """A virtual World that remembers how the Guest ended."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.ended: list[GuestEnded] = []

    def observe(self, observation: Observation) -> None:
        """Keep the end."""
        if isinstance(observation, GuestEnded):
            self.ended.append(observation)


@dataclass(frozen=True, slots=True)
class Fate:
    """How a run came out."""

    tick: int
    finished: bool
    ended: tuple[GuestEnded, ...]
    digest: bytes


class HostileRuns:
    """A machine on which one hostile Guest after another runs for at most `ticks`."""

    def __init__(self, ticks: int = 20_000, abi: str = "3.2") -> None:
        self._ticks = ticks
        guest = GuestConfig(_elf(b"\x90" * 0x1000), memory=MEMORY, abi=abi, name="hostile")
        self._machine = Machine(MachineConfig((guest,)), _Ear(0))
        self._power_on = self._machine.state()

    def run(self, seed: int, *, cut: int = 1 << 30) -> Fate:
        """Run the Guest of a seed, in pieces of `cut` ticks."""
        machine = self._machine
        world = _Ear(seed)
        machine.world = world
        machine.restore(self._with(seed))
        while machine.tick < self._ticks and not machine.finished:
            machine.run(Tick(min(self._ticks, machine.tick + cut)))
        return Fate(machine.tick, machine.finished, tuple(world.ended), machine.digest())

    def _with(self, seed: int) -> MachineState:
        """The power-on state with this Guest's kernel and random contents where the Host will look."""
        r = Random(~seed)
        base = self._machine.guests[0].base
        pages = dict(self._power_on.pages)
        code = hostile_kernel(seed)[84:].ljust(PAGE_SIZE, b"\0")[:PAGE_SIZE]
        pages[base + START >> PAGE_SHIFT] = code
        for address in (_DATA, _TABLES, _TABLES + 0x1000):
            pages[base + address >> PAGE_SHIFT] = self._words(r)
        data = bytearray(pages[base + _DATA >> PAGE_SHIFT])
        if r.random() < 0.95:
            struct.pack_into("<II", data, _KERNEL_ADDRESS, 0xC0000000, 0x80)
        if r.random() < 0.7:
            data[_STATUS : _STATUS + 64] = b"\xff" * 64
        pages[base + _DATA >> PAGE_SHIFT] = bytes(data)
        return replace(self._power_on, pages=tuple(sorted(pages.items())))

    @staticmethod
    def _words(r: Random) -> bytes:
        density = r.random()
        words = (_argument(r) if r.random() < density else 0 for _ in range(PAGE_SIZE // 4))
        return struct.pack(f"<{PAGE_SIZE // 4}I", *words)
