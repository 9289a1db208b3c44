"""The header of a machine, and the machine of a header: what a recording starts from, put into a trace and taken out.

A trace contains the files its Guests are made of, so that a replay needs nothing else. It also says on what it was
recorded - engine, processor model, mathematics - and a replay elsewhere is refused here, before it would diverge.

Read next: recording.py, session.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Protocol

from hostvm.cpuid import MODEL_NAME
from hostvm.devices.config import parse_device
from hostvm.engine import ENGINE_VERSION
from hostvm.launcher import GuestConfig
from hostvm.machine import MachineConfig
from hostvm.quirks import Quirk, corrected_names, quirks_without
from hostvm.x87_fingerprint import MATHS
from replay.errors import ReplayError, TraceFormatError, one_line
from replay.trace_header import (
    LINUX_SYSCALL_VECTOR,
    MAX_NAME,
    NEEDS_DIGESTS,
    NEEDS_RESTARTS,
    NEEDS_SYSCALL_VECTOR,
    USUAL_MEMORY_DIGEST_EVERY,
    GuestSetup,
    TraceHeader,
)
from replay.versions import ENGINE, lgreplay_version


class TraceMismatch(ReplayError):
    """The trace at `path` was recorded on something that this program does not have."""

    def __init__(self, path: str, what: str, recorded: str, here: str) -> None:
        super().__init__(path, what, recorded, here)
        self.path = path
        self.what = what
        self.recorded = recorded
        self.here = here

    def __str__(self) -> str:
        return one_line(
            f"{self.path}: recorded with {self.what} {self.recorded}; here it is {self.here}"
        )


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a recording comes from: which World, which seed, and, for people, the command and the time."""

    clock: str
    seed: int
    command_line: tuple[str, ...] = ()
    created_ns: int = 0
    parent: bytes = b""
    branch_tick: int = 0
    edits: tuple[str, ...] = ()


class _Images:
    """Collects files under names that differ where the files do."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}

    def add(self, name: str, data: bytes) -> str:
        if not data:
            return ""
        digest = sha256(data).hexdigest()
        for length in range(0, len(digest) + 1, 8):
            tail = f"-{digest[:length]}" if length else ""
            full = name.encode()[: MAX_NAME - len(tail)].decode(errors="ignore") + tail
            if self.files.setdefault(full, data) == data:
                return full
        raise AssertionError("two files with one SHA-256")


def header_of(config: MachineConfig, origin: Origin) -> tuple[TraceHeader, Mapping[str, bytes]]:
    """Make the header for a recording of this machine, and the files to put into the trace."""
    images = _Images()
    guests = tuple(
        GuestSetup(
            memory=guest.memory,
            abi=guest.abi,
            kernel=images.add(guest.name, guest.kernel),
            initrd=images.add(f"{guest.name}.initrd", guest.initrd),
            command_line=guest.command_line,
            devices=tuple(str(device) for device in guest.devices),
        )
        for guest in config.guests
    )
    header = TraceHeader(
        lgreplay_version=lgreplay_version(),
        engine=ENGINE,
        engine_version=ENGINE_VERSION,
        cpu_model=MODEL_NAME,
        maths=bytes.fromhex(MATHS),
        guests=guests,
        clock=origin.clock,
        seed=origin.seed,
        digest_interval=config.digest_interval,
        memory_digest_every=config.memory_digest_every,
        restarts=config.restarts,
        syscall_vector=config.syscall_vector,
        quirks=corrected_names(config.quirks),
        command_line=origin.command_line,
        created_ns=origin.created_ns,
        parent=origin.parent,
        branch_tick=origin.branch_tick,
        edits=origin.edits,
        needs=tuple(_needs(config)),
    )
    return header, images.files


def _needs(config: MachineConfig) -> Iterator[str]:
    """What a reader that has never heard of it must not pass over."""
    if config.memory_digest_every != USUAL_MEMORY_DIGEST_EVERY:
        yield NEEDS_DIGESTS
    if config.restarts:
        yield NEEDS_RESTARTS
    if config.syscall_vector != LINUX_SYSCALL_VECTOR:
        yield NEEDS_SYSCALL_VECTOR


class Recording(Protocol):
    """What there must be of a trace to build its machine."""

    @property
    def path(self) -> Path:
        """The file."""
        ...

    @property
    def header(self) -> TraceHeader:
        """Its header."""
        ...

    def image(self, name: str) -> bytes:
        """An embedded file. Raises TraceError."""
        ...


def machine_of(reader: Recording) -> MachineConfig:
    """Tell how to build the machine that a trace was recorded on.

    Raises: TraceMismatch when this program cannot be that machine; TraceError for damaged images.
    """
    header = reader.header
    _check(str(reader.path), header)
    if header.digest_interval <= 0 or header.memory_digest_every <= 0:
        raise TraceFormatError(reader.path, 0, "digests every 0 ticks")
    return MachineConfig(
        guests=tuple(_guest(reader, setup) for setup in header.guests),
        digest_interval=header.digest_interval,
        memory_digest_every=header.memory_digest_every,
        quirks=_quirks(str(reader.path), header),
        restarts=header.restarts,
        syscall_vector=header.syscall_vector,
    )


def _quirks(path: str, header: TraceHeader) -> Quirk:
    try:
        return quirks_without(header.quirks)
    except KeyError as unknown:
        (name,) = unknown.args
        raise TraceMismatch(path, "host quirk", f"{name} corrected", "not known") from unknown


def _check(path: str, header: TraceHeader) -> None:
    facts: Sequence[tuple[str, str, str]] = (
        ("CPU engine", f"{header.engine} {header.engine_version}", f"{ENGINE} {ENGINE_VERSION}"),
        ("processor model", header.cpu_model, MODEL_NAME),
        ("x87 mathematics", header.maths.hex(), MATHS),
    )
    for what, recorded, here in facts:
        if recorded != here:
            raise TraceMismatch(path, what, recorded, here)


def _guest(reader: Recording, setup: GuestSetup) -> GuestConfig:
    return GuestConfig(
        kernel=reader.image(setup.kernel) if setup.kernel else b"",
        command_line=setup.command_line,
        memory=setup.memory,
        initrd=reader.image(setup.initrd) if setup.initrd else b"",
        abi=setup.abi,
        name=setup.kernel,
        devices=tuple(parse_device(text) for text in setup.devices),
    )


__all__ = ["Origin", "Recording", "TraceMismatch", "header_of", "machine_of"]
