"""What is said to the debugger: pure functions from values to payloads.

Payloads are bytes as they go into a packet, escaped where they are binary. What may be said only to a peer that has
offered to understand it - reasons of breakpoints, errors in words - depends on `Manners`, which come from its
qSupported.

Source: GDB manual, E.3 Stop Reply Packets, E.7 Host I/O Packets, E.1 (errors).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass

from gdbstub.errors import Errno, StubError
from gdbstub.packet import PACKET_SIZE, escape
from gdbstub.target import Reason, ReasonKind, RegisterSet, Stop

OK = b"OK"
EMPTY = b""
# Signals as GDB numbers them.
SIGNAL_0 = 0
SIGINT = 2
SIGTRAP = 5

_FILE_MODE = 0o100444
_BLOCK = 512
_STAT = struct.Struct(">7I3Q3I")


@dataclass(frozen=True, slots=True)
class Manners:
    """What the peer has said that it understands."""

    swbreak: bool = False
    hwbreak: bool = False
    error_message: bool = False

    @classmethod
    def of(cls, features: Iterable[str]) -> Manners:
        """Taken from the features of qSupported."""
        offered = set(features)
        return cls("swbreak+" in offered, "hwbreak+" in offered, "error-message+" in offered)


def error(fault: StubError, manners: Manners) -> bytes:
    """An error: in words to whoever understands them, as a number to others."""
    if manners.error_message:
        # A text must be printable ASCII; framing characters are escaped like anywhere.
        text = fault.text.encode("ascii", "backslashreplace")
        return b"E." + escape(bytes(c for c in text if c >= 0x20))
    return b"E%02x" % fault.number


def hexadecimal(data: bytes) -> bytes:
    """Bytes as pairs of digits."""
    return data.hex().encode()


def registers(values: RegisterSet, widths: Iterable[int]) -> bytes:
    """Register values in order, `x` for what is not known."""
    return b"".join(
        b"xx" * width if value is None else hexadecimal(value)
        for value, width in zip(values, widths, strict=True)
    )


def register(value: bytes | None, width: int) -> bytes:
    """One register."""
    return b"xx" * width if value is None else hexadecimal(value)


def thread(number: int) -> bytes:
    """A thread id, in the form without a process."""
    return b"%x" % number


# ---- stops ----------------------------------------------------------------------------------------

# GDB says of these that the thread stopped, instead of naming a signal that nobody sent.
_WITHOUT_A_SIGNAL = frozenset({ReasonKind.CAUGHT, ReasonKind.ARRIVED})
_WATCH_NAMES = {
    ReasonKind.WRITTEN: b"watch",
    ReasonKind.READ: b"rwatch",
    ReasonKind.ACCESSED: b"awatch",
}


def _reason(reason: Reason, manners: Manners) -> bytes:
    match reason.kind:
        case ReasonKind.SOFTWARE_BREAKPOINT if manners.swbreak:
            return b"swbreak:;"
        case ReasonKind.HARDWARE_BREAKPOINT if manners.hwbreak:
            return b"hwbreak:;"
        case ReasonKind.WRITTEN | ReasonKind.READ | ReasonKind.ACCESSED:
            return b"%b:%x;" % (_WATCH_NAMES[reason.kind], reason.address)
        case ReasonKind.HISTORY_START:
            return b"replaylog:begin;"
        case ReasonKind.HISTORY_END:
            return b"replaylog:end;"
    return b""


def _first_reason(stop: Stop, manners: Manners) -> bytes:
    """The protocol has room for one reason; the order of ReasonKind says which matters most."""
    for reason in sorted(stop.reasons, key=lambda reason: reason.kind):
        said = _reason(reason, manners)
        if said:
            return said
    return b""


def stopped(stop: Stop, expedited: Iterable[tuple[int, bytes | None]], manners: Manners) -> bytes:
    """Where and why the target stopped, with the registers that are always asked for next."""
    kinds = {reason.kind for reason in stop.reasons}
    signal = SIGTRAP
    if ReasonKind.INTERRUPTED in kinds:
        signal = SIGINT
    elif kinds and kinds <= _WITHOUT_A_SIGNAL:
        signal = SIGNAL_0
    fields = [
        b"%x:%b;" % (index, hexadecimal(value)) for index, value in expedited if value is not None
    ]
    head = b"T%02x%bthread:%b;" % (signal, b"".join(fields), thread(stop.thread))
    return head + _first_reason(stop, manners)


# ---- long answers ---------------------------------------------------------------------------------


def page(document: bytes, offset: int, length: int) -> bytes:
    """One page of a document: `m` if more follows, `l` for the last.

    The length of a packet is limited after escaping, so a page may be shorter than was asked for.
    """
    if offset > len(document):
        return error(StubError("an offset behind the end"), Manners())
    room = min(length, PACKET_SIZE // 2 - 1)
    part = document[offset : offset + room]
    more = offset + len(part) < len(document)
    return (b"m" if more else b"l") + escape(part)


def console(text: str) -> Iterable[bytes]:
    """Packets that make GDB show a text."""
    data = text.encode("utf-8", "backslashreplace")
    step = PACKET_SIZE // 4
    return (b"O" + hexadecimal(data[at : at + step]) for at in range(0, len(data) or 1, step))


# ---- files ----------------------------------------------------------------------------------------


def file_result(value: int, attachment: bytes | None = None) -> bytes:
    """The answer to a file operation that went well."""
    head = b"F%x" % value
    return head if attachment is None else head + b";" + escape(attachment)


def file_error(number: Errno) -> bytes:
    """The answer to one that did not."""
    return b"F-1,%x" % number


def file_status(size: int) -> bytes:
    """`struct stat` as the protocol has it, of a file that everyone may read and nobody write."""
    blocks = -(-size // _BLOCK)
    return _STAT.pack(0, 0, _FILE_MODE, 1, 0, 0, 0, size, _BLOCK, blocks, 0, 0, 0)


__all__ = [
    "EMPTY",
    "OK",
    "Manners",
    "console",
    "error",
    "file_error",
    "file_result",
    "file_status",
    "hexadecimal",
    "page",
    "register",
    "registers",
    "stopped",
    "thread",
]
