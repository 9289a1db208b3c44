"""The World: the only door through which anything enters the machine that it cannot compute by itself.

The machine asks, the World answers, and reports go out by the same door. A recorder is a World that writes down what
another World answered; a replayer is a World that answers from a trace. Nothing in hostvm reads a clock, draws a
random number or opens a file while the machine runs. For that to be enough, two rules hold:

(i) *Asked at the same points.* Every question is asked at a point that the machine's own state determines: at a tick,
in a fixed order within that tick. So the order of the answers is all that a trace needs.

(ii) *The line is the World's.* Whether a hardware interrupt line is up is not machine state. The machine looks at
`interrupt_line` when it reaches the `horizon`, takes the interrupt when the CPU can accept one, and only then says
`interrupt_taken`. A trace holds the tick of acceptance alone.

Read next: machine.py, which asks; replay/recording.py and replay/session.py, which answer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

from hostvm.edits import Edit
from hostvm.observations import Observation
from hostvm.units import Nanoseconds, Tick

NMI_VECTOR = 2
TIMER_VECTOR = 0x20
DEVICE_VECTOR = 0x21


@dataclass(frozen=True, slots=True)
class Completion:
    """A device finished: Guest number, device number, virtual IRQ to raise, and what the device delivered."""

    guest: int
    device: int
    irq: int
    data: bytes


class Action(IntEnum):
    """What a device waits for. INPUT is never asked of a World: typing comes by itself."""

    INPUT = 0
    READ = 1
    WRITE = 2
    FLUSH = 3
    ENTROPY = 4


@dataclass(frozen=True, slots=True)
class Request:
    """A device waits: READ is for the image's `count` bytes at `position`, ENTROPY for `count` random bytes.

    WRITE and FLUSH are for the time that they take; what was written is the device's own affair.
    """

    guest: int
    device: int
    irq: int
    action: Action
    position: int
    count: int


class World(Protocol):
    """What surrounds the machine. Ticks given are those of the machine step that asks."""

    def horizon(self, tick: Tick) -> Tick:
        """The first tick, at or after `tick`, at which the machine must look at the interrupt line or make an edit.

        The machine never runs past it without looking. Equal to `tick`: look now.
        """
        ...

    def interrupt_line(self, tick: Tick) -> int | None:
        """Vector of the hardware interrupt that is up at `tick`, or None. Asking changes nothing."""
        ...

    def interrupt_taken(self, tick: Tick, guest: int, vector: int, eip: int, check: int) -> None:
        """The CPU accepted `vector` at `tick` while Guest `guest` was in; the line goes down.

        `eip` and `check` (register checksum, 8 bits) pin the position.
        """
        ...

    def host_interrupt(self, tick: Tick, guest: int) -> int | None:
        """An interrupt that the Host itself takes during its turn, or None; taking it puts the line down."""
        ...

    def wait(self, tick: Tick, guest: int) -> int | None:
        """The Host is idle: wait for the next hardware interrupt and take it.

        None: nothing can ever come; the machine has stopped for good.
        """
        ...

    def clock(self, tick: Tick, guest: int) -> Nanoseconds:
        """Wall-clock time; never goes back."""
        ...

    def tsc(self, tick: Tick, guest: int) -> int:
        """Answer to RDTSC, 64 bits."""
        ...

    def choose(self, tick: Tick, guest: int, bound: int) -> int:
        """A random choice in range(bound)."""
        ...

    def program_timer(self, tick: Tick, deadline: Nanoseconds | None) -> None:
        """The Host sets its hardware timer: raise TIMER_VECTOR once the clock reaches `deadline`; None stops it."""
        ...

    def submit(self, tick: Tick, request: Request) -> None:
        """A device waits for a completion with the same Guest, device and interrupt.

        There is one request at a time for these three: the same again changes nothing, another one replaces it.
        """
        ...

    def completions(self, tick: Tick) -> tuple[Completion, ...]:
        """What devices have to deliver, asked after DEVICE_VECTOR was taken."""
        ...

    def edit(self, tick: Tick, refusal: Callable[[Edit], str | None]) -> Edit | None:
        """The next edit that a debugger makes at `tick`, before the step; None when there is none left.

        Asked at the horizon. One for which `refusal` has an answer must not be given.
        """
        ...

    def observe(self, observation: Observation) -> None:
        """Take note of what the machine did."""
        ...


__all__ = [
    "DEVICE_VECTOR",
    "NMI_VECTOR",
    "TIMER_VECTOR",
    "Action",
    "Completion",
    "Request",
    "World",
]
