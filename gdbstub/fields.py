"""The small grammar that packets are made of: hexadecimal numbers, bytes as hexadecimal, thread ids.

Python's own conversions are more generous than the protocol (`int` takes signs, blanks and underscores), so what is
allowed is said here. Everything else is a PacketError.

Source: GDB manual, E.2 Packets ("thread-id" syntax).
"""

from __future__ import annotations

import re
from binascii import Error, unhexlify
from dataclasses import dataclass

from gdbstub.errors import PacketError

_NUMBER = re.compile(rb"[0-9a-fA-F]{1,16}")
ALL_THREADS = -1
ANY_THREAD = 0
# There is one process. Without the multiprocess extension its number is never said.
PROCESS = 1


def shown(data: bytes, limit: int = 40) -> str:
    """Bytes of the peer as they may stand in a message."""
    text = ascii(data[:limit])[1:]
    return text if len(data) <= limit else f"{text}..."


def number(text: bytes) -> int:
    """A hexadecimal number of up to 64 bits."""
    if not _NUMBER.fullmatch(text):
        raise PacketError(f"{shown(text)} is no hexadecimal number")
    return int(text, 16)


def numbers(text: bytes, count: int, separator: bytes = b",") -> list[int]:
    """Exactly `count` numbers."""
    parts = text.split(separator)
    if len(parts) != count:
        raise PacketError(f"{shown(text)}: {count} numbers expected")
    return [number(part) for part in parts]


def hex_bytes(text: bytes) -> bytes:
    """Bytes written as pairs of hexadecimal digits."""
    try:
        return unhexlify(text)
    except (Error, ValueError):
        raise PacketError(f"{shown(text)} is no hexadecimal data") from None


def split_once(text: bytes, separator: bytes, what: str) -> tuple[bytes, bytes]:
    """Both sides of a separator that must be there."""
    left, found, right = text.partition(separator)
    if not found:
        raise PacketError(f"{shown(text)}: no {what}")
    return left, right


@dataclass(frozen=True, slots=True)
class ThreadId:
    """A thread, or ALL_THREADS or ANY_THREAD; which process it is of is checked and forgotten."""

    thread: int


EVERY_THREAD = ThreadId(ALL_THREADS)


def _identifier(text: bytes) -> int:
    return ALL_THREADS if text == b"-1" else number(text)


def thread_id(text: bytes) -> ThreadId:
    """A thread id, in the form with a process or in the one without."""
    if not text.startswith(b"p"):
        return ThreadId(_identifier(text))
    process, dot, thread = text[1:].partition(b".")
    if _identifier(process) not in {PROCESS, ALL_THREADS, ANY_THREAD}:
        raise PacketError(f"there is no process {shown(process)}")
    return ThreadId(_identifier(thread) if dot else ALL_THREADS)


__all__ = [
    "ALL_THREADS",
    "ANY_THREAD",
    "EVERY_THREAD",
    "PROCESS",
    "ThreadId",
    "hex_bytes",
    "number",
    "numbers",
    "shown",
    "split_once",
    "thread_id",
]
