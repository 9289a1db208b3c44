"""The machine as values: what it is built from, what it is at a tick, and what its CPU is at power-on.

Equal configurations and Worlds give equal runs; a state decides how a machine of the same configuration goes on, in
whatever process. Read next: machine.py, replay/checkpoints.py.
"""

from __future__ import annotations

from dataclasses import dataclass

from hostvm.cpu_state import CpuState
from hostvm.devices.device import DeviceState
from hostvm.errors import ConfigurationError
from hostvm.gates import FIRST_EXTERNAL_VECTOR
from hostvm.host_tables import HostStart
from hostvm.launcher import GuestConfig
from hostvm.lguest import SYSCALL_VECTOR, LguestState
from hostvm.quirks import UPSTREAM, Quirk
from hostvm.switcher import IDT_ENTRIES
from hostvm.units import Tick
from hostvm.world import DEVICE_VECTOR, TIMER_VECTOR

DIGEST_INTERVAL = 1 << 21
MEMORY_DIGEST_EVERY = 16


@dataclass(frozen=True, slots=True)
class MachineConfig:
    """What a machine is built from; equal configurations and Worlds give equal runs.

    Register digests are reported every `digest_interval` ticks, memory digests with every `memory_digest_every`th.
    `restarts`: a Guest that asks for a restart is launched again; otherwise that is its end. `syscall_vector` is one
    that Guests may use for system calls besides Linux's, as Plan 9 uses 64. `switcher`: another build of the Switcher,
    an ELF file; empty for the one that comes along.
    """

    guests: tuple[GuestConfig, ...]
    digest_interval: int = DIGEST_INTERVAL
    memory_digest_every: int = MEMORY_DIGEST_EVERY
    quirks: Quirk = UPSTREAM
    restarts: bool = False
    syscall_vector: int = SYSCALL_VECTOR
    switcher: bytes = b""

    def __post_init__(self) -> None:
        free = FIRST_EXTERNAL_VECTOR <= self.syscall_vector < IDT_ENTRIES
        if not free or self.syscall_vector in (TIMER_VECTOR, DEVICE_VECTOR):
            raise ConfigurationError(f"couldn't reserve syscall {self.syscall_vector}")


@dataclass(frozen=True, slots=True)
class MachineState:
    """Everything that decides how a machine goes on. `pages` are (page number, content) of all non-zero pages."""

    tick: Tick
    cpu: CpuState
    guests: tuple[LguestState, ...]
    devices: tuple[tuple[DeviceState, ...], ...]
    entered: bool
    current: int
    last_guest: int
    finished: bool
    direct_traps: tuple[tuple[int, int], ...]
    pages: tuple[tuple[int, bytes], ...]


def power_on(start: HostStart) -> CpuState:
    """The CPU as it is when the Host begins."""
    return CpuState(
        regs=(0, 0, 0, 0, start.esp, 0, 0, 0),
        eip=start.eip,
        eflags=int(start.eflags),
        segs=start.segs,
        tables=start.tables,
        cr=(int(start.cr0), 0, start.cr3, int(start.cr4)),
        dr=(0, 0, 0, 0, 0, 0, 0xFFFF0FF0, 0x400),
        fpu=(0, 0, 0x37F, b"\1" * 8, bytes(80), 0, 0, 0, 0, 0),
        mxcsr=0x1F80,
        xmm=bytes(128),
        sysenter_cs=0,
        shadow=False,
        nmi_blocked=False,
    )


__all__ = [
    "DIGEST_INTERVAL",
    "MEMORY_DIGEST_EVERY",
    "MachineConfig",
    "MachineState",
    "power_on",
]
