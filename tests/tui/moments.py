"""Moments of the shipped traces that tests go to, found by what happens there and not by their ticks."""

from __future__ import annotations

from functools import cache

from replay.events import HostInterrupt
from replay.log import TraceReader
from replay.timeline import Timeline
from tests.tui.sitting import RACE


@cache
def fatal() -> int:
    """The tick of the interrupt that hits the kernel's last instruction before its way out, in traces/iret-race."""
    with Timeline(TraceReader(RACE)) as timeline:
        begin, end = timeline.address("lguest_iret"), timeline.address("first_process")
        hits = [
            event.tick
            for event in timeline.reader.events()
            if isinstance(event, HostInterrupt) and begin <= event.eip < end
        ]
        return max(hits)


@cache
def last() -> int:
    """The tick at which that trace ends."""
    with TraceReader(RACE) as reader:
        assert reader.end is not None
        return int(reader.end.tick)
