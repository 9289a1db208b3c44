"""Looking through memory for the debugger: qSearch:memory and qCRC, in pieces that fit.

Source: GDB manual, E.4 (qSearch:memory, qCRC).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeAlias

Read: TypeAlias = Callable[[int, int], bytes]

_PIECE = 1 << 16
_POLYNOMIAL = 0x04C11DB7
_TOP = 1 << 31
_WORD = 0xFFFFFFFF


def _pieces(read: Read, address: int, length: int) -> Iterator[bytes]:
    """Memory from `address` up to what is unreadable, or to the end."""
    while length > 0:
        want = min(length, _PIECE)
        data = read(address, want)
        if data:
            yield data
        if len(data) < want:
            return
        address, length = address + want, length - want


def find(read: Read, address: int, length: int, pattern: bytes) -> int | None:
    """Address of the first `pattern` that begins and ends within the range and before the first unreadable byte."""
    window, start = b"", address
    for piece in _pieces(read, address, length):
        window += piece
        at = window.find(pattern)
        if at >= 0:
            return start + at
        kept = min(len(window), len(pattern) - 1)
        start += len(window) - kept
        window = window[len(window) - kept :]
    return None


def _table_entry(index: int) -> int:
    value = index << 24
    for _ in range(8):
        value = (value << 1 ^ (_POLYNOMIAL if value & _TOP else 0)) & _WORD
    return value


_TABLE = tuple(_table_entry(index) for index in range(256))


def crc(read: Read, address: int, length: int) -> int | None:
    """The protocol's CRC-32 over a range: most significant bit first, start and end unchanged; None if unreadable."""
    value, done = _WORD, 0
    for piece in _pieces(read, address, length):
        done += len(piece)
        for byte in piece:
            value = (value << 8 & _WORD) ^ _TABLE[value >> 24 ^ byte]
    return value if done == length else None


__all__ = ["crc", "find"]
