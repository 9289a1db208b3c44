"""A screen that follows another program, and leads it: place, branches and stops (replay/shared_position.py).

Both sides tell each other where they are; so what comes back as an echo of one's own move must not be sent again: the
last place that both know of is kept, and what is reached by following is not told. Read next: app.py, desk.py.
"""

from __future__ import annotations

from functools import partial
from threading import Thread
from typing import TYPE_CHECKING

from replay.shared_position import PositionClient, SharedStop, Standing
from tui.values import Snapshot

if TYPE_CHECKING:
    from tui.app import Tui


class Attachment:
    """The connection of a screen to the program at the other end of `client`."""

    def __init__(self, client: PositionClient) -> None:
        self._client = client
        self._known = client.hello.standing
        self._told_stops: tuple[SharedStop, ...] = ()
        self._follows = False
        self._thread: Thread | None = None

    def begin(self, tui: Tui) -> None:
        """Go to where the other side is, and listen from now on."""
        self._follow(tui, self._client.hello.standing)
        self._thread = Thread(target=self._listen, args=(tui,), name="attached", daemon=True)
        self._thread.start()

    def arrived(self, shot: Snapshot) -> None:
        """The screen shows this and is at rest: tell the other side, unless it is the one who said so."""
        stops = tuple(SharedStop(point.text) for point in shot.points if not point.whose)
        here = Standing(shot.position.tick, shot.sheets, stops)
        moved = here.place != self._known.place and not self._follows
        if moved or stops != self._told_stops:
            self._client.ask(here if moved else Standing(*self._known.place, stops))
        if moved:
            self._known = here
        self._told_stops, self._follows = stops, False

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
        """Go there; where many come at once, only to the last."""
        self._known, self._follows = standing, True
        if standing.sheets is None:
            tui.say("the debugger is in a branch that is too large to be shown")
            return
        tui.move(
            lambda desk: desk.follow(standing) if self._known is standing else None, "following"
        )


__all__ = ["Attachment"]
