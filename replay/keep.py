"""Flight recording: what `keep_last` asks for, and when a part of the history may be dropped.

A recording that keeps only its newest part is a row of segments. Each begins at a checkpoint, from which a replay can
start; the very first begins at power-on. A segment is full at a quarter of what is to be kept, and the oldest is
dropped as soon as the others are enough without it. So there is always at least what was asked for (once that much has
been recorded) and at most about a quarter more; while the file is copied without its oldest segment, the disk holds
about twice what was asked for.

A checkpoint may be large beside the events. The one that the history begins with does not count as history, and a
segment is at least three times as long as its checkpoint, whatever was asked for.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from hostvm.units import Nanoseconds

SEGMENTS_KEPT = 4
CHECKPOINT_SHARE = 3


@dataclass(frozen=True, slots=True)
class Keep:
    """Keep at least so many bytes of the file, or so much time, whichever needs less; the rest may be dropped."""

    bytes: int | None = None
    ns: Nanoseconds | None = None

    def __post_init__(self) -> None:
        given = [limit for limit in (self.bytes, self.ns) if limit is not None]
        if not given or min(given) <= 0:
            raise ValueError("how much to keep must be a positive number of bytes or nanoseconds")

    def is_enough(self, size: int, age: int) -> bool:
        """Tell whether a history of this size and age suffices."""
        return (self.bytes is not None and size >= self.bytes) or (
            self.ns is not None and age >= self.ns
        )


@dataclass(frozen=True, slots=True)
class Segment:
    """A part of the body: `position` counts the bytes of the body from the first ever recorded."""

    position: int
    rank: int
    since: int
    checkpoint_size: int


class Segments:
    """The segments of a recording, oldest first. Positions and ranks are those before anything was dropped."""

    def __init__(self, keep: Keep, now: int) -> None:
        self._keep = keep
        self._segments = deque([Segment(0, 0, now, 0)])

    def is_full(self, position: int, now: int) -> bool:
        """Tell whether the newest segment, which ends at `position`, should not grow further."""
        newest = self._segments[-1]
        size = SEGMENTS_KEPT * (position - newest.position)
        age = SEGMENTS_KEPT * (now - newest.since)
        long_enough = position - newest.position >= CHECKPOINT_SHARE * newest.checkpoint_size
        return long_enough and self._keep.is_enough(size, age)

    def begin(self, position: int, rank: int, now: int, checkpoint_size: int) -> None:
        """Begin a segment with a checkpoint, which is the chunk of this rank at this position."""
        self._segments.append(Segment(position, rank, now, checkpoint_size))

    def drop_spare(self, position: int, now: int) -> Segment | None:
        """Forget the oldest segments as far as the rest is enough; return the oldest kept, or None if none went."""
        dropped = False
        while len(self._segments) > 1:
            second = self._segments[1]
            size = position - second.position - second.checkpoint_size
            if not self._keep.is_enough(size, now - second.since):
                break
            self._segments.popleft()
            dropped = True
        return self._segments[0] if dropped else None


__all__ = ["Keep", "Segment", "Segments"]
