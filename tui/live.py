"""A guest on the screen while it is being recorded: what `lgreplay tui --record` does besides showing.

The timeline grows: `c` lets the guest run on, and shows it, until a stop, the guest's end or ^C; a tick beyond the
present is run to; and everything before the present can be visited as in any trace. Time stands still for the guest
while it is looked at.

Keys are the screen's, unless the user has said that they are the guest's (`Typing`). While the guest waits for what is
typed its newest output is not yet past for anybody who looks, so it is shown as it was heard.

Read next: replay/commands/live_recording.py.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from replay.commands.live_recording import live_recording
from replay.commands.plan import COMPUTED, Plan, Wish
from replay.host_world import HostWorld
from replay.live import LiveTimeline
from tui.snapshot import CONSOLE

_AGAIN_NS = 100_000_000


class Typing:
    """A way to the console of the first guest, and what that has written. `refusal`: why there is none, if so."""

    def __init__(self) -> None:
        self.read_end, self._write_end = os.pipe()
        os.set_blocking(self._write_end, False)
        self.refusal = ""
        self._seen = bytearray()
        self._news = False
        self._shown_at = 0

    def type(self, data: bytes) -> bool:
        """Type; False when more is waiting already than there is room for."""
        try:
            return os.write(self._write_end, data) == len(data)
        except BlockingIOError:
            return False

    def hear(self, data: bytes) -> None:
        """The guest has written this. On the engine's thread."""
        self._seen += data
        del self._seen[:-CONSOLE]
        self._news = True

    @property
    def seen(self) -> bytes:
        """The last that was written."""
        return bytes(self._seen)

    def waiting(self, poll: Callable[[], None], show: Callable[[], None]) -> None:
        """The guest waits: show what it has written, now and then. On the engine's thread."""
        poll()
        now = time.monotonic_ns()
        if self._news and now - self._shown_at >= _AGAIN_NS:
            self._news, self._shown_at = False, now
            show()

    def close(self) -> None:
        """Let the pipe go."""
        os.close(self.read_end)
        os.close(self._write_end)


@dataclass(frozen=True, slots=True)
class Live:
    """A recording that is being made, and the way to type to it."""

    timeline: LiveTimeline
    typing: Typing


@contextmanager
def recorded(wish: Wish, arguments: Sequence[str]) -> Iterator[Live]:
    """Power on what is wished for; afterwards the trace is whole, and it is said where it is."""
    typing = Typing()
    try:
        with live_recording(wish, arguments, typing.read_end) as (plan, timeline):
            typing.refusal = _refusal(wish, plan)
            timeline.frontier.console = typing.hear
            _show_while_waiting(timeline, typing)
            yield Live(timeline, typing)
    finally:
        typing.close()


def _refusal(wish: Wish, plan: Plan) -> str:
    if wish.clock in COMPUTED:
        return "somebody who types needs the host's clock (--clock host), not a virtual one"
    if plan.typed is None:
        return f"a guest of lguest {plan.config.guests[0].abi} has no console to type at"
    return ""


def _show_while_waiting(timeline: LiveTimeline, typing: Typing) -> None:
    world = timeline.frontier.world

    def show() -> None:
        if timeline.progress is not None:
            timeline.progress(timeline.frontier.machine.tick)

    if isinstance(world, HostWorld):
        world.while_waiting = lambda: typing.waiting(timeline.poll, show)


__all__ = ["Live", "Typing", "recorded"]
