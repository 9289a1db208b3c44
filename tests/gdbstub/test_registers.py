"""Registers and their description: one table, so the two agree, with GDB's wishes obeyed."""

from __future__ import annotations

import struct
import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest

from gdbstub.description import library_list, memory_map, target_description, thread_list
from gdbstub.registers import (
    EXPEDITED,
    NUMBER,
    REGISTERS,
    WIDTHS,
    partial_set,
    register_set,
    register_value,
)
from hostvm.cpu_state import CpuState, Segment
from tests.gdbstub.fake_target import cpu_state, history

STATE = cpu_state(history(3)[3])
CLASSIC = (
    *("eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi", "eip", "eflags"),
    *("cs", "ss", "ds", "es", "fs", "gs"),
    *(f"st{i}" for i in range(8)),
    *("fctrl", "fstat", "ftag", "fiseg", "fioff", "foseg", "fooff", "fop"),
    *(f"xmm{i}" for i in range(8)),
    "mxcsr",
)


def values(state: CpuState, tick: int = 5) -> dict[str, int]:
    numbers = (int.from_bytes(v or b"", "little") for v in register_set(state, tick))
    return dict(zip(NUMBER, numbers, strict=True))


def root() -> ET.Element:
    return ET.fromstring(target_description())


def test_the_first_registers_are_those_that_debuggers_expect_unasked() -> None:
    assert tuple(NUMBER)[:41] == CLASSIC
    assert sum(WIDTHS[:41]) == 16 * 4 + 8 * 10 + 8 * 4 + 8 * 16 + 4


def test_every_register_is_described_as_it_is_sent() -> None:
    described = [
        (r.get("name"), int(r.get("bitsize") or 0), int(r.get("regnum") or 0))
        for r in root().iter("reg")
    ]
    assert described == [(r.name, r.bits, number) for number, r in enumerate(REGISTERS)]
    sent = register_set(STATE, 0)
    assert [len(value or b"") for value in sent] == list(WIDTHS)


def test_types_are_defined_before_they_are_used() -> None:
    builtin = {"int", "int8", "int16", "int32", "int64", "uint32", "uint64", "uint128", "data_ptr"}
    builtin |= {"code_ptr", "i387_ext", "ieee_single", "ieee_double"}
    for feature in root().iter("feature"):
        known = set(builtin)
        for element in feature:
            for user in (element, *element):
                assert user.get("type") in known | {None}
            if element.get("id"):
                known.add(element.get("id") or "")


def test_gdb_is_told_what_it_must_not_guess() -> None:
    assert root().findtext("architecture") == "i386"
    assert root().findtext("osabi") == "none"
    system = {r.get("name"): r.get("save-restore") for r in root().iter("reg")}
    assert {name for name, kept in system.items() if kept == "no"} == set(NUMBER) - set(CLASSIC) - {
        "fs_base",
        "gs_base",
    }


def test_flags_cover_their_register_without_overlap() -> None:
    for flags in root().iter("flags"):
        bits = [
            bit
            for field in flags
            for bit in range(int(field.get("start") or 0), int(field.get("end") or 0) + 1)
        ]
        assert len(bits) == len(set(bits))
        assert max(bits) < 32


def test_general_and_system_registers() -> None:
    found = values(replace(STATE, cr=(1, 2, 3, 4)), tick=1 << 40)
    assert found["esp"] == STATE.regs[4]
    assert found["eip"] == STATE.eip
    assert [found[name] for name in ("cr0", "cr2", "cr3", "cr4")] == [1, 2, 3, 4]
    assert found["cpl"] == 3
    assert found["tick"] == 1 << 40


def test_segments_and_tables_are_in_their_places() -> None:
    segments = tuple(Segment(index, index << 12, 0, 0) for index in range(6))
    tables = tuple(Segment(index + 16, index << 16, 0xF0 + index, 0) for index in range(4))
    found = values(replace(STATE, segs=segments, tables=tables))
    # CpuState: ES CS SS DS FS GS, and LDT TR GDT IDT.
    assert [found[n] for n in ("es", "cs", "ss", "ds", "fs", "gs")] == [0, 1, 2, 3, 4, 5]
    assert (found["fs_base"], found["gs_base"]) == (0x4000, 0x5000)
    assert (found["tr"], found["gdtr"], found["idtr"]) == (17, 0x20000, 0x30000)
    assert (found["gdtr_limit"], found["idtr_limit"]) == (0xF2, 0xF3)


def f80(mantissa: int, exponent: int) -> bytes:
    return struct.pack("<QH", mantissa, exponent)


def test_x87_registers_count_from_the_top_of_their_stack() -> None:
    one, zero, infinity = f80(1 << 63, 0x3FFF), f80(0, 0x8000), f80(1 << 63, 0x7FFF)
    registers = b"".join((infinity, bytes(10) * 4, zero, one, bytes(10)))
    tags = bytes((0, 1, 1, 1, 1, 0, 0, 1))
    fpu = (5, 0x0041, 0x37F, tags, registers, 0x7FF, 0x60, 0x68, 0x1234, 0x5678)
    state = replace(STATE, fpu=fpu)
    sent = dict(zip(NUMBER, register_set(state, 0), strict=True))
    assert sent["st0"] == zero
    assert sent["st1"] == one
    assert sent["st3"] == infinity
    found = values(state)
    assert found["fstat"] == 0x0041 | 5 << 11
    # Two bits each, register 7 first: empty, valid, zero, four empty, special.
    assert found["ftag"] == 0b11_00_01_11_11_11_11_10
    assert [found[n] for n in ("fiseg", "fioff", "foseg", "fooff", "fop")] == [
        0x60,
        0x1234,
        0x68,
        0x5678,
        0x7FF,
    ]


@pytest.mark.parametrize("name", NUMBER)
def test_one_register_is_the_same_as_among_all(name: str) -> None:
    assert register_value(STATE, 9, NUMBER[name]) == values(STATE, 9)[name]


def test_there_is_no_register_beyond_the_last() -> None:
    assert register_value(STATE, 0, len(REGISTERS)) is None
    assert register_value(STATE, 0, 0xFFFF) is None


def test_of_a_context_that_waits_only_some_registers_are_known() -> None:
    known = partial_set({"eip": 0x1234, "tick": 7})
    assert known[NUMBER["eip"]] == b"\x34\x12\0\0"
    assert sum(value is not None for value in known) == 2


def test_stops_bring_what_is_asked_for_first() -> None:
    assert [REGISTERS[n].name for n in EXPEDITED] == ["eip", "esp", "ebp", "eflags", "tick"]


def test_other_documents_are_well_formed_whatever_the_names() -> None:
    nasty = 'a"<&>b'
    threads = ET.fromstring(thread_list([(10, nasty, nasty)]))
    assert [(t.get("id"), t.get("name"), t.text) for t in threads] == [("a", nasty, nasty)]
    libraries = ET.fromstring(library_list([(nasty, (0x1000, 0xFFC00000))]))
    assert libraries[0].get("name") == nasty
    assert [s.get("address") for s in libraries[0]] == ["0x1000", "0xffc00000"]
    memory = ET.fromstring(memory_map([("ram", 0, 1 << 32)]))
    assert memory[0].attrib == {"type": "ram", "start": "0x0", "length": "0x100000000"}
