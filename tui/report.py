"""What a page about a trace is made of: the last moments of a Guest, read off a timeline.

Two moments are looked at: the one in question, where the Host knows what it is about to do; and the last at which the
Guest had the processor, which has its registers and its code. Between them are the Switcher and the Host.

Read next: report_page.py, which makes the page.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass

from hostvm.units import Tick
from replay.commands.summary import summary
from replay.describe import END_OF_GUEST
from replay.failure import ends_of
from replay.instructions import LONGEST, text_of
from replay.look import Look, World
from replay.stops import Instructions
from replay.timeline import Interrupted, Timeline
from tui.changes import GENERAL, values_of
from tui.snapshot import Camera
from tui.values import EventRow, Snapshot, Strips, Wish

SHOWN_STEPS = 32
SHOWN_EVENTS = 60
COLUMNS = 240
# How far back the last instructions of a Guest are looked for, in turn.
_BACK = (5_000, 200_000, 5_000_000)
# How long the question why an interrupt waits may take, in seconds.
_PATIENCE = 10.0
_NEAR = 40
_GUESTS_END = 0xFFBFFFFF


@dataclass(frozen=True, slots=True)
class Step:
    """An instruction of the Guest, before it is carried out; `changed`: what the one before it did to registers."""

    tick: Tick
    eip: int
    symbol: str
    text: str
    world: str
    changed: str


@dataclass(frozen=True, slots=True)
class Story:
    """All that the page shows."""

    title: str
    lead: str
    facts: tuple[str, ...]
    then: Snapshot
    guest: Snapshot
    whole: Strips
    near: Strips
    steps: tuple[Step, ...]
    events: tuple[EventRow, ...]
    waiting: tuple[tuple[int, tuple[str, ...]], ...]


def story_of(timeline: Timeline) -> Story:
    """Tell what there is to tell of where the timeline stands. It stands elsewhere then."""
    camera = Camera(timeline)
    while not camera.index.whole:
        camera.index.grow()
    tick = timeline.tick
    number = _guest(timeline)
    camera.choose(number)
    then = camera.take(Wish(columns=COLUMNS, rows=SHOWN_EVENTS))
    waiting = tuple(
        (irq, _why(timeline, irq, number)) for irq in range(32) if then.irqs[irq].pending
    )
    events = _events_before(camera, tick)
    near = camera.take(Wish(columns=COLUMNS, span=_span(timeline, tick))).strips
    steps = tuple(_steps(timeline, number))
    timeline.go(steps[-1].tick if steps else tick)
    return Story(
        title=timeline.reader.path.name,
        lead=_lead(timeline, tick),
        facts=tuple(summary(timeline.reader)),
        then=then,
        guest=camera.take(Wish(columns=COLUMNS)),
        whole=then.strips,
        near=near,
        steps=steps,
        events=events,
        waiting=waiting,
    )


def _guest(timeline: Timeline) -> int:
    """Whose moment it is: of the Guest that ends here, else of the one that has the processor."""
    here = [end.guest for end in ends_of(timeline.store) if end.tick == timeline.tick]
    return here[0] if here else timeline.look.guest.number


def _lead(timeline: Timeline, tick: Tick) -> str:
    for end in ends_of(timeline.store):
        if end.tick == tick:
            said = f": {end.text}" if end.text else ""
            return f"Guest {end.guest} {END_OF_GUEST[end.reason]} at tick {tick:,}{said}"
    return f"At tick {tick:,} of {timeline.end_tick:,}"


def _span(timeline: Timeline, tick: Tick) -> tuple[int, int]:
    """The last part of history before a moment."""
    width = max((timeline.end_tick - timeline.first_tick) // _NEAR, 1)
    return max(timeline.first_tick, tick - width), max(tick, timeline.first_tick + 1)


def _events_before(camera: Camera, tick: Tick) -> tuple[EventRow, ...]:
    """The last events up to a step, that of the step included."""
    list_ = camera.take(Wish(events_at=camera.index.ordinal_at(Tick(tick + 1)))).events
    rows = [row for row in list_.rows if row.tick <= tick]
    return tuple(rows[-SHOWN_EVENTS:])


def _why(timeline: Timeline, irq: int, guest: int) -> tuple[str, ...]:
    """Why an interrupt waits, and since when, if that is found in time."""
    alarm = threading.Timer(_PATIENCE, timeline.cancel)
    alarm.start()
    try:
        obstacles = timeline.whynot(irq, guest)
    except Interrupted:
        return ()
    finally:
        alarm.cancel()
    return tuple(
        f"{each.why.value}, since tick {each.since:,}"
        + (", to the end" if each.until is None else f", until tick {each.until:,}")
        for each in obstacles
    )


# ---- the last instructions -------------------------------------------------------------------------


def _steps(timeline: Timeline, guest: int) -> Iterator[Step]:
    before: dict[str, int] = {}
    for tick in _ticks(timeline, guest):
        timeline.go(tick)
        look = timeline.look
        values = values_of(look.cpu)
        changed = [f"{n}={values[n]:x}" for n in GENERAL if before and before[n] != values[n]]
        before = values
        eip = int(look.machine.cpu.eip)
        name = timeline.symbols.name_of(eip, in_guest=True, guest=guest)
        world = "kernel" if look.world is World.KERNEL else "user"
        raw = look.read(eip, LONGEST)
        code = text_of(raw, eip) if raw else "(not mapped)"
        yield Step(tick, eip, "" if name is None else str(name), code, world, " ".join(changed))


def _ticks(timeline: Timeline, guest: int) -> list[Tick]:
    """Ticks of the Guest's last instructions before the cursor."""
    here = timeline.tick

    def wants(look: Look) -> bool:
        return look.guest.number == guest and look.world in (World.KERNEL, World.USER)

    found: list[Tick] = []
    for back in _BACK:
        timeline.go(max(timeline.first_tick, here - back))
        begun = timeline.tick
        scan = timeline.scan([(0, Instructions(wants, (0, _GUESTS_END)))], backwards=True)
        with timeline.excursion():
            timeline.run_scan(scan, here)
        found = sorted({tick for tick, _ in scan.hits if tick < here})
        if len(found) >= SHOWN_STEPS or begun == timeline.first_tick:
            break
    timeline.go(here)
    return found[-SHOWN_STEPS:]


__all__ = ["Step", "Story", "story_of"]
