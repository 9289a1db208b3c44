"""The IDT, twice: what the Guest asked for, and what the CPU has while the Guest runs.

A vector whose real gate leads straight to the Guest's handler is `direct`; `default` means that the Switcher catches
it. `*` marks what has changed. Source: Intel SDM 3A 6.11.
"""

from __future__ import annotations

from collections.abc import Sequence

from hostvm.x86 import GateType, gate_dpl, gate_offset, gate_present, gate_type
from replay.locations import IdtEntry
from tui.panes.pane import Pane, Target, View, listing, mark, style_if
from tui.text import Line, clean
from tui.values import Gate, Snapshot

_TYPES = {
    GateType.TASK: "task",
    GateType.INTERRUPT_16: "int16",
    GateType.TRAP_16: "trap16",
    GateType.INTERRUPT: "int",
    GateType.TRAP: "trap",
}
HEADER = "  vec name      gate  dpl handler  in the CPU"


def _type(hi: int) -> str:
    kind = gate_type(hi)
    return _TYPES[GateType(kind)] if kind in set(GateType) else f"{kind:#x}"


def _title(shot: Snapshot) -> str:
    present = sum(gate_present(gate.hi) for gate in shot.gates)
    changed = len(shot.changed.vectors)
    since = f" since {shot.changed.since}" if shot.changed.since else ""
    away = f" of guest {shot.position.guest}" if shot.away else ""
    return f"IDT {present} gates{away}" + (f", {changed} changed{since}" if changed else "")


def _keys(shot: Snapshot) -> Sequence[int]:
    return range(len(shot.gates))


def draw(shot: Snapshot, width: int, height: int, view: View) -> list[Line]:
    """A header and the vectors."""
    rows = [_line(gate, gate.vector in shot.changed.vectors) for gate in shot.gates]
    selected = PANE.selected(shot, view.cursor)
    header: list[Line] = [(("class:dim", HEADER.ljust(width)[:width]),)] if height > 3 else []
    return header + listing(rows, selected, width, height - len(header), view)


def _line(gate: Gate, changed: bool) -> Line:
    start = f"{mark(changed)} {gate.vector:02x}  {gate.name:<8.8} "
    style = style_if(changed, "changed")
    real = f"{gate.way:<7} "
    if gate.way == "direct":
        real += f"dpl {gate_dpl(gate.real_hi)}"
    if not gate_present(gate.hi):
        return ((style or "class:dim", f"{start} -     -  -        "), ("class:dim", f" {real}"))
    return (
        (style, f"{start} {_type(gate.hi):<6}{gate_dpl(gate.hi)}  "),
        (style or "class:address", f"{gate_offset(gate.lo, gate.hi):08x} "),
        ("class:good" if gate.way == "direct" else "class:dim", f" {real:<14}"),
        ("class:symbol", clean(gate.handler)),
    )


def _target(shot: Snapshot, key: int) -> Target:
    gate = shot.gates[key]
    handler = gate_offset(gate.lo, gate.hi) if gate_present(gate.hi) else None
    place = IdtEntry(key, shot.position.guest)
    return Target(location=place, code=handler, text=f"gate {key:#x} {gate.name}".rstrip())


PANE = Pane(
    "idt",
    _title,
    draw,
    _keys,
    texts=lambda shot: [f"{g.vector:02x} {g.name} {g.handler} {g.way}" for g in shot.gates],
    target=_target,
)

__all__ = ["PANE", "draw"]
