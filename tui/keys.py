"""The keys: one table, from which both the bindings and the help are made, so that the help cannot be out of date.

Small letters go forward and capitals back, with the letters of gdb's single-key mode. Everything else is vim's. A
number before a key repeats it. What an action does stands in actions.py, under the same name.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tui.text import Line


@dataclass(frozen=True, slots=True)
class Key:
    """An action and the keys for it; a key is a sequence of prompt_toolkit's names, separated by spaces."""

    action: str
    keys: tuple[str, ...]
    help: str


@dataclass(frozen=True, slots=True)
class Group:
    """Keys that belong together."""

    title: str
    keys: tuple[Key, ...]


GROUPS = (
    Group(
        "Moving in time (capitals go back)",
        (
            Key("step", ("s",), "one instruction"),
            Key("step-back", ("S",), "one instruction back"),
            Key("tick", ("i",), "one tick: deliveries and Host turns are steps of their own"),
            Key("tick-back", ("I",), "one tick back"),
            Key("over", ("n", "o"), "one instruction, but over a call"),
            Key("over-back", ("N", "O"), "the same, back"),
            Key("out", ("f",), "to where this function returns to"),
            Key("out-back", ("F",), "to the call of this function"),
            Key("continue", ("c",), "to the next stop, or the end"),
            Key("continue-back", ("C",), "to the stop before, or the beginning"),
            Key("event", ("e",), "to the next event of the log"),
            Key("event-back", ("E",), "to the event before"),
            Key("same", ("}",), "to the next event of the kind selected in the list"),
            Key("same-back", ("{",), "to the one before"),
            Key("switch", ("x",), "to where the Guest is next entered or left"),
            Key("switch-back", ("X",), "to where it last was"),
            Key("begin", ("^", "home"), "to the beginning of history"),
            Key("end", ("$", "end"), "to the end of history"),
            Key("seek", ("t",), "to a tick, a share (50%), event N, @bookmark, +N or -N"),
            Key("visit-back", ("[",), "back to where the last jump came from"),
            Key("visit-forward", ("]",), "and forward again"),
            Key("mark", ("m <any>",), "keep this tick under a letter"),
            Key("to-mark", ("' <any>",), "go to the tick of that letter"),
        ),
    ),
    Group(
        "Asking",
        (
            Key("wrote", ("w",), "who wrote what is selected: go there"),
            Key("writes", ("W",), "who writes it next: go there"),
            Key("whynot", ("y",), "why is the selected interrupt not delivered now"),
            Key("enter", ("enter",), "go to the event; break at the gate; follow the address"),
            Key("return", ("backspace",), "code and memory follow this moment again"),
            Key("break", ("b",), "breakpoint at what is selected, or away with it"),
            Key("write", ("r",), "write what is selected, which opens a branch"),
            Key("since", ("=",), "tell changes since this moment; again: since the last stop"),
        ),
    ),
    Group(
        "Panes",
        (
            Key("down", ("j", "down"), "one line down"),
            Key("up", ("k", "up"), "one line up"),
            Key("left", ("h", "left"), "to the left; in the timeline: the event before"),
            Key("right", ("l", "right"), "to the right; in the timeline: the next event"),
            Key("page-down", ("c-d", "pagedown"), "half a page down"),
            Key("page-up", ("c-u", "pageup"), "half a page up"),
            Key("top", ("g g",), "first line"),
            Key("bottom", ("G",), "last line"),
            Key("search", ("/",), "search in the pane; in the event list, the whole log"),
            Key("again", (";",), "search on"),
            Key("again-back", (",",), "search back"),
            Key("filter", ("|",), "show only some kinds of event"),
            Key("next-pane", ("tab",), "focus the next pane"),
            Key("previous-pane", ("s-tab",), "focus the one before"),
            Key("focus-left", ("c-w h",), "focus the pane to the left"),
            Key("focus-down", ("c-w j",), "below"),
            Key("focus-up", ("c-w k",), "above"),
            Key("focus-right", ("c-w l",), "to the right"),
            Key("zoom", ("z",), "this pane alone; again: all"),
            Key("higher", ("+",), "make the pane higher"),
            Key("lower", ("-",), "lower"),
            Key("wider", (">",), "wider"),
            Key("narrower", ("<",), "narrower"),
            Key("other-pane", ("p",), "another pane in this place"),
            Key("other-pane-back", ("P",), "the one before"),
            Key("space", ("v",), "memory: another address space"),
            Key("code-view", ("d",), "code: instructions, with source lines, source"),
            Key("guest", ("a",), "show another guest; after the last: the one that runs"),
            Key("closer", ("K",), "timeline: closer to this moment"),
            Key("farther", ("J",), "timeline: farther away"),
            Key("screen-main", ("f1",), "screen: main"),
            Key("screen-interrupts", ("f2",), "screen: interrupts"),
            Key("screen-memory", ("f3",), "screen: memory"),
            Key("screen-guest", ("f4",), "screen: guest"),
            Key("screen-log", ("f5",), "screen: log"),
        ),
    ),
    Group(
        "Else",
        (
            Key("command", (":",), "a command, in gdb's words"),
            Key("help", ("?",), "this"),
            Key("close", ("escape",), "close what is open"),
            Key("type", ("!",), "type to the guest (--record); Esc or ^] ends that"),
            Key("interrupt", ("c-c",), "break off what is running"),
            Key("position", ("Y",), "say this position so that other programs take it"),
            Key("theme", ("T",), "other colours"),
            Key("mouse", ("M",), "mouse on or off"),
            Key("redraw", ("c-l",), "draw the screen anew"),
            Key("quit", ("q",), "leave"),
        ),
    ),
)
_SHOWN = {
    "enter": "Enter",
    "backspace": "Backspace",
    "escape": "Esc",
    "s-tab": "S-Tab",
    "tab": "Tab",
}
_WIDTH = 14


def keys() -> Iterator[Key]:
    """All of the table."""
    for group in GROUPS:
        yield from group.keys


def shown(sequence: str) -> str:
    """A key as people write it."""
    return " ".join(_one(key) for key in sequence.split())


def _one(key: str) -> str:
    if key.startswith("c-"):
        return f"^{key[2:].upper()}"
    return _SHOWN.get(key, "x" if key == "<any>" else key.upper() if key[1:].isdigit() else key)


def help_lines() -> tuple[Line, ...]:
    """The table for people."""
    found: list[Line] = []
    for group in GROUPS:
        found += [(), (("class:title", group.title),)]
        for key in group.keys:
            names = ", ".join(shown(each) for each in key.keys)
            found.append((("class:key", f"  {names:<{_WIDTH}}"), ("", key.help)))
    return tuple(found[1:])


__all__ = ["GROUPS", "Group", "Key", "help_lines", "keys", "shown"]
