"""One history with everything that is needed to debug in it: its threads, points, moves and words.

There is one for the trace, and one for each branch that the debugger's writes have opened. Read next: branches.py.
"""

from __future__ import annotations

from dataclasses import dataclass

from gdbstub.contexts import Contexts
from gdbstub.points import Points
from gdbstub.stepping import Stepper
from gdbstub.trace_walker import TraceWalker
from gdbstub.travel import Travel
from gdbstub.words import Talk
from replay.timeline import Timeline


@dataclass(frozen=True, slots=True)
class Scene:
    """A history and what belongs to it."""

    timeline: Timeline
    contexts: Contexts
    points: Points
    walker: TraceWalker
    stepper: Stepper
    travel: Travel
    talk: Talk


def scene_of(timeline: Timeline) -> Scene:
    """Put together what a history needs."""
    contexts = Contexts(timeline.look)
    points = Points(timeline.stops, timeline.look, contexts)
    walker = TraceWalker(timeline, contexts, points)
    stepper = Stepper(walker)
    travel = Travel(timeline, walker, stepper)
    talk = Talk(travel, contexts, points)
    return Scene(timeline, contexts, points, walker, stepper, travel, talk)


__all__ = ["Scene", "scene_of"]
