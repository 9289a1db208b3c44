"""What `lgreplay info` shows."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from datetime import UTC, datetime

from hostvm.kernel_image import linux_version
from hostvm.observations import GuestEnded
from replay.chunks import ChunkType
from replay.describe import END_OF_GUEST, KIND_DESCRIPTIONS
from replay.errors import TraceError, one_line
from replay.events import Kind
from replay.log import TraceReader
from replay.stored_states import STORED_TYPES
from replay.trace_header import GuestSetup, TraceEndReason

_LAST_YEAR_NS = 253_402_300_799 * 10**9
_ENDS = {
    TraceEndReason.FINISHED: "the machine had ended",
    TraceEndReason.INTERRUPTED: "the recording was interrupted",
    TraceEndReason.LIMIT: "the limit of ticks was reached",
    TraceEndReason.FAILED: "the recording failed",
    TraceEndReason.CUT: "the trace was cut",
}


def summary(reader: TraceReader) -> Iterator[str]:
    """Yield the lines, without newlines; nothing in them can steer a terminal."""
    yield one_line(str(reader.path))
    for name, text in _facts(reader):
        yield one_line(f"  {name:<9} {text}")
    for number, count in sorted(reader.count_kinds().items()):
        name, what = _kind(number)
        yield f"  {count:>13,} {name:<19}  {what}"


def _facts(reader: TraceReader) -> Iterator[tuple[str, str]]:
    header = reader.header
    yield "recorded", f"{_when(header.created_ns)} by lgreplay {header.lgreplay_version}"
    yield "with", shlex.join(header.command_line)
    yield "format", f"{reader.version.major}.{reader.version.minor}, trace {reader.trace_id.hex()}"
    yield "machine", f"{header.engine} {header.engine_version}, {header.cpu_model}"
    yield "clock", f"{header.clock}, seed {header.seed}"
    if header.parent:
        yield "branch", f"of trace {header.parent.hex()}, at tick {header.branch_tick:,}"
    for edit in header.edits:
        yield "edited", edit
    if header.quirks:
        yield "corrected", ", ".join(header.quirks)
    for number, guest in enumerate(header.guests):
        yield f"guest {number}", _guest(reader, guest)
    for image in header.images:
        yield "contains", f"{image.name}, {image.size:,} bytes, sha256 {image.sha256.hex()}"
    yield from _extent(reader)


def _when(ns: int) -> str:
    if not 0 < ns <= _LAST_YEAR_NS:
        return "at a time not known"
    return datetime.fromtimestamp(ns // 10**9, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _guest(reader: TraceReader, guest: GuestSetup) -> str:
    initrd = f", initrd {guest.initrd}" if guest.initrd else ""
    line = f", command line {guest.command_line!r}" if guest.command_line else ""
    kind = "VMI hooks on lguest" if guest.abi == "vmi" else f"lguest {guest.abi}"
    abi = f"{_linux(reader, guest.kernel)}, {kind}"
    return f"{guest.kernel}{abi}{initrd}, {guest.memory >> 20} MiB{line}"


def _linux(reader: TraceReader, kernel: str) -> str:
    try:
        version = linux_version(reader.image(kernel)) if kernel else ""
    except (TraceError, KeyError):
        return ""
    return f", Linux {version}" if version else ""


def _extent(reader: TraceReader) -> Iterator[tuple[str, str]]:
    if not reader.starts_at_power_on:
        yield "begins", f"at tick {reader.first_tick or 0:,}; what was before has been dropped"
    end = reader.end
    if end is None:
        known = f"known up to tick {reader.last_tick or 0:,}"
        yield "ends", f"unfinished, {known}, byte {reader.torn_at or 0:#x}"
    else:
        text = f": {end.text}" if end.text else ""
        yield "ends", f"at tick {end.tick:,}, because {_ENDS[end.reason]}{text}"
    for gone in _guest_ends(reader):
        text = f": {gone.text}" if gone.text else ""
        yield "", f"guest {gone.guest} {END_OF_GUEST[gone.reason]} at tick {gone.tick:,}{text}"
    if reader.opens_at is not None:
        yield "opens", f"at tick {reader.opens_at:,}"
    yield "events", f"{reader.event_count:,}"
    yield from _index(reader)


def _index(reader: TraceReader) -> Iterator[tuple[str, str]]:
    states = len(reader.chunks_of(ChunkType.STATE))
    if states and reader.complete:
        size = sum(entry.size for entry in reader.chunks if entry.type in STORED_TYPES)
        yield "index", f"{states:,} states, {size:,} bytes"


def _guest_ends(reader: TraceReader) -> Iterator[GuestEnded]:
    """Those that are found without reading everything: a trace without an index has none to tell."""
    for rank, entry in enumerate(reader.chunks):
        if Kind.GUEST_ENDED not in (reader.kinds_at(rank) or ()):
            continue
        try:
            yield from (e for e in reader.chunk_events(entry) if isinstance(e, GuestEnded))
        except TraceError:
            continue


def _kind(number: int) -> tuple[str, str]:
    if number not in set(Kind):
        return f"kind {number}", "not known to this version"
    kind = Kind(number)
    return kind.name.lower(), KIND_DESCRIPTIONS[kind]


__all__ = ["summary"]
