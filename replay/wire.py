"""The border to msgpack and zstd: the only module that calls either, and where their errors become TraceFormatError.

Both are asked for bytes that a stranger has made, so each call states beforehand how much may come out of it. Two
facts shape the code: zstd's one-shot decompression believes the size written in the frame and ignores a smaller limit,
hence the frame is looked at first; msgpack limits the length of one list but not what lists within lists add up to,
hence values are counted while they are built.

(i) payloads: compress, decompress. (ii) maps: the header, checkpoints, the end. (iii) rows: streams of short lists.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeAlias, cast

import msgpack  # type: ignore[import-untyped]
import zstandard

from replay.errors import Place, TraceFormatError

Value: TypeAlias = "bool | int | bytes | str | list[Value] | dict[str, Value] | None"
Row: TypeAlias = tuple[object, ...]

MAX_DEPTH = 16
MAX_VALUES = 1 << 20
MAX_ROW_VALUES = 512
END_OF_ROWS = b"\xc0"


# (i) Payloads.


class Compressor:
    """One zstd context, kept because making one costs more than most chunks."""

    def __init__(self, level: int) -> None:
        self._zstd = zstandard.ZstdCompressor(level=level, write_content_size=True)

    def compress(self, raw: bytes | bytearray) -> bytes:
        """Make one zstd frame that states its content size."""
        return self._zstd.compress(raw)


def decompress(frame: bytes, raw_size: int, place: Place) -> bytes:
    """Undo Compressor.compress; the caller has bounded `raw_size`.

    Raises: TraceFormatError when the bytes are not exactly one frame of that size.
    """
    try:
        parameters = zstandard.get_frame_parameters(frame)
        if parameters.content_size != raw_size or parameters.dict_id:
            raise place.malformed(
                f"compressed data of {parameters.content_size} bytes where {raw_size} are declared"
            )
        raw = zstandard.ZstdDecompressor().decompress(
            frame, max_output_size=raw_size, allow_extra_data=False
        )
    except zstandard.ZstdError as error:
        raise place.malformed(f"not a zstd frame: {error}") from error
    if len(raw) != raw_size:
        raise place.malformed(f"{len(raw)} bytes uncompressed where {raw_size} are declared")
    return raw


# (ii) Maps.


class _Budget:
    """Counts the values of one map as msgpack builds them, and gives up when there are too many."""

    def __init__(self) -> None:
        self._left = MAX_VALUES

    def _spend(self, count: int) -> None:
        self._left -= count
        if self._left < 0:
            raise ValueError(f"more than {MAX_VALUES} values")

    def items(self, values: list[object]) -> list[object]:
        self._spend(len(values))
        return values

    def pairs(self, pairs: list[tuple[object, object]]) -> dict[object, object]:
        self._spend(2 * len(pairs))
        named = dict(pairs)
        if len(named) != len(pairs):
            raise ValueError("a name occurs twice")
        return named


def pack_map(fields: dict[str, Value]) -> bytes:
    """Pack a map of names to plain values.

    Raises: ValueError when no reader would take it.
    """
    try:
        raw = cast(bytes, msgpack.packb(fields, use_bin_type=True))
        unpack_map(raw, Place("", 0))
    except (TypeError, TraceFormatError) as error:
        raise ValueError(f"not for a trace: {error}") from error
    return raw


def unpack_map(raw: bytes, place: Place) -> dict[str, Value]:
    """Unpack one map of names to plain values, at most MAX_DEPTH deep, and nothing behind it.

    Raises: TraceFormatError for anything else, floats and extension types included.
    """
    budget = _Budget()
    try:
        value = msgpack.unpackb(
            raw,
            raw=False,
            strict_map_key=True,
            list_hook=budget.items,
            object_pairs_hook=budget.pairs,
            max_array_len=min(len(raw), MAX_VALUES),
            max_map_len=min(len(raw), MAX_ROW_VALUES),
            max_ext_len=0,
        )
    except (ValueError, msgpack.UnpackException) as error:
        raise place.malformed(
            f"not the expected msgpack: {error or type(error).__name__}"
        ) from error
    if not isinstance(value, dict):
        raise place.malformed("not a msgpack map")
    _check_plain(value, place)
    return cast("dict[str, Value]", value)


def _check_plain(root: dict[object, object], place: Place) -> None:
    """Walk without recursion: depth is the stranger's choice."""
    level: list[object] = [root]
    for _ in range(MAX_DEPTH):
        below: list[object] = []
        for value in level:
            match value:
                case None | int() | bytes() | str():
                    pass
                case dict():
                    if not all(isinstance(name, str) for name in value):
                        raise place.malformed("a msgpack map with names that are not text")
                    below.extend(value.values())
                case list():
                    below.extend(value)
                case _:
                    raise place.malformed(f"a value of type {type(value).__name__}")
        if not below:
            return
        level = below
    raise place.malformed(f"values nested more than {MAX_DEPTH} deep")


# (iii) Rows.


class RowPacker:
    """Packs one row at a time; a list of plain values becomes one msgpack array."""

    def __init__(self) -> None:
        self.pack: Any = msgpack.Packer(use_bin_type=True, autoreset=True).pack


def unpack_rows(raw: bytes, place: Place) -> Iterator[Row]:
    """Yield each msgpack array of `raw`; text and binary both arrive as bytes.

    What is in a row is for the caller to check: it may hold any msgpack value but a map.
    Raises: TraceFormatError, also when the last row is not whole.
    """
    unpacker = msgpack.Unpacker(
        raw=True,
        use_list=False,
        max_buffer_size=len(raw) + len(END_OF_ROWS),
        max_str_len=len(raw),
        max_bin_len=len(raw),
        max_array_len=MAX_ROW_VALUES,
        max_map_len=0,
        max_ext_len=0,
    )
    unpacker.feed(raw)
    # The iterator ends alike after the last row and within it; only a whole last row leaves this as a value of its own.
    unpacker.feed(END_OF_ROWS)
    try:
        for row in unpacker:
            if type(row) is not tuple:
                break
            yield row
        else:
            raise place.malformed("the last row is not whole")
        if row is not None or unpacker.tell() != len(raw) + len(END_OF_ROWS):
            raise place.malformed("something else than a msgpack array among the rows")
    except (ValueError, msgpack.UnpackException) as error:
        raise place.malformed(
            f"not the expected msgpack: {error or type(error).__name__}"
        ) from error


__all__ = [
    "MAX_DEPTH",
    "MAX_ROW_VALUES",
    "MAX_VALUES",
    "Compressor",
    "Row",
    "RowPacker",
    "Value",
    "decompress",
    "pack_map",
    "unpack_map",
    "unpack_rows",
]
