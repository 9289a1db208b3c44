"""The program on the screen: keys in, lines out, and between them the engine, which is never waited for.

Everything here is on the screen's thread. What the user sees is decided by three values: the last snapshot, the layout
and the wish; keys replace the layout or the wish, or give the engine a job, whose report brings the next snapshot.

Read next: keys.py and actions.py, in_pane.py, engine.py, window.py for the prompt_toolkit side.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from types import MappingProxyType
from typing import Any

from prompt_toolkit.formatted_text import StyleAndTextTuples
from prompt_toolkit.input import Input
from prompt_toolkit.output import Output

from replay.stop_words import stop_of
from replay.timeline import Timeline
from tui import selection
from tui.arrangement import Rectangle, exchanged
from tui.attached import Attachment
from tui.commands import execute
from tui.desk import Desk, Refused
from tui.engine import Engine, Job, Report
from tui.guest_keys import TAKEN, GuestKeys
from tui.in_pane import search_on, select_from
from tui.live import Typing
from tui.panes import Target
from tui.panes.pane import NOTHING
from tui.panes.timeline import LABEL
from tui.screen import Layout, Page, compose, rectangles
from tui.state import Kept
from tui.text import EMPTY, Line, fit
from tui.theme import ASCII, UNICODE, Theme
from tui.values import Snapshot, Wish
from tui.window import Window

_FOLLOWERS = ("code", "events", "stack", "callers", "console", "saved", "ring")


class Tui:
    """A user in front of a timeline, which belongs to the engine from here on."""

    def __init__(
        self,
        timeline: Timeline,
        *,
        theme: Theme = Theme.DARK,
        ascii_only: bool = False,
        kept: Kept = Kept(),  # noqa: B008 - a frozen value
        attachment: Attachment | None = None,
        typing: Typing | None = None,
        terminal_input: Input | None = None,
        terminal_output: Output | None = None,
    ) -> None:
        self.shot: Snapshot | None = None
        self.wish = Wish()
        self.layout: Layout = _layout(kept, ascii_only)
        self.theme = theme
        self.message = ""
        self.refused = False
        self.busy = ""
        self.letter_typed = ""
        self.searched = ""
        self.size = (80, 24)
        self.first_commands = kept.commands
        self._kept = kept
        self._attachment = attachment
        self.guest_keys: GuestKeys = GuestKeys(self, typing)
        self._submitted = self.done = 0
        self._symbols = [s.name for table in timeline.symbols.kernels for s in table]
        self.engine = Engine(timeline, self._from_engine, self.guest_keys.heard)
        self.window = Window(self, self._symbols, terminal_input, terminal_output)

    # ---- life ---------------------------------------------------------------------------------------

    def run(self) -> None:
        """Show the screen until the user leaves. Raises whatever ended the engine."""
        try:
            self.window.run(self.begin)
        finally:
            self.close()

    def close(self) -> None:
        """End all threads."""
        self.engine.close()
        if self._attachment is not None:
            self._attachment.close()

    def begin(self) -> None:
        """Start the engine, and put it where the last session was."""
        self.engine.start()
        for text in self._kept.stops:
            self.move(partial(_stop_again, text=text), stays=True)
        tick = self._kept.tick
        if self._attachment is not None:
            self._attachment.begin(self)
        elif tick is not None:
            self.move(lambda desk: desk.seek(tick), "seeking")

    def quit(self) -> None:
        """Leave."""
        self.window.exit()

    def kept(self) -> Kept:
        """What is to be kept of this session."""
        shot = self.shot
        return Kept(
            self.layout.name,
            self.layout.arrangement,
            self.layout.focus,
            None if shot is None else shot.position.tick,
            () if shot is None else tuple(point.text for point in shot.points if not point.whose),
            tuple(self.window.typed()),
        )

    # ---- the engine ---------------------------------------------------------------------------------

    def move(
        self, job: Job, label: str = "", *, stays: bool = False, watched: bool = False
    ) -> None:
        """Have something done. Unless it `stays`, code and events follow the moment again.

        `watched`: show what it passes on the way.
        """
        if not stays and (self.wish.code_at is not None or self.wish.events_at is not None):
            self.wish = replace(self.wish, code_at=None, events_at=None)
            self.engine.wish(self.wish)
        self._submitted = self.engine.submit(job, label, watched=watched)

    def see(self, **changes: Any) -> None:
        """See something else of this moment."""
        wish = replace(self.wish, **changes)
        if wish != self.wish:
            self.wish = wish
            self._submitted = self.engine.wish(wish)

    def mark_changes(self) -> None:
        """Tell changes since this moment, or since the last stop again."""
        self._submitted = self.engine.mark()

    def interrupt(self) -> None:
        """Break off what is going on; at rest, say how to leave."""
        self.guest_keys.taken = False
        if self.engine.cancel():
            self.say("interrupted")
            # What was dropped may have been a wish to see something: have a look.
            self._submitted = self.engine.wish(self.wish)
        else:
            self.say("nothing is running; q leaves")

    @property
    def idle(self) -> bool:
        """Whether all that was asked for has been done and is on the screen."""
        return self.done >= self._submitted and not self.engine.busy

    def _from_engine(self, report: Report) -> None:
        self.window.soon(lambda: self._received(report))

    def _received(self, report: Report) -> None:
        if report.failed is not None:
            self.window.fail(report.failed)
            return
        self.done = max(self.done, report.done)
        self.busy = report.busy
        if self.idle:
            self.guest_keys.taken = False
        if report.message is not None:
            self.say(report.message, refused=report.refused)
        if report.shot is not None:
            self._show(report.shot)
        if report.select is not None:
            select_from(self, *report.select)
        if report.page is not None:
            self.show_page(*report.page)
        self.window.invalidate()

    def _show(self, shot: Snapshot) -> None:
        before, self.shot = self.shot, shot
        if before is not None and before.position.tick != shot.position.tick:
            self.unselect(*_FOLLOWERS)
        if self._attachment is not None and self.idle:
            self._attachment.arrived(shot)

    # ---- what is shown ------------------------------------------------------------------------------

    def lines(self, width: int, height: int) -> list[Line]:
        """The screen but for its last line."""
        self.size = (width, height)
        self._fit_wish(width, height)
        if self.shot is None:
            return [fit((("class:dim", " opening ..."),), width)] + [fit(EMPTY, width)] * (
                height - 1
            )
        return compose(self.shot, self.layout, width, height, self.busy)

    def _fit_wish(self, width: int, height: int) -> None:
        tasks = "tasks" in self.layout.arrangement.panes
        wanted = max(8, width - LABEL), max(24, height), tasks
        if wanted != (self.wish.columns, self.wish.rows, self.wish.tasks):
            self.see(columns=wanted[0], rows=wanted[1], tasks=tasks)

    def last_line(self) -> StyleAndTextTuples:
        """The message."""
        if self.guest_keys.taken:
            return [("class:warn", TAKEN)]
        if self.message:
            return [("class:warn" if self.refused else "class:message", self.message)]
        return [
            (
                "class:dim",
                "? help   : command   s/S step   c/C continue   e/E event   w who wrote   q quit",
            )
        ]

    def rectangles(self) -> list[Rectangle]:
        """Where panes are now."""
        return rectangles(self.layout, *self.size)

    def say(self, text: str, *, refused: bool = False) -> None:
        """Show a message in the last line."""
        self.message, self.refused = text, refused
        self.window.invalidate()

    def say_position(self) -> None:
        """Say the position in words that every command takes."""
        if self.shot is not None:
            here = self.shot.position
            self.say(f"tick {here.tick} (:seek {here.tick}; in gdb: monitor seek {here.tick})")

    def change(self, **changes: Any) -> None:
        """Change the layout."""
        self.layout = replace(self.layout, **changes)
        self.window.invalidate()

    def show_page(self, title: str, lines: Sequence[Line]) -> None:
        """Show text over the panes."""
        self.change(page=Page(title, tuple(lines)))

    def focus_on(self, pane: str) -> None:
        """Focus a pane; one that the screen does not have takes the place of the one with the focus."""
        arrangement = self.layout.arrangement
        if pane not in arrangement.panes:
            arrangement = exchanged(arrangement, self.layout.focus, pane)
        self.change(arrangement=arrangement, focus=pane, page=None)

    def set_theme(self, theme: Theme) -> None:
        """Change the colours."""
        self.theme = theme
        self.window.restyle()

    def next_theme(self) -> None:
        """Change to the next colours."""
        themes = list(Theme)
        self.set_theme(themes[(themes.index(self.theme) + 1) % len(themes)])
        self.say(f"theme {self.theme.value}")

    def toggle_mouse(self) -> None:
        """Take the mouse, or leave it to the terminal."""
        self.window.mouse = not self.window.mouse
        owner = "lgreplay's" if self.window.mouse else "the terminal's"
        self.say(f"the mouse is {owner}")

    def redraw(self) -> None:
        """Draw everything anew."""
        self.window.redraw()

    # ---- selection ----------------------------------------------------------------------------------

    def select(self, pane: str, key: int) -> None:
        """Select something in a pane."""
        self.change(cursors=MappingProxyType({**self.layout.cursors, pane: key}))

    def unselect(self, *panes: str) -> None:
        """Let panes show what is natural."""
        kept = {name: key for name, key in self.layout.cursors.items() if name not in panes}
        self.change(cursors=MappingProxyType(kept))

    def target(self) -> Target:
        """What can be done with what is selected in the pane with the focus."""
        return NOTHING if self.shot is None else selection.target(self.shot, self.layout)

    # ---- typing -------------------------------------------------------------------------------------

    def ask(self, prompt: str, text: str = "") -> None:
        """Open the command line."""
        self.window.ask(prompt, text)

    def answered(self, prompt: str, text: str) -> None:
        """Carry out what was typed."""
        if prompt == "/":
            self.searched = text or self.searched
            search_on(self, backwards=False)
            return
        self.say("")
        self.change(page=None)
        try:
            execute(self, text)
        except Refused as refusal:
            self.say(str(refusal), refused=True)

    def letter(self, work: Callable[[Desk, str], str]) -> None:
        """Do something with the letter that was typed."""
        letter = self.letter_typed
        if not (letter.isascii() and letter.isalpha()):
            self.say("a letter is wanted", refused=True)
            return
        self.move(lambda desk: work(desk, letter))


def _layout(kept: Kept, ascii_only: bool) -> Layout:
    layout = Layout(name=kept.screen, focus=kept.focus, glyphs=ASCII if ascii_only else UNICODE)
    if kept.arrangement is not None and kept.focus in kept.arrangement.panes:
        return replace(layout, arrangement=kept.arrangement)
    return layout


def _stop_again(desk: Desk, text: str) -> str:
    return desk.add(stop_of(desk.timeline, text), text)


__all__ = ["Tui"]
