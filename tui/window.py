"""The prompt_toolkit side: application, key bindings from the table of keys, command line, completion menu.

Read next: canvas.py. prompt_toolkit puts the terminal back when the application ends, by whatever exception; a signal
ends it in the same way.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from prompt_toolkit.application import Application
from prompt_toolkit.auto_suggest import AutoSuggestFromHistory
from prompt_toolkit.buffer import Buffer
from prompt_toolkit.filters import Condition
from prompt_toolkit.history import InMemoryHistory
from prompt_toolkit.input import Input
from prompt_toolkit.key_binding import KeyBindings
from prompt_toolkit.key_binding.key_processor import KeyPressEvent
from prompt_toolkit.keys import Keys
from prompt_toolkit.layout import (
    ConditionalContainer,
    Float,
    FloatContainer,
    HSplit,
    Layout,
    VSplit,
)
from prompt_toolkit.layout import Window as Area
from prompt_toolkit.layout.controls import BufferControl, FormattedTextControl
from prompt_toolkit.layout.menus import CompletionsMenu
from prompt_toolkit.layout.processors import AppendAutoSuggestion
from prompt_toolkit.mouse_events import MouseEvent
from prompt_toolkit.output import Output
from prompt_toolkit.styles import DynamicStyle

from tui.actions import ACTIONS
from tui.canvas import Canvas
from tui.completion import Words
from tui.keys import keys
from tui.mouse import clicked
from tui.text import clean
from tui.theme import style_of

if TYPE_CHECKING:
    from tui.app import Tui

_MOST = 1_000_000
_ENDING_SIGNALS = (signal.SIGTERM, signal.SIGHUP)


class Window:
    """The terminal as `tui` sees it."""

    def __init__(
        self,
        tui: Tui,
        symbols: Sequence[str],
        terminal_input: Input | None,
        terminal_output: Output | None,
    ) -> None:
        self._tui = tui
        self.mouse = False
        self._prompt = ":"
        self._loop: asyncio.AbstractEventLoop | None = None
        self._buffer = Buffer(
            history=InMemoryHistory(tui.first_commands),
            completer=Words(symbols, self._bookmarks),
            complete_while_typing=True,
            auto_suggest=AutoSuggestFromHistory(),
            multiline=False,
            accept_handler=self._accept,
        )
        self._message = Area(
            FormattedTextControl(tui.last_line, focusable=True, show_cursor=False), height=1
        )
        self._line = Area(
            BufferControl(self._buffer, input_processors=[AppendAutoSuggestion()]), height=1
        )
        self._style = style_of(tui.theme)
        self.application: Application[None] = Application(
            layout=Layout(self._container(), focused_element=self._message),
            key_bindings=self._bindings(),
            style=DynamicStyle(lambda: self._style),
            full_screen=True,
            mouse_support=Condition(lambda: self.mouse),
            input=terminal_input,
            output=terminal_output,
        )
        self.application.ttimeoutlen = 0.05
        self.application.timeoutlen = 0.5

    def _container(self) -> FloatContainer:
        asking = Condition(lambda: self.asking)
        prompt = FormattedTextControl(lambda: [("class:key", self._prompt)])
        line = VSplit([Area(prompt, width=1, height=1), self._line])
        body = HSplit(
            [
                Canvas(self._tui.lines, self._clicked),
                ConditionalContainer(line, filter=asking),
                ConditionalContainer(self._message, filter=~asking),
            ]
        )
        menu = Float(CompletionsMenu(max_height=10), xcursor=True, ycursor=True)
        return FloatContainer(body, [menu])

    # ---- life ---------------------------------------------------------------------------------------

    def run(self, begin: Callable[[], None]) -> None:
        """Show the screen until `exit` or `fail`; `begin` is called once it stands."""
        asyncio.run(self.run_async(begin))

    async def run_async(self, begin: Callable[[], None]) -> None:
        """As `run`, in a loop that runs already."""
        self._loop = asyncio.get_running_loop()
        for number in _ENDING_SIGNALS:
            self._loop.add_signal_handler(number, self.exit)
        try:
            await self.application.run_async(pre_run=begin)
        finally:
            for number in _ENDING_SIGNALS:
                self._loop.remove_signal_handler(number)

    def exit(self) -> None:
        """End the application."""
        if self.application.is_running and not self.application.is_done:
            self.application.exit()

    def fail(self, error: BaseException) -> None:
        """End the application with an exception."""
        if self.application.is_running and not self.application.is_done:
            self.application.exit(exception=error)

    def soon(self, work: Callable[[], None]) -> None:
        """Do something on the screen's thread; from any thread."""
        loop = self._loop
        if loop is not None and not loop.is_closed():
            try:
                loop.call_soon_threadsafe(work)
            except RuntimeError:
                # The loop was closed in between: nobody is there to see it.
                return

    def invalidate(self) -> None:
        """Have the screen drawn again."""
        self.application.invalidate()

    def redraw(self) -> None:
        """Have everything drawn, also what is thought to be there."""
        self.application.renderer.clear()
        self.invalidate()

    def restyle(self) -> None:
        """The theme has changed."""
        self._style = style_of(self._tui.theme)
        self.invalidate()

    def typed(self) -> Iterable[str]:
        """Commands typed, oldest first."""
        return self._buffer.history.get_strings()

    # ---- the command line ---------------------------------------------------------------------------

    @property
    def asking(self) -> bool:
        """Whether the command line is open."""
        return self.application.layout.has_focus(self._buffer)

    def ask(self, prompt: str, text: str) -> None:
        """Open the command line."""
        self._prompt = prompt
        self._buffer.reset()
        self._buffer.insert_text(text)
        self.application.layout.focus(self._buffer)

    def close(self) -> None:
        """Close it."""
        self._buffer.reset()
        self.application.layout.focus(self._message)

    def _accept(self, buffer: Buffer) -> bool:
        text, prompt = buffer.text, self._prompt
        if text.strip() and prompt == ":":
            buffer.append_to_history()
        self.close()
        self._tui.answered(prompt, text.strip())
        return True

    def _bookmarks(self) -> Iterable[str]:
        shot = self._tui.shot
        return [mark.name for mark in shot.bookmarks] if shot else []

    def _clicked(self, event: MouseEvent) -> None:
        clicked(self._tui, event)

    # ---- keys -----------------------------------------------------------------------------------------

    def _bindings(self) -> KeyBindings:
        bindings = KeyBindings()
        normal = Condition(lambda: not self.asking and not self._tui.guest_keys.taken)
        asking = Condition(lambda: self.asking)
        for key in keys():
            for sequence in key.keys:
                names = [Keys.Any if each == "<any>" else each for each in sequence.split()]
                bindings.add(*names, filter=normal, eager=names == ["escape"])(self._on(key.action))
        for digit in "123456789":
            bindings.add(digit, filter=normal)(_count)
        bindings.add("0", filter=normal & Condition(self._counting))(_count)
        bindings.add("escape", filter=asking, eager=True)(lambda _: self.close())
        bindings.add("c-c", filter=asking)(lambda _: self.close())
        self._bind_typing(bindings)
        return bindings

    def _bind_typing(self, bindings: KeyBindings) -> None:
        """Keys while they are the guest's."""
        types = Condition(lambda: self._tui.guest_keys.taken)
        for key in ("escape", "c-]"):
            bindings.add(key, filter=types, eager=True)(lambda _: self._tui.guest_keys.take_back())
        bindings.add("c-c", filter=types, eager=True)(lambda _: self._tui.interrupt())
        for each in (Keys.Any, Keys.BracketedPaste):
            bindings.add(each, filter=types)(self._pass_on)

    def _pass_on(self, event: KeyPressEvent) -> None:
        self._tui.guest_keys.type("".join(press.data for press in event.key_sequence).encode())

    def _on(self, action: str) -> Callable[[KeyPressEvent], None]:
        act = ACTIONS[action]

        def handle(event: KeyPressEvent) -> None:
            self._tui.letter_typed = clean(event.key_sequence[-1].data)
            act(self._tui, max(1, min(event.arg, _MOST)))
            self.invalidate()

        return handle

    def _counting(self) -> bool:
        return self.application.key_processor.arg is not None


def _count(event: KeyPressEvent) -> None:
    if event.arg < _MOST:
        event.append_to_arg_count(event.data)


__all__ = ["Window"]
