"""What of the user's is in a trace, how much of it, and whether a replay needs it.

Read next: redact.py, which takes out what no replay needs.
"""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from hostvm.observations import ConsoleOutput, GuestEnded, PacketSent
from replay.archive import names_in
from replay.chunks import ChunkType
from replay.events import (
    ClockReading,
    ConsoleInput,
    DebuggerWrite,
    DeviceCompletion,
    Event,
    GuestRestarted,
)
from replay.log import TraceReader
from replay.stored_states import STORED_TYPES
from replay.trace_header import GuestSetup, TraceHeader

_SHOWN_NAMES = 5
_INPUTS = {
    "console": ("console input", "the guest has read it"),
    "block": (
        "disk blocks",
        "the guest has read them; blocks that it did not read are not in a trace",
    ),
    "net": ("packets received", "the guest has read them"),
    "rng": ("random bytes", "the guest has read them"),
}


@dataclass(frozen=True, slots=True)
class Finding:
    """Something of the user's: what it is, how much, and why it has to stay; None: a replay does not need it."""

    what: str
    how_much: str
    stays: str | None = None


def findings(reader: TraceReader) -> Iterator[Finding]:
    """All of it. Raises TraceError where damage is met."""
    yield from _in_header(reader)
    yield from _files(reader)
    yield from _states(reader)
    yield from _events(reader)
    end = reader.end
    if end is not None and end.text:
        yield Finding("remark at the end", repr(end.text))


# ---- the header ------------------------------------------------------------------------------------


def _in_header(reader: TraceReader) -> Iterator[Finding]:
    header = reader.header
    if header.command_line:
        yield Finding("the recorder's command line", shlex.join(header.command_line))
    if header.created_ns:
        when = datetime.fromtimestamp(header.created_ns // 10**9 % (1 << 37), UTC)
        yield Finding("when it was recorded", f"{when:%Y-%m-%d %H:%M:%S} UTC")
    if header.parent:
        yield Finding("the trace that it branched off from", header.parent.hex())
    for edit in header.edits:
        yield Finding("what was edited, in words", edit)
    for number, guest in enumerate(header.guests):
        yield from _guest(number, guest)
    names = [image.name for image in header.images]
    if set(names) - set(neutral_names(header).values()):
        yield Finding("names of files", ", ".join(names))


def _guest(number: int, guest: GuestSetup) -> Iterator[Finding]:
    if guest.command_line:
        why = "the guest has it in its memory"
        yield Finding(f"guest {number}'s command line", repr(guest.command_line), why)


def neutral_names(header: TraceHeader) -> dict[str, str]:
    """For each image a name that says nothing: kernel, kernel-2, initrd ..."""
    kinds: dict[str, str] = {}
    for guest in header.guests:
        kinds.setdefault(guest.kernel, "kernel")
        kinds.setdefault(guest.initrd, "initrd")
    seen: Counter[str] = Counter()
    names: dict[str, str] = {}
    for image in header.images:
        kind = kinds.get(image.name, "file")
        seen[kind] += 1
        names[image.name] = kind if seen[kind] == 1 else f"{kind}-{seen[kind]}"
    return names


# ---- files and states ------------------------------------------------------------------------------


def _files(reader: TraceReader) -> Iterator[Finding]:
    header = reader.header
    initrds = {guest.initrd for guest in header.guests}
    for image in header.images:
        if image.name not in initrds:
            yield Finding("kernel", f"{image.name}, {image.size:,} bytes", "the replay runs it")
            continue
        names = names_in(reader.image(image.name))
        shown = ", ".join(names[:_SHOWN_NAMES]) + (", ..." if len(names) > _SHOWN_NAMES else "")
        listed = f", {len(names):,} files: {shown}" if names else ""
        why = "the guest has all of it in its memory, and the digests are of all memory"
        yield Finding("initial ramdisk", f"{image.name}, {image.size:,} bytes{listed}", why)


def _states(reader: TraceReader) -> Iterator[Finding]:
    stored = [entry for entry in reader.chunks if entry.type in STORED_TYPES]
    if stored:
        states = sum(entry.type == ChunkType.STATE for entry in stored)
        size = sum(entry.size for entry in stored)
        yield Finding("memory in the index", f"{states:,} states, {size:,} bytes in the file")
    checkpoints = list(reader.checkpoints())
    if not reader.starts_at_power_on:
        first = checkpoints.pop(0)
        size = len(reader.payload(first))
        why = "the trace begins with it, and the digests are of all memory"
        yield Finding("memory at the beginning", f"{size:,} bytes", why)
    if checkpoints:
        size = sum(entry.size for entry in checkpoints)
        yield Finding("memory in checkpoints", f"{len(checkpoints):,}, {size:,} bytes in the file")


# ---- events ----------------------------------------------------------------------------------------


class _Sums:
    """Counts and bytes by name."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.bytes: Counter[str] = Counter()

    def add(self, name: str, size: int) -> None:
        self.counts[name] += 1
        self.bytes[name] += size

    def text(self, name: str) -> str:
        return f"{self.bytes[name]:,} bytes in {self.counts[name]:,} pieces"


def device_of(header: TraceHeader, event: DeviceCompletion) -> str:
    """Which kind of device answered; the console comes after the others."""
    devices = header.guests[event.guest].devices if event.guest < len(header.guests) else ()
    return devices[event.device].partition(":")[0] if event.device < len(devices) else "console"


def _events(reader: TraceReader) -> Iterator[Finding]:
    sums = _Sums()
    clocks = 0
    for event in reader.events():
        clocks += isinstance(event, ClockReading)
        for name, size in _sizes(reader.header, event):
            sums.add(name, size)
    for kind, (what, why) in _INPUTS.items():
        if sums.bytes[kind]:
            yield Finding(what, sums.text(kind), why)
    again = "a replay makes it again"
    for what in ("console output", "packets sent", "last words"):
        if sums.counts[what]:
            yield Finding(what, sums.text(what), again)
    if sums.counts["debugger"]:
        yield Finding("written by a debugger", sums.text("debugger"), "it changed the run")
    if clocks and reader.header.clock == "host":
        why = "the guest has read them; they tell the date of the recording"
        yield Finding("readings of the clock", f"{clocks:,}", why)


def _sizes(header: TraceHeader, event: Event) -> Iterator[tuple[str, int]]:
    match event:
        case DeviceCompletion(data=data) if data:
            yield device_of(header, event), len(data)
        case ConsoleInput(data=data):
            yield "console", len(data)
        case ConsoleOutput(data=data):
            yield "console output", len(data)
        case PacketSent(data=data):
            yield "packets sent", len(data)
        case GuestEnded(text=text) | GuestRestarted(text=text) if text:
            yield "last words", len(text)
        case DebuggerWrite(data=data):
            yield "debugger", len(data)


__all__ = ["Finding", "device_of", "findings", "neutral_names"]
