"""The mouse: a click focuses and, on the timeline, seeks; the wheel moves the selection.

Read next: in_pane.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prompt_toolkit.mouse_events import MouseButton, MouseEvent, MouseEventType

from tui.in_pane import move_selection
from tui.panes.timeline import LABEL, tick_of

if TYPE_CHECKING:
    from tui.app import Tui

_WHEEL = {MouseEventType.SCROLL_DOWN: 3, MouseEventType.SCROLL_UP: -3}


def clicked(tui: Tui, event: MouseEvent) -> None:
    """Do what the mouse says."""
    x, y = event.position.x, event.position.y
    where = next((r for r in tui.rectangles() if r.contains(x, y)), None)
    if where is None or tui.shot is None:
        return
    if event.event_type in _WHEEL:
        tui.change(focus=where.pane)
        move_selection(tui, _WHEEL[event.event_type])
    elif event.event_type is MouseEventType.MOUSE_UP and event.button is MouseButton.LEFT:
        tui.change(focus=where.pane)
        if where.pane == "timeline" and x - where.left >= LABEL:
            tick = tick_of(tui.shot, x - where.left - LABEL, where.width - LABEL)
            tui.move(lambda desk: desk.seek(tick), "seeking")


__all__ = ["clicked"]
