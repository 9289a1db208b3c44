"""Which pane stands beside another, as one sees it. A pure function."""

from __future__ import annotations

from collections.abc import Sequence

from tui.arrangement import Rectangle


def beside(places: Sequence[Rectangle], focus: str, dx: int, dy: int) -> str:
    """The pane that one comes to from the middle of `focus` in a direction; `focus` itself if there is none."""
    here = next((each for each in places if each.pane == focus), None)
    if here is None:
        return focus
    x, y = here.left + here.width // 2, here.top + here.height // 2
    found = [
        (_distance(each, here, x, y, across=dx != 0), each.pane)
        for each in places
        if _lies(each, here, dx, dy)
    ]
    return min(found)[1] if found else focus


def _lies(each: Rectangle, here: Rectangle, dx: int, dy: int) -> bool:
    if dx:
        return (
            each.left >= here.left + here.width if dx > 0 else each.left + each.width <= here.left
        )
    return each.top >= here.top + here.height if dy > 0 else each.top + each.height <= here.top


def _distance(each: Rectangle, here: Rectangle, x: int, y: int, *, across: bool) -> int:
    dx = abs(each.left + each.width // 2 - x)
    dy = abs(each.top + each.height // 2 - y)
    return dx + 4 * dy if across else dy + (dx // 4 if each.width < here.width else 0)


__all__ = ["beside"]
