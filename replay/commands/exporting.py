"""What `lgreplay export` does."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from replay.errors import TraceTruncated
from replay.export import json_lines, perfetto
from replay.log import TraceReader
from replay.packets import capture


def write_export(trace: str, layout: str, output: str | None, *, salvage: bool) -> None:
    """Write a trace for other programs to a file or to stdout.

    Raises: TraceTruncated when the trace has no end, after all that there is; TraceError when it is damaged.
    """
    with TraceReader(trace, salvage=salvage) as reader:
        if output is None:
            sys.stdout.buffer.writelines(_pieces(reader, layout))
        else:
            with Path(output).open("wb") as file:
                file.writelines(_pieces(reader, layout))
        if not reader.complete:
            text = reader.damage.text if reader.damage else "the trace ends here, unfinished"
            raise TraceTruncated(reader.path, reader.torn_at or 0, text)


def _pieces(reader: TraceReader, layout: str) -> Iterator[bytes]:
    match layout:
        case "perfetto":
            return (piece.encode() for piece in perfetto(reader))
        case "pcapng":
            return capture(reader)
        case _:
            return (line.encode() + b"\n" for line in json_lines(reader))


__all__ = ["write_export"]
