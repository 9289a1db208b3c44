"""What is kept of a session from one time to the next: screen, stops, place, and the commands typed.

It lies in a small JSON file for each trace, by the trace's id, where the user's programs keep their state
(XDG_STATE_HOME). Nothing depends on it: a file that cannot be read or is not what it should be is as none, and one that
cannot be written is not written. Bookmarks are elsewhere: they belong to the trace (replay/bookmarks.py).
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tui.arrangement import SCREENS, Arrangement, Column, Share
from tui.panes import PANES

_LARGEST = 1 << 20
_COMMANDS = 200
_STOPS = 100


@dataclass(frozen=True, slots=True)
class Kept:
    """One session."""

    screen: str = "main"
    arrangement: Arrangement | None = None
    focus: str = "code"
    tick: int | None = None
    stops: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()


def place_for(trace_id: bytes, environment: Mapping[str, str] = os.environ) -> Path:
    """The file for a trace."""
    home = environment.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(home) / "lgreplay" / "tui" / f"{trace_id.hex()}.json"


def load(path: Path) -> Kept:
    """What was kept; the usual where nothing was, or nothing of use."""
    try:
        with path.open("rb") as file:
            stored = json.loads(file.read(_LARGEST))
        return _kept(stored)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return Kept()


def _kept(stored: dict[str, Any]) -> Kept:
    focus, screen, tick = stored["focus"], stored["screen"], stored["tick"]
    if screen not in SCREENS or focus not in PANES or not isinstance(tick, int | None):
        raise ValueError
    return Kept(
        screen,
        _arrangement(stored["arrangement"]),
        focus,
        tick,
        _texts(stored["stops"], _STOPS),
        _texts(stored["commands"], _COMMANDS),
    )


def _texts(stored: list[Any], most: int) -> tuple[str, ...]:
    return tuple(text for text in stored[-most:] if isinstance(text, str) and text.isprintable())


def _arrangement(stored: dict[str, Any] | None) -> Arrangement | None:
    if stored is None:
        return None
    columns = tuple(
        Column(tuple(_share(s) for s in c["shares"]), _weight(c["weight"]))
        for c in stored["columns"]
    )
    top = stored["top"]
    found = Arrangement(columns, top, _weight(stored["top_height"]))
    if not columns or (top and top not in PANES):
        raise ValueError
    if len(set(found.panes)) != len(found.panes) or not all(c.shares for c in columns):
        raise ValueError
    return found


def _share(stored: dict[str, Any]) -> Share:
    if stored["pane"] not in PANES:
        raise ValueError
    return Share(stored["pane"], _weight(stored["weight"]))


def _weight(value: Any) -> int:
    if not isinstance(value, int) or not 0 < value <= 100:
        raise ValueError
    return value


def save(path: Path, kept: Kept) -> bool:
    """Keep a session; False if that is not possible here."""
    values = asdict(kept)
    values["commands"] = values["commands"][-_COMMANDS:]
    new = path.with_name(path.name + "~")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        new.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
        new.replace(path)
    except OSError:
        return False
    return True


__all__ = ["Kept", "load", "place_for", "save"]
