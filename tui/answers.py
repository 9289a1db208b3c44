"""Answers in words: why a move ended, who wrote something, what keeps an interrupt away. Pure functions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from replay.describe import event_to_text
from replay.provenance import Write
from replay.stops import (
    Arrival,
    BreakpointHit,
    Cancelled,
    EventMet,
    HistoryEnd,
    HistoryStart,
    InstructionMet,
    PredicateTrue,
    Reason,
    Stepped,
    WatchHit,
)
from replay.whynot import Obstacle
from tui.text import Line, clean


def arrival_text(arrival: Arrival, stops: Mapping[int, str], generations: Sequence[str]) -> str:
    """Why a move ended, in a line; empty for a step that was simply made."""
    texts = [_reason(reason, stops, generations) for reason in arrival.reasons]
    return "; ".join(dict.fromkeys(text for text in texts if text))


def _reason(reason: Reason, stops: Mapping[int, str], generations: Sequence[str]) -> str:
    match reason:
        case Stepped():
            return ""
        case BreakpointHit(number) | PredicateTrue(number) | InstructionMet(number):
            return _stop(number, stops)
        case WatchHit(number=number, old=old, new=new, by=by):
            change = f"{_value(old)} -> {_value(new)}" if old != new else _value(new)
            return f"{_stop(number, stops)}: {change} by {by.value}"
        case EventMet(number, event):
            text = " ".join(event_to_text(event, generations).split()[3:])
            return f"{_stop(number, stops)}: {text}" if number in stops else text
        case HistoryStart():
            return "the beginning of history"
        case HistoryEnd():
            return "the end of history"
        case Cancelled():
            return "interrupted"


def _stop(number: int, stops: Mapping[int, str]) -> str:
    return f"stop {number} ({stops[number]})" if number in stops else "there"


def _value(raw: bytes) -> str:
    if len(raw) in (1, 2, 4):
        return f"{int.from_bytes(raw, 'little'):#0{2 + 2 * len(raw)}x}"
    return raw[:16].hex(" ") or "nothing"


def write_lines(write: Write, name: str) -> str:
    """Who wrote it, what was there, what is."""
    where = f" at {write.eip:08x}" + (f" {write.where}" if write.where else "")
    change = f"{_value(write.old)} -> {_value(write.new)}"
    return clean(f"{name}: {change} at tick {write.tick:,} by {write.by.value}{where}")


def obstacle_lines(obstacles: Sequence[Obstacle], tick: int) -> Iterator[Line]:
    """Each reason, since when and until when."""
    for each in obstacles:
        yield (("class:warn", f"  {each.why.value}"),)
        since = f"    since tick {each.since:,} ({tick - each.since:,} ticks ago)"
        if each.until is None:
            until = ", to the end of history"
        else:
            until = f", until tick {each.until:,} (in {each.until - tick:,})"
        yield (("", since + until),)
    yield ()
    yield (("class:dim", "  Escape closes this."),)


__all__ = ["arrival_text", "obstacle_lines", "write_lines"]
