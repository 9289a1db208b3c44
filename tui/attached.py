"""A screen that follows another program's position, and leads it (replay/shared_position.py).

Both sides tell each other where they are; so what comes back as an echo of one's own move must not be sent again: the
last tick that both know of is kept. Read next: app.py.
"""

from __future__ import annotations

from functools import partial
from threading import Thread
from typing import TYPE_CHECKING

from replay.shared_position import PositionClient, Standing

if TYPE_CHECKING:
    from tui.app import Tui


class Attachment:
    """The connection of a screen to the program at the other end of `client`."""

    def __init__(self, client: PositionClient) -> None:
        self._client = client
        self._known = client.hello.standing.tick
        self._thread: Thread | None = None

    def begin(self, tui: Tui) -> None:
        """Go to where the other side is, and listen from now on."""
        self._follow(tui, self._client.hello.standing)
        self._thread = Thread(target=self._listen, args=(tui,), name="attached", daemon=True)
        self._thread.start()

    def arrived(self, tick: int) -> None:
        """The screen shows this tick: tell the other side, unless it is the one who said so."""
        if tick != self._known:
            self._known = tick
            self._client.ask(tick)

    def close(self) -> None:
        """Let go."""
        self._client.close()
        if self._thread is not None:
            self._thread.join()

    def _listen(self, tui: Tui) -> None:
        while (standing := self._client.next()) is not None:
            tui.window.soon(partial(self._follow, tui, standing))
        tui.window.soon(lambda: tui.say("the other side has gone; this screen goes on alone"))

    def _follow(self, tui: Tui, standing: Standing) -> None:
        if standing.branch:
            tui.say("the debugger has written: it is in a branch, which this screen does not show")
            return
        self._known = standing.tick
        if tui.shot is None or tui.shot.position.tick != standing.tick:
            tui.move(lambda desk: desk.seek(standing.tick) or "followed", "following")


__all__ = ["Attachment"]
