"""The table of events: which fields each kind has in a file, and how each is packed.

This table is the codec; what it says, docs/trace-format.md says too, and a test compares the two. A row of it never
changes once traces have been written: what is to be told differently becomes another kind.

Fields at the end of a row that equal their default are left out in the file, so the order is from the indispensable to
the usually absent. The Guest's number comes last in every kind: a single Guest costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from replay import events as ev
from replay import packings as p
from replay.events import Event, Kind

REQUIRED = object()


@dataclass(frozen=True, slots=True)
class Field:
    """One field: its name in the event class, how it is packed, and the value that may be left out at the end."""

    name: str
    packing: p.Packing
    default: object = REQUIRED


@dataclass(frozen=True, slots=True)
class Layout:
    """One kind of event. `fields` are in the class's order but for the Guest, which comes last.

    `agrees` tells whether fields that are each in range also make sense together.
    """

    kind: Kind
    event: type[Event]
    fields: tuple[Field, ...]
    agrees: Callable[[Any], bool] | None = None

    @property
    def required(self) -> int:
        """Number of fields that are never left out."""
        return sum(field.default is REQUIRED for field in self.fields)

    @property
    def is_difference(self) -> bool:
        """Whether the first field is packed as the difference to that of the last event of this kind."""
        return self.fields[0].packing in (p.DIFFERENCE_63, p.DIFFERENCE_64)

    @property
    def limits(self) -> tuple[int, ...] | None:
        """Largest values of the fields, when all are numbers from 0 on that need no conversion."""
        limits = tuple(f.packing.limit for f in self.fields if f.packing.limit is not None)
        return limits if len(limits) == len(self.fields) else None


_GUEST = Field("guest", p.U4, 0)


def _layout(
    kind: Kind,
    event: type[Event],
    *fields: Field,
    agrees: Callable[[Any], bool] | None = None,
) -> Layout:
    return Layout(kind, event, (*fields, _GUEST), agrees)


LAYOUTS: Mapping[int, Layout] = MappingProxyType(
    {
        layout.kind: layout
        for layout in (
            _layout(
                Kind.HOST_INTERRUPT,
                ev.HostInterrupt,
                Field("vector", p.U8),
                Field("eip", p.U32),
                Field("check", p.U16),
            ),
            _layout(Kind.HOST_WOKEN, ev.HostWoken, Field("vector", p.U8)),
            _layout(Kind.CLOCK_READING, ev.ClockReading, Field("ns", p.DIFFERENCE_63)),
            _layout(Kind.TSC_READING, ev.TscReading, Field("value", p.DIFFERENCE_64)),
            _layout(
                Kind.RANDOM_CHOICE,
                ev.RandomChoice,
                Field("bound", p.U32),
                Field("value", p.U32),
                agrees=lambda choice: choice.value < choice.bound,
            ),
            _layout(
                Kind.DEVICE_COMPLETION,
                ev.DeviceCompletion,
                Field("device", p.U16),
                Field("irq", p.U8),
                Field("data", p.DATA, b""),
            ),
            _layout(Kind.CONSOLE_INPUT, ev.ConsoleInput, Field("data", p.DATA)),
            _layout(Kind.HOST_TURN_INTERRUPT, ev.HostTurnInterrupt, Field("vector", p.U8)),
            _layout(
                Kind.DEBUGGER_WRITE,
                ev.DebuggerWrite,
                Field("target", p.U8),
                Field("address", p.U32),
                Field("data", p.DATA),
            ),
            _layout(
                Kind.HYPERCALL,
                ev.Hypercall,
                Field("number", p.U32),
                Field("args", p.ARGS, ()),
                Field("queued", p.FLAG, False),
            ),
            _layout(
                Kind.TRAP_REFLECTED,
                ev.TrapReflected,
                Field("vector", p.U8),
                Field("error_code", p.U32),
                Field("eip", p.U32),
            ),
            _layout(Kind.IRQ_RAISED, ev.IrqRaised, Field("irq", p.U8)),
            _layout(Kind.IRQ_DELIVERED, ev.IrqDelivered, Field("irq", p.U8)),
            _layout(Kind.DIRECT_TRAPS, ev.DirectTraps, Field("counts", p.COUNTS)),
            _layout(Kind.CONSOLE_OUTPUT, ev.ConsoleOutput, Field("data", p.DATA)),
            _layout(
                Kind.STATE_DIGEST,
                ev.StateDigest,
                Field("registers", p.DIGEST),
                Field("memory", p.DIGEST, b""),
            ),
            _layout(
                Kind.GUEST_ENDED,
                ev.GuestEnded,
                Field("reason", p.REASON),
                Field("text", p.TEXT, ""),
            ),
            _layout(Kind.GUEST_RESTARTED, ev.GuestRestarted, Field("text", p.TEXT, "")),
            _layout(
                Kind.PACKET_SENT,
                ev.PacketSent,
                Field("device", p.U16),
                Field("data", p.DATA),
            ),
        )
    }
)

__all__ = ["LAYOUTS", "REQUIRED", "Field", "Layout"]
