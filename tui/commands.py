"""The command line: gdb's words where gdb has some, one table, from which help and completion are made too.

A command is carried out on the engine's thread (`_engine`), or changes only what the screen shows. What is not a
command may be a place, and is gone to. Read next: actions.py for the keys, desk.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from replay.location_words import location_of
from replay.moves import Unit
from replay.stop_words import number_of, stop_of
from tui.actions import ACTIONS, show_code_as, show_screen
from tui.arrangement import SCREENS, exchanged
from tui.desk import Desk, Refused
from tui.events_view import filter_named
from tui.keys import help_lines
from tui.panes import PANES
from tui.text import Line
from tui.theme import Theme
from tui.values import CODE_VIEWS, SPACES

if TYPE_CHECKING:
    from tui.app import Tui

Run: TypeAlias = "Callable[[Tui, str], None]"
_MOST_STEPS = 1_000_000


@dataclass(frozen=True, slots=True)
class Command:
    """`names`: the first is the one to show. `arguments`: what its words are, for completion."""

    names: tuple[str, ...]
    usage: str
    help: str
    run: Run
    arguments: str = ""


def _engine(work: Callable[[Desk, str], str]) -> Run:
    """A command that is carried out on the engine's thread."""
    return lambda tui, text: tui.move(lambda desk: work(desk, text), text)


def _stepping(unit: Unit, *, backwards: bool = False) -> Run:
    def work(desk: Desk, text: str) -> str:
        count = number_of(text) if text else 1
        if not 0 < count <= _MOST_STEPS:
            raise Refused(f"between 1 and {_MOST_STEPS:,} steps")
        return desk.step(unit, backwards=backwards, count=count)

    return _engine(work)


def _until(*, backwards: bool) -> Run:
    def work(desk: Desk, text: str) -> str:
        if not text:
            raise Refused("until what? an expression, such as eax == 1 and in_noirq")
        return desk.until(desk.timeline.predicate(text), backwards=backwards)

    return _engine(work)


def _stop(word: str) -> Run:
    def work(desk: Desk, text: str) -> str:
        whole = f"{word} {text}".strip()
        stop = stop_of(desk.timeline, whole)
        if word == "break" and not text:
            whole = f"break {desk.timeline.machine.cpu.eip:#x}"
        return desk.add(stop, whole)

    return _engine(work)


def _wrote(*, backwards: bool) -> Run:
    def work(desk: Desk, text: str) -> str:
        look = desk.camera.look
        where = text if text.isidentifier() else look.said(text)
        location = location_of(desk.timeline, where, look.guest.number, look.place)
        return desk.wrote(location, text, backwards=backwards)

    return _engine(work)


def _guest(desk: Desk, text: str) -> str:
    return desk.choose(number_of(text) if text not in ("", "any", "follow") else None)


def _branch(desk: Desk, text: str) -> str:
    word, _, rest = text.partition(" ")
    match word:
        case "":
            return desk.branches()
        case "leave":
            return desk.leave()
        case "save":
            return desk.save(rest.strip())
    raise Refused("branch, branch leave, or branch save FILE")


def _delete(desk: Desk, text: str) -> str:
    return desk.remove(number_of(text)) if text else desk.clear()


def _set(tui: Tui, text: str) -> None:
    tui.move(lambda desk: desk.write(text), "writing", stays=True)


def _print(desk: Desk, text: str) -> str:
    if not text:
        raise Refused("print what?")
    value = desk.camera.look.evaluate(desk.timeline, text.replace("$", ""))
    name = desk.camera.code.name(value & 0xFFFFFFFF)
    return f"{text} = {value:#x} = {value:,}" + (f" = {name}" if name else "")


def _bookmark(desk: Desk, text: str) -> str:
    name, _, note = text.partition(" ")
    return desk.bookmark(name, note.strip())


def _info(tui: Tui, text: str) -> None:
    word = text[:1]
    if word == "r":
        tui.focus_on("registers")
    elif word in ("b", "s", ""):
        points = tui.shot.points if tui.shot else ()
        lines: tuple[Line, ...] = tuple(
            (
                ("", f"  {p.number or '-':>3}  {p.text}"),
                ("class:dim", f"  ({p.whose})" * bool(p.whose)),
            )
            for p in points
        )
        tui.show_page("Stops (:delete N)", lines or ((("class:dim", "  none"),),))
    else:
        raise Refused("info registers, or info breakpoints")


def _bookmarks(tui: Tui, _: str) -> None:
    marks = tui.shot.bookmarks if tui.shot else ()
    lines: tuple[Line, ...] = tuple(
        (("class:symbol", f"  @{m.name:<16}"), ("", f"{m.tick:>14,}  {m.note}")) for m in marks
    )
    tui.show_page("Bookmarks (:seek @NAME)", lines or ((("class:dim", "  none"),),))


def _examine(tui: Tui, text: str) -> None:
    form, _, where = text.partition(" ") if text.startswith("/") else ("", "", text)
    if not where.strip():
        raise Refused("x/FMT ADDRESS")
    if form.endswith("i"):
        _disassemble(tui, where)
        return
    tui.unselect("memory")
    tui.see(memory_at=where.strip().lstrip("$*&"))
    tui.focus_on("memory")


def _disassemble(tui: Tui, text: str) -> None:
    def work(desk: Desk) -> str:
        desk.select = ("code", desk.camera.look.address(desk.timeline, text.strip().lstrip("$*&")))
        return ""

    tui.move(work, "disassembling", stays=True)


def _tables(tui: Tui, text: str) -> None:
    tui.see(table_at=text.lstrip("$*&") or "eip")
    tui.focus_on("tables")


def _space(tui: Tui, text: str) -> None:
    if text not in SPACES:
        raise Refused(f"spaces are {', '.join(SPACES)}")
    tui.see(space=text)


def _code_view(tui: Tui, text: str) -> None:
    if text not in CODE_VIEWS:
        raise Refused(f"code as {', '.join(CODE_VIEWS)}")
    show_code_as(tui, text)


def _filter(tui: Tui, text: str) -> None:
    try:
        wanted = filter_named(text)
    except ValueError as error:
        raise Refused(str(error)) from error
    tui.unselect("events")
    tui.see(events=wanted, events_at=None)
    tui.say(f"the event list shows {text}" if text else "the event list shows everything")


def _span(tui: Tui, text: str) -> None:
    ticks = [number_of(word) for word in text.split()]
    if ticks and (len(ticks) != 2 or not 0 <= ticks[0] < ticks[1]):
        raise Refused("span FIRST LAST, or nothing for the whole history")
    tui.see(span=(ticks[0], ticks[1]) if ticks else None)


def _screen(tui: Tui, text: str) -> None:
    if text not in SCREENS:
        raise Refused(f"screens are {', '.join(SCREENS)}")
    show_screen(tui, text)


def _pane(tui: Tui, text: str) -> None:
    if text not in PANES:
        raise Refused(f"panes are {', '.join(PANES)}")
    tui.focus_on(text)


def _theme(tui: Tui, text: str) -> None:
    names = [theme.value for theme in Theme]
    if text not in names:
        raise Refused(f"themes are {', '.join(names)}")
    tui.set_theme(Theme(text))


def _key(name: str) -> Run:
    return lambda tui, _: ACTIONS[name](tui, 1)


def _help(tui: Tui, _: str) -> None:
    tui.show_page("Commands and keys (Esc closes)", (*command_lines(), (), *help_lines()))


def _arrangement(tui: Tui, text: str) -> None:
    if text not in PANES:
        raise Refused(f"panes are {', '.join(PANES)}")
    layout = tui.layout
    tui.change(arrangement=exchanged(layout.arrangement, layout.focus, text), focus=text)


TABLE = (
    Command(("stepi", "step", "s", "si"), "[N]", "instructions", _stepping(Unit.INSTRUCTION)),
    Command(
        ("reverse-stepi", "reverse-step", "rsi", "rs"),
        "[N]",
        "instructions back",
        _stepping(Unit.INSTRUCTION, backwards=True),
    ),
    Command(("nexti", "next", "n", "ni"), "[N]", "instructions, over calls", _stepping(Unit.OVER)),
    Command(
        ("reverse-nexti", "reverse-next", "rni", "rn"),
        "[N]",
        "the same, back",
        _stepping(Unit.OVER, backwards=True),
    ),
    Command(("finish", "fin"), "", "to where the function returns to", _stepping(Unit.OUT)),
    Command(("reverse-finish", "rfin"), "", "to its call", _stepping(Unit.OUT, backwards=True)),
    Command(("tick",), "[N]", "ticks", _stepping(Unit.TICK)),
    Command(("reverse-tick", "rtick"), "[N]", "ticks back", _stepping(Unit.TICK, backwards=True)),
    Command(("continue", "c"), "", "to the next stop", _engine(lambda d, _: d.resume())),
    Command(
        ("reverse-continue", "rc"),
        "",
        "to the stop before",
        _engine(lambda d, _: d.resume(backwards=True)),
    ),
    Command(("until", "u"), "EXPR", "to where it becomes true", _until(backwards=False), "symbol"),
    Command(
        ("reverse-until", "ru"), "EXPR", "to where it last did", _until(backwards=True), "symbol"
    ),
    Command(
        ("seek", "goto", "run", "g"),
        "PLACE",
        "a tick, 50%, event N, start, end, @bookmark, +N, -N",
        _engine(lambda d, text: d.seek(text)),
        "place",
    ),
    Command(("back",), "", "to where the last jump came from", _key("visit-back")),
    Command(("forward",), "", "forward again", _key("visit-forward")),
    Command(("where", "position"), "", "say this position", _key("position")),
    Command(("break", "b", "hbreak"), "[ADDR] [if EXPR]", "breakpoint", _stop("break"), "symbol"),
    Command(("watch",), "ADDR[,LEN]", "stop where memory changes", _stop("watch"), "symbol"),
    Command(("wwatch",), "ADDR[,LEN]", "where it is written", _stop("wwatch"), "symbol"),
    Command(("rwatch",), "ADDR[,LEN]", "where it is read", _stop("rwatch"), "symbol"),
    Command(("awatch",), "ADDR[,LEN]", "where it is touched", _stop("awatch"), "symbol"),
    Command(("catch",), "NAME [N]", "stop at events: delivered 0, trap 14", _stop("catch"), "stop"),
    Command(("when",), "EXPR", "stop where it becomes true", _stop("when"), "symbol"),
    Command(("delete", "d"), "[N]", "take a stop away, or all", _engine(_delete)),
    Command(("info", "i"), "b | r", "stops; registers", _info),
    Command(("wrote",), "WHAT", "who wrote it last: go there", _wrote(backwards=True), "location"),
    Command(("writes",), "WHAT", "who writes it next", _wrote(backwards=False), "location"),
    Command(
        ("whynot",), "IRQ", "why it is not delivered", _engine(lambda d, t: d.whynot(number_of(t)))
    ),
    Command(("set",), "WHAT = VALUE", "write: $eax, word[esp], mem ADDR", _set, "location"),
    Command(
        ("branch",), "[leave | save FILE]", "what writing has opened", _engine(_branch), "branch"
    ),
    Command(("guest",), "[N]", "show guest N; without N: the one that runs", _engine(_guest)),
    Command(("print", "p"), "EXPR", "its value", _engine(_print), "symbol"),
    Command(("x",), "[/FMT] ADDR", "memory there; x/i: code", _examine, "symbol"),
    Command(("disassemble", "disas"), "ADDR", "code there", _disassemble, "symbol"),
    Command(("pagetables", "pt"), "ADDR", "the two walks of it", _tables, "symbol"),
    Command(("code",), "asm | mixed | source", "how code is shown", _code_view, "code view"),
    Command(("space",), "NAME", "memory through it", _space, "space"),
    Command(("backtrace", "bt"), "", "callers", lambda tui, _: tui.focus_on("callers")),
    Command(("bookmark", "mark"), "NAME [NOTE]", "name this tick", _engine(_bookmark)),
    Command(("bookmarks", "marks"), "", "list them", _bookmarks),
    Command(("unmark",), "NAME", "forget it", _engine(lambda d, t: d.forget(t)), "bookmark"),
    Command(("filter",), "[KIND ...] [N] [guest N]", "events to list", _filter, "kind"),
    Command(("span",), "[FIRST LAST]", "what the timeline shows", _span),
    Command(("screen", "layout"), "NAME", "another screen", _screen, "screen"),
    Command(("focus", "pane"), "NAME", "go to a pane", _pane, "pane"),
    Command(("put",), "NAME", "this pane instead of the one with the focus", _arrangement, "pane"),
    Command(("theme",), "NAME", "colours", _theme, "theme"),
    Command(("help", "h"), "", "this", _help),
    Command(("quit", "q", "exit"), "", "leave", _key("quit")),
)
BY_NAME: Mapping[str, Command] = {name: each for each in TABLE for name in each.names}


def execute(tui: Tui, text: str) -> None:
    """Carry out a line. Raises Refused."""
    text = text.strip()
    if not text:
        return
    word, _, rest = text.partition(" ")
    if "/" in word and word.split("/")[0] in ("x", "p", "print"):
        word, _, form = word.partition("/")
        rest = f"/{form} {rest}" if word == "x" else rest
    command = BY_NAME.get(word) or _unique(word)
    if command is not None:
        command.run(tui, rest.strip())
    elif word[:1] in "+-@" or word[:1].isdigit() or word in ("start", "end", "event"):
        tui.move(lambda desk: desk.seek(text), "seeking")
    else:
        raise Refused(f"there is no command {word!r}; :help lists all")


def _unique(word: str) -> Command | None:
    """The one command that begins like this, if only one does."""
    found = {id(c): c for name, c in BY_NAME.items() if word and name.startswith(word)}
    return next(iter(found.values())) if len(found) == 1 else None


def command_lines() -> tuple[Line, ...]:
    """The table for people."""
    found: list[Line] = [(("class:title", "Commands"),)]
    for each in TABLE:
        names = f"{', '.join(each.names)} {each.usage}".strip()
        found.append((("class:key", f"  {names:<44}"), ("", each.help)))
    return tuple(found)


__all__ = ["BY_NAME", "TABLE", "Command", "command_lines", "execute"]
