"""What happened, and how to be anywhere in it: traces, recording, replay, time travel.

    import replay

    with replay.open("traces/hello/hello.lgt") as t:
        t.seek("end")
        print(t.last_write(replay.Register("eax")))

docs/python.md has the whole of it, with a worked example. Read next: events.py for what a trace holds, timeline.py for
moving in it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from replay.bookmarks import Bookmark
    from replay.locations import (
        GdtEntry,
        GuestEntry,
        IdtEntry,
        PendingBit,
        RealIdtEntry,
        Register,
        ShadowEntry,
        SharedField,
    )
    from replay.look import CURRENT, GuestPhysicalSpace, GuestSpace, MachineSpace, World
    from replay.moves import Unit
    from replay.places import Place
    from replay.provenance import Write
    from replay.stops import (
        Arrival,
        Breakpoint,
        EventStop,
        Happening,
        Predicate,
        Touch,
        Watchpoint,
    )
    from replay.timeline import Interrupted, Timeline
    from replay.timeline import open_timeline as open  # noqa: A004 - the name people expect
    from replay.whynot import Obstacle, Why

# Loaded when asked for: the command line starts without the CPU engine where it can.
_WHERE = {
    "Arrival": ("replay.stops", "Arrival"),
    "Bookmark": ("replay.bookmarks", "Bookmark"),
    "Breakpoint": ("replay.stops", "Breakpoint"),
    "CURRENT": ("replay.look", "CURRENT"),
    "EventStop": ("replay.stops", "EventStop"),
    "GdtEntry": ("replay.locations", "GdtEntry"),
    "GuestEntry": ("replay.locations", "GuestEntry"),
    "GuestPhysicalSpace": ("replay.look", "GuestPhysicalSpace"),
    "GuestSpace": ("replay.look", "GuestSpace"),
    "Happening": ("replay.stops", "Happening"),
    "IdtEntry": ("replay.locations", "IdtEntry"),
    "Interrupted": ("replay.timeline", "Interrupted"),
    "MachineSpace": ("replay.look", "MachineSpace"),
    "Obstacle": ("replay.whynot", "Obstacle"),
    "PendingBit": ("replay.locations", "PendingBit"),
    "Place": ("replay.places", "Place"),
    "Predicate": ("replay.stops", "Predicate"),
    "RealIdtEntry": ("replay.locations", "RealIdtEntry"),
    "Register": ("replay.locations", "Register"),
    "ShadowEntry": ("replay.locations", "ShadowEntry"),
    "SharedField": ("replay.locations", "SharedField"),
    "Timeline": ("replay.timeline", "Timeline"),
    "Touch": ("replay.stops", "Touch"),
    "Unit": ("replay.moves", "Unit"),
    "Watchpoint": ("replay.stops", "Watchpoint"),
    "Why": ("replay.whynot", "Why"),
    "World": ("replay.look", "World"),
    "Write": ("replay.provenance", "Write"),
    "open": ("replay.timeline", "open_timeline"),
}


def __getattr__(name: str) -> Any:
    try:
        module, attribute = _WHERE[name]
    except KeyError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
    return getattr(import_module(module), attribute)


__all__ = [
    "CURRENT",
    "Arrival",
    "Bookmark",
    "Breakpoint",
    "EventStop",
    "GdtEntry",
    "GuestEntry",
    "GuestPhysicalSpace",
    "GuestSpace",
    "Happening",
    "IdtEntry",
    "Interrupted",
    "MachineSpace",
    "Obstacle",
    "PendingBit",
    "Place",
    "Predicate",
    "RealIdtEntry",
    "Register",
    "ShadowEntry",
    "SharedField",
    "Timeline",
    "Touch",
    "Unit",
    "Watchpoint",
    "Why",
    "World",
    "Write",
    "open",
]
