"""Looking at a machine without touching it: registers, memory through any page tables, which world it is in.

Four *spaces* can be looked through. What the CPU would see now; what a Guest sees through its own page tables, which
holds while the Host or the Switcher runs too; a Guest's physical memory; the machine's physical memory. A Guest's
address space is named by the guest-physical address of its page directory, as the Guest itself names it.

Everything here is for between two steps, or for inside a probe (hostvm/probes.py). Read next: places.py, stops.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

from hostvm.cpu_state import CpuState
from hostvm.launched_guest import LaunchedGuest
from hostvm.machine import Machine
from hostvm.paging import peek
from hostvm.units import Tick
from hostvm.x86 import PAGE_MASK, PAGE_SHIFT, PAGE_SIZE, Pte

_P = int(Pte.P)
_WORD = 0xFFFFFFFF


class World(Enum):
    """Whose instruction comes next."""

    HOST = "Host"
    SWITCHER = "Switcher"
    KERNEL = "Guest kernel"
    USER = "Guest user"


@dataclass(frozen=True, slots=True)
class CurrentSpace:
    """Linear addresses as the CPU translates them now."""


@dataclass(frozen=True, slots=True)
class GuestSpace:
    """Linear addresses of a Guest by its own page tables; `directory` None: the one it uses now."""

    guest: int = 0
    directory: int | None = None


@dataclass(frozen=True, slots=True)
class GuestPhysicalSpace:
    """Physical addresses of a Guest."""

    guest: int = 0


@dataclass(frozen=True, slots=True)
class MachineSpace:
    """Physical addresses of the machine."""


Space: TypeAlias = CurrentSpace | GuestSpace | GuestPhysicalSpace | MachineSpace
CURRENT = CurrentSpace()
_SWITCHER_BASE = 0xFFC00000


class Look:
    """A machine to be looked at; `tick` is where it stands, also while a probe is being answered."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine

    @property
    def tick(self) -> Tick:
        """The tick of the step that comes next, or, inside a probe, of the one under way."""
        machine = self.machine
        return machine.probed_tick if machine.cpu.running else machine.tick

    @property
    def cpu(self) -> CpuState:
        """All registers."""
        return self.machine.cpu.state()

    @property
    def guest(self) -> LaunchedGuest:
        """The Guest that runs, or ran last."""
        return self.machine.current_guest

    @property
    def world(self) -> World:
        """Whose instruction comes next."""
        match self.machine.cpu.cpl:
            case 0:
                return World.SWITCHER if self.machine.cpu.eip >= _SWITCHER_BASE else World.HOST
            case 3:
                return World.USER
            case _:
                return World.KERNEL

    @property
    def directory(self) -> int:
        """Guest-physical address of the page directory that the current Guest uses."""
        tables = self.guest.tables
        return tables.shadowed[tables.current]

    # ---- memory ---------------------------------------------------------------------------------

    def read(self, address: int, count: int, space: Space = CURRENT) -> bytes:
        """Up to `count` bytes; fewer where an address leads nowhere."""
        parts = []
        address &= _WORD
        while count > 0:
            step = min(count, PAGE_SIZE - (address & PAGE_SIZE - 1))
            physical = self.physical(address, space)
            if physical is None:
                break
            parts.append(self.machine.memory.read(physical, step))
            address, count = address + step & _WORD, count - step
        return b"".join(parts)

    def word(self, address: int, space: Space = CURRENT) -> int | None:
        """Little-endian 32-bit word."""
        raw = self.read(address, 4, space)
        return int.from_bytes(raw, "little") if len(raw) == 4 else None

    def physical(self, address: int, space: Space = CURRENT) -> int | None:
        """Host-physical address, or None."""
        match space:
            case CurrentSpace():
                return peek(self.machine.memory, self.machine.cpu.address_space(), address)
            case GuestSpace():
                return self._by_guest_tables(address, space)
            case GuestPhysicalSpace(guest):
                return self._guest_physical(self.machine.guests[guest], address)
            case MachineSpace():
                memory = self.machine.memory
                return address if memory.base <= address < memory.base + memory.size else None

    def _guest_physical(self, guest: LaunchedGuest, address: int) -> int | None:
        inside = address >> PAGE_SHIFT < guest.loaded.pfn_limit
        return guest.guest_memory.host_address(address) if inside else None

    def entry_addresses(self, address: int, space: GuestSpace) -> tuple[int | None, int | None]:
        """Guest-physical addresses of the directory entry and of the table entry that map `address`."""
        guest = self.machine.guests[space.guest]
        tables = guest.tables
        if tables.linear:
            return None, None
        directory = tables.shadowed[tables.current] if space.directory is None else space.directory
        # A directory at the very end of the address space goes on at 0.
        at = directory + (address >> 20 & 0xFFC) & 0xFFFFFFFF
        entry = self._guest_word(guest, at)
        if entry is None or not entry & _P:
            return at, None
        return at, (entry & PAGE_MASK) + (address >> 10 & 0xFFC)

    def _by_guest_tables(self, address: int, space: GuestSpace) -> int | None:
        guest = self.machine.guests[space.guest]
        if guest.tables.linear:
            return self._guest_physical(guest, address)
        _, at = self.entry_addresses(address, space)
        entry = None if at is None else self._guest_word(guest, at)
        if entry is None or not entry & _P:
            return None
        return self._guest_physical(guest, (entry & PAGE_MASK) | (address & PAGE_SIZE - 1))

    def _guest_word(self, guest: LaunchedGuest, address: int) -> int | None:
        physical = self._guest_physical(guest, address)
        return None if physical is None else self.machine.memory.read_u32(physical)


__all__ = [
    "CURRENT",
    "CurrentSpace",
    "GuestPhysicalSpace",
    "GuestSpace",
    "Look",
    "MachineSpace",
    "Space",
    "World",
]
