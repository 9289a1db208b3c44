"""A guest that is debugged while it is being recorded: what `lgreplay gdb --record` does besides serving.

What the guest prints is shown by the debugger. What is typed at our own terminal goes to the guest, if the debugger is
in another one.

Read next: replay/commands/live_recording.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from gdbstub.timeline_target import TimelineTarget
from replay.commands.keyboard import keyboard
from replay.commands.live_recording import live_recording
from replay.commands.plan import Wish
from replay.timeline import Timeline


@contextmanager
def live_session(
    wish: Wish,
    arguments: Sequence[str],
    make: Callable[[Timeline], TimelineTarget],
    *,
    typing: bool,
) -> Iterator[TimelineTarget]:
    """Power on what is wished for, for a target that `make` makes; afterwards the trace is whole.

    `typing`: the terminal is free for the guest.
    """
    with (
        keyboard(interactive=False) as keys,
        live_recording(wish, arguments, keys if typing else None) as (_, timeline),
    ):
        target = make(timeline)
        if not wish.quiet:
            timeline.frontier.console = target.console
        yield target


__all__ = ["live_session"]
