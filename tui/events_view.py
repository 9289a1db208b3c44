"""The event list and the timeline's strips as values for the screen; for the engine's thread.

The list is shown a window at a time, whatever its length: which events belong to it is known from the index, and only
those in the window are decoded. Read next: snapshot.py.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from functools import lru_cache

from hostvm.x86 import WORD_MASK
from replay.describe import event_to_text, kind_name
from replay.event_store import EventStore, kind_of
from replay.events import Event, Kind
from tui.event_index import LANES, SWITCHES, EventIndex, guest_of
from tui.values import EVERY_KIND, EventList, EventRow, Filter, Strips, Wish

WINDOW = 160
_HEAD = len(f"{0:>14}  guest 0  {'':<19}  ")


def event_list(
    store: EventStore,
    index: EventIndex,
    wish: Wish,
    tick: int,
    end: int,
    generations: Sequence[str],
) -> EventList:
    """The part of the list around what is wished for; `tick` is where the moment is, `end` where history ends."""
    if not len(index):
        return EventList(known=index.whole)
    ordinals = index.matching(wish.events)
    ordinals = ordinals[: bisect_left(ordinals, index.ordinal_at(end + 1))]
    place = bisect_left(ordinals, index.ordinal_at(tick))
    centre = place if wish.events_at is None else bisect_left(ordinals, wish.events_at)
    first = max(0, min(centre - WINDOW // 2, len(ordinals) - WINDOW))
    chosen = [int(each) for each in ordinals[first : first + WINDOW]]
    rows = tuple(row for each in chosen if (row := row_of(store, each, generations)) is not None)
    return EventList(rows, first, len(ordinals), place, index.whole)


def row_of(store: EventStore, ordinal: int, generations: Sequence[str]) -> EventRow | None:
    """One event as a row."""
    event = store.event(ordinal)
    return None if event is None else _row(event, ordinal, tuple(generations))


@lru_cache(maxsize=2048)
def _row(event: Event, ordinal: int, generations: tuple[str, ...]) -> EventRow:
    details = event_to_text(event, generations)[_HEAD:]
    if len(generations) > 1 and hasattr(event, "guest"):
        details = f"g{guest_of(event)} {details}"
    return EventRow(ordinal, event.tick, kind_of(event), kind_name(event), details)


def strips(index: EventIndex, wish: Wish, first: int, last: int) -> Strips:
    """The density of all lanes over the wished-for span, or the whole history first..last."""
    begin, end = wish.span or (first, last)
    lanes = tuple(
        (lane.name, index.density(lane, begin, end, wish.columns)) for lane in (*LANES, SWITCHES)
    )
    return Strips(begin, end, lanes, None if index.whole else index.known_to)


def search(
    store: EventStore,
    index: EventIndex,
    wish: Wish,
    text: str,
    after: int,
    backwards: bool,
    generations: Sequence[str],
) -> Iterator[EventRow | None]:
    """Look for text in the list's events behind (or before) an ordinal: yield None after each that is not it."""
    ordinals = index.matching(wish.events)
    at = bisect_left(ordinals, after + (0 if backwards else 1))
    places = range(at - 1, -1, -1) if backwards else range(at, len(ordinals))
    wanted = text.lower()
    for place in places:
        row = row_of(store, int(ordinals[place]), generations)
        found = row is not None and wanted in f"{row.name} {row.details}".lower()
        yield row if found else None
        if found:
            return


def filter_named(text: str) -> Filter:
    """The filter that words mean, such as `irq_delivered 0 guest 1`; a word fits every kind that has it in its name.

    Raises ValueError.
    """
    kinds: set[Kind] = set()
    numbers: dict[str, int] = {}
    what = "number"
    for word in text.split():
        if word == "guest":
            what = "guest"
            continue
        if word[:1].isdigit():
            numbers[what] = int(word, 0) & WORD_MASK
            what = "number"
            continue
        fitting = {kind for kind in Kind if word.lower() in kind.name.lower()}
        fitting |= {k for lane in LANES if word.lower() == lane.name.lower() for k in lane.kinds}
        if not fitting:
            names = ", ".join(kind.name.lower() for kind in Kind)
            raise ValueError(f"no kind of event is called {word!r}; there are {names}")
        kinds |= fitting
    if what == "guest":
        raise ValueError("guest which? a number is wanted")
    return Filter(frozenset(kinds) or EVERY_KIND, numbers.get("number"), numbers.get("guest"))


__all__ = ["WINDOW", "event_list", "filter_named", "row_of", "search", "strips"]
