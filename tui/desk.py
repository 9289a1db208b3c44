"""What one can do with a trace: moves, questions, stops and bookmarks, each with an answer in words.

For the engine's thread; keys and typed commands both end here.
`Refused` is an answer too: what was asked for cannot be done, and why; nothing has moved. A jump (anything but a step)
leaves the place it came from in `behind`, so that one can go back to it as in a browser.

Read next: engine.py, which calls; commands.py for the words.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from hostvm.errors import HostvmError
from hostvm.interrupts_and_traps import LGUEST_IRQS
from hostvm.units import Tick
from replay.bookmarks import Bookmark, BookmarkError
from replay.branch import Branch
from replay.errors import ReplayError
from replay.events import Event, Kind
from replay.following import FollowingTimeline
from replay.histories import Histories, NoBranch, Written
from replay.layouts import LAYOUTS
from replay.location_words import BadLocation
from replay.locations import Location, NoSuchLocation
from replay.moves import Unit
from replay.named_stops import NoSuchStop
from replay.predicate import BadPredicate
from replay.shared_position import SharedStop, Standing
from replay.stop_words import BadStop, stop_of
from replay.stops import Arrival, Breakpoint, Cancelled, HistoryEnd, HistoryStart, Stop
from replay.timeline import Interrupted, Timeline
from replay.where import BadPlace
from tui.answers import arrival_text, obstacle_lines, write_lines
from tui.events_view import search
from tui.snapshot import Camera
from tui.text import Line
from tui.values import Point, Wish
from tui.writing import BadWrite, edits_of

_VISITS = 500
_ITS_OWN = "with a condition that only it knows"
_FIRST_WORDS = "This is a branch now; the recorded run is as it was: `:branch leave` goes back"


class Refused(Exception):
    """What was asked for cannot be done; the text says why, in one line."""


REFUSALS = (
    BadLocation,
    BadPlace,
    BadPredicate,
    BookmarkError,
    HostvmError,
    BadStop,
    BadWrite,
    NoBranch,
    NoSuchLocation,
    NoSuchStop,
    ReplayError,
)


class Desk:
    """One user at one trace. `cancelled` tells long searches that nobody waits for them any more."""

    def __init__(self, timeline: Timeline) -> None:
        self.histories = Histories(timeline)
        self._cameras = [Camera(timeline)]
        self.writes = 0
        self.behind: list[Tick] = []
        self.ahead: list[Tick] = []
        self.cancelled = False
        self.page: tuple[str, tuple[Line, ...]] | None = None
        self.select: tuple[str, int] | None = None
        self._texts: dict[int, str] = {}
        self._theirs: dict[int, SharedStop] = {}
        self._only_told: tuple[SharedStop, ...] = ()

    @property
    def timeline(self) -> Timeline:
        """The history in which the user is: the trace's, or a branch's."""
        return self.histories.top

    @property
    def camera(self) -> Camera:
        """What looks at that."""
        return self._cameras[-1]

    @property
    def moment(self) -> tuple[int, int, Tick]:
        """Something that is another when another moment is shown."""
        return len(self._cameras), self.writes, self.timeline.tick

    # ---- moves --------------------------------------------------------------------------------------

    def step(self, unit: Unit, *, backwards: bool = False, count: int = 1) -> str:
        """Make steps of a unit."""
        if unit in (Unit.EVENT, Unit.SWITCH, Unit.OUT):
            return self._jump(lambda: self.timeline.step(unit, backwards=backwards, count=count))
        return self._told(self.timeline.step(unit, backwards=backwards, count=count))

    def resume(self, *, backwards: bool = False) -> str:
        """Go on to the next stop."""
        return self._jump(lambda: self.timeline.resume(backwards=backwards))

    def run_on(self) -> str:
        """Go on in the present, to the next stop."""
        if isinstance(self.timeline, Branch):
            raise Refused("this is a branch: `:branch leave` first")
        self.timeline.go(self.timeline.end_tick)
        return self.resume()

    def seek(self, where: int | str) -> str:
        """Go to a place."""
        return self._jump(lambda: self.timeline.seek(where))

    def until(self, stop: Stop, *, backwards: bool = False) -> str:
        """Go to where one stop is met, or any that is in force."""
        stops = ((0, stop), *self.timeline.stops)
        return self._jump(lambda: self.timeline.resume_with(stops, backwards=backwards))

    def event(self, kinds: frozenset[Kind], number: int | None, *, backwards: bool) -> str:
        """Go to the next or last event of the index that is of these kinds."""
        timeline, index = self.timeline, self.camera.index
        store = timeline.store

        def wanted(event: Event) -> bool:
            return number is None or number in (
                getattr(event, name, None) for name in ("irq", "vector", "number")
            )

        if backwards:
            found = store.find_before(timeline.tick, wanted, kinds)
        else:
            found = store.find_after(timeline.tick, wanted, kinds)
        event = next((e for e in found if type(e) in _classes(kinds)), None)
        if event is None:
            raise Refused(f"no such event {'before' if backwards else 'behind'} this tick")
        self.select = ("events", index.ordinal_at(event.tick))
        return self.seek(event.tick)

    def visit(self, *, backwards: bool) -> str:
        """Go back to where the last jump came from, or forward again."""
        source, target = (self.behind, self.ahead) if backwards else (self.ahead, self.behind)
        if not source:
            raise Refused("there is no earlier place" if backwards else "there is no later place")
        goal, origin = source[-1], self.timeline.tick
        arrival = self.timeline.seek(goal)
        if not _is_cancelled(arrival):
            source.pop()
            target.append(origin)
        return self._told(arrival)

    def _jump(self, move: Callable[[], Arrival]) -> str:
        origin = self.timeline.tick
        arrival = move()
        if self.timeline.tick != origin:
            self.behind = [*self.behind[-_VISITS:], origin]
            self.ahead.clear()
        return self._told(arrival)

    def _told(self, arrival: Arrival) -> str:
        return arrival_text(arrival, self._texts, self.camera.generations)

    # ---- questions ----------------------------------------------------------------------------------

    def wrote(self, location: Location, name: str, *, backwards: bool = True) -> str:
        """Go to the step that wrote a location last (or writes it next)."""
        timeline = self.timeline
        write = timeline.last_write(location) if backwards else timeline.next_write(location)
        if write is None:
            raise Refused(f"{name}: nothing {'before' if backwards else 'behind'} this wrote it")
        answer = write_lines(write, name)
        self.seek(write.tick)
        return answer

    def whynot(self, irq: int) -> str:
        """Show why an interrupt is not being delivered, since when and until when."""
        if not 0 <= irq < LGUEST_IRQS:
            raise Refused(f"there is no IRQ {irq}")
        obstacles = self.timeline.whynot(irq, self.guest)
        self.page = (
            f"Why is IRQ {irq} not delivered at tick {self.timeline.tick:,}?",
            tuple(obstacle_lines(obstacles, self.timeline.tick)),
        )
        return f"IRQ {irq}: " + "; ".join(each.why.value for each in obstacles)

    def find_event(self, wish: Wish, text: str, after: int, *, backwards: bool) -> str:
        """Select the next event of the list that has the text in it."""
        while not self.camera.index.whole:
            self.poll()
            self.camera.index.grow()
        camera, store = self.camera, self.timeline.store
        found = search(store, camera.index, wish, text, after, backwards, camera.generations)
        for row in found:
            self.poll()
            if row is not None:
                self.select = ("events", row.ordinal)
                return f"event at tick {row.tick:,}; Enter goes there"
        raise Refused(f"no event {'above' if backwards else 'below'} has {text!r} in it")

    def event_at(self, wish: Wish, place: int) -> str:
        """Select the event at a place of the list."""
        ordinals = self.camera.index.matching(wish.events)
        if len(ordinals):
            self.select = ("events", int(ordinals[max(0, min(place, len(ordinals) - 1))]))
        return ""

    def poll(self) -> None:
        """For long work that is not the timeline's: end here if it was cancelled."""
        if self.cancelled:
            raise Interrupted

    # ---- Guests -------------------------------------------------------------------------------------

    @property
    def guest(self) -> int:
        """The Guest that is shown."""
        return self.camera.look.guest.number

    def choose(self, guest: int | None) -> str:
        """Show a Guest; None: always the one that runs."""
        guests = len(self.timeline.machine.guests)
        if guest is not None and not 0 <= guest < guests:
            raise Refused(f"there is no guest {guest}; the trace has {guests}, and the first is 0")
        self.camera.choose(guest)
        return "the guest that runs is shown" if guest is None else f"guest {guest} is shown"

    def next_guest(self) -> str:
        """Show the next Guest, after the last one always the one that runs."""
        chosen = self.camera.look.chosen
        guests = len(self.timeline.machine.guests)
        if guests == 1:
            raise Refused("there is one guest in this trace")
        following = 0 if chosen is None else chosen + 1
        return self.choose(following if following < guests else None)

    # ---- writing ------------------------------------------------------------------------------------

    def write(self, text: str) -> str:
        """Write what words say; into the recorded past that opens a branch."""
        told, edits = edits_of(self.timeline, self.camera.look, text)
        was_recorded = not self.histories.sheets
        written = self.histories.write(edits)
        self.writes += 1
        self.arrange()
        if written is Written.NOW:
            return f"{told}: an event of the recording"
        if was_recorded:
            return f"{told}. {_FIRST_WORDS}"
        return f"{told}, in the branch at tick {self.histories.sheets[-1].tick:,}"

    def arrange(self) -> None:
        """Let there be a camera for each history."""
        timelines = self.histories.timelines
        same = 0
        while same < len(self._cameras) and same < len(timelines):
            if self._cameras[same].timeline is not timelines[same]:
                break
            same += 1
        chosen = self.camera.look.chosen
        del self._cameras[same:]
        for timeline in timelines[same:]:
            timeline.stops = self.histories.recorded.stops
            timeline.progress = self.histories.recorded.progress
            self._cameras.append(Camera(timeline, self.camera))
        self.camera.choose(chosen)

    def leave(self) -> str:
        """Go back to where the branch was opened."""
        tick = self.histories.branch.branch_tick
        self.histories.leave()
        self.writes += 1
        self.arrange()
        where = "a branch" if self.histories.sheets else "the recorded run"
        return f"this is {where} again, at tick {tick:,}"

    def save(self, path: str) -> str:
        """Keep the branch as a trace."""
        if not path:
            raise Refused("branch save FILE")
        return self.histories.save(path, ("lgreplay", "tui"))

    def branches(self) -> str:
        """Show the branches."""
        lines = enumerate(self.histories.lines())
        here = len(self.histories.sheets)
        self.page = (
            "Branches (:branch leave, :branch save FILE)",
            tuple((("", f" {'*' if n == here else ' '}{n:>3}  {text}"),) for n, text in lines),
        )
        return ""

    # ---- stops --------------------------------------------------------------------------------------

    def add(self, stop: Stop, text: str) -> str:
        """Put a stop in force."""
        number = self.timeline.stops.add(stop)
        self._texts[number] = text
        return f"stop {number}: {text}"

    def remove(self, number: int) -> str:
        """Take a stop away."""
        if number in self._theirs:
            raise Refused(f"stop {number} is the debugger's: delete it there")
        try:
            self.timeline.stops.remove(number)
        except KeyError:
            raise Refused(f"there is no stop {number}") from None
        return f"stop {number} is gone: {self._texts.pop(number)}"

    def clear(self) -> str:
        """Take all away that are one's own."""
        for number in self._texts:
            self.timeline.stops.remove(number)
        self._texts.clear()
        return "no stops any more"

    def toggle(self, address: int) -> str:
        """Set a plain breakpoint at an address, or take it away."""
        for number, stop in self.timeline.stops:
            if isinstance(stop, Breakpoint) and stop.address == address and not stop.condition:
                return self.remove(number)
        return self.add(
            Breakpoint(address), f"break {self.camera.code.name(address) or hex(address)}"
        )

    def points(self) -> tuple[Point, ...]:
        """The stops in force, and those of the debugger's that hold for it alone."""
        own = tuple(self._point(number, stop) for number, stop in self.timeline.stops)
        told = (Point(0, stop.text, None, f"gdb, {_ITS_OWN}") for stop in self._only_told)
        return own + tuple(told)

    def _point(self, number: int, stop: Stop) -> Point:
        address = getattr(stop, "address", None)
        if number in self._theirs:
            return Point(number, self._theirs[number].text, address, "gdb")
        return Point(number, self._texts[number], address)

    # ---- the debugger -------------------------------------------------------------------------------

    def follow(self, standing: Standing) -> str | None:
        """Be where the debugger stands, and have its stops."""
        before = self.moment
        self._take_stops(standing.stops)
        recorded = self.histories.recorded
        if standing.end is not None and isinstance(recorded, FollowingTimeline):
            self._catch_up(recorded, standing.end, standing.events)
        if standing.sheets is not None and standing.sheets != self.histories.sheets:
            self.histories.be_on(standing.sheets)
            self.writes += 1
            self.arrange()
        self.timeline.go(standing.tick)
        return None if self.moment == before else "where the debugger is"

    def _catch_up(self, recorded: FollowingTimeline, end: int, events: int) -> None:
        """Know what the debugger has recorded since; branches are of the file as it was, and are opened anew."""
        if recorded.knows(end, events):
            return
        self.histories.be_on(())
        self.arrange()
        recorded.catch_up(end, events)
        self.camera.index.store = recorded.store
        self.writes += 1

    def _take_stops(self, stops: Sequence[SharedStop]) -> None:
        if (*self._theirs.values(), *self._only_told) == tuple(stops):
            return
        for number in self._theirs:
            self.timeline.stops.remove(number)
        self._theirs, told = {}, []
        for shared in stops:
            try:
                stop = stop_of(self.timeline, shared.text) if shared.holds else None
            except REFUSALS:
                stop = None
            if stop is None:
                told.append(shared)
            else:
                self._theirs[self.timeline.stops.add(stop)] = shared
        self._only_told = tuple(told)

    # ---- bookmarks ----------------------------------------------------------------------------------

    def bookmark(self, name: str, note: str = "") -> str:
        """Give this tick a name."""
        try:
            self.timeline.bookmarks.put(Bookmark(name, self.timeline.tick, note))
        except ValueError as error:
            raise Refused(str(error)) from error
        return f"@{name} is tick {self.timeline.tick:,}"

    def forget(self, name: str) -> str:
        """Forget a bookmark."""
        try:
            self.timeline.bookmarks.remove(name)
        except KeyError:
            raise Refused(f"there is no bookmark called {name!r}") from None
        return f"@{name} is forgotten"


def _is_cancelled(arrival: Arrival) -> bool:
    return any(isinstance(reason, Cancelled) for reason in arrival.reasons)


def at_edge(arrival: Arrival) -> bool:
    """Whether a move ended at an edge of history."""
    return any(isinstance(reason, HistoryStart | HistoryEnd) for reason in arrival.reasons)


def _classes(kinds: frozenset[Kind]) -> tuple[type[Event], ...]:
    return tuple(layout.event for kind, layout in LAYOUTS.items() if kind in kinds)


__all__ = ["REFUSALS", "Desk", "Refused", "at_edge"]
