"""Errors of recording and replay, by who is to blame.

A trace comes from a stranger: whatever is wrong with the file is a `TraceError` that names the path and the offset.
What the disk refuses while recording is a `TraceWriteError`. A machine that does not do what the trace says is a
`Divergence`. Our own mistakes are assertions or `ValueError`, and are not caught.

Every text is one line, whatever the file or its name contains.
"""

from __future__ import annotations

from collections.abc import Callable
from os import PathLike, fspath
from typing import NamedTuple

from hostvm.units import Tick


def one_line(text: str) -> str:
    """Escape what would break the line or steer the terminal."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


class ReplayError(Exception):
    """Base of every error that replay raises on purpose."""


class TraceError(ReplayError):
    """The trace file at `path` cannot be used; `offset` is the place in it, in bytes."""

    def __init__(self, path: str | PathLike[str], offset: int, text: str) -> None:
        super().__init__(path, offset, text)
        self.path = fspath(path)
        self.offset = offset
        self.text = text

    def __str__(self) -> str:
        return one_line(f"{self.path}: at byte {self.offset:#x}: {self.text}")


class TraceFormatError(TraceError):
    """The bytes are not a trace, or are damaged."""


class TraceVersionError(TraceError):
    """The trace needs a newer lgreplay than this one."""


class TraceTruncated(TraceError):
    """The file ends before its header is whole, so that nothing can be replayed from it."""


class TraceReadError(TraceError):
    """The operating system does not let us read the file."""


class TraceOpenError(TraceReadError):
    """There is no such file, or none that could be read at all: no byte of it is to blame."""

    def __init__(self, path: str | PathLike[str], text: str) -> None:
        super().__init__(path, 0, text)

    def __str__(self) -> str:
        return one_line(f"{self.path}: {self.text}")


class TraceWriteError(ReplayError):
    """The trace at `path` could not be written on; what reached the disk remains readable."""

    def __init__(self, path: str | PathLike[str], text: str) -> None:
        super().__init__(path, text)
        self.path = fspath(path)
        self.text = text

    def __str__(self) -> str:
        return one_line(f"{self.path}: {self.text}")


class Divergence(ReplayError):
    """The replayed machine did something else than the trace says: `what` differs, first at `tick`."""

    def __init__(self, tick: Tick, expected: object, actual: object, what: str) -> None:
        super().__init__(tick, expected, actual, what)
        self.tick = tick
        self.expected = expected
        self.actual = actual
        self.what = what

    def __str__(self) -> str:
        sides = f"the trace has {self.expected}, the machine did {self.actual}"
        return one_line(f"divergence at tick {self.tick}: {self.what}: {sides}")


class Place(NamedTuple):
    """Where in which file bytes under examination come from, so that whoever finds fault can say so."""

    path: str
    offset: int

    def malformed(self, text: str) -> TraceFormatError:
        """Make the error for bytes that no writer produces."""
        return TraceFormatError(self.path, self.offset, text)

    def too_new(self, text: str) -> TraceVersionError:
        """Make the error for what a newer lgreplay has written."""
        return TraceVersionError(self.path, self.offset, f"{text}; a newer lgreplay is needed")

    def truncated(self, text: str) -> TraceTruncated:
        """Make the error for a file that ends too early to be of use."""
        return TraceTruncated(self.path, self.offset, text)

    def unknown(self, newer: bool) -> Callable[[str], TraceError]:
        """Choose between the two errors for something unknown: `newer` tells that the trace's minor version is."""
        return self.too_new if newer else self.malformed


__all__ = [
    "Divergence",
    "Place",
    "ReplayError",
    "TraceError",
    "TraceFormatError",
    "TraceOpenError",
    "TraceReadError",
    "TraceTruncated",
    "TraceVersionError",
    "TraceWriteError",
    "one_line",
]
