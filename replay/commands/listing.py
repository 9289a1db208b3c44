"""What `lgreplay events` does: choose, and write a line for each."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

import click

from hostvm.units import Tick
from replay.describe import event_to_json, event_to_text
from replay.errors import TraceTruncated
from replay.events import Event, Kind
from replay.layouts import LAYOUTS
from replay.log import TraceReader

_Formatter: TypeAlias = Callable[[Event], str]


@dataclass(frozen=True, slots=True)
class Selection:
    """Which events to show: of these classes (None: of all), from tick `first` to tick `last`, both included."""

    classes: frozenset[type[Event]] | None
    first: Tick | None
    last: Tick | None

    @classmethod
    def of(cls, kinds: tuple[str, ...], first: int | None, last: int | None) -> Selection:
        """Understand names of kinds, written with _ or -, in any case.

        Raises: click.UsageError for a name that is none.
        """
        classes = frozenset(_class_named(name) for name in kinds) if kinds else None
        return cls(
            classes,
            None if first is None else Tick(first),
            None if last is None else Tick(last),
        )

    def events(self, reader: TraceReader) -> Iterator[Event]:
        """Yield what is chosen."""
        for event in reader.events(self.first, self.last):
            if self.classes is None or type(event) in self.classes:
                yield event


def _class_named(name: str) -> type[Event]:
    try:
        return LAYOUTS[Kind[name.upper().replace("-", "_")]].event
    except KeyError:
        names = ", ".join(kind.name.lower() for kind in Kind)
        raise click.UsageError(f"no kind of event is called {name!r}; there are {names}") from None


def list_events(trace: str, selection: Selection, layout: str, *, salvage: bool) -> None:
    """Write the chosen events to stdout.

    Raises: TraceTruncated when the trace has no end, after all that there is.
    """
    with TraceReader(trace, salvage=salvage) as reader:
        line = _formatter(layout, [guest.abi for guest in reader.header.guests])
        for event in selection.events(reader):
            sys.stdout.write(line(event) + "\n")
        if not reader.complete:
            text = reader.damage.text if reader.damage else "the trace ends here, unfinished"
            raise TraceTruncated(reader.path, reader.torn_at or 0, text)


def _formatter(layout: str, generations: list[str]) -> _Formatter:
    if layout == "jsonl":
        return lambda event: json.dumps(event_to_json(event, generations), separators=(",", ":"))
    return lambda event: event_to_text(event, generations)


__all__ = ["Selection", "list_events"]
