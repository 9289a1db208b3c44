"""Ways of naming a tick: 1234567, 1,234,567, 20M, 50%, event 42, start, end, failure, @bookmark.

Each may have +N or -N behind it; alone, +N and -N are from the cursor. Read next: timeline.py (seek).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from hostvm.units import Tick
from replay.failure import final_moment

if TYPE_CHECKING:
    from replay.timeline import Timeline

_NUMBER = re.compile(r"([0-9][0-9,_]*)([kMG]?)")
_UNITS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9}
_FROM = re.compile(r"(.*?[^\s+-])\s*([+-]\s*[0-9][0-9,_]*[kMG]?)")
_PERCENT = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*%")
_EVENT = re.compile(r"(?:event|ev)\s*#?\s*([0-9][0-9,_]*)")


class BadPlace(ValueError):
    """Words that name no tick of this history."""


def _number(text: str) -> int:
    digits, unit = text, ""
    if found := _NUMBER.fullmatch(text):
        digits, unit = found.groups()
    return int(digits.replace(",", "").replace("_", "")) * _UNITS[unit]


def tick_of(timeline: Timeline, where: str) -> Tick:
    """The tick that `where` names; it may lie outside history. Raises BadPlace."""
    text = where.strip()
    word = _WORDS.get(text.lower())
    if word is not None:
        return word(timeline)
    if text.startswith("@") and timeline.bookmarks.get(text[1:]) is not None:
        return _bookmark(timeline, text[1:])
    if found := _FROM.fullmatch(text):
        return Tick(tick_of(timeline, found[1]) + _distance(found[2]))
    if text[:1] in ("+", "-") and _NUMBER.fullmatch(text[1:]):
        return Tick(timeline.tick + _distance(text))
    return _alone(timeline, text)


def _start(timeline: Timeline) -> Tick:
    return timeline.first_tick


def _end(timeline: Timeline) -> Tick:
    return timeline.end_tick


def _failure(timeline: Timeline) -> Tick:
    return final_moment(timeline.store, timeline.end_tick)


_WORDS: Mapping[str, Callable[[Timeline], Tick]] = MappingProxyType(
    {
        **dict.fromkeys(("start", "begin", "first"), _start),
        **dict.fromkeys(("end", "last"), _end),
        "failure": _failure,
    }
)


def _alone(timeline: Timeline, text: str) -> Tick:
    """The tick of a place that is neither a word nor near another one."""
    if text.startswith("@"):
        return _bookmark(timeline, text[1:])
    if _NUMBER.fullmatch(text):
        return Tick(_number(text))
    if found := _PERCENT.fullmatch(text):
        return _percent(timeline, float(found[1]))
    if found := _EVENT.fullmatch(text.lower()):
        return _event(timeline, _number(found[1]))
    known = "a tick, N%, event N, start, end, failure, @bookmark, +N or -N"
    raise BadPlace(f"{text!r} is no place: {known}")


def _distance(text: str) -> int:
    return (1 if text[0] == "+" else -1) * _number(text[1:].strip())


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
