"""Hypothesis strategies for events, made from the codec's own table."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import strategies as st

from hostvm.observations import EndReason
from hostvm.units import Tick
from replay import packings as p
from replay.events import Event, RandomChoice
from replay.layouts import LAYOUTS, Layout

WORDS = st.integers(0, 0xFFFFFFFF)
OF_PACKING: dict[str, st.SearchStrategy[Any]] = {
    "data": st.binary(max_size=40),
    "digest": st.binary(max_size=p.MAX_DIGEST),
    "text": st.text(max_size=20, alphabet=st.characters()),
    "flag": st.booleans(),
    "args": st.lists(WORDS, max_size=p.MAX_ARGS).map(tuple),
    "counts": st.dictionaries(st.integers(0, 255), st.integers(0, (1 << 64) - 1), max_size=5).map(
        lambda counts: tuple(sorted(counts.items()))
    ),
    "reason": st.sampled_from(EndReason),
}


def _field(packing: p.Packing) -> st.SearchStrategy[Any]:
    if packing.limit is None:
        return OF_PACKING[packing.text]
    # Small numbers and borders are where the encodings change.
    return st.integers(0, packing.limit) | st.integers(0, min(300, packing.limit))


def _event(layout: Layout) -> st.SearchStrategy[Event]:
    made: Any = layout.event
    fields = {field.name: _field(field.packing) for field in layout.fields}
    return st.builds(made, tick=st.just(0), **fields)


def _possible(event: Event) -> Event:
    if isinstance(event, RandomChoice):
        return replace(event, bound=max(1, event.bound), value=event.value % max(1, event.bound))
    return event


ANY_EVENT: st.SearchStrategy[Event] = st.one_of(*map(_event, LAYOUTS.values())).map(_possible)
STEPS = st.integers(0, 50) | st.integers(0, 1 << 40)


def _in_order(pairs: list[tuple[int, Event]]) -> list[Event]:
    tick = 0
    events = []
    for step, event in pairs:
        tick += step
        events.append(replace(event, tick=Tick(tick)))
    return events


def events(max_size: int = 30) -> st.SearchStrategy[list[Event]]:
    """Lists of events whose ticks do not go back."""
    return st.lists(st.tuples(STEPS, ANY_EVENT), max_size=max_size).map(_in_order)
