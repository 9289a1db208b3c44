"""Registers, with those that changed marked; flags, control registers and segments in words."""

from __future__ import annotations

from collections.abc import Sequence

from hostvm.cpu_state import CpuState
from hostvm.lguest_regs import REGS_ORDER
from hostvm.x86 import Cr0, Cr4, Eflags
from replay.locations import Location, Register
from tui.changes import CONTROL, GENERAL, SEGMENTS, TABLES, values_of
from tui.panes.pane import Pane, Target, View, mark, saved_register
from tui.text import Fragment, Line, block, over, wrapped
from tui.values import Snapshot

ORDER = (*GENERAL, "eip", "eflags", *SEGMENTS, *CONTROL, *TABLES)
_NO_LOCATION = frozenset({"ldtr"})


def flags(value: int, names: type[Eflags | Cr0 | Cr4]) -> str:
    """The names of the bits that are set."""
    shown = [flag.name for flag in names if value & flag and flag.name and flag.name != "FIXED"]
    if names is Eflags:
        shown = [name for name in shown if name != "IOPL"]
        if value >> 12 & 3:
            shown.append(f"IOPL={value >> 12 & 3}")
    return " ".join(shown)


def _keys(_: Snapshot) -> Sequence[int]:
    return range(len(ORDER))


def draw(shot: Snapshot, width: int, height: int, view: View) -> list[Line]:
    """Groups of registers, each set in as many columns as there is room for."""
    values = values_of(shot.cpu)
    selected = PANE.selected(shot, view.cursor)
    chosen = ORDER[selected] if view.focused and selected is not None else ""
    changed = shot.changed.registers

    def cell(name: str, text: str) -> Line:
        style = "class:changed" if name in changed else ""
        label: Fragment = ("class:dim", f"{mark(name in changed)}{name} ")
        found = (label, (style, text))
        return over(found, "class:cursor") if name == chosen else found

    general = [cell(name, f"{values[name]:08x}") for name in GENERAL]
    lines = wrapped(general, width)
    eip = cell("eip", f"{shot.cpu.eip:08x}")
    lines += wrapped([eip, cell("eflags", f"{shot.cpu.eflags:08x}")], width)
    lines.append((("class:dim", "   "), ("", f"[{flags(shot.cpu.eflags, Eflags)}]")))
    lines += wrapped([_segment(shot.cpu, n, cell) for n in SEGMENTS], width)
    lines += wrapped([cell(name, f"{values[name]:08x}") for name in CONTROL], width)
    cr0, cr4 = flags(shot.cpu.cr[0], Cr0), flags(shot.cpu.cr[3], Cr4)
    lines.append(
        (("class:dim", "   cr0 "), ("", f"[{cr0}]"), ("class:dim", " cr4 "), ("", f"[{cr4}]"))
    )
    tables = [cell("ldtr", f"{values['ldtr']:04x}"), cell("tr", f"{values['tr']:04x}")]
    tables += [
        cell(n, f"{values[n]:08x}/{shot.cpu.tables[i].limit:04x}")
        for n, i in (("gdtr", 2), ("idtr", 3))
    ]
    lines += wrapped(tables, width)
    return block(_scrolled(lines, chosen, height), width, height)


def _segment(cpu: CpuState, name: str, cell: object) -> Line:
    segment = cpu.segs[SEGMENTS.index(name)]
    text = f"{segment.selector:04x}"
    if segment.base or (segment.limit not in (0, 0xFFFFFFFF)):
        text += f"({segment.base:08x}+{segment.limit:x})"
    assert callable(cell)
    found: Line = cell(name, text)
    return found


def _scrolled(lines: list[Line], chosen: str, height: int) -> list[Line]:
    at = next((i for i, ln in enumerate(lines) if any("class:cursor" in s for s, _ in ln)), 0)
    first = max(0, min(at - height // 2, len(lines) - height)) if chosen else 0
    return lines[first:]


def _target(shot: Snapshot, key: int) -> Target:
    name = ORDER[key]
    value = values_of(shot.cpu)[name]
    address = value if name in (*GENERAL, "eip") else None
    location = _location(shot, name)
    return Target(location, address, address, text=name, words=f"${name}", value=value)


def _location(shot: Snapshot, name: str) -> Location | None:
    if shot.away:
        return saved_register(shot, name) if name in REGS_ORDER else None
    return None if name in _NO_LOCATION else Register(name)


def _title(shot: Snapshot) -> str:
    here = shot.position
    return f"Registers of guest {here.guest}, saved" if shot.away else "Registers"


PANE = Pane("registers", _title, draw, _keys, texts=lambda _: ORDER, target=_target)

__all__ = ["ORDER", "PANE", "draw", "flags"]
