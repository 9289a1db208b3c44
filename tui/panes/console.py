"""What the Guest had written to its console when this moment came: the last lines of it."""

from __future__ import annotations

from collections.abc import Sequence

from tui.panes.pane import Pane, View, note
from tui.text import Line, block, clean
from tui.values import Snapshot


def _lines(shot: Snapshot) -> list[str]:
    text = shot.console.decode("utf-8", "replace").replace("\r", "").expandtabs()
    return [clean(each) for each in text.split("\n")]


def _keys(shot: Snapshot) -> Sequence[int]:
    return range(len(_lines(shot)))


def draw(shot: Snapshot, width: int, height: int, view: View) -> list[Line]:
    """The end of the text, or the lines around the selection; long lines go on below."""
    if not shot.console:
        return note("nothing yet", width, height)
    lines = _lines(shot)
    if view.cursor is not None:
        lines = lines[: max(view.cursor + 1, 1)]
    rows = [part for each in lines[-height:] for part in _folded(each, width)]
    return block([(("", row),) for row in rows[-height:]], width, height)


def _folded(text: str, width: int) -> list[str]:
    return [text[at : at + width] for at in range(0, max(1, len(text)), max(1, width))]


PANE = Pane(
    "console",
    lambda _: "Console",
    draw,
    _keys,
    lambda shot: len(_lines(shot)) - 1,
    _lines,
)

__all__ = ["PANE", "draw"]
