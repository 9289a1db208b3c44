"""Names of the files in an initial ramdisk: a cpio archive in the kernel's format, compressed or not.

It is the user's file and may be anything. What is no such archive simply has no names. Source: the kernel's
Documentation/early-userspace/buffer-format.txt ("newc").
"""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Iterator

_MAGICS = (b"070701", b"070702")
_HEADER = 110
_NAME_SIZE, _FILE_SIZE = slice(94, 102), slice(54, 62)
_LAST = b"TRAILER!!!"
_LARGEST = 256 << 20
_MOST = 100_000


def names_in(data: bytes) -> list[str]:
    """The names of the regular files and whatever else is in an archive; as far as it can be read."""
    return list(_names(_unpacked(data)))


def _unpacked(data: bytes) -> bytes:
    """The archive without its compression, up to a limit; nothing where that is not known."""
    try:
        if data.startswith(b"\x1f\x8b"):
            return zlib.decompressobj(wbits=31).decompress(data, _LARGEST)
        if data.startswith(b"BZh"):
            return bz2.BZ2Decompressor().decompress(data, _LARGEST)
        if data.startswith((b"\xfd7zXZ", b"\x5d\x00\x00")):
            return lzma.LZMADecompressor().decompress(data, _LARGEST)
    except (zlib.error, lzma.LZMAError, OSError, EOFError):
        return b""
    return data


def _names(data: bytes) -> Iterator[str]:
    at = 0
    for _ in range(_MOST):
        head = data[at : at + _HEADER]
        if len(head) < _HEADER or not head.startswith(_MAGICS):
            return
        try:
            name_size, file_size = int(head[_NAME_SIZE], 16), int(head[_FILE_SIZE], 16)
        except ValueError:
            return
        begin = at + _HEADER
        name = data[begin : begin + name_size].rstrip(b"\0")
        if name == _LAST:
            return
        yield name.decode("utf-8", "backslashreplace")
        at = _whole_words(_whole_words(begin + name_size) + file_size)


def _whole_words(offset: int) -> int:
    return -(-offset // 4) * 4


__all__ = ["names_in"]
