"""The whole screen but its last line, as a pure function: status bar, panes with their titles, or a page of text.

Read next: arrangement.py for where things stand, app.py for who shows it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from tui.arrangement import SCREENS, Arrangement, Rectangle, place
from tui.panes import PANES, View, status
from tui.text import EMPTY, Fragment, Line, block, clean, fit
from tui.theme import UNICODE, Glyphs
from tui.values import Snapshot

LEAST_WIDTH, LEAST_HEIGHT = 20, 5


@dataclass(frozen=True, slots=True)
class Page:
    """Text that stands over the panes until it is sent away: help, answers."""

    title: str
    lines: tuple[Line, ...]
    top: int = 0


@dataclass(frozen=True, slots=True)
class Layout:
    """How the user wants the screen: which panes where, which has the focus, and what is selected in each."""

    arrangement: Arrangement = SCREENS["main"]
    name: str = "main"
    focus: str = "code"
    zoomed: bool = False
    cursors: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    page: Page | None = None
    glyphs: Glyphs = UNICODE

    def view(self, pane: str) -> View:
        """How one of the panes is shown."""
        return View(self.cursors.get(pane), pane == self.focus and self.page is None, self.glyphs)


def rectangles(layout: Layout, width: int, height: int) -> list[Rectangle]:
    """Where the panes are, in cells of the whole screen."""
    found = place(layout.arrangement, width, height - status.HEIGHT, layout.focus, layout.zoomed)
    return [Rectangle(r.pane, r.left, r.top + status.HEIGHT, r.width, r.height) for r in found]


def compose(shot: Snapshot, layout: Layout, width: int, height: int, busy: str = "") -> list[Line]:
    """Exactly `height` lines of exactly `width` columns."""
    if width < LEAST_WIDTH or height < LEAST_HEIGHT:
        return block([(("", f"{shot.position.tick:,}"),)], width, height)
    lines = status.draw(shot, width, busy)
    if layout.page is not None:
        return lines + _page(layout.page, width, height - status.HEIGHT, layout.glyphs)
    area = height - status.HEIGHT
    parts: list[list[tuple[int, Line]]] = [[] for _ in range(area)]
    for where in place(layout.arrangement, width, area, layout.focus, layout.zoomed):
        for offset, each in enumerate(_pane(shot, layout, where)):
            parts[where.top + offset].append((where.left, each))
    separator: Fragment = ("class:border", layout.glyphs.down)
    return lines + [_row(row, separator, width) for row in parts]


def _row(parts: list[tuple[int, Line]], separator: Fragment, width: int) -> Line:
    found: list[Fragment] = []
    for number, (_, each) in enumerate(sorted(parts, key=lambda part: part[0])):
        if number:
            found.append(separator)
        found += each
    return fit(tuple(found) if found else EMPTY, width)


def _pane(shot: Snapshot, layout: Layout, where: Rectangle) -> list[Line]:
    pane = PANES[where.pane]
    focused = where.pane == layout.focus
    title = _title(clean(pane.title(shot)), where.width, focused, layout.glyphs)
    body = pane.draw(shot, where.width, where.height - 1, layout.view(where.pane))
    return [title, *body] if where.height > 1 else [title]


def _title(text: str, width: int, focused: bool, glyphs: Glyphs) -> Line:
    shown = f" {text} "[: max(0, width - 2)]
    mark = ">" if focused else glyphs.across
    return (
        ("class:border", glyphs.across),
        ("class:focus" if focused else "class:title", shown),
        ("class:border", mark + glyphs.across * max(0, width - len(shown) - 2)),
    )


def _page(page: Page, width: int, height: int, glyphs: Glyphs) -> list[Line]:
    title = _title(page.title, width, True, glyphs)
    return [title, *block(page.lines[page.top :], width, height - 1)]


__all__ = ["Layout", "Page", "compose", "rectangles"]
