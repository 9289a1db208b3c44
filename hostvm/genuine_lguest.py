"""How the Launcher of 2.6.23 finds its way into a kernel: where it begins, and where it is linked.

Kernels of that time had no entry point for lguest in their header. The first instruction stands behind a text in the
image, and the address is a virtual one, since paging is on from the start. So the Launcher must know how far virtual
addresses are from physical ones. An ELF file says so in each of its segments, and all must agree. The raw image in a
bzImage does not: there it is guessed, from instructions that load %eax from an address in the kernel.

Source: lguest's Launcher in Linux 2.6.23 (map_elf, unpack_bzimage, intuit_page_offset, entry_point).
Read next: launcher.py.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from hostvm.elf_image import Segment
from hostvm.errors import ConfigurationError
from hostvm.memory_map import SWITCHER_BASE
from hostvm.x86 import WORD_MASK

SIGNATURE = b"GenuineLguest"
_LOAD_EAX = 0xA1
_OFTEN_ENOUGH = 4
_ONE_TABLE = 1 << 22


def entry_point(name: str, segments: Sequence[Segment], page_offset: int) -> int:
    """Virtual address of the first instruction.

    Raises ConfigurationError where there is none.
    """
    for segment in sorted(segments, key=lambda each: each.paddr):
        at = segment.data.find(SIGNATURE)
        if at >= 0:
            return segment.paddr + at + len(SIGNATURE) + page_offset & WORD_MASK
    raise ConfigurationError(
        f"{name}: no text {SIGNATURE.decode()} in it, as guests of 2.6.23 have"
    )


def page_offset_of(name: str, segments: Sequence[Segment]) -> int:
    """How far virtual addresses are from physical ones.

    Raises ConfigurationError if the segments do not agree, or leave no room for the Switcher.
    """
    offset = segments[0].vaddr - segments[0].paddr & WORD_MASK
    for rank, segment in enumerate(segments):
        if segment.vaddr - segment.paddr & WORD_MASK != offset:
            raise ConfigurationError(f"{name}: page offset of segment {rank} different")
    return checked_offset(name, offset)


def intuit_page_offset(name: str, image: bytes) -> int:
    """The same for a raw image, from what its code looks like.

    Raises ConfigurationError if that does not tell.
    """
    seen: Counter[int] = Counter()
    at = image.find(_LOAD_EAX)
    while 0 <= at < len(image) - 4:
        top = image[at + 4]
        seen[top] += 1
        if seen[top] == _OFTEN_ENOUGH:
            return checked_offset(name, top << 24)
        at = image.find(_LOAD_EAX, at + 1)
    raise ConfigurationError(f"{name}: could not determine page offset")


def is_page_offset(offset: int) -> bool:
    """Whether a kernel can be linked that far above its physical addresses, and page tables made for it."""
    return not offset % _ONE_TABLE and 0 < offset < SWITCHER_BASE


def checked_offset(name: str, offset: int) -> int:
    """`offset`, if page tables can be made for it. Raises ConfigurationError."""
    if not is_page_offset(offset):
        raise ConfigurationError(f"{name}: linked {offset:#x} above its physical addresses")
    return offset


__all__ = ["SIGNATURE", "entry_point", "intuit_page_offset", "is_page_offset", "page_offset_of"]
