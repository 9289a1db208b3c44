"""Contents of pages on their way into a trace: each distinct one once, compressed, in a file without a name.

Contents are collected into the groups that become the PAGES chunks of the trace; a group is compressed when it is full.
When states are given up, so are the contents that nobody else needs: `keep_only` closes the ranks.

Read next: index.py.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path

import numpy as np
import numpy.typing as npt

from hostvm.x86 import PAGE_SIZE
from replay.errors import Place
from replay.stored_states import PAGES_IN_CHUNK
from replay.wire import Compressor, decompress

LEVEL = 6
Numbers = npt.NDArray[np.uint32]


class PageSpool:
    """Contents by number, in a temporary file in `folder`. All methods raise OSError when the system refuses."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._compressor = Compressor(LEVEL)
        self._begin()

    def _begin(self) -> None:
        self._file = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115
        self._frames: list[tuple[int, int]] = []
        self._group: list[bytes] = []
        self._numbers: dict[bytes, int] = {}
        self.size = 0

    def __len__(self) -> int:
        """How many contents there are."""
        return len(self._numbers)

    def close(self) -> None:
        """Forget everything."""
        self._file.close()

    def number_of(self, content: bytes) -> int:
        """The number of a content, which is kept if it is new."""
        digest = blake2b(content, digest_size=16).digest()
        number = self._numbers.get(digest)
        if number is None:
            number = self._numbers[digest] = len(self._numbers)
            self._group.append(content)
            if len(self._group) == PAGES_IN_CHUNK:
                self._flush()
        return number

    def _flush(self) -> None:
        if self._group:
            frame = self._compressor.compress(b"".join(self._group))
            self._file.seek(self.size)
            self._file.write(frame)
            self._frames.append((self.size, len(frame)))
            self.size += len(frame)
            self._group.clear()

    def frames(self) -> Iterator[tuple[bytes, int]]:
        """Yield the compressed groups in order, each with its size before; nothing may be added after that."""
        self._flush()
        left = len(self)
        for offset, size in self._frames:
            self._file.seek(offset)
            count = min(left, PAGES_IN_CHUNK)
            yield self._file.read(size), count * PAGE_SIZE
            left -= count

    def keep_only(self, wanted: Numbers) -> Numbers:
        """Forget all contents but the `wanted` numbers (ascending); return the new number of each old one."""
        renumbered = np.zeros(len(self), np.uint32)
        old = self._file
        keep = set(wanted.tolist())
        frames = list(self.frames())
        self._begin()
        for group, (frame, size) in enumerate(frames):
            raw = decompress(frame, size, Place("", 0))
            for at in range(0, size, PAGE_SIZE):
                number = group * PAGES_IN_CHUNK + at // PAGE_SIZE
                if number in keep:
                    renumbered[number] = self.number_of(raw[at : at + PAGE_SIZE])
        old.close()
        return renumbered


__all__ = ["Numbers", "PageSpool"]
