"""What Guest and Host share: the words of `lguest_data`, the hypercall ring, and the registers that the Switcher saved.

The trap frames on the Guest kernel's stack stand beside the saved registers: together they say who interrupted whom.
Source: lguest, include/linux/lguest.h and arch/x86/include/asm/lguest.h.
"""

from __future__ import annotations

from collections.abc import Sequence

from hostvm.x86 import Eflags
from replay.locations import SharedField
from replay.look import GuestSpace
from replay.places import Place
from tui.panes.pane import (
    NOTHING,
    Pane,
    Target,
    View,
    index_in,
    listing,
    mark,
    note,
    saved_register,
    style_if,
)
from tui.panes.registers import flags
from tui.text import Line, clean
from tui.values import Slot, Snapshot, TrapFrame, Word

_NOT_YET = "the guest has not yet told where its page is"


def _word(word: Word, changed: bool) -> Line:
    value = "-" if word.value is None else f"{word.value:08x}"
    style = style_if(changed, "changed")
    return (
        (style or "class:dim", f"{mark(changed)}{word.name:<19}"),
        (style, f"{value} "),
        ("class:symbol", clean(word.meaning)),
    )


# ---- lguest_data -----------------------------------------------------------------------------------


def _shared_keys(shot: Snapshot) -> Sequence[int]:
    return range(len(shot.shared))


def draw_shared(shot: Snapshot, width: int, height: int, view: View) -> list[Line]:
    """A word a line."""
    if not shot.shared:
        return note(_NOT_YET, width, height)
    rows = [_word(word, word.name in shot.changed.words) for word in shot.shared]
    return listing(rows, SHARED.selected(shot, view.cursor), width, height, view)


def _shared_target(shot: Snapshot, key: int) -> Target:
    word = shot.shared[key]
    if word.name.startswith("("):
        return NOTHING
    name = "time" if word.name == "time_ns" else word.name
    is_code = word.name.startswith("noirq")
    place = SharedField(name, shot.position.guest)
    code = word.value if is_code else None
    return Target(place, code, text=word.name, words=f"field {name}", value=word.value)


SHARED = Pane(
    "shared",
    lambda _: "lguest_data",
    draw_shared,
    _shared_keys,
    texts=lambda shot: [word.name for word in shot.shared],
    target=_shared_target,
)


# ---- the ring --------------------------------------------------------------------------------------


def _ring_title(shot: Snapshot) -> str:
    return f"Hypercall ring, {sum(not slot.free for slot in shot.ring)} queued"


def _ring_keys(shot: Snapshot) -> Sequence[int]:
    return range(len(shot.ring))


def _next_slot(shot: Snapshot) -> int:
    return next((slot.index for slot in shot.ring if slot.is_next), 0)


def draw_ring(shot: Snapshot, width: int, height: int, view: View) -> list[Line]:
    """A slot a line; the arrow is where the Host looks next."""
    if not shot.ring:
        return note(_NOT_YET, width, height)
    rows = [_slot(slot, view) for slot in shot.ring]
    return listing(rows, RING.selected(shot, view.cursor), width, height, view)


def _slot(slot: Slot, view: View) -> Line:
    style = "class:dim" if slot.free else ""
    words = ", ".join(f"{word:08x}" for word in slot.words)
    state = "free" if slot.free else "FULL"
    return (
        ("class:here", view.glyphs.arrow if slot.is_next else " "),
        (style, f"{slot.index:>2} {state} "),
        (style or "class:symbol", f"{slot.call}("),
        (style, f"{words})"),
    )


RING = Pane(
    "ring",
    _ring_title,
    draw_ring,
    _ring_keys,
    _next_slot,
    lambda shot: [slot.call for slot in shot.ring],
)


# ---- saved registers and trap frames ---------------------------------------------------------------


def _frames_first(shot: Snapshot) -> int:
    return len(shot.frames)


def _saved_keys(shot: Snapshot) -> Sequence[int]:
    return range(len(shot.frames) + len(shot.saved))


def draw_saved(shot: Snapshot, width: int, height: int, view: View) -> list[Line]:
    """The frames on the kernel's stack, innermost first, then what the Switcher has put away."""
    rows = [_frame(frame) for frame in shot.frames]
    rows += [_word(word, word.name in shot.changed.words) for word in shot.saved]
    selected = index_in(_saved_keys(shot), SAVED.selected(shot, view.cursor))
    return listing(rows, selected, width, height, view)


def _frame(frame: TrapFrame) -> Line:
    return (
        ("class:address", f" {frame.at:08x} "),
        ("", f"eip {frame.eip:08x} cs {frame.cs:02x} [{flags(frame.eflags, Eflags)}] "),
        ("class:symbol", clean(frame.symbol)),
    )


def _saved_target(shot: Snapshot, key: int) -> Target:
    if key < len(shot.frames):
        frame = shot.frames[key]
        place = Place(frame.at, 12, GuestSpace(shot.position.guest))
        return Target(place, frame.eip, frame.at, text=f"frame at {frame.at:08x}")
    word = shot.saved[key - len(shot.frames)]
    place = saved_register(shot, word.name)
    return Target(place, word.value if word.name == "eip" else None, text=f"saved {word.name}")


SAVED = Pane(
    "saved",
    lambda shot: f"Trap frames ({len(shot.frames)}) and saved registers",
    draw_saved,
    _saved_keys,
    _frames_first,
    lambda shot: [*(f.symbol for f in shot.frames), *(w.name for w in shot.saved)],
    _saved_target,
)

__all__ = ["RING", "SAVED", "SHARED", "draw_ring", "draw_saved", "draw_shared"]
