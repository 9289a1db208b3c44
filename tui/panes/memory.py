"""Memory through a chosen address space, and the stack; bytes that changed are marked with a character beside them."""

from __future__ import annotations

from collections.abc import Sequence

from replay.look import GuestPhysicalSpace, GuestSpace, MachineSpace, Space
from replay.places import Place
from tui.panes.pane import Pane, Target, View, index_in, listing, mark, note, style_if
from tui.text import Fragment, Line, clean, over, printable
from tui.values import Bytes, Snapshot


def row_size(width: int) -> int:
    """Bytes in a line of so many columns."""
    return 16 if width >= 74 else 8 if width >= 42 else 4


def _memory_title(shot: Snapshot) -> str:
    where = clean(shot.wish.memory_at)
    return f"Memory {where} ({shot.memory.space})"


def _space(shot: Snapshot) -> Space:
    match shot.memory.space:
        case "guest":
            return GuestSpace(shot.position.guest)
        case "physical":
            return GuestPhysicalSpace(shot.position.guest)
        case "machine":
            return MachineSpace()
        case _:
            return shot.space


def draw_memory(shot: Snapshot, width: int, height: int, view: View) -> list[Line]:
    """Address, words, characters."""
    memory = shot.memory
    if not memory.data:
        return note(memory.missing, width, height)
    size = row_size(width)
    selected = MEMORY.selected(shot, view.cursor)
    rows = []
    for offset in range(0, len(memory.data), size):
        at = memory.address + offset
        chosen = selected if view.focused and selected is not None else -1
        rows.append(_dump(memory, at, size, shot.changed.memory, chosen))
    where = None if selected is None else (selected - memory.address) // size
    plain_view = View(view.cursor, False, view.glyphs)
    return listing(rows, where, width, height, plain_view)


def _dump(memory: Bytes, at: int, size: int, changed: frozenset[int], chosen: int) -> Line:
    raw = memory.data[at - memory.address : at - memory.address + size]
    cells: list[Fragment] = [("class:address", f"{at:08x} ")]
    for offset in range(len(raw)):
        if offset % 4 == 0 and offset:
            cells.append(("", " "))
        is_new = at + offset in changed
        style = style_if(is_new, "changed")
        if at + offset == chosen:
            style = f"{style} class:cursor".strip()
        cells += [("class:changed" if is_new else "", mark(is_new)), (style, f"{raw[offset]:02x}")]
    gap = 3 * (size - len(raw)) + 2
    return (*cells, ("", " " * gap), ("class:dim", printable(raw)))


def _memory_keys(shot: Snapshot) -> Sequence[int]:
    return range(shot.memory.address, shot.memory.address + len(shot.memory.data))


def _memory_target(shot: Snapshot, key: int) -> Target:
    offset = key - shot.memory.address
    word = shot.memory.data[offset : offset + 4]
    value = int.from_bytes(word, "little") if len(word) == 4 else None
    space = "" if shot.memory.space == "current" else f"{shot.memory.space} "
    return Target(
        Place(key, 1, _space(shot)),
        value,
        value,
        text=f"byte at {key:08x}",
        words=f"{space}byte[{key:#x}]",
        value=word[0] if word else None,
    )


MEMORY = Pane(
    "memory",
    _memory_title,
    draw_memory,
    _memory_keys,
    lambda shot: shot.memory.address,
    target=_memory_target,
)


# ---- the stack -------------------------------------------------------------------------------------


def draw_stack(shot: Snapshot, width: int, height: int, view: View) -> list[Line]:
    """One word a line, with what it may mean."""
    stack = shot.stack
    if not stack.data:
        return note(stack.missing, width, height)
    meaning = _meanings(shot)
    rows = []
    for offset in range(0, len(stack.data) - 3, 4):
        at = stack.address + offset
        word = int.from_bytes(stack.data[offset : offset + 4], "little")
        is_new = any(at + i in shot.changed.stack for i in range(4))
        rows.append(
            (
                ("class:address", f"{at:08x} "),
                (style_if(is_new, "changed"), f"{mark(is_new)}{word:08x} "),
                ("class:dim", f"{printable(stack.data[offset : offset + 4])} "),
                ("class:symbol", clean(meaning.get(at, ""))),
            )
        )
    selected = STACK.selected(shot, view.cursor)
    return listing(rows, index_in(_stack_keys(shot), selected), width, height, view)


def _meanings(shot: Snapshot) -> dict[int, str]:
    found = {caller.at: caller.symbol for caller in shot.callers if caller.at is not None}
    for frame in shot.frames:
        found |= {
            frame.at: f"interrupted at {frame.symbol}",
            frame.at + 4: "its cs",
            frame.at + 8: "its eflags",
        }
        if frame.cs & 3 == 3:
            found |= {frame.at + 12: "its esp", frame.at + 16: "its ss"}
    return found


def _stack_keys(shot: Snapshot) -> Sequence[int]:
    return range(shot.stack.address, shot.stack.address + len(shot.stack.data) - 3, 4)


def _stack_target(shot: Snapshot, key: int) -> Target:
    offset = key - shot.stack.address
    value = int.from_bytes(shot.stack.data[offset : offset + 4], "little")
    name, words = f"word at {key:08x}", f"word[{key:#x}]"
    return Target(Place(key, 4, shot.space), value, value, text=name, words=words, value=value)


STACK = Pane(
    "stack",
    lambda shot: f"Stack {shot.stack.address:08x}",
    draw_stack,
    _stack_keys,
    lambda shot: shot.stack.address,
    lambda shot: [_meanings(shot).get(key, "") for key in _stack_keys(shot)],
    _stack_target,
)

__all__ = ["MEMORY", "STACK", "draw_memory", "draw_stack", "over", "row_size"]
