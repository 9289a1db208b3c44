"""The event list: what the log says, one event a line, with the place of this moment in it."""

from __future__ import annotations

from collections.abc import Sequence

from tui.panes.pane import NOTHING, Pane, Target, View, index_in, listing, note
from tui.text import Line, clean
from tui.values import EVERYTHING, EventRow, Snapshot


def _title(shot: Snapshot) -> str:
    events = shot.events
    narrowed = "" if shot.wish.events == EVERYTHING else " (filtered)"
    return f"Events {events.place:,}/{events.total:,}{narrowed}"


def _keys(shot: Snapshot) -> Sequence[int]:
    return [row.ordinal for row in shot.events.rows]


def _here(shot: Snapshot) -> int:
    """The event that comes next."""
    rows = shot.events.rows
    at = shot.events.place - shot.events.first
    return rows[min(at, len(rows) - 1)].ordinal if rows and at >= 0 else 0


def draw(shot: Snapshot, width: int, height: int, view: View) -> list[Line]:
    """The window of the list around the selection; an arrow stands at the events of this tick."""
    rows = shot.events.rows
    if not rows:
        text = "no event of this kind" if shot.events.known else "reading the log ..."
        return note(text, width, height)
    coming = shot.events.place - shot.events.first
    lines = [_line(row, at, coming, shot.position.tick, view) for at, row in enumerate(rows)]
    keys = _keys(shot)
    return listing(lines, index_in(keys, PANE.selected(shot, view.cursor)), width, height, view)


def _line(row: EventRow, at: int, coming: int, tick: int, view: View) -> Line:
    is_now = row.tick == tick
    pointer = view.glyphs.arrow if is_now else ("-" if at == coming else " ")
    past = "class:dim" if at < coming else ""
    return (
        ("class:here", pointer),
        (past, f"{row.tick:>13,} "),
        (past or "class:symbol", f"{row.name:<17.17} "),
        (past, clean(row.details)),
    )


def _target(shot: Snapshot, key: int) -> Target:
    for row in shot.events.rows:
        if row.ordinal == key:
            return Target(tick=row.tick, text=row.name)
    return NOTHING


PANE = Pane(
    "events",
    _title,
    draw,
    _keys,
    _here,
    lambda shot: [f"{row.name} {row.details}" for row in shot.events.rows],
    _target,
)

__all__ = ["PANE", "draw"]
