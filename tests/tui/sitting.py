"""Somebody at a terminal that is not there: keys go through a pipe, and pyte keeps the screen.

async with Sitting(trace, 120, 40) as user:
    await user.press("e", "w")
    assert "IF=1" in user.text
"""

from __future__ import annotations

import asyncio
import io
import shutil
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import pyte
from prompt_toolkit.data_structures import Size
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.key_binding.key_processor import KeyPress
from prompt_toolkit.output import ColorDepth
from prompt_toolkit.output.vt100 import Vt100_Output

from replay.log import TraceReader
from replay.timeline import Timeline
from tests.patience import PATIENCE
from tui.app import Tui
from tui.state import Kept
from tui.theme import Theme

NOTHING_KEPT = Kept()
SHIPPED = Path(__file__).parents[2] / "traces"
RACE = SHIPPED / "iret-race" / "iret-race.lgt"
NAMED = {
    "enter": "\r",
    "escape": "\x1b",
    "tab": "\t",
    "s-tab": "\x1b[Z",
    "backspace": "\x7f",
    "up": "\x1b[A",
    "down": "\x1b[B",
    "right": "\x1b[C",
    "left": "\x1b[D",
    "pageup": "\x1b[5~",
    "pagedown": "\x1b[6~",
    "home": "\x1b[H",
    "end": "\x1b[F",
    "f1": "\x1bOP",
    "f2": "\x1bOQ",
    "f3": "\x1bOR",
    "f4": "\x1bOS",
    "f5": "\x1b[15~",
    **{f"c-{letter}": chr(ord(letter) - 96) for letter in "abcdefghijklmnopqrstuvwxyz"},
}


class _Feeder(io.StringIO):
    """What a terminal is given."""

    encoding = "utf-8"

    def __init__(self, stream: pyte.Stream) -> None:
        super().__init__()
        self._stream = stream
        self.written = 0

    def write(self, text: str) -> int:
        self.written += len(text)
        self._stream.feed(text)
        return len(text)

    def isatty(self) -> bool:
        return True

    def fileno(self) -> int:
        return 1


class Sitting:
    """A user at a Tui on a trace."""

    def __init__(
        self,
        trace: Path | Timeline,
        columns: int,
        rows: int,
        kept: Kept = NOTHING_KEPT,
        **options: Any,
    ) -> None:
        self.size = Size(rows, columns)
        self.screen = pyte.Screen(columns, rows)
        self.feeder = _Feeder(pyte.Stream(self.screen))
        self._stack = ExitStack()
        self._pipe = self._stack.enter_context(create_pipe_input())
        self._escapes = 0
        self._count_escapes()
        output = Vt100_Output(
            self.feeder,
            lambda: self.size,
            term="xterm-256color",
            default_color_depth=ColorDepth.DEPTH_4_BIT,
            enable_cpr=False,
        )
        self.timeline = trace if isinstance(trace, Timeline) else self._opened(trace)
        self.tui = Tui(
            self.timeline,
            theme=options.pop("theme", Theme.DARK),
            kept=kept,
            terminal_input=self._pipe,
            terminal_output=output,
            **options,
        )

    def _count_escapes(self) -> None:
        flush = self._pipe.flush_keys

        def counted() -> list[KeyPress]:
            keys = flush()
            self._escapes += bool(keys)
            return keys

        self._pipe.flush_keys = counted  # type: ignore[method-assign]

    def _opened(self, trace: Path) -> Timeline:
        # Bookmarks lie beside a trace: they shall not lie beside a shipped one.
        folder = self._stack.enter_context(tempfile.TemporaryDirectory())
        return Timeline(TraceReader(shutil.copy(trace, folder)))

    async def __aenter__(self) -> Self:
        self._task = asyncio.ensure_future(self.tui.window.run_async(self.tui.begin))
        await self.settled()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.tui.window.exit()
        try:
            await asyncio.wait_for(self._task, PATIENCE)
        finally:
            self.tui.close()
            self._stack.close()
            self.timeline.close()

    # ---- doing --------------------------------------------------------------------------------------

    async def press(self, *keys: str) -> None:
        """Press keys one after the other; wait for each to have its effect."""
        for key in keys:
            before = self._escapes
            self.send(key)
            if key == "escape":
                await self._escaped(before)
            await self.settled()

    async def _escaped(self, before: int) -> None:
        """Wait until it is known that it stands alone: a terminal's keys begin with it too."""
        await self.until(lambda: self.left or self._escapes > before)

    async def type(self, text: str) -> None:
        """Type a line and enter it."""
        self.send(text)
        await asyncio.sleep(0.02)
        await self.press("enter")

    def send(self, key: str) -> None:
        """Press a key and do not wait."""
        self._pipe.send_text(NAMED.get(key, key))

    async def settled(self) -> None:
        """Wait until all that was asked for is done and drawn."""
        deadline = asyncio.get_running_loop().time() + PATIENCE
        quiet = 0
        while quiet < 3:
            assert asyncio.get_running_loop().time() < deadline, "it does not come to rest"
            if self._task.done():
                self._task.result()
                return
            await asyncio.sleep(0.004)
            at_rest = self.tui.shot is not None and self.tui.idle and self.drawn
            quiet = quiet + 1 if at_rest else 0

    @property
    def left(self) -> bool:
        """Whether the screen has gone."""
        return self._task.done()

    @property
    def drawn(self) -> bool:
        return not self.tui.window.application._invalidated and self.feeder.written > 0

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until something is so."""
        deadline = asyncio.get_running_loop().time() + PATIENCE
        while not condition():
            assert asyncio.get_running_loop().time() < deadline, "it never is so"
            await asyncio.sleep(0.004)

    async def known(self) -> None:
        """Wait until all events and source lines are read."""
        camera = self.tui.engine._desk.camera
        await self.until(lambda: camera.index.whole and camera.sources.whole)
        # A look that the engine takes from now on has all of it.
        self.tui._submitted = self.tui.engine.wish(self.tui.wish)
        await self.settled()

    async def resize(self, columns: int, rows: int) -> None:
        """Make the terminal another size, and wait until all is as it should be."""
        await self.resize_at_once(columns, rows)
        await self.settled()

    async def resize_at_once(self, columns: int, rows: int) -> None:
        """Make the terminal another size."""
        self.size = Size(rows, columns)
        self.screen.resize(rows, columns)
        self.tui.window.application._on_resize()

    # ---- looking ------------------------------------------------------------------------------------

    @property
    def lines(self) -> list[str]:
        return [line.rstrip() for line in self.screen.display]

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    @property
    def tick(self) -> int:
        assert self.tui.shot is not None
        return self.tui.shot.position.tick

    @property
    def message(self) -> str:
        return self.tui.message
