"""Documents about the target, as XML: its registers, its threads, its memory and its libraries.

The description of registers is made from the table in registers.py, so the two cannot disagree. What GDB wants and does
not say: x87 registers may not be left out; registers of the system must not be saved and restored around calls; without
an `osabi` GDB takes the target for a GNU/Linux process.

Source: GDB manual, appendix G (Target Descriptions), E.17 Memory Map Format, E.16 Thread List Format, E.14 Library List
Format; Intel SDM 3A 2.3 and 2.5 (names of flags). Read next: documents of a trace in timeline_target.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from enum import IntFlag
from itertools import groupby
from types import MappingProxyType
from xml.sax.saxutils import quoteattr

from gdbstub.registers import READ_ONLY, REGISTERS, SYSTEM, Register
from hostvm.x86 import Cr0, Cr4, Eflags

_MXCSR_FLAGS = ("IE", "DE", "ZE", "OE", "UE", "PE", "DAZ", "IM", "DM", "ZM", "OM", "UM", "PM")
_MXCSR_FZ = 15


def _bits(flags: type[IntFlag]) -> dict[str, tuple[int, int]]:
    """First and last bit of each flag, by name."""
    spans = {}
    for flag in flags:
        value = int(flag)
        spans[flag.name or ""] = ((value & -value).bit_length() - 1, value.bit_length() - 1)
    # A bit that is always set is no news. GDB knows EFLAGS' first reserved bit by an empty name.
    return {"" if name == "FIXED" else name: span for name, span in spans.items()}


def _eflags() -> dict[str, tuple[int, int]]:
    """GDB finds IOPL, which its own description leaves out, only as two single bits."""
    return {name: span for name, span in _bits(Eflags).items() if name != "IOPL"} | {
        "IOPL": (12, 13)
    }


_FLAG_TYPES: Mapping[str, Mapping[str, tuple[int, int]]] = MappingProxyType(
    {
        "i386_eflags": _eflags(),
        "i386_mxcsr": {name: (bit, bit) for bit, name in enumerate(_MXCSR_FLAGS)}
        | {"FZ": (_MXCSR_FZ, _MXCSR_FZ)},
        "i386_cr0": _bits(Cr0),
        "i386_cr4": _bits(Cr4),
    }
)

_VECTORS = """\
    <vector id="v4f" type="ieee_single" count="4"/>
    <vector id="v2d" type="ieee_double" count="2"/>
    <vector id="v16i8" type="int8" count="16"/>
    <vector id="v8i16" type="int16" count="8"/>
    <vector id="v4i32" type="int32" count="4"/>
    <vector id="v2i64" type="int64" count="2"/>
    <union id="vec128">
      <field name="v4_float" type="v4f"/>
      <field name="v2_double" type="v2d"/>
      <field name="v16_int8" type="v16i8"/>
      <field name="v8_int16" type="v8i16"/>
      <field name="v4_int32" type="v4i32"/>
      <field name="v2_int64" type="v2i64"/>
      <field name="uint128" type="uint128"/>
    </union>
"""


def _flags_type(name: str) -> str:
    fields = "".join(
        f'      <field name="{flag}" start="{first}" end="{last}"'
        + (' type="uint32"' if last > first else "")
        + "/>\n"
        for flag, (first, last) in sorted(_FLAG_TYPES[name].items(), key=lambda item: item[1])
    )
    return f'    <flags id="{name}" size="4">\n{fields}    </flags>\n'


def _register(register: Register, number: int) -> str:
    kept = ' save-restore="no"' if register.feature == SYSTEM or number in READ_ONLY else ""
    return (
        f'    <reg name="{register.name}" bitsize="{register.bits}" type="{register.type}"'
        f' regnum="{number}"{kept}/>\n'
    )


def _feature(name: str, registers: Sequence[tuple[int, Register]]) -> str:
    types = dict.fromkeys(register.type for _, register in registers)
    return "".join(
        (
            f'  <feature name="{name}">\n',
            *(_flags_type(kind) for kind in types if kind in _FLAG_TYPES),
            _VECTORS if "vec128" in types else "",
            *(_register(register, number) for number, register in registers),
            "  </feature>\n",
        )
    )


def target_description() -> bytes:
    """target.xml."""
    features = groupby(enumerate(REGISTERS), key=lambda item: item[1].feature)
    return (
        '<?xml version="1.0"?>\n<!DOCTYPE target SYSTEM "gdb-target.dtd">\n<target version="1.0">\n'
        "  <architecture>i386</architecture>\n  <osabi>none</osabi>\n"
        + "".join(_feature(name, tuple(registers)) for name, registers in features)
        + "</target>\n"
    ).encode()


def thread_list(threads: Iterable[tuple[int, str, str]]) -> bytes:
    """Threads: number, name and what it does."""
    lines = (
        f'  <thread id="{number:x}" name={quoteattr(name)}>{_text(state)}</thread>\n'
        for number, name, state in threads
    )
    return ('<?xml version="1.0"?>\n<threads>\n' + "".join(lines) + "</threads>\n").encode()


def _text(value: str) -> str:
    return value.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def memory_map(ranges: Iterable[tuple[str, int, int]]) -> bytes:
    """Ranges of linear memory: "ram" or "rom", start, length. GDB does not go elsewhere."""
    lines = (
        f'  <memory type="{kind}" start="{start:#x}" length="{length:#x}"/>\n'
        for kind, start, length in ranges
    )
    return ('<?xml version="1.0"?>\n<memory-map>\n' + "".join(lines) + "</memory-map>\n").encode()


def library_list(libraries: Iterable[tuple[str, Sequence[int]]]) -> bytes:
    """Programs besides the main one: file name, and where each of its loadable segments is."""
    lines = []
    for name, segments in libraries:
        places = "".join(f'    <segment address="{address:#x}"/>\n' for address in segments)
        lines.append(f"  <library name={quoteattr(name)}>\n{places}  </library>\n")
    return (
        '<?xml version="1.0"?>\n<library-list>\n' + "".join(lines) + "</library-list>\n"
    ).encode()


__all__ = ["library_list", "memory_map", "target_description", "thread_list"]
