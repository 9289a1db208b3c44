"""What a Guest has written to its disk: whole sectors, kept over the image that the World has.

The digest of a machine's state is made often and a Guest may write much. So it is kept up to date: it is the sum of a
digest for each sector, which does not depend on the order in which they were written.

Read next: block.py.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b

from hostvm.devices.config import SECTOR

DIGEST_SIZE = 16
_DIGEST_MASK = (1 << 8 * DIGEST_SIZE) - 1


class Overlay:
    """Sectors by number."""

    __slots__ = ("_sectors", "_sum")

    def __init__(self, sectors: Iterable[tuple[int, bytes]] = ()) -> None:
        self._sectors: dict[int, bytes] = {}
        self._sum = 0
        for number, content in sectors:
            self._store(number, content)

    def store(self, position: int, data: bytes) -> None:
        """Keep whole sectors written at a byte position, which is a multiple of a sector."""
        assert position % SECTOR == len(data) % SECTOR == 0
        first = position // SECTOR
        for at in range(0, len(data), SECTOR):
            self._store(first + at // SECTOR, data[at : at + SECTOR])

    def _store(self, number: int, content: bytes) -> None:
        before = self._sectors.get(number)
        if before is not None:
            self._sum -= _weight(number, before)
        self._sectors[number] = content
        self._sum = self._sum + _weight(number, content) & _DIGEST_MASK

    def over(self, position: int, data: bytes) -> bytes:
        """What is read at a position where the image has `data`."""
        first = position // SECTOR
        written = [
            (at, content)
            for at in range(0, len(data), SECTOR)
            if (content := self._sectors.get(first + at // SECTOR)) is not None
        ]
        if not written:
            return data
        out = bytearray(data)
        for at, content in written:
            out[at : at + SECTOR] = content
        return bytes(out[: len(data)])

    def sectors(self) -> tuple[tuple[int, bytes], ...]:
        """All that was written, in order."""
        return tuple(sorted(self._sectors.items()))

    def digest(self) -> bytes:
        """DIGEST_SIZE bytes over all that was written."""
        return self._sum.to_bytes(DIGEST_SIZE, "little")


def _weight(number: int, content: bytes) -> int:
    key = number.to_bytes(8, "little")
    return int.from_bytes(blake2b(content, digest_size=DIGEST_SIZE, key=key).digest(), "little")


__all__ = ["Overlay"]
