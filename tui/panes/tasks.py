"""The processes of a Linux in the Guest that is shown, the current one marked; where there is no Linux, why not."""

from __future__ import annotations

from collections.abc import Sequence

from replay.places import Place
from tui.panes.pane import Pane, Target, View, listing, note
from tui.text import Line, clean
from tui.values import Snapshot, TaskRow

HEADER = "     pid name              state                  task     kernel stack"


def _title(shot: Snapshot) -> str:
    current = next((f", {clean(each.name)} is current" for each in shot.tasks if each.current), "")
    return f"Tasks {len(shot.tasks)}{current}"


def _keys(shot: Snapshot) -> Sequence[int]:
    return range(len(shot.tasks))


def _here(shot: Snapshot) -> int:
    return next((at for at, each in enumerate(shot.tasks) if each.current), 0)


def draw(shot: Snapshot, width: int, height: int, view: View) -> list[Line]:
    """A process a line."""
    if not shot.tasks:
        return note(clean(shot.no_tasks), width, height)
    rows = [_line(each, view) for each in shot.tasks]
    header: list[Line] = [(("class:dim", HEADER.ljust(width)[:width]),)] if height > 3 else []
    selected = PANE.selected(shot, view.cursor)
    return header + listing(rows, selected, width, height - len(header), view)


def _line(each: TaskRow, view: View) -> Line:
    pid = "?" if each.pid is None else str(each.pid)
    style = "class:here" if each.current else ""
    return (
        (style, f" {view.glyphs.arrow if each.current else ' '}{pid:>6} "),
        (style or "class:symbol", f"{clean(each.name):<17.17} "),
        ("", f"{each.state:<22.22} "),
        ("class:address", f"{each.address:08x} {each.stack:08x}"),
    )


def _target(shot: Snapshot, key: int) -> Target:
    each = shot.tasks[key]
    return Target(Place(each.address, 4, shot.space), data=each.address, text=clean(each.name))


PANE = Pane(
    "tasks",
    _title,
    draw,
    _keys,
    _here,
    lambda shot: [each.name for each in shot.tasks],
    _target,
)

__all__ = ["HEADER", "PANE", "draw"]
