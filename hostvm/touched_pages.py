"""Which pages of our memory were ever touched, as the operating system knows it.

Emulated memory is an anonymous mapping, which costs nothing where nobody has been. Looking there does cost something: a
page fault for each page, to read zeros. Linux tells without: /proc/self/pagemap has a word for each page, whose two top
bits say that there is one, in memory or in swap. With neither, the page is all zeros. Where there is no such file, or
it may not be read, every page counts as touched; then only the time differs.

Source: Linux, Documentation/admin-guide/mm/pagemap.rst.
"""

from __future__ import annotations

import os

from hostvm.x86 import PAGE_SIZE

_PAGEMAP = "/proc/self/pagemap"
_WORD = 8
_PRESENT_OR_SWAPPED = 0xC0
_MARKS = bytes(1 if byte & _PRESENT_OR_SWAPPED else 0 for byte in range(256))


def touched_pages(address: int, count: int, pagemap: str = _PAGEMAP) -> bytes:
    """A byte for each of `count` pages from an address of this process: 0 if all of it is certainly zero."""
    everything = b"\1" * count
    if os.sysconf("SC_PAGESIZE") != PAGE_SIZE:
        return everything
    try:
        descriptor = os.open(pagemap, os.O_RDONLY | os.O_CLOEXEC)
        try:
            words = os.pread(descriptor, count * _WORD, address // PAGE_SIZE * _WORD)
        finally:
            os.close(descriptor)
    except OSError:
        return everything
    # The words are the computer's own, and the compiled part of the engine is for little-endian ones only.
    marks = words[_WORD - 1 :: _WORD].translate(_MARKS)
    return marks if len(marks) == count else everything


__all__ = ["touched_pages"]
