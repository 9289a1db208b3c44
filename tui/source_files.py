"""The text of source files, where they can be found.

A trace does not carry its kernels' sources. They are looked for where the compiler says that it found them, below the
current directory, and, for the shipped kernels, where lgreplay has them. What is found is believed to be what was
compiled; nothing in the kernel tells. For the engine's thread. Read next: source_lines.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

_SHIPPED = Path(str(files("hostvm"))) / "guest"
_LARGEST = 4 << 20
_KEPT = 64


class SourceFiles:
    """Files by the names that the compiler gave them; each is looked for once."""

    def __init__(self) -> None:
        self._texts: dict[str, tuple[str, ...]] = {}

    def lines(self, path: str) -> tuple[str, ...]:
        """The lines of a file; none if it is nowhere."""
        if path not in self._texts:
            if len(self._texts) >= _KEPT:
                self._texts.clear()
            self._texts[path] = _read(path)
        return self._texts[path]


def _read(path: str) -> tuple[str, ...]:
    for place in _places(path):
        try:
            if place.is_file() and place.stat().st_size <= _LARGEST:
                text = place.read_text(encoding="utf-8", errors="replace")
                return tuple(line.expandtabs() for line in text.splitlines())
        except (OSError, ValueError):
            continue
    return ()


def _places(path: str) -> Iterator[Path]:
    if path.startswith("/"):
        yield Path(path)
        return
    yield Path(path)
    yield _SHIPPED / path


__all__ = ["SourceFiles"]
