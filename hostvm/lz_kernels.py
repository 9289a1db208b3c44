"""Two ways of compressing a kernel that Python does not come with: LZO and LZ4.

Both are of the same family: bytes as they are, and copies of what came out before, given by how far back and how long.
A copy may overlap with what it makes, which is how a run is written. They differ in how densely these numbers lie. A
kernel's build calls `lzop`, whose file has a header and blocks with checksums, or `lz4 -l`, whose file is a magic
number and blocks with their sizes.

The files are the user's, so nothing in them is believed: what is no such file, is cut short, reaches back before its
beginning, or grows past the limit is a ValueError. Checksums are not looked at.

Source: Linux, Documentation/lzo.txt; lzop's file format; LZ4 block and legacy frame formats.
Read next: kernel_image.py.
"""

from __future__ import annotations

import struct

LZO_MAGIC = b"\x89LZO\0\r\n\x1a\n"
LZ4_MAGIC = b"\x02\x21\x4c\x18"

# lzop's header.
_LZOP_WITH_LEVEL = 0x0940
_ADLER_PLAIN, _ADLER_PACKED, _CRC_PLAIN, _CRC_PACKED, _FILTER = 0x1, 0x2, 0x100, 0x200, 0x800

# LZO: what an instruction means depends on how many bytes were copied as they are before it.
_AFTER_A_RUN = 4
_FIRST_IS_A_RUN = 17
_NEAR = 0x800
_FAR = 0x4000

_LONG_RUN = 15
_SHORTEST_COPY = 4


class _Copier:
    """What goes in, read byte by byte, and what comes out."""

    def __init__(self, packed: bytes, out: bytearray, limit: int) -> None:
        self.packed = packed
        self.at = 0
        self.out = out
        self._first = len(out)
        self._limit = limit

    def byte(self) -> int:
        if self.at >= len(self.packed):
            raise ValueError("cut short")
        self.at += 1
        return self.packed[self.at - 1]

    def half(self) -> int:
        return self.byte() | self.byte() << 8

    def plain(self, count: int) -> None:
        """As it is."""
        end = self.at + count
        if end > len(self.packed):
            raise ValueError("cut short")
        self._make_room(count)
        self.out += self.packed[self.at : end]
        self.at = end

    def copy(self, distance: int, count: int) -> None:
        """Once more what stands `distance` bytes back."""
        out = self.out
        start = len(out) - distance
        if start < self._first or not distance:
            raise ValueError("reaches back before its beginning")
        self._make_room(count)
        piece = out[start : start + count]
        if distance < count:
            piece = (piece * (count // distance + 1))[:count]
        out += piece

    def _make_room(self, count: int) -> None:
        if len(self.out) + count > self._limit:
            raise ValueError("too large")


# ---- LZO ----------------------------------------------------------------------------------------


def _lzo_length(each: _Copier, bits: int, mask: int) -> int:
    """A length in the low bits of an instruction; 0 there means that it goes on in bytes of its own."""
    length = bits & mask
    if length:
        return length
    length = mask
    while not (more := each.byte()):
        length += 0xFF
    return length + more


def _lzo_block(each: _Copier) -> None:
    after = 0
    if each.packed[:1] > bytes((_FIRST_IS_A_RUN,)):
        count = each.byte() - _FIRST_IS_A_RUN
        each.plain(count)
        after = min(count, _AFTER_A_RUN)
    while True:
        code = each.byte()
        if code < 16 and not after:
            each.plain(_lzo_length(each, code, 15) + 3)
            after = _AFTER_A_RUN
            continue
        if code >= 32:
            tail = _lzo_near(each, code)
        elif code >= 16:
            tail, ended = _lzo_far(each, code)
            if ended:
                return
        else:
            distance = (each.byte() << 2) + (code >> 2) + 1
            run = after == _AFTER_A_RUN
            each.copy(distance + _NEAR * run, 2 + run)
            tail = code
        after = tail & 3
        each.plain(after)


def _lzo_near(each: _Copier, code: int) -> int:
    if code >= 64:
        distance = (each.byte() << 3) + (code >> 2 & 7) + 1
        each.copy(distance, (code >> 5) + 1)
        return code
    length = _lzo_length(each, code, 31) + 2
    tail = each.half()
    each.copy((tail >> 2) + 1, length)
    return tail


def _lzo_far(each: _Copier, code: int) -> tuple[int, bool]:
    length = _lzo_length(each, code, 7) + 2
    tail = each.half()
    distance = ((code & 8) << 11) + (tail >> 2)
    if not distance:
        return tail, True
    each.copy(distance + _FAR, length)
    return tail, False


class _Fields:
    """The numbers of lzop's file, high byte first."""

    def __init__(self, data: bytes, at: int) -> None:
        self.data = data
        self.at = at

    def take(self, code: str) -> int:
        layout = struct.Struct(">" + code)
        if self.at + layout.size > len(self.data):
            raise ValueError("cut short")
        (value,) = layout.unpack_from(self.data, self.at)
        self.at += layout.size
        return int(value)

    def bytes(self, count: int) -> bytes:
        if self.at + count > len(self.data):
            raise ValueError("cut short")
        self.at += count
        return self.data[self.at - count : self.at]


def unpack_lzo(data: bytes, limit: int) -> bytes:
    """A file of `lzop`, at most `limit` bytes when unpacked; what stands behind it does not matter.

    Raises ValueError.
    """
    fields = _Fields(data, len(LZO_MAGIC))
    flags = _lzop_header(fields)
    out = bytearray()
    while size := fields.take("I"):
        packed_size = fields.take("I")
        _skip_checksums(fields, flags, packed=packed_size < size)
        packed = fields.bytes(packed_size)
        if len(out) + size > limit:
            raise ValueError("too large")
        if packed_size == size:
            out += packed
        else:
            _lzo_block(_Copier(packed, out, len(out) + size))
    return bytes(out)


def _lzop_header(fields: _Fields) -> int:
    if not fields.data.startswith(LZO_MAGIC):
        raise ValueError("no file of lzop")
    version = fields.take("H")
    fields.take("H")
    newer = version >= _LZOP_WITH_LEVEL
    fields.bytes(4 if newer else 1)
    flags = fields.take("I")
    fields.bytes((4 if flags & _FILTER else 0) + (12 if newer else 8))
    fields.bytes(fields.take("B"))
    fields.bytes(4)
    return flags


def _skip_checksums(fields: _Fields, flags: int, *, packed: bool) -> None:
    of_plain = bool(flags & _ADLER_PLAIN) + bool(flags & _CRC_PLAIN)
    of_packed = bool(flags & _ADLER_PACKED) + bool(flags & _CRC_PACKED)
    fields.bytes(4 * (of_plain + of_packed * packed))


# ---- LZ4 ----------------------------------------------------------------------------------------


def _lz4_length(each: _Copier, length: int) -> int:
    if length == _LONG_RUN:
        while (more := each.byte()) == 0xFF:
            length += more
        length += more
    return length


def _lz4_block(each: _Copier) -> None:
    while True:
        token = each.byte()
        each.plain(_lz4_length(each, token >> 4))
        if each.at == len(each.packed):
            return
        distance = each.half()
        each.copy(distance, _lz4_length(each, token & 15) + _SHORTEST_COPY)


def unpack_lz4(data: bytes, limit: int) -> bytes:
    """A file of `lz4 -l`, at most `limit` bytes when unpacked; the last block ends where `data` does, or nearly.

    Raises ValueError.
    """
    if not data.startswith(LZ4_MAGIC):
        raise ValueError("no file of lz4")
    out = bytearray()
    at = len(LZ4_MAGIC)
    # Behind the last block is no more than the kernel's size.
    while at + 8 <= len(data):
        (size,) = struct.unpack_from("<I", data, at)
        packed = data[at + 4 : at + 4 + size]
        if len(packed) < size:
            raise ValueError("cut short")
        _lz4_block(_Copier(packed, out, limit))
        at += 4 + size
    return bytes(out)


__all__ = ["LZ4_MAGIC", "LZO_MAGIC", "unpack_lz4", "unpack_lzo"]
