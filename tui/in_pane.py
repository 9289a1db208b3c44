"""Moving and searching inside the pane that has the focus.

A pane shows a part of something longer. Where a selection leaves that part, or a search finds something outside of it,
another part has to be seen; what the event list has not read yet only the engine can find.

Read next: selection.py, which says where a move leads.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from tui import selection
from tui.selection import Moved

if TYPE_CHECKING:
    from tui.app import Tui


def move_selection(tui: Tui, by: int, *, sideways: bool = False) -> None:
    """Move the selection, or the page that stands over the panes."""
    page = tui.layout.page
    if page is not None:
        top = max(0, min(page.top + by, len(page.lines) - 1))
        tui.change(page=replace(page, top=top))
    elif tui.shot is not None:
        name = tui.layout.focus
        width = next((r.width for r in tui.rectangles() if r.pane == name), 80)
        _take(tui, name, selection.moved(tui.shot, tui.layout, by, width, sideways=sideways))


def _take(tui: Tui, name: str, moved: Moved) -> None:
    if moved.key is not None:
        tui.select(name, moved.key)
    if moved.memory_at is not None:
        tui.unselect("memory")
        tui.see(memory_at=f"{moved.memory_at:#x}")
    if moved.code_at is not None:
        tui.see(code_at=moved.code_at)
    if moved.events_at is not None:
        tui.see(events_at=moved.events_at)
    if moved.event_place is not None:
        wish, place = tui.wish, moved.event_place
        tui.move(lambda desk: desk.event_at(wish, place), stays=True)


def select_from(tui: Tui, pane: str, key: int) -> None:
    """Select something in a pane and see it, with what comes behind it."""
    tui.select(pane, key)
    tui.focus_on(pane)
    if pane == "events":
        tui.see(events_at=key)
    elif pane == "code":
        tui.see(code_at=key)


def search_on(tui: Tui, *, backwards: bool) -> None:
    """Go to the next place in the pane that has the searched-for text."""
    text, name = tui.searched, tui.layout.focus
    if not text or tui.shot is None:
        tui.say("search for what? / asks", refused=True)
        return
    if name == "events":
        _search_events(tui, text, backwards=backwards)
        return
    found = selection.found(tui.shot, tui.layout, text, backwards=backwards)
    if found is None:
        tui.say(f"no line of this pane has {text!r} in it", refused=True)
    else:
        tui.select(name, found)


def _search_events(tui: Tui, text: str, *, backwards: bool) -> None:
    assert tui.shot is not None
    wish, key = tui.wish, selection.key_of(tui.shot, tui.layout, "events")
    after = -1 if key is None else key
    tui.move(
        lambda desk: desk.find_event(wish, text, after, backwards=backwards),
        f"searching {text}",
        stays=True,
    )


__all__ = ["move_selection", "search_on", "select_from"]
