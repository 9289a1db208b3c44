"""A trace for other programs: JSON lines, and a timeline that Perfetto shows in any browser (ui.perfetto.dev).

The timeline is in the Trace Event Format, which Perfetto and Chrome both read: JSON, one process for each Guest, one
thread for each kind of thing. It knows microseconds and no ticks; a tick is shown as one microsecond. What lasts has
a beginning and an end: a virtual interrupt from raised to delivered, an address space from one NEW_PGTABLE to the next.
All else is an instant.

All of it comes from the log; nothing is replayed. Source: the Trace Event Format of the Chromium project. Read next:
describe.py.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any, TypeAlias

from hostvm.abi import Call
from hostvm.units import Tick
from replay import events as ev
from replay.describe import (
    Json,
    event_to_json,
    event_to_text,
    hypercall_of,
    kind_name,
)
from replay.events import Event
from replay.log import TraceReader

Entry: TypeAlias = dict[str, Any]
_TRACKS = (
    "address space",
    "virtual interrupts",
    "hypercalls",
    "traps",
    "hardware interrupts",
    "devices",
    "console",
    "other",
)
_TRACK_OF: dict[type[Event], str] = {
    ev.Hypercall: "hypercalls",
    ev.TrapReflected: "traps",
    ev.HostInterrupt: "hardware interrupts",
    ev.HostWoken: "hardware interrupts",
    ev.HostTurnInterrupt: "hardware interrupts",
    ev.DeviceCompletion: "devices",
    ev.PacketSent: "devices",
    ev.ConsoleInput: "console",
    ev.ConsoleOutput: "console",
    ev.IrqRaised: "virtual interrupts",
    ev.IrqDelivered: "virtual interrupts",
}


def json_lines(reader: TraceReader) -> Iterator[str]:
    """What the trace is, and then each event, as an object on a line of its own. Raises TraceError."""
    header = reader.header
    generations = [guest.abi for guest in header.guests]
    yield _line(
        {
            "trace": reader.trace_id.hex(),
            "format": f"{reader.version.major}.{reader.version.minor}",
            "lgreplay": header.lgreplay_version,
            "command_line": list(header.command_line),
            "clock": header.clock,
            "seed": header.seed,
            "parent": header.parent.hex(),
            "branch_tick": header.branch_tick,
            "guests": [
                {"kernel": g.kernel, "abi": g.abi, "memory": g.memory} for g in header.guests
            ],
            "end": None if reader.end is None else reader.end.tick,
        }
    )
    for event in reader.events():
        yield _line(event_to_json(event, generations))


def _line(found: dict[str, Json] | dict[str, Any]) -> str:
    return json.dumps(found, separators=(",", ":"))


# ---- the timeline ----------------------------------------------------------------------------------


def perfetto(reader: TraceReader) -> Iterator[str]:
    """The pieces of one JSON text. Raises TraceError."""
    yield '{"displayTimeUnit":"ns","otherData":' + json.dumps({"trace": reader.trace_id.hex()})
    yield ',"traceEvents":[\n'
    separator = ""
    for entry in _entries(reader):
        yield separator + _line(entry)
        separator = ",\n"
    yield "\n]}\n"


def _entries(reader: TraceReader) -> Iterator[Entry]:
    guests = reader.header.guests
    for number, guest in enumerate(guests):
        name = f"guest {number}: {guest.kernel}"
        yield {"ph": "M", "name": "process_name", "pid": number + 1, "args": {"name": name}}
        for at, track in enumerate(_TRACKS):
            yield _meta(number, at, "thread_name", {"name": track})
            yield _meta(number, at, "thread_sort_index", {"sort_index": at})
    lasting = _Lasting([guest.abi for guest in guests])
    last = Tick(0)
    for event in reader.events():
        last = event.tick
        yield from lasting.take(event)
        if not isinstance(event, ev.IrqRaised | ev.IrqDelivered):
            yield _instant(event, lasting.generations)
    yield from lasting.finish(last if reader.end is None else reader.end.tick)


def _meta(guest: int, track: int, name: str, args: Entry) -> Entry:
    return {"ph": "M", "name": name, "pid": guest + 1, "tid": track + 1, "args": args}


def _entry(event: Event, phase: str, track: str, name: str, **more: Any) -> Entry:
    tid = _TRACKS.index(track) + 1
    return {
        "ph": phase,
        "name": name,
        "pid": event.guest + 1,
        "tid": tid,
        "ts": event.tick,
        "cat": track,
        **more,
    }


def _instant(event: Event, generations: list[str]) -> Entry:
    details = event_to_json(event, generations)
    for known in ("tick", "guest", "event"):
        del details[known]
    track = _TRACK_OF.get(type(event), "other")
    return _entry(event, "i", track, _name(event, generations), s="t", args=details)


def _name(event: Event, generations: list[str]) -> str:
    match event:
        case ev.Hypercall(number=number):
            call = hypercall_of(number, _generation(event, generations))
            return call.name if call else f"hypercall {number}"
        case ev.TrapReflected() | ev.ConsoleOutput() | ev.GuestEnded():
            return event_to_text(event, generations).split(maxsplit=4)[-1]
        case _:
            return kind_name(event)


def _generation(event: Event, generations: list[str]) -> str:
    return generations[event.guest] if event.guest < len(generations) else ""


class _Lasting:
    """What has begun and not ended."""

    def __init__(self, generations: list[str]) -> None:
        self.generations = generations
        self._raised: dict[tuple[int, int], Event] = {}
        self._spaces: dict[int, tuple[Event, int]] = {}

    def take(self, event: Event) -> Iterator[Entry]:
        """What ends with an event."""
        match event:
            case ev.IrqRaised(guest=guest, irq=irq):
                self._raised.setdefault((guest, irq), event)
            case ev.IrqDelivered(guest=guest, irq=irq):
                raised = self._raised.pop((guest, irq), event)
                yield self._irq(raised, irq, event.tick)
            case ev.Hypercall(number=number, guest=guest, args=args):
                if hypercall_of(number, _generation(event, self.generations)) is Call.NEW_PGTABLE:
                    yield from self._left(guest, event.tick)
                    self._spaces[guest] = event, args[0]
            case ev.GuestEnded(guest=guest):
                yield from self._left(guest, event.tick)

    def finish(self, tick: Tick) -> Iterator[Entry]:
        """What is still going on at the end."""
        for guest in tuple(self._spaces):
            yield from self._left(guest, tick)
        for (_, irq), raised in self._raised.items():
            yield self._irq(raised, irq, tick, " (never delivered)")

    def _irq(self, raised: Event, irq: int, end: Tick, note: str = "") -> Entry:
        name = f"irq {irq} pending{note}"
        return _entry(raised, "X", "virtual interrupts", name, dur=end - raised.tick)

    def _left(self, guest: int, tick: Tick) -> Iterable[Entry]:
        if guest not in self._spaces:
            return ()
        since, directory = self._spaces.pop(guest)
        name = f"directory {directory:#010x}"
        return (_entry(since, "X", "address space", name, dur=tick - since.tick),)


__all__ = ["json_lines", "perfetto"]
