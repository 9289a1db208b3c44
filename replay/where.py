"""Ways of naming a tick: 1234567, 1,234,567, 50%, event 42, start, end, @bookmark, and +N or -N from the cursor.

Read next: timeline.py (seek).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from hostvm.units import Tick

if TYPE_CHECKING:
    from replay.timeline import Timeline

_NUMBER = re.compile(r"[0-9][0-9,_]*")
_PERCENT = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*%")
_EVENT = re.compile(r"(?:event|ev)\s*#?\s*([0-9][0-9,_]*)")


class BadPlace(ValueError):
    """Words that name no tick of this history."""


def _number(text: str) -> int:
    return int(text.replace(",", "").replace("_", ""))


def tick_of(timeline: Timeline, where: str) -> Tick:
    """The tick that `where` names; it may lie outside history. Raises BadPlace."""
    text = where.strip()
    words = text.lower()
    if words in ("start", "begin", "first"):
        return timeline.first_tick
    if words in ("end", "last"):
        return timeline.end_tick
    if text.startswith("@"):
        return _bookmark(timeline, text[1:])
    if text[:1] in "+-" and _NUMBER.fullmatch(text[1:]):
        return Tick(timeline.tick + (1 if text[0] == "+" else -1) * _number(text[1:]))
    if _NUMBER.fullmatch(text):
        return Tick(_number(text))
    if found := _PERCENT.fullmatch(text):
        return _percent(timeline, float(found[1]))
    if found := _EVENT.fullmatch(words):
        return _event(timeline, _number(found[1]))
    raise BadPlace(f"{where!r} is no place: a tick, N%, event N, start, end, @bookmark, +N or -N")


def _bookmark(timeline: Timeline, name: str) -> Tick:
    mark = timeline.bookmarks.get(name)
    if mark is None:
        raise BadPlace(f"there is no bookmark called {name!r}")
    return mark.tick


def _percent(timeline: Timeline, percent: float) -> Tick:
    if percent > 100:
        raise BadPlace(f"{percent:g}% is behind the end")
    span = timeline.end_tick - timeline.first_tick
    return Tick(timeline.first_tick + int(span * percent / 100))


def _event(timeline: Timeline, number: int) -> Tick:
    event = timeline.store.event(number - timeline.store.first_number)
    if event is None:
        raise BadPlace(f"there is no event {number}; the trace has {len(timeline.store)}")
    return event.tick


__all__ = ["BadPlace", "tick_of"]
