"""Which pages were touched: never too few of them, whatever the system says."""

from __future__ import annotations

import ctypes
import mmap
from pathlib import Path

import pytest

from hostvm.memory import PhysicalMemory
from hostvm.touched_pages import touched_pages
from hostvm.units import HostPhysical
from hostvm.x86 import PAGE_SIZE

PAGES = 64
BASE = HostPhysical(0x10000000)
PAGEMAP = Path("/proc/self/pagemap")


def mapping() -> tuple[mmap.mmap, int]:
    memory = mmap.mmap(-1, PAGES * PAGE_SIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    return memory, ctypes.addressof(ctypes.c_char.from_buffer(memory))


def test_a_page_that_was_written_is_touched() -> None:
    memory, address = mapping()
    memory[5 * PAGE_SIZE] = 1
    memory[9 * PAGE_SIZE + 100] = 0
    marks = touched_pages(address, PAGES)
    assert len(marks) == PAGES
    assert marks[5] == marks[9] == 1


@pytest.mark.skipif(not PAGEMAP.exists(), reason="this system does not tell")
def test_pages_where_nobody_was_are_not_touched_and_a_part_can_be_asked_for() -> None:
    memory, address = mapping()
    memory[5 * PAGE_SIZE] = 1
    assert touched_pages(address, PAGES) == bytes(5) + b"\1" + bytes(PAGES - 6)
    assert touched_pages(address + 4 * PAGE_SIZE, 3) == b"\0\1\0"


@pytest.mark.parametrize("content", [None, b"", b"\0" * 100])
def test_where_the_system_does_not_tell_every_page_counts_as_touched(
    tmp_path: Path, content: bytes | None
) -> None:
    pagemap = tmp_path / "pagemap"
    if content is not None:
        pagemap.write_bytes(content)
    assert touched_pages(0, PAGES, str(pagemap)) == b"\1" * PAGES


def test_used_pages_are_those_that_are_not_zero() -> None:
    memory = PhysicalMemory(BASE, PAGES * PAGE_SIZE)
    memory.write_u32(BASE + 3 * PAGE_SIZE + 8, 0xABCD)
    memory.write(BASE + 7 * PAGE_SIZE, bytes(PAGE_SIZE))
    ((number, content),) = memory.used_pages()
    assert number == (BASE >> 12) + 3
    assert content == bytes(8) + b"\xcd\xab" + bytes(PAGE_SIZE - 10)
    memory.clear()
    assert memory.used_pages() == ()
