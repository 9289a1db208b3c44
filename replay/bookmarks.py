"""Bookmarks: ticks of a trace under a name, with a note, in a small file beside the trace.

The file is called like the trace with `.marks` behind it, and is JSON for people to read. It names the trace by its
id, so that marks are not mistaken for those of another recording under the same name. It is replaced as a whole.

Read next: timeline.py.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hostvm.units import Tick
from replay.errors import ReplayError, one_line

_NAME = re.compile(r"[A-Za-z_][\w.-]{0,63}")
_LONGEST_NOTE = 2000
_LARGEST_FILE = 4 << 20


class BookmarkError(ReplayError):
    """A file of bookmarks at `path` that cannot be used, and why."""

    def __init__(self, path: str, why: str) -> None:
        super().__init__(path, why)
        self.path = path
        self.why = why

    def __str__(self) -> str:
        return one_line(f"{self.path}: {self.why}")


@dataclass(frozen=True, slots=True)
class Bookmark:
    """A named tick."""

    name: str
    tick: Tick
    note: str = ""


class Bookmarks:
    """The bookmarks of the trace at `path`. Raises BookmarkError when its file is not what it should be."""

    def __init__(self, path: Path, trace_id: bytes) -> None:
        self._path = path.with_name(path.name + ".marks")
        self._trace = trace_id.hex()
        self._marks = {mark.name: mark for mark in self._read()}

    def __iter__(self) -> Iterator[Bookmark]:
        """In order of time."""
        return iter(sorted(self._marks.values(), key=lambda mark: (mark.tick, mark.name)))

    def get(self, name: str) -> Bookmark | None:
        """The bookmark of this name."""
        return self._marks.get(name)

    def put(self, mark: Bookmark) -> None:
        """Keep a bookmark; one of the same name is replaced. Raises BookmarkError, ValueError for a bad name."""
        if not _NAME.fullmatch(mark.name) or len(mark.note) > _LONGEST_NOTE:
            raise ValueError(f"{mark.name!r} is no name for a bookmark, or its note is too long")
        self._write({**self._marks, mark.name: mark})

    def remove(self, name: str) -> None:
        """Forget a bookmark. Raises KeyError, BookmarkError."""
        marks = dict(self._marks)
        del marks[name]
        self._write(marks)

    def _read(self) -> Iterator[Bookmark]:
        try:
            with self._path.open("rb") as file:
                raw = file.read(_LARGEST_FILE)
        except FileNotFoundError:
            return
        except OSError as error:
            raise BookmarkError(str(self._path), error.strerror or str(error)) from error
        try:
            stored = json.loads(raw)
            if stored["trace"] != self._trace:
                raise BookmarkError(str(self._path), "the bookmarks of another trace")
            for name, mark in stored["bookmarks"].items():
                tick, note = mark["tick"], mark["note"]
                if not isinstance(tick, int) or tick < 0 or not isinstance(note, str):
                    raise BookmarkError(str(self._path), f"bookmark {name!r} has no tick and note")
                yield Bookmark(str(name), Tick(tick), note)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise BookmarkError(str(self._path), "not a file of bookmarks") from error

    def _write(self, marks: dict[str, Bookmark]) -> None:
        values = {mark.name: {"tick": mark.tick, "note": mark.note} for mark in marks.values()}
        text = json.dumps({"trace": self._trace, "bookmarks": values}, indent=1)
        new = self._path.with_name(self._path.name + "~")
        try:
            new.write_text(text + "\n", encoding="utf-8")
            new.replace(self._path)
        except OSError as error:
            raise BookmarkError(str(self._path), error.strerror or str(error)) from error
        self._marks = marks


__all__ = ["Bookmark", "BookmarkError", "Bookmarks"]
