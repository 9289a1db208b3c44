"""Everything that a trace can say: inputs, which a replay puts in, and observations, which it must meet again.

Each event carries the tick of the machine step it belongs to and the number of the Guest concerned. Events are in the
order in which the machine asked or reported; several may share a tick, ticks never go back.

Kinds are the numbers under which events stand in a file. The number itself says what a reader may do that does not
know it: from `FIRST_OBSERVATION` on it is an observation and may be skipped (less is verified, the run is the
same); below, it is an input, and without it the run would be another one. A kind never changes its fields: what is
to be told differently gets a new number. docs/trace-format.md has the tables; read codec.py next.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TypeAlias

from hostvm.observations import (
    ConsoleOutput,
    DirectTraps,
    EndReason,
    GuestEnded,
    GuestRestarted,
    Hypercall,
    IrqDelivered,
    IrqRaised,
    Observation,
    PacketSent,
    StateDigest,
    TrapReflected,
)
from hostvm.units import Nanoseconds, Tick

MAX_GUESTS = 16


@dataclass(frozen=True, slots=True)
class HostInterrupt:
    """The CPU took a hardware interrupt (2: the NMI) while the Guest was in.

    `tick` is the delivery itself. `eip` and `check`, a short checksum of the registers, say where it hit; a check below
    128 costs one byte, one of up to 16 bits three.
    """

    tick: Tick
    guest: int
    vector: int
    eip: int
    check: int


@dataclass(frozen=True, slots=True)
class HostWoken:
    """The idle Host was woken by a hardware interrupt."""

    tick: Tick
    guest: int
    vector: int


@dataclass(frozen=True, slots=True)
class HostTurnInterrupt:
    """The Host took a hardware interrupt in the middle of its own turn."""

    tick: Tick
    guest: int
    vector: int


@dataclass(frozen=True, slots=True)
class ClockReading:
    """What the Host's wall clock said, in nanoseconds."""

    tick: Tick
    guest: int
    ns: Nanoseconds


@dataclass(frozen=True, slots=True)
class TscReading:
    """The 64-bit answer to RDTSC."""

    tick: Tick
    guest: int
    value: int


@dataclass(frozen=True, slots=True)
class RandomChoice:
    """The Host drew `value` out of range(bound)."""

    tick: Tick
    guest: int
    bound: int
    value: int


@dataclass(frozen=True, slots=True)
class DeviceCompletion:
    """A device of the Guest finished: virtual interrupt to raise, and the bytes that it delivered."""

    tick: Tick
    guest: int
    device: int
    irq: int
    data: bytes


@dataclass(frozen=True, slots=True)
class ConsoleInput:
    """Bytes typed at the Guest's console."""

    tick: Tick
    guest: int
    data: bytes


@dataclass(frozen=True, slots=True)
class DebuggerWrite:
    """A debugger wrote a register or memory; the fields are those of hostvm.edits.Edit."""

    tick: Tick
    guest: int
    target: int
    address: int
    data: bytes


Input: TypeAlias = (
    HostInterrupt
    | HostWoken
    | HostTurnInterrupt
    | ClockReading
    | TscReading
    | RandomChoice
    | DeviceCompletion
    | ConsoleInput
    | DebuggerWrite
)
Event: TypeAlias = Input | Observation


class Kind(IntEnum):
    """Numbers of the events in a file: 1..63 inputs, 64..127 observations."""

    HOST_INTERRUPT = 1
    HOST_WOKEN = 2
    CLOCK_READING = 3
    TSC_READING = 4
    RANDOM_CHOICE = 5
    DEVICE_COMPLETION = 6
    CONSOLE_INPUT = 7
    HOST_TURN_INTERRUPT = 8
    DEBUGGER_WRITE = 9

    HYPERCALL = 64
    TRAP_REFLECTED = 65
    IRQ_RAISED = 66
    IRQ_DELIVERED = 67
    DIRECT_TRAPS = 68
    CONSOLE_OUTPUT = 69
    STATE_DIGEST = 70
    GUEST_ENDED = 71
    GUEST_RESTARTED = 72
    PACKET_SENT = 73


FIRST_OBSERVATION = 64
LAST_KIND = 127


def is_observation(kind: int) -> bool:
    """Tell whether events of this kind, known or not, may be skipped by a reader."""
    return kind >= FIRST_OBSERVATION


__all__ = [
    "FIRST_OBSERVATION",
    "LAST_KIND",
    "MAX_GUESTS",
    "ClockReading",
    "ConsoleInput",
    "ConsoleOutput",
    "DebuggerWrite",
    "DeviceCompletion",
    "DirectTraps",
    "EndReason",
    "Event",
    "GuestEnded",
    "GuestRestarted",
    "HostInterrupt",
    "HostTurnInterrupt",
    "HostWoken",
    "Hypercall",
    "Input",
    "IrqDelivered",
    "IrqRaised",
    "Kind",
    "Observation",
    "PacketSent",
    "RandomChoice",
    "StateDigest",
    "TrapReflected",
    "TscReading",
    "is_observation",
]
