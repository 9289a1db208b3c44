"""What keys do, by the names of keys.py: a table of small functions. Read next: app.py."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, TypeAlias

from replay.moves import Unit
from tui.arrangement import SCREENS, exchanged, resized
from tui.focus import beside
from tui.in_pane import move_selection, search_on
from tui.keys import help_lines
from tui.panes import PANES, Target
from tui.selection import branch_target, event_kind
from tui.values import CODE_VIEWS, SPACES

if TYPE_CHECKING:
    from tui.app import Tui

Action: TypeAlias = "Callable[[Tui, int], None]"
HALF_PAGE = 10


# ---- moving in time --------------------------------------------------------------------------------


def _stepping(unit: Unit, *, backwards: bool) -> Action:
    def act(tui: Tui, count: int) -> None:
        tui.move(lambda desk: desk.step(unit, backwards=backwards, count=count), unit.value)

    return act


def _resuming(*, backwards: bool) -> Action:
    return lambda tui, _: tui.move(
        lambda desk: desk.resume(backwards=backwards), "running", watched=not backwards
    )


def _seeking(where: str) -> Action:
    return lambda tui, _: tui.move(lambda desk: desk.seek(where), "seeking")


def _visiting(*, backwards: bool) -> Action:
    return lambda tui, _: tui.move(lambda desk: desk.visit(backwards=backwards), "seeking")


def _same(*, backwards: bool) -> Action:
    """To an event like the one selected in the list."""

    def act(tui: Tui, _: int) -> None:
        kind = event_kind(tui.shot, tui.layout) if tui.shot else None
        if kind is None:
            tui.say("no event is selected", refused=True)
            return
        kinds = frozenset({kind})
        tui.move(lambda desk: desk.event(kinds, None, backwards=backwards), kind.name.lower())

    return act


# ---- asking ----------------------------------------------------------------------------------------


def _writer(*, backwards: bool) -> Action:
    def act(tui: Tui, _: int) -> None:
        target = tui.target()
        location = target.location
        if location is None:
            tui.say("select a register, a byte, a gate, an interrupt or an entry", refused=True)
            return
        tui.move(
            lambda desk: desk.wrote(location, target.text, backwards=backwards),
            f"who wrote {target.text}",
        )

    return act


def _whynot(tui: Tui, _: int) -> None:
    irq = tui.target().irq
    if irq is None:
        pending = tui.shot.position.pending if tui.shot else 0
        irq = (pending & -pending).bit_length() - 1 if pending else 0
    wanted = irq
    tui.move(lambda desk: desk.whynot(wanted), f"why not {wanted}")


def _break(tui: Tui, _: int) -> None:
    address = tui.target().code
    if address is None:
        tui.say("select code, a gate or a caller", refused=True)
        return
    tui.move(lambda desk: desk.toggle(address))


def _write(tui: Tui, _: int) -> None:
    target = tui.target()
    if not target.words:
        tui.say("select a register, a byte, a word or an entry", refused=True)
        return
    value = "" if target.value is None else f"{target.value:#x}"
    tui.ask(":", f"set {target.words} = {value}")


def _enter(tui: Tui, count: int) -> None:
    target = tui.target()
    match tui.layout.focus:
        case "events" if target.tick is not None:
            tick = target.tick
            tui.move(lambda desk: desk.seek(tick), "seeking")
        case "idt":
            _break(tui, count)
        case "irq":
            _whynot(tui, count)
        case "code" | "callers" | "saved" | "shared":
            _show_code(tui, target)
        case _ if target.data is not None:
            _show_memory(tui, target.data)


def _show_code(tui: Tui, target: Target) -> None:
    address = target.code
    if tui.layout.focus == "code" and tui.shot is not None:
        address = branch_target(tui.shot, tui.layout)
    if address is None:
        tui.say("it leads nowhere that is known", refused=True)
        return
    tui.select("code", address)
    tui.see(code_at=address)


def _show_memory(tui: Tui, address: int) -> None:
    tui.unselect("memory")
    tui.see(memory_at=f"{address:#x}", table_at=f"{address:#x}")
    tui.say(f"memory and page tables show {address:08x}; Backspace: follow esp and eip again")


def _return(tui: Tui, _: int) -> None:
    tui.unselect("code", "memory", "stack", "events", "tables", "console")
    tui.see(code_at=None, memory_at="esp", table_at="eip", events_at=None)


# ---- panes -----------------------------------------------------------------------------------------


def _moving(lines: int) -> Action:
    return lambda tui, count: move_selection(tui, lines * count)


def _sideways(step: int) -> Action:
    def act(tui: Tui, count: int) -> None:
        if tui.layout.focus == "timeline":
            _stepping(Unit.EVENT, backwards=step < 0)(tui, count)
        else:
            move_selection(tui, step * count, sideways=True)

    return act


def _focusing(step: int) -> Action:
    def act(tui: Tui, count: int) -> None:
        names = tui.layout.arrangement.panes
        at = names.index(tui.layout.focus) if tui.layout.focus in names else 0
        tui.change(focus=names[(at + step * count) % len(names)])

    return act


def _beside(dx: int, dy: int) -> Action:
    def act(tui: Tui, _: int) -> None:
        tui.change(focus=beside(tui.rectangles(), tui.layout.focus, dx, dy))

    return act


def _resizing(higher: int, wider: int) -> Action:
    def act(tui: Tui, count: int) -> None:
        layout = tui.layout
        new = resized(layout.arrangement, layout.focus, higher * count, wider * count)
        tui.change(arrangement=new)

    return act


def _exchanging(step: int) -> Action:
    def act(tui: Tui, count: int) -> None:
        names = list(PANES)
        old = tui.layout.focus
        new = names[(names.index(old) + step * count) % len(names)]
        tui.change(arrangement=exchanged(tui.layout.arrangement, old, new), focus=new)

    return act


def _screen(name: str) -> Action:
    return lambda tui, _: show_screen(tui, name)


def show_screen(tui: Tui, name: str) -> None:
    """Change to one of the screens."""
    arrangement = SCREENS[name]
    panes = arrangement.panes
    focus = tui.layout.focus if tui.layout.focus in panes else panes[1 if arrangement.top else 0]
    tui.change(arrangement=arrangement, name=name, focus=focus, zoomed=False, page=None)


def _space(tui: Tui, _: int) -> None:
    spaces = SPACES
    tui.see(space=spaces[(spaces.index(tui.wish.space) + 1) % len(spaces)])


def _code_view(tui: Tui, _: int) -> None:
    show_code_as(tui, CODE_VIEWS[(CODE_VIEWS.index(tui.wish.code_as) + 1) % len(CODE_VIEWS)])


def show_code_as(tui: Tui, view: str) -> None:
    """Show code as instructions, with the lines of the source, or the source."""
    tui.unselect("code")
    tui.see(code_as=view, code_at=None)
    tui.say(f"code as {view}")


def _timeline_zoom(factor: int) -> Action:
    """Make the span that the timeline shows shorter (factor < 0) or longer, around this moment."""

    def act(tui: Tui, _: int) -> None:
        if tui.shot is None:
            return
        here = tui.shot.position
        first, last = tui.wish.span or (here.first, here.end)
        size = (last - first) // 4 if factor < 0 else (last - first) * 4
        size = max(64, size)
        begin = max(here.first, here.tick - size // 2)
        end = min(here.end, begin + size)
        begin = max(here.first, end - size)
        tui.see(span=None if (begin, end) == (here.first, here.end) else (begin, end))

    return act


def _help(tui: Tui, _: int) -> None:
    tui.show_page("Keys (:help for commands; Esc closes)", help_lines())


def _close(tui: Tui, _: int) -> None:
    if tui.layout.page is not None:
        tui.change(page=None)
    else:
        tui.change(zoomed=False)
        tui.say("")


def _quit(tui: Tui, _: int) -> None:
    tui.quit()


ACTIONS: Mapping[str, Action] = {
    "step": _stepping(Unit.INSTRUCTION, backwards=False),
    "step-back": _stepping(Unit.INSTRUCTION, backwards=True),
    "tick": _stepping(Unit.TICK, backwards=False),
    "tick-back": _stepping(Unit.TICK, backwards=True),
    "over": _stepping(Unit.OVER, backwards=False),
    "over-back": _stepping(Unit.OVER, backwards=True),
    "out": _stepping(Unit.OUT, backwards=False),
    "out-back": _stepping(Unit.OUT, backwards=True),
    "event": _stepping(Unit.EVENT, backwards=False),
    "event-back": _stepping(Unit.EVENT, backwards=True),
    "switch": _stepping(Unit.SWITCH, backwards=False),
    "switch-back": _stepping(Unit.SWITCH, backwards=True),
    "continue": _resuming(backwards=False),
    "continue-back": _resuming(backwards=True),
    "same": _same(backwards=False),
    "same-back": _same(backwards=True),
    "begin": _seeking("start"),
    "end": _seeking("end"),
    "seek": lambda tui, _: tui.ask(":", "seek "),
    "visit-back": _visiting(backwards=True),
    "visit-forward": _visiting(backwards=False),
    "mark": lambda tui, _: tui.letter(lambda desk, name: desk.bookmark(name)),
    "to-mark": lambda tui, _: tui.letter(lambda desk, name: desk.seek(f"@{name}")),
    "wrote": _writer(backwards=True),
    "writes": _writer(backwards=False),
    "whynot": _whynot,
    "enter": _enter,
    "return": _return,
    "break": _break,
    "write": _write,
    "code-view": _code_view,
    "guest": lambda tui, _: tui.move(lambda desk: desk.next_guest(), stays=True),
    "since": lambda tui, _: tui.mark_changes(),
    "down": _moving(1),
    "up": _moving(-1),
    "left": _sideways(-1),
    "right": _sideways(1),
    "page-down": _moving(HALF_PAGE),
    "page-up": _moving(-HALF_PAGE),
    "top": _moving(-(1 << 30)),
    "bottom": _moving(1 << 30),
    "search": lambda tui, _: tui.ask("/"),
    "again": lambda tui, _: search_on(tui, backwards=False),
    "again-back": lambda tui, _: search_on(tui, backwards=True),
    "filter": lambda tui, _: tui.ask(":", "filter "),
    "next-pane": _focusing(1),
    "previous-pane": _focusing(-1),
    "focus-left": _beside(-1, 0),
    "focus-right": _beside(1, 0),
    "focus-up": _beside(0, -1),
    "focus-down": _beside(0, 1),
    "zoom": lambda tui, _: tui.change(zoomed=not tui.layout.zoomed),
    "higher": _resizing(2, 0),
    "lower": _resizing(-2, 0),
    "wider": _resizing(0, 1),
    "narrower": _resizing(0, -1),
    "other-pane": _exchanging(1),
    "other-pane-back": _exchanging(-1),
    "space": _space,
    "closer": _timeline_zoom(-1),
    "farther": _timeline_zoom(1),
    **{f"screen-{name}": _screen(name) for name in SCREENS},
    "command": lambda tui, _: tui.ask(":"),
    "help": _help,
    "close": _close,
    "type": lambda tui, _: tui.guest_keys.give(),
    "interrupt": lambda tui, _: tui.interrupt(),
    "position": lambda tui, _: tui.say_position(),
    "theme": lambda tui, _: tui.next_theme(),
    "mouse": lambda tui, _: tui.toggle_mouse(),
    "redraw": lambda tui, _: tui.redraw(),
    "quit": _quit,
}

__all__ = ["ACTIONS", "Action", "show_code_as", "show_screen"]
