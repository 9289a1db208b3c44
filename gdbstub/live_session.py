"""A guest that is debugged while it is being recorded: what `lgreplay gdb --record` does besides serving.

What the guest prints is shown by the debugger. What is typed at our own terminal goes to the guest, if the debugger is
in another one.

Read next: replay/live.py.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import click

from gdbstub.timeline_target import TimelineTarget
from hostvm.errors import ConfigurationError
from hostvm.world import World
from replay.commands.keyboard import keyboard
from replay.commands.plan import Wish, choose_seed, free_name, make_plan, make_world
from replay.errors import one_line
from replay.live import record_live
from replay.machine_header import Origin
from replay.worlds import FAR, HostWorld, Since, VirtualWorld


@contextmanager
def live_session(wish: Wish, arguments: Sequence[str], *, typing: bool) -> Iterator[TimelineTarget]:
    """Power on what is wished for; afterwards the trace is whole. `typing`: the terminal is free for the guest."""
    if wish.interactive or wish.keep_last is not None:
        raise ConfigurationError("--record: not with --interactive, and not with --keep-last")
    plan, seed = make_plan(wish), choose_seed(wish)
    path = Path(wish.output) if wish.output else free_name(plan.config.guests[0].name)
    origin = Origin(wish.clock, seed, ("lgreplay", *arguments), time.time_ns())
    with keyboard(interactive=False) as keys:

        def world(since: Since) -> World:
            if wish.clock == "virtual":
                return VirtualWorld(seed, disks=plan.disks, host_hz=wish.host_hz, since=since)
            made = make_world(wish, seed, plan, keys if typing else None)
            assert isinstance(made, HostWorld)
            return made

        limit = FAR if wish.max_ticks is None else wish.max_ticks
        with record_live(plan.config, world, path, origin, max_ticks=limit) as timeline:
            target = TimelineTarget(timeline)
            if not wish.quiet:
                timeline.frontier.console = target.console
            yield target
        click.echo(
            f"{one_line(str(path))}: {timeline.end_tick:,} ticks, {timeline.events_logged:,} events",
            err=True,
        )


__all__ = ["live_session"]
