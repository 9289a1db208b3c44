"""What is selected, and what it becomes when one moves: pure functions of snapshot and layout. Read next: app.py."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from replay.events import Kind
from tui.panes import PANES, Target
from tui.panes.memory import row_size
from tui.panes.pane import NOTHING
from tui.screen import Layout
from tui.values import Snapshot

_EDGE = 24
_FARTHEST = 1 << 20
_WORD = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class Moved:
    """A selection that moved. `key`: select it. The others are what to see besides, where the pane has to go on."""

    key: int | None = None
    code_at: int | None = None
    memory_at: int | None = None
    events_at: int | None = None
    event_place: int | None = None


def key_of(shot: Snapshot, layout: Layout, name: str) -> int | None:
    """What is selected in a pane."""
    return PANES[name].selected(shot, layout.cursors.get(name))


def target(shot: Snapshot, layout: Layout) -> Target:
    """What can be done with what is selected in the pane with the focus."""
    key = key_of(shot, layout, layout.focus)
    return NOTHING if key is None else PANES[layout.focus].target(shot, key)


def branch_target(shot: Snapshot, layout: Layout) -> int | None:
    """Where the instruction selected in the code leads."""
    key = key_of(shot, layout, "code")
    return next((each.target for each in shot.code if each.address == key), None)


def event_kind(shot: Snapshot, layout: Layout) -> Kind | None:
    """Kind of the event selected in the list."""
    key = key_of(shot, layout, "events")
    return next((row.kind for row in shot.events.rows if row.ordinal == key), None)


def moved(shot: Snapshot, layout: Layout, by: int, width: int, *, sideways: bool) -> Moved:
    """The selection of the pane with the focus, `width` columns wide, so many lines down (or cells to the right)."""
    name = layout.focus
    keys = PANES[name].keys(shot)
    if not keys:
        return Moved()
    key = key_of(shot, layout, name)
    step = row_size(width) if name == "memory" and not sideways else 1
    at = (keys.index(key) if key in keys else 0) + by * step
    inside = 0 <= at < len(keys)
    if name == "memory" and not inside and abs(at) < _FARTHEST:
        return Moved(memory_at=(keys[0] + at) & _WORD & ~0xF)
    if name == "events" and not inside:
        place = shot.events.first + at
        return Moved(event_place=max(0, min(place, shot.events.total - 1)))
    return _inside(name, keys, max(0, min(at, len(keys) - 1)))


def _inside(name: str, keys: Sequence[int], at: int) -> Moved:
    key = keys[at]
    if _EDGE <= at < len(keys) - _EDGE:
        return Moved(key)
    match name:
        case "events":
            return Moved(key, events_at=key)
        case "code":
            return Moved(key, code_at=key)
    return Moved(key)


def found(shot: Snapshot, layout: Layout, text: str, *, backwards: bool) -> int | None:
    """The next line of the pane with the focus that has a text in it, as its key."""
    pane = PANES[layout.focus]
    texts, keys = pane.texts(shot), pane.keys(shot)
    key = key_of(shot, layout, layout.focus)
    at = keys.index(key) if key in keys else 0
    order = range(at - 1, -1, -1) if backwards else range(at + 1, len(texts))
    wanted = text.lower()
    return next((keys[i] for i in order if i < len(keys) and wanted in texts[i].lower()), None)


__all__ = ["Moved", "branch_target", "event_kind", "found", "key_of", "moved", "target"]
