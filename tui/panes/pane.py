"""What a pane is: pure functions of a snapshot, and what they have in common.

A pane draws itself (`draw`), and says what in it can be selected (`keys`, in order), which of these is the natural one
(`here`), how each reads (`texts`, for searching) and what one can do with it (`target`). The selection is kept by the
screen, as one of the keys. Nothing here knows of keys on a keyboard, of threads or of a terminal.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from hostvm.memory_map import guest_regs_page
from hostvm.x86 import PAGE_SIZE
from replay.locations import Location
from replay.look import MachineSpace
from replay.places import Place
from tui.text import EMPTY, Line, block, over
from tui.theme import UNICODE, Glyphs
from tui.values import Snapshot


@dataclass(frozen=True, slots=True)
class View:
    """How a pane is shown: its selection (None: what is natural), whether it has the focus, and with which glyphs."""

    cursor: int | None = None
    focused: bool = False
    glyphs: Glyphs = UNICODE


@dataclass(frozen=True, slots=True)
class Target:
    """What can be done with what is selected.

    `location`: ask who wrote it. `code`: break there or look at it. `data`: show as memory. `tick`: go there. `irq`:
    ask why it is not delivered. `words`: what `:set` calls it, and `value` what it is now.
    """

    location: Location | None = None
    code: int | None = None
    data: int | None = None
    tick: int | None = None
    irq: int | None = None
    text: str = ""
    words: str = ""
    value: int | None = None


NOTHING = Target()


def _none(_: Snapshot) -> Sequence[int]:
    return ()


def _no_texts(_: Snapshot) -> Sequence[str]:
    return ()


def _zero(_: Snapshot) -> int:
    return 0


def _nothing(_: Snapshot, __: int) -> Target:
    return NOTHING


@dataclass(frozen=True, slots=True)
class Pane:
    """One kind of pane. `least` is the height below which it is not worth showing."""

    name: str
    title: Callable[[Snapshot], str]
    draw: Callable[[Snapshot, int, int, View], list[Line]]
    keys: Callable[[Snapshot], Sequence[int]] = _none
    here: Callable[[Snapshot], int] = _zero
    texts: Callable[[Snapshot], Sequence[str]] = _no_texts
    target: Callable[[Snapshot, int], Target] = _nothing
    least: int = 3

    def selected(self, shot: Snapshot, cursor: int | None) -> int | None:
        """The key that is selected: the cursor's if it is still there, else the natural one, else the nearest."""
        keys = self.keys(shot)
        if not keys:
            return None
        wanted = self.here(shot) if cursor is None else cursor
        if wanted in keys:
            return wanted
        below = [key for key in keys if key <= wanted]
        return below[-1] if below else keys[0]


def listing(
    rows: Sequence[Line], selected: int | None, width: int, height: int, view: View
) -> list[Line]:
    """`rows` scrolled so that number `selected` is in the middle as far as possible, and marked where it is."""
    at = selected or 0
    first = max(0, min(at - height // 2, len(rows) - height))
    shown = list(rows[first : first + height])
    lines = block(shown, width, height)
    if view.focused and selected is not None and 0 <= at - first < len(shown):
        lines[at - first] = over(lines[at - first], "class:cursor")
    return lines


def saved_register(shot: Snapshot, name: str) -> Place:
    """Where the Switcher saves a register of the Guest. The order in memory is that of `shot.saved`."""
    order = [word.name for word in shot.saved]
    begin = guest_regs_page(shot.position.guest) + PAGE_SIZE - 4 * len(order)
    return Place(begin + 4 * order.index(name), 4, MachineSpace())


def index_in(keys: Sequence[int], key: int | None) -> int | None:
    """Where a key is among the keys."""
    return None if key is None or key not in keys else keys.index(key)


def mark(changed: bool) -> str:
    """The character that says, without colour, that something has changed."""
    return "*" if changed else " "


def style_if(condition: bool, style: str) -> str:
    """A style, or the usual one."""
    return f"class:{style}" if condition else ""


def note(text: str, width: int, height: int) -> list[Line]:
    """A pane that has nothing to show, and says why."""
    return block([(("class:dim", text),)], width, height) if height else [EMPTY][:0]


__all__ = [
    "NOTHING",
    "Pane",
    "Target",
    "View",
    "index_in",
    "listing",
    "mark",
    "note",
    "saved_register",
    "style_if",
]
