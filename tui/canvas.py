"""The part of the terminal that panes draw on: a prompt_toolkit container made of lines instead of widgets.

prompt_toolkit compares each screen with the one before and writes only what differs. What costs is making the screen,
cell by cell; so the cells of a line are made once and kept, and a line that stays costs next to nothing.

Read next: screen.py for the lines, app.py.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING

from prompt_toolkit.layout.containers import Container
from prompt_toolkit.layout.dimension import Dimension
from prompt_toolkit.layout.mouse_handlers import MouseHandlers
from prompt_toolkit.layout.screen import Char, Screen, WritePosition
from prompt_toolkit.mouse_events import MouseEvent

from tui.text import Line

if TYPE_CHECKING:
    from prompt_toolkit.key_binding.key_bindings import NotImplementedOrNone

_BLANK = Char(" ", "")


def _blank() -> Char:
    return _BLANK


@lru_cache(maxsize=8192)
def _char(text: str, style: str) -> Char:
    return Char(text, style)


@lru_cache(maxsize=1024)
def _cells(line: Line) -> defaultdict[int, Char]:
    row: defaultdict[int, Char] = defaultdict(_blank)
    column = 0
    for style, text in line:
        for char in text:
            row[column] = _char(char, style)
            column += 1
    return row


class Canvas(Container):
    """Shows `lines(width, height)`; mouse events go to `clicked`."""

    def __init__(
        self,
        lines: Callable[[int, int], list[Line]],
        clicked: Callable[[MouseEvent], NotImplementedOrNone],
    ) -> None:
        self._lines = lines
        self._clicked = clicked

    def reset(self) -> None:
        """Nothing is kept here."""

    def preferred_width(self, max_available_width: int) -> Dimension:
        """As much as there is."""
        return Dimension(weight=1)

    def preferred_height(self, width: int, max_available_height: int) -> Dimension:
        """As much as there is."""
        return Dimension(weight=1)

    def get_children(self) -> list[Container]:
        """None."""
        return []

    def write_to_screen(
        self,
        screen: Screen,
        mouse_handlers: MouseHandlers,
        write_position: WritePosition,
        parent_style: str,
        erase_bg: bool,
        z_index: int | None,
    ) -> None:
        """Put the lines on the screen; the first column of the area must be the screen's."""
        width, height = write_position.width, write_position.height
        assert write_position.xpos == 0
        for offset, line in enumerate(self._lines(width, height)):
            # A copy, since menus are drawn over it.
            screen.data_buffer[write_position.ypos + offset] = _cells(line).copy()
        screen.width = max(screen.width, width)
        screen.height = max(screen.height, write_position.ypos + height)
        mouse_handlers.set_mouse_handler_for_range(
            x_min=0,
            x_max=width,
            y_min=write_position.ypos,
            y_max=write_position.ypos + height,
            handler=self._clicked,
        )


__all__ = ["Canvas"]
