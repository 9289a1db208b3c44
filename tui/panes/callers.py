"""The backtrace, as far as symbols and the look of the stack allow; `?` stands where it is a guess."""

from __future__ import annotations

from collections.abc import Sequence

from replay.places import Place
from tui.panes.pane import Pane, Target, View, listing
from tui.text import Line, clean
from tui.values import Caller, Snapshot


def _keys(shot: Snapshot) -> Sequence[int]:
    return range(len(shot.callers))


def draw(shot: Snapshot, width: int, height: int, view: View) -> list[Line]:
    """A place a line, innermost first."""
    rows = [_line(number, each) for number, each in enumerate(shot.callers)]
    return listing(rows, PANE.selected(shot, view.cursor), width, height, view)


def _line(number: int, each: Caller) -> Line:
    return (
        ("", f"{number:>2} {' ' if each.sure else '?'} "),
        ("class:address", f"{each.eip:08x} "),
        ("class:symbol", clean(each.symbol)),
        ("class:source", f"  {clean(each.source)}" if each.source else ""),
    )


def _target(shot: Snapshot, key: int) -> Target:
    each = shot.callers[key]
    place = None if each.at is None else Place(each.at, 4, shot.space)
    return Target(place, each.eip, each.at, text=clean(each.symbol) or f"{each.eip:08x}")


PANE = Pane(
    "callers",
    lambda _: "Backtrace",
    draw,
    _keys,
    texts=lambda shot: [each.symbol for each in shot.callers],
    target=_target,
)

__all__ = ["PANE", "draw"]
