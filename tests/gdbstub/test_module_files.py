"""Where a module's sections are: files made up, and a kernel's rule for laying them out."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from gdbstub.module_files import NOWHERE, for_debuggers, module_files, section_addresses
from hostvm.errors import ConfigurationError
from replay.linux_modules import Module

CORE = 0xC4813000
CODE, READ, WRITTEN = 6, 2, 3
SELF = ".gnu.linkonce.this_module"
SECTIONS = (
    (".note", READ, 0x24, 4),
    (".text", CODE, 0x101, 16),
    (".init.text", CODE, 0x50, 1),
    (".exit.text", CODE, 0x20, 1),
    (".modinfo", READ, 0x99, 1),
    (".data", WRITTEN, 0x10, 32),
    (SELF, WRITTEN, 0x140, 4),
    (".comment", 0, 0x30, 1),
)


def module_file(address: int = 0, machine: int = 3) -> bytes:
    """An ELF file with nothing but section headers; `address` is that of each of them."""
    names = b"\0" + b"".join(name.encode() + b"\0" for name, *_ in SECTIONS)
    rows = [(0,) * 10]
    rows += [
        (names.index(name.encode()), 1, flags, address, 0, size, 0, 0, alignment, 0)
        for name, flags, size, alignment in SECTIONS
    ]
    rows.append((0, 3, 0, address, 52, len(names), 0, 0, 1, 0))
    head = (b"\x7fELF", 1, 1, machine, 1, 0, 0, 52 + len(names), 0, 52, 0, 0, 40)
    header = struct.pack("<4sB11xHHIIIIIHHHHHH", *head, len(rows), len(rows) - 1)
    return header + names + b"".join(struct.pack("<10I", *row) for row in rows)


def loaded(offset: int, init: int = 0) -> Module:
    return Module("one", CORE + offset, CORE, 0x1000, init)


def test_sections_lie_by_kind_in_the_order_of_the_file() -> None:
    # Code up to 0x121, the note at 0x124, data aligned by 32.
    assert section_addresses("one.ko", module_file(), loaded(0x170)) == {
        ".text": CORE,
        ".exit.text": CORE + 0x101,
        ".note": CORE + 0x124,
        ".data": CORE + 0x160,
        SELF: CORE + 0x170,
        ".init.text": NOWHERE,
    }


def test_where_code_that_cannot_be_unloaded_is_left_out_all_lies_lower() -> None:
    found = section_addresses("one.ko", module_file(), loaded(0x150))
    assert ".exit.text" not in found
    assert found[".data"] == CORE + 0x140


def test_each_kind_may_begin_on_a_page_of_its_own() -> None:
    found = section_addresses("one.ko", module_file(), loaded(0x2010))
    assert (found[".note"], found[".data"]) == (CORE + 0x1000, CORE + 0x2000)


def test_while_it_begins_its_first_part_is_there_too() -> None:
    found = section_addresses("one.ko", module_file(), loaded(0x170, init=0xC4900000))
    assert found[".init.text"] == 0xC4900000


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (module_file(), "one.ko: not the file of the module that is loaded"),
        (module_file(machine=62), "one.ko: not a module for 32-bit x86"),
        (module_file()[:-41], "one.ko: not a module for 32-bit x86"),
        (b"", "one.ko: not a module for 32-bit x86"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(content: bytes, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        section_addresses("one.ko", content, loaded(0x174))


def test_debuggers_see_no_addresses() -> None:
    assert for_debuggers(module_file(0x5C)) == module_file()
    assert for_debuggers(b"\x7fELF") == b"\x7fELF"


def test_files_are_found_below_folders_by_the_name_of_the_module(tmp_path: Path) -> None:
    inside = tmp_path / "drivers" / "net"
    inside.mkdir(parents=True)
    (inside / "virtio-net.ko").touch()
    (tmp_path / "loop.ko").touch()
    assert module_files([str(tmp_path)]) == {
        "virtio_net": inside / "virtio-net.ko",
        "loop": tmp_path / "loop.ko",
    }


def test_a_folder_without_any_is_said_to_be_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no file there ends in"):
        module_files([str(tmp_path)])
    with pytest.raises(ConfigurationError, match="no folder"):
        module_files([str(tmp_path / "nothing")])
