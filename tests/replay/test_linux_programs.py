"""The program that a process runs, by what lies at the upper end of its stack."""

from __future__ import annotations

import struct

import pytest

from replay.linux_programs import RunningProgram, running_program

TOP = 0xC0000000
FILE = b"/bin/cat\0"


def stack(at: int, entry: int = 0x08048123, page_size: int = 4096) -> dict[int, bytes]:
    """Pages with the vector, whose mark is at `at`, in a process that has no other memory."""
    pairs = (6, page_size, 17, 100, 3, 0x08048034, 4, 32, 5, 3, 9, entry, 31, TOP - 16, 0, 0)
    raw = bytearray(0x3000)
    place = at - (TOP - 0x3000)
    raw[place : place + 4 * len(pairs)] = struct.pack(f"<{len(pairs)}I", *pairs)
    raw[0x3000 - 16 : 0x3000 - 16 + len(FILE)] = FILE
    return {TOP - 0x3000 + 0x1000 * n: bytes(raw[0x1000 * n : 0x1000 * (n + 1)]) for n in range(3)}


class Process:
    """A process with these pages; it counts how often it is read."""

    def __init__(self, pages: dict[int, bytes]) -> None:
        self.pages = pages
        self.reads = 0

    def read(self, address: int, count: int) -> bytes:
        self.reads += 1
        out = b""
        while len(out) < count and (address + len(out) & ~0xFFF) in self.pages:
            at = address + len(out)
            out += self.pages[at & ~0xFFF][at & 0xFFF :][: count - len(out)]
        return out


@pytest.mark.parametrize("at", [TOP - 0x200, TOP - 0x1004, TOP - 0x1008, TOP - 0x2ABC])
def test_a_program_is_told_by_where_it_begins(at: int) -> None:
    found = running_program(Process(stack(at)).read, TOP)
    assert found == RunningProgram(at, 0x08048123, "/bin/cat")


def test_a_place_that_is_known_is_looked_at_first() -> None:
    process = Process(stack(TOP - 0x2ABC))
    found = running_program(process.read, TOP, TOP - 0x2ABC)
    assert found is not None
    assert process.reads < 5


def test_a_wrong_hint_does_no_harm() -> None:
    found = running_program(Process(stack(TOP - 0x200)).read, TOP, TOP - 0x1500)
    assert found is not None
    assert found.at == TOP - 0x200


@pytest.mark.parametrize("pages", [{}, stack(TOP - 0x200, page_size=8192)], ids=["none", "other"])
def test_where_there_is_none_there_is_none(pages: dict[int, bytes]) -> None:
    assert running_program(Process(pages).read, TOP) is None
