"""A journal: a file of one row of JSON for each result, which a search that was broken off goes on from.

The first row says what it is the journal of. A last row that was not finished is dropped.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from os import PathLike, fspath
from pathlib import Path
from typing import Any, Generic, TypeVar

from replay.errors import ReplayError

_Row = TypeVar("_Row")


class BadJournal(ReplayError):
    """A file that is no journal, or that of another search."""


class Rows(Generic[_Row]):
    """The rows `found` in the file at `path`, to which more are added; made where there is no such file.

    `head` is the first row. Raises BadJournal, OSError.
    """

    def __init__(
        self,
        path: str | PathLike[str],
        head: dict[str, Any],
        to_json: Callable[[_Row], Any],
        from_json: Callable[[Any], _Row],
    ) -> None:
        self._head = json.loads(json.dumps(head))
        self._to_json = to_json
        self.found: list[_Row] = []
        # Appending makes the file where there is none.
        self._file = Path(path).open("a+b")  # noqa: SIM115 - closed by `close`
        self._file.seek(0)
        try:
            self._take_up(fspath(path), from_json)
        except BadJournal:
            self._file.close()
            raise

    def _take_up(self, path: str, from_json: Callable[[Any], _Row]) -> None:
        raw = self._file.read()
        whole, _, torn = raw.rpartition(b"\n")
        lines = whole.splitlines()
        try:
            found = [json.loads(line) for line in lines]
            if found and found[0] != self._head:
                raise BadJournal(f"{path}: the journal of another search")
            self.found = [from_json(row) for row in found[1:]]
        except (ValueError, KeyError, TypeError):
            raise BadJournal(f"{path}: not a journal of lgreplay's") from None
        if torn:
            self._file.truncate(len(whole) + bool(whole))
        self._file.seek(0, os.SEEK_END)
        if not found:
            self._put(self._head)

    def _put(self, row: Any) -> None:
        self._file.write(json.dumps(row, separators=(",", ":")).encode() + b"\n")
        self._file.flush()

    def put(self, row: _Row) -> None:
        """Keep a result."""
        self._put(self._to_json(row))

    def close(self) -> None:
        """Close the file."""
        self._file.close()


__all__ = ["BadJournal", "Rows"]
