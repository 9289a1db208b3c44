"""A guest on the screen while it is being recorded: what `lgreplay tui --record` does besides showing.

The timeline grows: `c` lets the guest run on, and shows it, until a stop, the guest's end or ^C; a tick beyond the
present is run to; and everything before the present can be visited as in any trace. Time stands still for the guest
while it is looked at. Nothing can be typed to it: the keys are the screen's.

Read next: replay/live.py.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import click

from hostvm.errors import ConfigurationError
from hostvm.world import World
from replay.commands.plan import Wish, choose_seed, free_name, make_plan, make_world
from replay.errors import one_line
from replay.live import LiveTimeline, record_live
from replay.machine_header import Origin
from replay.worlds import FAR, Since, VirtualWorld


@contextmanager
def recorded(wish: Wish, arguments: Sequence[str]) -> Iterator[LiveTimeline]:
    """Power on what is wished for; afterwards the trace is whole, and it is said where it is."""
    if wish.interactive or wish.keep_last is not None:
        raise ConfigurationError("--record: not with --interactive, and not with --keep-last")
    plan, seed = make_plan(wish), choose_seed(wish)
    path = Path(wish.output) if wish.output else free_name(plan.config.guests[0].name)
    origin = Origin(wish.clock, seed, ("lgreplay", *arguments), time.time_ns())

    def world(since: Since) -> World:
        if wish.clock == "virtual":
            return VirtualWorld(seed, disks=plan.disks, host_hz=wish.host_hz, since=since)
        return make_world(wish, seed, plan, None)

    limit = FAR if wish.max_ticks is None else wish.max_ticks
    with record_live(plan.config, world, path, origin, max_ticks=limit) as timeline:
        yield timeline
    ended = f"{timeline.end_tick:,} ticks, {timeline.events_logged:,} events"
    click.echo(f"{one_line(str(path))}: {ended}", err=True)


__all__ = ["recorded"]
