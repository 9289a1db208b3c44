"""What the machine reports while it runs: facts that a replay must reproduce exactly.

Observations never influence the machine. The World receives them (`World.observe`); a recorder writes them into the
trace, a replayer compares them with the trace. Each carries the tick of the machine step that produced it and the
number of the Guest concerned. What has to be *put into* a run is an Input and lives in `replay.events`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TypeAlias

from hostvm.units import Tick


class EndReason(IntEnum):
    """Why a Guest stopped for good."""

    POWEROFF = 1
    RESTART = 2
    KILLED = 3
    CRASHED = 4


@dataclass(frozen=True, slots=True)
class Hypercall:
    """The Host carried out hypercall `number`; `queued` tells a ring entry from a direct `int $0x1f`."""

    tick: Tick
    guest: int
    number: int
    args: tuple[int, ...]
    queued: bool = False


@dataclass(frozen=True, slots=True)
class TrapReflected:
    """A trap of the Guest was handed back to the Guest's own handler."""

    tick: Tick
    guest: int
    vector: int
    error_code: int
    eip: int


@dataclass(frozen=True, slots=True)
class IrqRaised:
    """A virtual interrupt became pending."""

    tick: Tick
    guest: int
    irq: int


@dataclass(frozen=True, slots=True)
class IrqDelivered:
    """The Host diverted the Guest into its handler of this virtual interrupt."""

    tick: Tick
    guest: int
    irq: int


@dataclass(frozen=True, slots=True)
class DirectTraps:
    """Deliveries that went straight through a Guest gate since the last report: sorted (vector, count) pairs."""

    tick: Tick
    guest: int
    counts: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class ConsoleOutput:
    """Bytes that the Guest wrote to its console."""

    tick: Tick
    guest: int
    data: bytes


@dataclass(frozen=True, slots=True)
class PacketSent:
    """An Ethernet frame that the Guest sent through its network device `device`."""

    tick: Tick
    guest: int
    device: int
    data: bytes


@dataclass(frozen=True, slots=True)
class StateDigest:
    """A digest of the registers and Host values (8 bytes), and at intervals of all memory (16 bytes, else empty)."""

    tick: Tick
    guest: int
    registers: bytes
    memory: bytes = b""


@dataclass(frozen=True, slots=True)
class GuestEnded:
    """The Guest is gone, and why; `text` is its last word or lguest's reason."""

    tick: Tick
    guest: int
    reason: EndReason
    text: str


@dataclass(frozen=True, slots=True)
class GuestRestarted:
    """The Guest asked for a restart and was launched again from its images; `text` is its last word, if any."""

    tick: Tick
    guest: int
    text: str


Observation: TypeAlias = (
    Hypercall
    | TrapReflected
    | IrqRaised
    | IrqDelivered
    | DirectTraps
    | ConsoleOutput
    | PacketSent
    | StateDigest
    | GuestEnded
    | GuestRestarted
)

__all__ = [
    "ConsoleOutput",
    "DirectTraps",
    "EndReason",
    "GuestEnded",
    "GuestRestarted",
    "Hypercall",
    "IrqDelivered",
    "IrqRaised",
    "Observation",
    "PacketSent",
    "StateDigest",
    "TrapReflected",
]
