"""A guest that somebody moves about in while it is being recorded: what `gdb --record` and `tui --record` share.

Read next: replay/live.py.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import click

from hostvm.errors import ConfigurationError
from hostvm.world import World
from replay.commands.plan import Plan, Wish, choose_seed, free_name, make_plan, make_world
from replay.errors import one_line
from replay.ethernet import ports_of
from replay.live import LiveTimeline, record_live
from replay.machine_header import Origin
from replay.virtual_world import VirtualWorld
from replay.world_time import FAR, Since


@contextmanager
def live_recording(
    wish: Wish, arguments: Sequence[str], keys: int | None
) -> Iterator[tuple[Plan, LiveTimeline]]:
    """Power on what is wished for; afterwards the trace is whole, and it is said where it is.

    `keys` is a descriptor at which somebody types to the guest. Raises: OSError, ConfigurationError, TraceWriteError.
    """
    if wish.interactive or wish.keep_last is not None:
        raise ConfigurationError("--record: not with --interactive, and not with --keep-last")
    plan, seed = make_plan(wish), choose_seed(wish)
    path = Path(wish.output) if wish.output else free_name(plan.config.guests[0].name)
    origin = Origin(wish.clock, seed, ("lgreplay", *arguments), time.time_ns())
    limit = FAR if wish.max_ticks is None else wish.max_ticks
    world = _world_of(wish, plan, seed, keys)
    with record_live(plan.config, world, path, origin, max_ticks=limit) as timeline:
        yield plan, timeline
    ended = f"{timeline.end_tick:,} ticks, {timeline.events_logged:,} events"
    click.echo(f"{one_line(str(path))}: {ended}", err=True)


def _world_of(wish: Wish, plan: Plan, seed: int, keys: int | None) -> Callable[[Since], World]:
    """The World in which the guest runs from a time on; one of the host's clock is made once, for good."""

    def virtual(since: Since) -> World:
        ports = ports_of(plan.config.guests)
        return VirtualWorld(seed, disks=plan.disks, host_hz=wish.host_hz, since=since, ports=ports)

    return virtual if wish.clock == "virtual" else lambda _: make_world(wish, seed, plan, keys)


__all__ = ["live_recording"]
