"""Virtual interrupts: raised, blocked, pending, and why one that is pending is not delivered now.

Below them the noirq window, if the Guest has one: its instructions in a row, with the Guest's place in it.
"""

from __future__ import annotations

from collections.abc import Sequence

from replay.locations import PendingBit
from tui.panes.pane import Pane, Target, View, index_in, listing, mark
from tui.text import Fragment, Line, block, clean, length
from tui.values import Irq, Snapshot

HEADER = "  irq state               next                       raised   delivered"


def _title(shot: Snapshot) -> str:
    flag = {None: "?", True: "1", False: "0"}[shot.position.virtual_if]
    return f"IRQ  irq_enabled={flag}"


def shown(shot: Snapshot) -> list[Irq]:
    """Those that ever do something come first, then the rest."""
    busy = [irq for irq in shot.irqs if _in_use(irq)]
    return busy + [irq for irq in shot.irqs if not _in_use(irq)]


def _in_use(irq: Irq) -> bool:
    ticks = (irq.raised, irq.delivered, irq.next_raised, irq.next_delivered)
    return irq.pending or any(tick is not None for tick in ticks)


def _keys(shot: Snapshot) -> Sequence[int]:
    return [irq.irq for irq in shown(shot)]


def _here(shot: Snapshot) -> int:
    irqs = shown(shot)
    return irqs[0].irq if irqs else 0


def draw(shot: Snapshot, width: int, height: int, view: View) -> list[Line]:
    """The list above, the window below."""
    window = _window(shot, width, view)
    if height < len(window) + 4:
        window = []
    rows: list[Line] = []
    places: dict[int, int] = {}
    for irq in shown(shot):
        places[irq.irq] = len(rows)
        rows.append(_line(irq, shot))
        rows += [
            (("class:warn", f"      not now: {why}"),) for why in irq.why if not irq.deliverable
        ]
    header: list[Line] = [(("class:dim", HEADER.ljust(width)[:width]),)] if height > 3 else []
    selected = PANE.selected(shot, view.cursor)
    at = None if index_in(_keys(shot), selected) is None else places[selected or 0]
    room = height - len(header) - len(window)
    return header + listing(rows, at, width, room, view) + block(window, width, len(window))


def _line(irq: Irq, shot: Snapshot) -> Line:
    changed = irq.irq in shot.changed.irqs
    return (
        ("class:changed" if changed else "", f"{mark(changed)} {irq.irq:>2} "),
        _state(irq),
        ("class:address", f"{_next(irq, shot.position.tick):<21.21} "),
        ("", f"{_ticks(irq.raised):>11} {_ticks(irq.delivered):>11}"),
    )


def _state(irq: Irq) -> Fragment:
    if irq.pending:
        state = ("class:good", "deliverable") if irq.deliverable else ("class:warn", "pending")
    else:
        state = ("class:dim", "-")
    return state[0], f"{state[1]:<12}{'blocked' if irq.blocked else '':<8}"


def _ticks(tick: int | None) -> str:
    return "-" if tick is None else f"{tick:,}"


def _next(irq: Irq, tick: int) -> str:
    ticks = [
        (t, n)
        for t, n in ((irq.next_raised, "raised"), (irq.next_delivered, "delivered"))
        if t is not None
    ]
    if not ticks:
        return "never again" if _in_use(irq) else ""
    when, what = min(ticks)
    return f"{what} in {when - tick:,}"


def _window(shot: Snapshot, width: int, view: View) -> list[Line]:
    begin, end = shot.noirq
    if begin >= end:
        return [(("class:dim", "no noirq window"),)]
    inside = begin <= shot.guest_eip < end
    style = "class:warn" if inside else "class:dim"
    state = "eip is IN it" if inside else "eip is outside"
    head: Line = ((style, f"noirq window {begin:08x}-{end:08x}: {state}"),)
    return [head, _strip(shot, style, width, view)] if shot.noirq_code else [head]


def _strip(shot: Snapshot, style: str, width: int, view: View) -> Line:
    """The instructions one beside the other, those around the Guest's place if there is no room for all."""
    begin, end = shot.noirq
    pieces: list[Line] = []
    at = 0
    for number, each in enumerate(shot.noirq_code):
        is_here = each.address == shot.guest_eip
        at = number if is_here else at
        edge = "|" if each.address in (begin, end) else " "
        text = f"{view.glyphs.arrow if is_here else ' '}{clean(each.text)}"
        pieces.append((("class:border", edge), ("class:here" if is_here else style, text)))
    first = at
    room = width - length(pieces[at])
    while first and length(pieces[first - 1]) <= room - (width // 3):
        first -= 1
        room -= length(pieces[first])
    return tuple(fragment for piece in pieces[first:] for fragment in piece)


def _target(shot: Snapshot, key: int) -> Target:
    irq = shot.irqs[key]
    return Target(
        location=PendingBit(key, shot.position.guest),
        tick=irq.next_raised if irq.next_raised is not None else irq.raised,
        irq=key,
        text=f"IRQ {key}",
    )


PANE = Pane(
    "irq", _title, draw, _keys, _here, lambda s: [f"irq {i.irq}" for i in shown(s)], _target
)

__all__ = ["PANE", "draw", "shown"]
