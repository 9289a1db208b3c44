"""The status bar, which is always there: when this is, whose turn it is, and what keeps interrupts away."""

from __future__ import annotations

from replay.look import World
from tui.guest_view import numbers
from tui.text import Fragment, Line, clean, fit, over
from tui.values import Position, Snapshot

HEIGHT = 2
_WORLDS = {
    World.HOST: ("class:host", "HOST"),
    World.SWITCHER: ("class:switcher", "SWITCHER"),
    World.KERNEL: ("class:kernel", "KERNEL"),
    World.USER: ("class:user", "USER"),
}
_GAP: Fragment = ("", "  ")


def draw(shot: Snapshot, width: int, busy: str = "") -> list[Line]:
    """Two lines; `busy` is what the engine does at the moment. What matters most comes first, the end may be cut."""
    here = shot.position
    return [over(fit(each, width), "class:status") for each in (_when(here, busy), _what(here))]


def _spaced(words: list[Fragment]) -> Line:
    found: list[Fragment] = [("", " ")]
    for word in words:
        found += [word, _GAP]
    return tuple(found)


def _when(here: Position, busy: str) -> Line:
    span = max(1, here.end - here.first)
    share = 100 * (here.tick - here.first) / span
    words: list[Fragment] = [
        ("bold", f"tick {here.tick:,}/{here.end:,} {share:.1f}%"),
        ("", f"event {here.event:,}/{here.events:,}"),
    ]
    if busy:
        words.insert(0, ("class:warn", busy))
    if here.branch:
        words.insert(1, ("class:warn", f"[branch at {here.branch}]"))
    if here.guests > 1:
        words.append(_guest(here))
    if here.ended:
        words.append(("class:bad", clean(here.ended)))
    if here.next_is:
        words.append(("class:warn", f"next: {here.next_is}"))
    return _spaced(words)


def _what(here: Position) -> Line:
    style, world = _WORLDS[here.world]
    words: list[Fragment] = [
        (style, f"{world} r{here.ring}"),
        ("", f"{here.eip:08x} {clean(here.symbol)}".rstrip()[:34]),
        ("", f"cr3 {here.cr3:08x}"),
        *_whose(here),
        _flag("IF", here.virtual_if),
        ("", f"real {int(here.real_if)}"),
        ("class:warn" if here.pending else "", f"pending {numbers(here.pending)}"),
    ]
    if here.in_noirq:
        words.append(("class:warn", "NOIRQ"))
    if here.halted:
        words.append(("class:warn", "HALTED"))
    return _spaced(words)


def _guest(here: Position) -> Fragment:
    """Which Guest the panes show, of how many; where another one has the processor, that too."""
    away = f", {here.runs} runs" if here.runs != here.guest else ""
    kept = f" (kept{away})" if here.kept else ""
    return ("class:warn" if away else "", f"guest {here.guest} of 0-{here.guests - 1}{kept}")


def _whose(here: Position) -> list[Fragment]:
    """A word before what is the shown Guest's and not the processor's."""
    return [("class:warn", f"guest {here.guest}:")] if here.runs != here.guest else []


def _flag(name: str, value: bool | None) -> Fragment:
    if value is None:
        return ("class:dim", f"{name}=?")
    return ("class:good" if value else "class:bad", f"{name}={int(value)}")


__all__ = ["HEIGHT", "draw"]
