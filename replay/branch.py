"""Branches: what would have happened. A child timeline that leaves its parent's history at a tick.

Up to that tick a branch is its parent's log. Then come the edits, and then new history, made by running on in a World
of its own (edited_world.py), and recorded as it is made. The parent and its trace are not touched.

(i) *An open end.* A move forwards that comes to the end of what has been made, makes more (growing.py).
(ii) *The future of the log.* `future(timeline)` is what the parent's log has from here on. Events may be left out of
the list, put into it or given other ticks, and `branch(..., events=...)` follows the result as long as it fits.
(iii) *A trace of its own.* `save` writes one, whole in itself, that names the parent, the tick and the edits.

Read next: growing.py, edited_world.py, hostvm/edits.py.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from os import PathLike

from hostvm.edits import Edit, Register, Target
from hostvm.units import Tick
from hostvm.world import World
from hostvm.x86 import PAGE_SIZE
from replay.bookmarks import Bookmark, Bookmarks
from replay.describe import edit_to_text
from replay.device_answers import NO_DISKS, Disks
from replay.edited_world import BadEdit, EditedWorld
from replay.ethernet import ports_of
from replay.event_store import Position
from replay.events import ClockReading, DebuggerWrite, Event, Kind, TscReading
from replay.frontier import events_from, frontier_of
from replay.growing import GrowingTimeline
from replay.log import LogWriter
from replay.look import CURRENT, CurrentSpace, GuestPhysicalSpace, GuestSpace, Look, Space
from replay.machine_header import Origin, header_of
from replay.session import start_of
from replay.timeline import Timeline
from replay.trace_header import MAX_LIST, TraceEnd, TraceEndReason
from replay.virtual_world import VIRTUAL_NS_PER_TICK
from replay.world_time import POWER_ON, Since

# ---- edits -----------------------------------------------------------------------------------------


def set_register(name: str, value: int, guest: int = 0) -> Edit:
    """Give a register (a name as in hostvm.edits.Register) a value. Raises ValueError."""
    try:
        register = Register[name.upper()]
        return Edit(guest, Target.REGISTER, register, value.to_bytes(register.size, "little"))
    except (KeyError, OverflowError) as error:
        raise ValueError(f"cannot set {name!r} to {value:#x}") from error


def set_memory(look: Look, address: int, data: bytes, space: Space = CURRENT) -> list[Edit]:
    """Write bytes at an address of a space, as it is where `look` looks.

    Raises ValueError where that is not memory of a Guest.
    """
    if isinstance(space, GuestPhysicalSpace):
        return [Edit(space.guest, Target.PHYSICAL, address, data)]
    if isinstance(space, GuestSpace) and space.directory is None:
        return [Edit(space.guest, Target.LINEAR, address, data)]
    guest = look.guest.number
    if isinstance(space, CurrentSpace) and look.machine.cpu.cpl:
        return [Edit(guest, Target.LINEAR, address, data)]
    return [_byte(look, address + at, data[at : at + 1], space) for at in range(len(data))]


def _byte(look: Look, address: int, data: bytes, space: Space) -> Edit:
    physical = look.physical(address, space)
    for guest in look.machine.guests:
        inside = 0 if physical is None else physical - guest.base
        if physical is not None and 0 <= inside < guest.loaded.pfn_limit * PAGE_SIZE:
            return Edit(guest.number, Target.PHYSICAL, inside, data)
    raise ValueError(f"there is no memory of a guest at {address:#x}")


# ---- the branch ------------------------------------------------------------------------------------


class _Marks(Bookmarks):
    """A branch's bookmarks: the parent's, and those put later, which are not kept: there is no file beside which."""

    def __init__(self, parent: Bookmarks) -> None:
        self._marks = {mark.name: mark for mark in parent}

    def _write(self, marks: dict[str, Bookmark]) -> None:
        self._marks = marks


class Branch(GrowingTimeline):
    """A timeline that shares `parent`'s history up to where that stands, and goes on from there in `world`.

    The parent's trace must stay open as long as the branch is used. Raises BadEdit, and as Timeline does.
    """

    def __init__(self, parent: Timeline, world: World, seed: int = 0) -> None:
        self.frontier = frontier_of(parent, world)
        self.branch_tick = parent.tick
        self.seed = seed
        super().__init__(parent.reader, parent.snapshots.room, self.frontier.store)
        self.bookmarks = _Marks(parent.bookmarks)
        self._torn = None
        self.machine.world = self._world()
        self.end_tick = self.branch_tick
        self.snapshots.learn(parent.snapshots, Tick(self.branch_tick - 1))
        self.stored = parent.stored.up_to(self.branch_tick)
        self.go(self.branch_tick)

    @property
    def edits(self) -> tuple[DebuggerWrite, ...]:
        """What was written since it left its parent."""
        return tuple(e for e in self.frontier.store.own_events() if isinstance(e, DebuggerWrite))

    # ---- keeping --------------------------------------------------------------------------------

    def save(self, path: str | PathLike[str], command_line: Iterable[str] = ()) -> None:
        """Write all of its history into a trace of its own. Raises TraceWriteError."""
        start = start_of(self.reader)
        origin = Origin(
            clock="virtual",
            seed=self.seed,
            command_line=tuple(command_line),
            created_ns=time.time_ns(),
            parent=self.reader.trace_id,
            branch_tick=self.branch_tick,
            edits=tuple(f"at tick {e.tick}: {edit_to_text(e)}" for e in self.edits[:MAX_LIST]),
        )
        header, images = header_of(start.config, origin)
        first = None if start.entry is None else self.reader.read_checkpoint(start.entry)
        with LogWriter(path, header, images, begins_with=first) as log:
            for event in events_from(self.store, Position(0, 0)):
                log.write(event)
            log.close(self._end())

    def _end(self) -> TraceEnd:
        with self.excursion():
            self.run_to(self.end_tick)
            machine = self.machine
            reason = TraceEndReason.FINISHED if machine.finished else TraceEndReason.LIMIT
            return TraceEnd(machine.tick, machine.digest(), reason)


def future(timeline: Timeline) -> list[Event]:
    """What the log has from where a timeline stands: inputs, and the observations that go with them."""
    return list(events_from(timeline.store, timeline.position))


def branch(
    timeline: Timeline,
    edits: Iterable[Edit] = (),
    *,
    events: Iterable[Event] | None = None,
    seed: int = 0,
    disks: Disks = NO_DISKS,
) -> Branch:
    """Leave the history of `timeline` where it stands, with edits made there.

    New history follows `events` as long as they fit: `future(timeline)` with changes, in any order. Among them may be
    edits of later ticks (DebuggerWrite), and interrupts added or moved (HostInterrupt; its eip and check do not count).
    By default there are none: a VirtualWorld of `seed` takes over at once.

    `disks`: images for what Guests read from their disks when the log does not say. Raises BadEdit for what cannot be
    written here, or is in the past.
    """
    here = timeline.tick
    written = [DebuggerWrite(here, e.guest, e.target, e.address, e.data) for e in edits]
    to_come = [] if events is None else list(events)
    for event in to_come:
        if event.tick < here:
            raise BadEdit(here, f"no way to change tick {event.tick}, which is past")
    known = frozenset() if events is None else frozenset(future(timeline))
    world = EditedWorld(
        [*written, *to_come],
        known,
        since(timeline),
        seed,
        disks,
        ports_of(timeline.machine.config.guests),
    )
    return Branch(timeline, world, seed)


def since(timeline: Timeline) -> Since:
    """The time where a timeline stands, as far as its log tells."""
    here = timeline.tick
    ns = _reading(timeline, ClockReading, Kind.CLOCK_READING)
    tsc = _reading(timeline, TscReading, Kind.TSC_READING)
    return Since(
        here,
        POWER_ON.ns + here * VIRTUAL_NS_PER_TICK if ns is None else ns,
        here * VIRTUAL_NS_PER_TICK if tsc is None else tsc,
    )


def _reading(timeline: Timeline, kind: type[ClockReading | TscReading], number: Kind) -> int | None:
    def wanted(event: Event) -> bool:
        return isinstance(event, kind)

    last = next(timeline.store.find_before(timeline.tick, wanted, frozenset({number})), None)
    match last:
        case ClockReading(tick=tick, ns=value) | TscReading(tick=tick, value=value):
            return value + (timeline.tick - tick) * VIRTUAL_NS_PER_TICK
    return None


__all__ = [
    "BadEdit",
    "Branch",
    "branch",
    "future",
    "set_memory",
    "set_register",
    "since",
]
