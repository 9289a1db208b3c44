"""Disassembly: symbols, source lines, breakpoints, where this is, and which way a branch will go; or the source."""

from __future__ import annotations

from collections.abc import Sequence

from replay.places import Place
from tui.panes.pane import Pane, Target, View, index_in, listing, note
from tui.text import Fragment, Line, clean
from tui.values import Instruction, Snapshot


def _title(shot: Snapshot) -> str:
    symbol = clean(shot.code_symbol) or f"{shot.eip:08x}"
    if shot.source.lines:
        return f"Source {clean(shot.source.path)}, {symbol}"
    missing = ", no source here" if shot.wish.code_as == "source" else ""
    return f"Code {symbol}{missing}"


def _keys(shot: Snapshot) -> Sequence[int]:
    if shot.source.lines:
        return [address for _, address in shot.source.lines if address is not None]
    return [each.address for each in shot.code]


def _here(shot: Snapshot) -> int:
    if not shot.source.lines:
        return shot.eip
    _, address = shot.source.lines[shot.source.here - shot.source.first]
    return shot.eip if address is None else address


def _draw_source(shot: Snapshot, width: int, height: int, view: View) -> list[Line]:
    """A line of the file a line; those that code came of have their address."""
    points = {point.address for point in shot.points if point.address is not None}
    rows: list[Line] = []
    places: dict[int, int] = {}
    for number, (text, address) in enumerate(shot.source.lines, shot.source.first):
        if address is not None:
            places[address] = len(rows)
        is_here = number == shot.source.here
        rows.append(
            (
                ("class:point", view.glyphs.bullet if address in points else " "),
                ("class:here", view.glyphs.arrow if is_here else " "),
                ("class:address", f"{number:>5} "),
                ("class:here" if is_here else "", clean(text)),
            )
        )
    selected = PANE.selected(shot, view.cursor)
    at = places.get(selected, shot.source.here - shot.source.first) if selected else None
    return listing(rows, at, width, height, view)


def draw(shot: Snapshot, width: int, height: int, view: View) -> list[Line]:
    """One instruction a line, a line of its own for each symbol, and for each line of the source if wished for."""
    if shot.source.lines:
        return _draw_source(shot, width, height, view)
    if not shot.code:
        return note("not mapped here", width, height)
    rows: list[Line] = []
    places: dict[int, int] = {}
    points = {point.address for point in shot.points if point.address is not None}
    last_source = ""
    for each in shot.code:
        if each.label:
            rows.append((("class:symbol", f"    {clean(each.label)}:"),))
        source = each.source if each.source != last_source else ""
        last_source = each.source
        if source and each.line:
            rows.append((("class:source", f"    {clean(source)}  {clean(each.line)}"),))
            source = ""
        places[each.address] = len(rows)
        rows.append(_line(each, shot, points, source, width, view))
    selected = PANE.selected(shot, view.cursor)
    at = None if index_in(_keys(shot), selected) is None else places[selected or 0]
    return listing(rows, at, width, height, view)


def _line(
    each: Instruction, shot: Snapshot, points: set[int], source: str, width: int, view: View
) -> Line:
    is_here = each.address == shot.eip
    begin, end = shot.noirq
    window = "n" if begin <= each.address < end else " "
    gutter: Fragment = (
        ("class:point", view.glyphs.bullet) if each.address in points else ("class:dim", window)
    )
    parts: list[Fragment] = [
        gutter,
        ("class:here", view.glyphs.arrow if is_here else " "),
        ("class:address", f"{each.address:08x} "),
    ]
    if width >= 70:
        parts.append(("class:dim", f"{each.code.hex()[:14]:<15}"))
    parts += [("class:here" if is_here else "", clean(each.text)), *_towards(each, view)]
    used = sum(len(text) for _, text in parts)
    if source and used + len(source) + 1 < width:
        parts += [("", " " * (width - used - len(source) - 1)), ("class:source", clean(source))]
    return tuple(parts)


def _towards(each: Instruction, view: View) -> list[Fragment]:
    """Where a branch leads, with an arrow for up or down; a word if it is the one that comes next."""
    if each.target is None:
        return []
    glyphs = view.glyphs
    way = glyphs.up_arrow if each.target <= each.address else glyphs.down_arrow
    name = clean(each.target_name) or f"{each.target:08x}"
    found: list[Fragment] = [("class:dim", f" {way} "), ("class:symbol", name)]
    if each.taken is not None:
        found.append(("class:good", " taken") if each.taken else ("class:warn", " not taken"))
    return found


def _texts(shot: Snapshot) -> Sequence[str]:
    if shot.source.lines:
        return [text for text, address in shot.source.lines if address is not None]
    return [f"{i.label} {i.address:08x} {i.text} {i.target_name} {i.line}" for i in shot.code]


def _target(shot: Snapshot, key: int) -> Target:
    first = next((each.code[0] for each in shot.code if each.address == key and each.code), None)
    return Target(
        location=Place(key, 1, shot.space),
        code=key,
        data=key,
        text=f"{key:08x}",
        words=f"byte[{key:#x}]",
        value=first,
    )


PANE = Pane(
    "code",
    _title,
    draw,
    _keys,
    _here,
    _texts,
    _target,
)

__all__ = ["PANE", "draw"]
