"""The timeline: a strip of density for each kind of event, with bookmarks, and where in it this moment is."""

from __future__ import annotations

from collections.abc import Sequence

from tui.panes.pane import Pane, View, note
from tui.text import Line, block, clean
from tui.theme import Glyphs
from tui.values import Snapshot

LABEL = 11


def column_of(shot: Snapshot, tick: int, columns: int) -> int | None:
    """The column of a tick, if the strip has it."""
    first, last = shot.strips.first, shot.strips.last
    if not first <= tick <= last or columns < 1:
        return None
    return min(columns - 1, (tick - first) * columns // max(1, last + 1 - first))


def tick_of(shot: Snapshot, column: int, columns: int) -> int:
    """The first tick of a column."""
    first, last = shot.strips.first, shot.strips.last
    return first + (last + 1 - first) * max(0, min(column, columns - 1)) // max(1, columns)


def _resampled(counts: Sequence[int], columns: int) -> list[int]:
    if len(counts) == columns or not counts:
        return list(counts) or [0] * columns
    found = [0] * columns
    for at, count in enumerate(counts):
        place = min(columns - 1, at * columns // len(counts))
        found[place] = found[place] + count if columns < len(counts) else max(found[place], count)
    return found


def _strip(counts: Sequence[int], glyphs: Glyphs) -> str:
    most = max(counts, default=0)
    levels = len(glyphs.steps) - 1
    return "".join(glyphs.steps[-(-count * levels // most) if count else 0] for count in counts)


def draw(shot: Snapshot, width: int, height: int, view: View) -> list[Line]:
    """Lanes from top to bottom; the last lines are bookmarks if there are any, cursor and scale."""
    columns = width - LABEL
    if columns < 8:
        return note("too narrow", width, height)
    lanes = [(n, _resampled(c, columns)) for n, c in shot.strips.lanes]
    marks = [_marks(shot, columns, view)] if shot.bookmarks else []
    room = max(0, height - 2 - len(marks))
    if len(lanes) > room:
        lanes = sorted(lanes, key=lambda lane: not any(lane[1]))[:room]
    lines: list[Line] = []
    here = column_of(shot, shot.position.tick, columns)
    for name, counts in lanes:
        strip = _strip(counts, view.glyphs)
        lines.append((("class:dim", f"{name:>{LABEL - 1}} "), *_with_cursor(strip, here)))
    lines += [*marks, _pointer(here, columns, view), _scale(shot, columns)]
    return block(lines[-height:] if height < 3 else lines, width, height)


def _with_cursor(strip: str, here: int | None) -> Line:
    if here is None:
        return (("class:lane", strip),)
    return (
        ("class:lane", strip[:here]),
        ("class:lane reverse", strip[here]),
        ("class:lane", strip[here + 1 :]),
    )


def _marks(shot: Snapshot, columns: int, view: View) -> Line:
    row = [" "] * columns
    for bookmark in shot.bookmarks:
        at = column_of(shot, bookmark.tick, columns)
        if at is None:
            continue
        for offset, char in enumerate(view.glyphs.mark + clean(bookmark.name)):
            if at + offset < columns and row[at + offset] == " ":
                row[at + offset] = char
    return (("class:dim", f"{'marks':>{LABEL - 1}} "), ("class:symbol", "".join(row)))


def _pointer(here: int | None, columns: int, view: View) -> Line:
    row = " " * columns if here is None else " " * here + view.glyphs.cursor
    return (("", " " * LABEL), ("class:here", row))


def _scale(shot: Snapshot, columns: int) -> Line:
    strips = shot.strips
    first, last = f"{strips.first:,}", f"{strips.last:,}"
    known = "" if strips.known_to is None else f" (events known to {strips.known_to:,})"
    middle = f"{(strips.last - strips.first) / columns:,.0f} ticks a column{known}"
    gap = max(1, (columns - len(first) - len(middle) - len(last)) // 2)
    return (("", " " * LABEL), ("class:dim", f"{first}{' ' * gap}{middle}{' ' * gap}{last}"))


PANE = Pane("timeline", lambda _: "Timeline", draw, least=4)

__all__ = ["LABEL", "PANE", "column_of", "draw", "tick_of"]
