"""`struct lguest_dma`, by which a Guest of 2.6.23 passes buffers, and what the Host remembers of those that are bound.

A buffer is up to 16 sections, wherever they lie; the first of length 0 ends them:

    0   u32 used_len        0: free to be filled; else how much of it was used
    4   u32 address[16]     guest-physical
    68  u16 length[16]

A Guest *binds* an array of them to a key, with an interrupt, to receive; and it *sends* one to a key. A key is a
guest-physical address, and what counts is the memory there: in a page that Guests share, all of them mean the same key,
and in any other page nobody but the Guest and its Launcher does.

Read next: dma.py. Source: lguest in Linux 2.6.23, include/linux/lguest_launcher.h and drivers/lguest/lg.h.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

MOST_BINDINGS = 32
MOST_SECTIONS = 16
DMA_SIZE = 100
USED_LEN = 0
KEY_ALIGNMENT = 4
_DMA = struct.Struct("<I16I16H")

# (guest-physical address, length) of each section.
Sections: TypeAlias = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class LguestDma:
    """One buffer as its Guest described it; nothing of it has been looked at."""

    used_len: int
    sections: Sections

    @property
    def size(self) -> int:
        """Bytes in all sections."""
        return sum(length for _, length in self.sections)


def parse_dma(raw: bytes) -> LguestDma:
    """The structure in DMA_SIZE bytes."""
    used_len, *words = _DMA.unpack(raw)
    lengths = words[MOST_SECTIONS:]
    count = lengths.index(0) if 0 in lengths else MOST_SECTIONS
    return LguestDma(used_len, tuple(zip(words[:count], lengths[:count], strict=True)))


def pack_dma(sections: Sequence[tuple[int, int]], used_len: int = 0) -> bytes:
    """The structure for a Guest's memory."""
    room = MOST_SECTIONS - len(sections)
    addresses = [address for address, _ in sections] + [0] * room
    lengths = [length for _, length in sections] + [0] * room
    return _DMA.pack(used_len, *addresses, *lengths)


@dataclass(frozen=True, slots=True)
class DmaKey:
    """The memory at a key: host-physical, and whether Guests share it."""

    address: int
    shared: bool


@dataclass(frozen=True, slots=True)
class DmaBinding:
    """An array of `count` buffers at guest-physical `dmas`; `following` is where the search for a free one begins.

    `order` numbers the bindings of all Guests as they were made: of several to one key, the last is found first.
    """

    key: DmaKey
    dmas: int
    count: int
    interrupt: int
    order: int
    following: int = 0


__all__ = [
    "DMA_SIZE",
    "KEY_ALIGNMENT",
    "MOST_BINDINGS",
    "MOST_SECTIONS",
    "USED_LEN",
    "DmaBinding",
    "DmaKey",
    "LguestDma",
    "Sections",
    "pack_dma",
    "parse_dma",
]
