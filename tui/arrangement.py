"""Where panes stand: screens to choose from, and rectangles for any size of terminal.

An arrangement is a row of panes across the top, and columns below it. A terminal too narrow for columns gets one; one
too low for all panes of a column gets as many as there is sense in. The pane with the focus is always there. Pure
functions; read next: screen.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from tui.panes import PANES

NARROW = 100
TOP_SHARE = 0.3
_TITLE = 1


@dataclass(frozen=True, slots=True)
class Share:
    """A pane and its share of the height."""

    pane: str
    weight: int = 10


@dataclass(frozen=True, slots=True)
class Column:
    """Panes from top to bottom, and the column's share of the width."""

    shares: tuple[Share, ...]
    weight: int = 10


@dataclass(frozen=True, slots=True)
class Arrangement:
    """One screen. `top`: the pane across it, if any, and the most lines that it gets."""

    columns: tuple[Column, ...]
    top: str = ""
    top_height: int = 12

    @property
    def panes(self) -> tuple[str, ...]:
        """All panes in the order in which the focus goes round."""
        names = [share.pane for column in self.columns for share in column.shares]
        return (self.top, *names) if self.top else tuple(names)


@dataclass(frozen=True, slots=True)
class Rectangle:
    """A part of the screen; its first line is the pane's title."""

    pane: str
    left: int
    top: int
    width: int
    height: int

    def contains(self, x: int, y: int) -> bool:
        """Whether a cell is in it."""
        return self.left <= x < self.left + self.width and self.top <= y < self.top + self.height


def _column(*shares: tuple[str, int], weight: int = 10) -> Column:
    return Column(tuple(Share(name, share) for name, share in shares), weight)


SCREENS: Mapping[str, Arrangement] = MappingProxyType(
    {
        "main": Arrangement(
            (
                _column(("code", 14), ("events", 10)),
                _column(("registers", 11), ("stack", 8), ("callers", 5), weight=8),
            ),
            top="timeline",
        ),
        "interrupts": Arrangement(
            (
                _column(("idt", 14), ("code", 10)),
                _column(("irq", 12), ("events", 12), weight=11),
            ),
            top="timeline",
            top_height=9,
        ),
        "memory": Arrangement(
            (
                _column(("memory", 14), ("tables", 8), weight=11),
                _column(("registers", 11), ("stack", 12), weight=8),
            )
        ),
        "guest": Arrangement(
            (
                _column(("shared", 12), ("ring", 14)),
                _column(("saved", 14), ("console", 10)),
            )
        ),
        "log": Arrangement((_column(("events", 16), ("console", 8)),), top="timeline"),
    }
)


def place(
    arrangement: Arrangement, width: int, height: int, focus: str, zoomed: bool
) -> list[Rectangle]:
    """Rectangles that fill the area; between columns one cell is left free."""
    if zoomed and focus in PANES:
        return [Rectangle(focus, 0, 0, width, height)]
    found: list[Rectangle] = []
    top = _top_height(arrangement, height, focus)
    if top:
        found.append(Rectangle(arrangement.top, 0, 0, width, top))
    columns = arrangement.columns if width >= NARROW else (_merged(arrangement),)
    left = 0
    for column, size in zip(columns, _widths(columns, width), strict=True):
        found += _stacked(column.shares, left, top, size, height - top, focus)
        left += size + 1
    return found


def _top_height(arrangement: Arrangement, height: int, focus: str) -> int:
    if not arrangement.top:
        return 0
    wanted = min(arrangement.top_height, int(height * TOP_SHARE))
    least = PANES[arrangement.top].least + _TITLE
    if focus == arrangement.top:
        return max(wanted, min(least, height))
    return wanted if wanted >= least and height - wanted >= 8 else 0


def _merged(arrangement: Arrangement) -> Column:
    return Column(tuple(share for column in arrangement.columns for share in column.shares))


def _widths(columns: Sequence[Column], width: int) -> list[int]:
    free = width - (len(columns) - 1)
    whole = sum(column.weight for column in columns)
    sizes = [free * column.weight // whole for column in columns]
    sizes[-1] += free - sum(sizes)
    return sizes


def _stacked(
    shares: Sequence[Share], left: int, top: int, width: int, height: int, focus: str
) -> list[Rectangle]:
    kept = _that_fit(shares, height, focus)
    whole = sum(share.weight for share in kept) or 1
    found: list[Rectangle] = []
    used = 0
    for number, share in enumerate(kept):
        size = max(PANES[share.pane].least + _TITLE, height * share.weight // whole)
        rest = sum(PANES[each.pane].least + _TITLE for each in kept[number + 1 :])
        size = height - used if number == len(kept) - 1 else min(size, height - used - rest)
        if size > 0:
            found.append(Rectangle(share.pane, left, top + used, width, size))
            used += size
    return found


def _that_fit(shares: Sequence[Share], height: int, focus: str) -> list[Share]:
    """As many of the first panes as fit with some sense, the one with the focus among them."""
    room = height
    kept: list[Share] = []
    wanted = sorted(shares, key=lambda share: share.pane != focus)
    for share in wanted:
        need = max(6, PANES[share.pane].least + _TITLE)
        if not kept or need <= room:
            kept.append(share)
            room -= need
    return [share for share in shares if share in kept]


# ---- changing it ------------------------------------------------------------------------------------


def resized(arrangement: Arrangement, pane: str, higher: int, wider: int) -> Arrangement:
    """The same with a pane's height and its column's width changed by some of their shares."""
    columns = []
    for column in arrangement.columns:
        mine = any(share.pane == pane for share in column.shares)
        shares = tuple(
            replace(share, weight=min(60, max(2, share.weight + higher)))
            if share.pane == pane
            else share
            for share in column.shares
        )
        weight = min(40, max(3, column.weight + wider)) if mine else column.weight
        columns.append(Column(shares, weight))
    top = arrangement.top_height
    if pane == arrangement.top:
        top = min(40, max(5, top + higher))
    return replace(arrangement, columns=tuple(columns), top_height=top)


def exchanged(arrangement: Arrangement, old: str, new: str) -> Arrangement:
    """The same with another pane in place of `old`; if `new` is there already, the two change places."""
    swap = {old: new, new: old} if new in arrangement.panes else {old: new}
    columns = tuple(
        replace(
            column,
            shares=tuple(replace(s, pane=swap.get(s.pane, s.pane)) for s in column.shares),
        )
        for column in arrangement.columns
    )
    return replace(arrangement, columns=columns, top=swap.get(arrangement.top, arrangement.top))


__all__ = [
    "NARROW",
    "SCREENS",
    "Arrangement",
    "Column",
    "Rectangle",
    "Share",
    "exchanged",
    "place",
    "resized",
]
