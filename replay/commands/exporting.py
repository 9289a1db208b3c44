"""What `lgreplay export` does."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from replay.errors import TraceTruncated
from replay.export import json_lines, perfetto
from replay.log import TraceReader


def write_export(trace: str, layout: str, output: str | None, *, salvage: bool) -> None:
    """Write a trace for other programs to a file or to stdout.

    Raises: TraceTruncated when the trace has no end, after all that there is; TraceError when it is damaged.
    """
    with TraceReader(trace, salvage=salvage) as reader:
        pieces = perfetto(reader) if layout == "perfetto" else _lines(reader)
        if output is None:
            sys.stdout.writelines(pieces)
        else:
            with Path(output).open("w", encoding="utf-8") as file:
                file.writelines(pieces)
        if not reader.complete:
            text = reader.damage.text if reader.damage else "the trace ends here, unfinished"
            raise TraceTruncated(reader.path, reader.torn_at or 0, text)


def _lines(reader: TraceReader) -> Iterator[str]:
    return (line + "\n" for line in json_lines(reader))


__all__ = ["write_export"]
