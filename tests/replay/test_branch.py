"""Branches: as the parent where nothing is changed, their own where something is, and never felt by the parent."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

import pytest

from hostvm import edits as hostvm_edits
from hostvm.edits import Edit, Target
from hostvm.observations import ConsoleOutput, IrqRaised
from hostvm.units import Tick
from hostvm.world import TIMER_VECTOR
from replay import passage
from replay.bookmarks import Bookmark
from replay.branch import BadEdit, Branch, branch, future, set_memory, set_register
from replay.edited_world import EditedWorld
from replay.event_store import EventStore, Position
from replay.events import ClockReading, DebuggerWrite, Event, HostInterrupt
from replay.index import index
from replay.locations import Register
from replay.log import TraceReader
from replay.look import GuestPhysicalSpace, GuestSpace, MachineSpace
from replay.moves import Unit
from replay.places import Place
from replay.stops import (
    Actor,
    Breakpoint,
    BreakpointHit,
    Cancelled,
    EventMet,
    EventStop,
    Happening,
    HistoryEnd,
    HistoryStart,
    Touch,
    WatchHit,
    Watchpoint,
)
from replay.timeline import Timeline
from tests.end_to_end.commands import lgreplay
from tests.replay.histories import (
    forward_digests,
    interrupt_ticks,
    record_guest,
    timeline_of,
)
from tests.replay.recorded import verify
from tests.replay.test_index import record_flight

INTERVAL = 1 << 16


@pytest.fixture(scope="module", params=["hello", "kestrel"])
def path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    line = "loops=2" if request.param == "hello" else ""
    return record_guest(tmp_path_factory.mktemp("branch") / "x.lgt", request.param, line)


@pytest.fixture
def parent(path: Path) -> Iterator[Timeline]:
    with timeline_of(path) as parent:
        yield parent


def events_in(store: EventStore) -> list[Event]:
    return [e for n in range(store.chunk_count) for e in store.chunk(n).events]


def in_guest(history: Timeline, tick: int) -> None:
    """Go to a tick near `tick` at which an instruction of the Guest begins."""
    history.go(tick)
    while history.machine.cpu.cpl == 0 or not history.begins:
        history.step(Unit.INSTRUCTION)


# ---- nothing changed -------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0, 0.3, 0.8, 1])
def test_a_branch_that_follows_the_parents_own_future_is_the_parent(
    path: Path, parent: Timeline, share: float
) -> None:
    parent.go(int(parent.end_tick * share))
    child = branch(parent, events=future(parent))
    assert child.tick == child.branch_tick == parent.tick
    rng = Random(1)
    goals = [rng.randrange(parent.end_tick + 1) for _ in range(8)]
    expected = forward_digests(path, goals)
    for goal in goals:
        child.go(goal)
        assert child.tick == goal
        assert child.machine.digest() == expected[goal]
    child.go(parent.end_tick)
    assert isinstance(child.frontier.world, EditedWorld)
    assert not child.frontier.world.parted or share == 1
    assert events_in(child.store) == events_in(parent.store)
    assert parent.reader.end is not None
    assert child.machine.digest() == parent.reader.end.digest
    assert not child.open


def test_a_branch_of_a_branch_of_a_branch_can_be_the_first_parent(parent: Timeline) -> None:
    child = parent
    for share in (0.2, 0.5, 0.7):
        child.go(int(parent.end_tick * share))
        child = branch(child, events=future(child))
        child.go(parent.end_tick)
        child.go(child.branch_tick - 100)
        child.go(parent.end_tick)
    assert events_in(child.store) == events_in(parent.store)


# ---- edits -----------------------------------------------------------------------------------------


def test_edits_are_seen_at_once_and_only_in_the_child(parent: Timeline) -> None:
    in_guest(parent, parent.end_tick // 2)
    here, digest = parent.tick, parent.machine.digest()
    stack = parent.machine.cpu.state().regs[4]
    edits = [
        set_register("eax", 0x12345678),
        set_register("xmm1", 77),
        *set_memory(parent.look, stack, b"\xde\xad\xbe\xef"),
        *set_memory(parent.look, 0x300000, b"phys", GuestPhysicalSpace()),
    ]
    child = branch(parent, edits)
    assert child.tick == here
    assert child.cpu.regs[0] == 0x12345678
    assert child.read(stack, 4) == b"\xde\xad\xbe\xef"
    assert child.read(0x300000, 4, GuestPhysicalSpace()) == b"phys"
    assert [Edit(e.guest, e.target, e.address, e.data) for e in child.edits] == edits
    assert parent.tick == here
    assert parent.machine.digest() == digest
    assert child.machine.digest() != digest
    # One tick earlier it is the parent's past, and going forward again it is written again.
    child.step(Unit.TICK, backwards=True)
    parent.step(Unit.TICK, backwards=True)
    assert child.machine.digest() == parent.machine.digest()
    child.step(Unit.TICK)
    assert child.cpu.regs[0] == 0x12345678


def test_the_instruction_pointer_may_be_moved(parent: Timeline) -> None:
    in_guest(parent, parent.end_tick // 2)
    child = branch(parent, [set_register("eip", parent.machine.cpu.eip)])
    assert child.machine.digest() == parent.machine.digest()
    child = branch(parent, [set_register("eip", 0xDEADBEE0)])
    assert child.cpu.eip == 0xDEADBEE0
    assert child.resume(limit=child.tick + 100_000_000).reasons == (HistoryEnd(),)
    assert child.machine.digest()


@pytest.mark.parametrize(
    "edit",
    [
        Edit(0, Target.PHYSICAL, 1 << 30, b"x"),
        Edit(0, Target.LINEAR, 0x77777777, b"x"),
        Edit(0, Target.REGISTER, hostvm_edits.Register.EFLAGS, b"\0\0\0\0"),
        Edit(5, Target.REGISTER, hostvm_edits.Register.EAX, b"\0\0\0\0"),
    ],
)
def test_what_cannot_be_written_is_refused_and_nothing_has_happened(
    parent: Timeline, edit: Edit
) -> None:
    in_guest(parent, parent.end_tick // 3)
    before = parent.tick, parent.machine.digest(), parent.generation
    with pytest.raises(BadEdit) as caught:
        branch(parent, [set_register("ebx", 1), edit])
    assert str(caught.value).startswith(f"cannot be written at tick {parent.tick}: there is no ")
    assert (parent.tick, parent.machine.digest(), parent.generation) == before


def test_values_and_places_that_make_no_sense_are_refused_at_once(parent: Timeline) -> None:
    with pytest.raises(ValueError, match="cr3"):
        set_register("cr3", 1)
    with pytest.raises(ValueError, match="eax"):
        set_register("eax", 1 << 32)
    parent.go(2)
    with pytest.raises(ValueError, match="no memory of a guest"):
        set_memory(parent.look, 0xFFC00000, b"x")
    base = parent.machine.guests[0].base
    assert set_memory(parent.look, base + 5, b"x", MachineSpace()) == [
        Edit(0, Target.PHYSICAL, 5, b"x")
    ]
    assert set_memory(parent.look, 5, b"x", GuestSpace(0)) == [Edit(0, Target.LINEAR, 5, b"x")]


def test_the_past_cannot_be_edited(parent: Timeline) -> None:
    parent.go(5000)
    with pytest.raises(BadEdit, match="past"):
        branch(parent, events=[DebuggerWrite(Tick(4999), 0, 2, 0, b"x")])


def test_edits_of_later_ticks_are_made_then_and_a_bad_one_is_told_when_it_is_due(
    parent: Timeline,
) -> None:
    parent.go(parent.end_tick // 2)
    later = Tick(parent.tick + 7000)
    write = DebuggerWrite(later, 0, Target.PHYSICAL, 0x300000, b"later")
    child = branch(parent, events=[*future(parent), write])
    child.go(later - 1)
    assert child.read(0x300000, 5, GuestPhysicalSpace()) == bytes(5)
    child.go(later)
    assert child.read(0x300000, 5, GuestPhysicalSpace()) == b"later"
    bad = replace(write, address=1 << 30)
    child = branch(parent, events=[*future(parent), bad])
    child.go(later - 1)
    with pytest.raises(BadEdit, match=f"tick {later}"):
        child.go(later + 1)
    assert child.tick == later - 1
    child.go(later + 1)
    assert child.tick == later + 1


# ---- new history -----------------------------------------------------------------------------------


@dataclass
class Run:
    """How somebody went through a branch."""

    piece: int
    back: bool


def test_the_same_seed_makes_the_same_branch_however_one_moves_in_it(parent: Timeline) -> None:
    parent.go(parent.end_tick // 3)
    edits = set_memory(parent.look, 0x300000, b"x", GuestPhysicalSpace())
    found = []
    for run in (Run(100_000, back=False), Run(7919, back=True), Run(1 << 20, back=True)):
        child = branch(parent, edits, seed=9)
        goal = child.branch_tick + 300_000
        while child.tick < goal and child.tick == child.end_tick:
            child.go(min(child.end_tick + run.piece, goal))
            if run.back:
                child.go(child.end_tick - 5000)
                child.go(child.end_tick)
        child.go(goal)
        found.append((child.machine.digest(), child.tick, events_in(child.store)))
    digests, ticks, events = zip(*found, strict=True)
    assert len(set(digests)) == len(set(ticks)) == 1
    assert events[0] == events[1][: len(events[0])] == events[2][: len(events[0])]
    other = branch(parent, edits, seed=10)
    other.go(other.branch_tick + 300_000)
    assert events_in(other.store) != events[0]


def test_time_goes_on_from_the_parents(parent: Timeline) -> None:
    parent.go(parent.end_tick // 2)
    child = branch(parent, seed=3)
    child.go(child.tick + 400_000)
    readings = [e.ns for e in events_in(child.store) if isinstance(e, ClockReading)]
    assert readings == sorted(readings)
    assert readings[-1] - readings[0] < 10 * 10**9


def test_forwards_history_is_made_until_something_stops_it(parent: Timeline) -> None:
    parent.go(parent.end_tick // 2)
    child = branch(parent, seed=2)
    number = child.stops.add(EventStop(Happening.RAISED))
    arrival = child.resume()
    assert child.open or arrival.reasons
    assert isinstance(arrival.reasons[0], EventMet)
    assert arrival.tick > child.branch_tick
    child.stops.remove(number)
    address = child.machine.cpu.eip
    child.go(child.branch_tick)
    number = child.stops.add(Breakpoint(address))
    hits: list[Tick] = []
    while BreakpointHit(number) in (hit := child.resume()).reasons and len(hits) < 5:
        hits.append(hit.tick)
    assert hits
    back = [child.resume(backwards=True).tick for _ in hits]
    if hit.tick != hits[-1]:
        assert back == hits[::-1]
    child.stops.clear()
    end = child.resume()
    assert end.reasons == (HistoryEnd(),)
    assert end.tick == child.end_tick
    assert not child.open
    assert child.resume(backwards=True).reasons == (HistoryStart(),)
    assert child.tick == parent.first_tick


def test_a_limit_ends_a_resume_where_nothing_has_been_recorded_yet(parent: Timeline) -> None:
    parent.go(parent.end_tick // 3)
    child = branch(parent, seed=2)
    limit = child.branch_tick + 12_345
    child.stops.add(Breakpoint(0x1))
    arrival = child.resume(limit=limit)
    assert (arrival.tick, arrival.reasons) == (limit, ())
    assert child.end_tick >= limit


def test_steps_at_the_edge_of_what_is_recorded_make_more(parent: Timeline) -> None:
    in_guest(parent, parent.end_tick // 3)
    child = branch(parent, [set_register("ecx", 5)], seed=2)
    ticks = [child.step(Unit.INSTRUCTION).tick for _ in range(50)]
    assert ticks == sorted(set(ticks))
    back = [child.step(Unit.INSTRUCTION, backwards=True).tick for _ in range(50)]
    assert back[:-1] == ticks[-2::-1]
    assert back[-1] == child.branch_tick


def test_making_history_can_be_cancelled_and_gone_on_with(parent: Timeline) -> None:
    parent.go(100)
    child = branch(parent, seed=2)

    def cancel(_tick: Tick) -> None:
        child.cancel()

    child.progress = cancel
    arrival = child.resume()
    assert arrival.reasons == (Cancelled(),)
    assert child.tick == 100
    made = child.end_tick
    assert made > 100
    child.progress = None
    child.go(made + 1000)
    assert child.tick == made + 1000
    whole = branch(parent, seed=2)
    whole.go(made + 1000)
    assert whole.machine.digest() == child.machine.digest()


def test_what_breaks_off_the_making_leaves_what_was_made(
    parent: Timeline, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    parent.go(1000)
    child = branch(parent, seed=2)
    child.go(50_000)
    digest, count = child.machine.digest(), len(child.store)
    world, asked = child.frontier.world, []

    def interrupted(observation: object) -> None:
        asked.append(observation)
        if len(asked) == 5:
            raise KeyboardInterrupt

    monkeypatch.setattr(world, "observe", interrupted)
    with pytest.raises(KeyboardInterrupt):
        child.go(parent.end_tick)
    assert not child.open
    assert child.tick == child.end_tick == 50_000
    assert len(child.store) == count
    assert child.machine.digest() == digest
    child.save(tmp_path / "s.lgt")
    assert verify(tmp_path / "s.lgt").last_tick == 50_000


# ---- the future of the log -------------------------------------------------------------------------


def timer_interrupt(parent: Timeline, rank: int) -> HostInterrupt:
    found = [e for e in future(parent) if isinstance(e, HostInterrupt) and e.vector == TIMER_VECTOR]
    return found[rank]


@pytest.mark.parametrize("by", [-700, -1, 1, 333])
def test_an_interrupt_can_be_placed_at_another_tick(parent: Timeline, by: int) -> None:
    parent.go(interrupt_ticks(Path(parent.reader.path))[2] + 1)
    moved = timer_interrupt(parent, 2)
    goal = Tick(moved.tick + by)
    events = [replace(e, tick=goal) if e == moved else e for e in future(parent)]
    child = branch(parent, events=events)
    child.go(goal + 100_000)
    taken = [e.tick for e in events_in(child.store) if isinstance(e, HostInterrupt)]
    first = next(tick for tick in taken if tick >= goal)
    assert first - goal < 2000
    if by != 1:
        assert moved.tick not in taken
    original = [e for e in events_in(parent.store) if e.tick < goal and e.tick < moved.tick]
    assert [e for e in events_in(child.store) if e.tick < min(goal, moved.tick)] == original


def test_interrupts_placed_far_apart_all_come_whatever_became_of_the_log(
    parent: Timeline,
) -> None:
    parent.go(parent.end_tick // 3)
    placed = [
        HostInterrupt(Tick(parent.tick + at), 0, TIMER_VECTOR, 0, 0) for at in (5_000, 90_000)
    ]
    child = branch(parent, events=[*placed, *future(parent)])
    child.go(parent.tick + 120_000)
    taken = [e.tick for e in events_in(child.store) if isinstance(e, HostInterrupt)]
    for one in placed:
        assert any(one.tick <= tick < one.tick + 3000 for tick in taken)
    assert isinstance(child.frontier.world, EditedWorld)
    assert child.frontier.world.parted


def test_an_interrupt_can_be_left_out(parent: Timeline) -> None:
    parent.go(parent.end_tick // 3)
    gone = timer_interrupt(parent, 0)
    child = branch(parent, events=[e for e in future(parent) if e != gone])
    child.go(gone.tick + 50_000)
    assert gone.tick not in [e.tick for e in events_in(child.store) if isinstance(e, HostInterrupt)]


def test_a_vector_that_no_hardware_has_is_refused(parent: Timeline) -> None:
    parent.go(1000)
    with pytest.raises(BadEdit, match="0x55"):
        branch(parent, events=[HostInterrupt(Tick(2000), 0, 0x55, 0, 0)])


# ---- kept ------------------------------------------------------------------------------------------


def test_a_saved_branch_is_a_trace_of_its_own(parent: Timeline, tmp_path: Path) -> None:
    before = Path(parent.reader.path).read_bytes()
    in_guest(parent, parent.end_tick // 2)
    edits = [
        set_register("esi", 0x55AA),
        *set_memory(parent.look, 0x300000, b"abc", GuestPhysicalSpace()),
    ]
    child = branch(parent, edits, seed=11)
    child.go(child.branch_tick + 200_000)
    child.go(child.branch_tick + 1)
    cursor = child.machine.digest()
    child.save(tmp_path / "child.lgt", ["by", "hand"])
    assert child.machine.digest() == cursor
    shown = verify(tmp_path / "child.lgt")
    assert shown.last_tick == child.end_tick
    with timeline_of(tmp_path / "child.lgt") as saved:
        header = saved.reader.header
        assert header.parent == parent.reader.trace_id
        assert header.branch_tick == parent.tick
        assert header.edits[0] == f"at tick {parent.tick}: esi = 0x55aa"
        assert len(header.edits) == 2
        rng = Random(4)
        for goal in [rng.randrange(child.end_tick + 1) for _ in range(6)] + [parent.tick]:
            saved.go(goal)
            child.go(goal)
            assert saved.machine.digest() == child.machine.digest()
        assert saved.reader.trace_id != parent.reader.trace_id
    info = lgreplay("info", "child.lgt", folder=tmp_path).out
    assert f"branch    of trace {parent.reader.trace_id.hex()}, at tick {parent.tick:,}" in info
    assert "esi = 0x55aa" in info
    assert Path(parent.reader.path).read_bytes() == before


def test_a_branch_at_the_beginning_and_of_a_branch_is_saved_too(
    parent: Timeline, tmp_path: Path
) -> None:
    first = branch(parent, [Edit(0, Target.PHYSICAL, 0x300000, b"first")], seed=1)
    assert first.tick == 0
    assert first.read(0x300000, 5, GuestPhysicalSpace()) == b"first"
    first.go(60_000)
    second = branch(first, [Edit(0, Target.PHYSICAL, 0x300000, b"2")], seed=2)
    second.go(150_000)
    first.go(150_000)
    assert first.machine.digest() != second.machine.digest()
    assert first.read(0x300000, 5, GuestPhysicalSpace()) == b"first"
    second.save(tmp_path / "s.lgt")
    assert verify(tmp_path / "s.lgt").last_tick == second.end_tick
    with TraceReader(tmp_path / "s.lgt") as reader:
        assert len(reader.header.edits) == 1
        writes = [e for e in reader.events() if isinstance(e, DebuggerWrite)]
        assert [w.data for w in writes] == [b"first", b"2"]


def test_a_branch_of_a_flight_recording_begins_where_that_does(tmp_path: Path) -> None:
    record_flight(tmp_path / "flight.lgt")
    with timeline_of(tmp_path / "flight.lgt") as parent:
        parent.go(parent.first_tick + 50_000)
        child = branch(parent, [Edit(0, Target.PHYSICAL, 0x300000, b"x")])
        child.go(parent.tick + 100_000)
        child.save(tmp_path / "s.lgt")
        assert verify(tmp_path / "s.lgt").first_tick == parent.first_tick


def test_a_branch_of_an_indexed_trace_uses_what_is_stored_of_its_past(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passage, "STORED_PAYS", 1)
    copy = tmp_path / "x.lgt"
    copy.write_bytes(path.read_bytes())
    index(copy, every=INTERVAL)
    with timeline_of(copy) as parent:
        parent.go(parent.end_tick * 2 // 3)
        child = branch(parent, [Edit(0, Target.PHYSICAL, 0x300000, b"x")])
        assert child.stored.ticks
        assert max(child.stored.ticks) < child.branch_tick
        assert len(parent.stored.ticks) > len(child.stored.ticks)
        for goal in (child.branch_tick // 2, child.branch_tick + 20_000, child.branch_tick):
            child.go(goal)
        child.save(tmp_path / "s.lgt")
    assert not child.stored.faults
    verify(tmp_path / "s.lgt")
    assert index(tmp_path / "s.lgt", every=INTERVAL).fresh
    with timeline_of(tmp_path / "s.lgt") as saved:
        saved.go(saved.end_tick)
        saved.go(child.branch_tick)
        assert saved.read(0x300000, 1, GuestPhysicalSpace()) == b"x"
        assert not saved.stored.faults


def test_a_state_is_not_stored_where_a_write_follows_the_digest(
    parent: Timeline, tmp_path: Path
) -> None:
    parent.go(2 * INTERVAL)
    child = branch(parent, [Edit(0, Target.PHYSICAL, 0x300000, b"x")])
    child.go(3 * INTERVAL + 5)
    child.save(tmp_path / "s.lgt")
    index(tmp_path / "s.lgt", every=INTERVAL)
    with timeline_of(tmp_path / "s.lgt") as saved:
        assert 2 * INTERVAL not in saved.stored.ticks
        assert 3 * INTERVAL in saved.stored.ticks


def test_who_wrote_it_was_the_debugger(parent: Timeline) -> None:
    in_guest(parent, parent.end_tick // 2)
    place = Place(0x300000, 4, GuestPhysicalSpace())
    edits = [set_register("ebx", 0x1234), Edit(0, Target.PHYSICAL, 0x300001, b"ab")]
    child = branch(parent, edits)
    here = child.tick
    child.go(here + 30)
    write = child.last_write(place)
    assert write is not None
    assert (write.tick, write.by, write.new[1:3]) == (here - 1, Actor.DEBUGGER, b"ab")
    child.go(here)
    write = child.last_write(Register("ebx"))
    assert write is not None
    assert (write.tick, write.by, write.new) == (here - 1, Actor.DEBUGGER, b"\x34\x12\0\0")
    child.go(here - 500)
    child.stops.add(Watchpoint(place, Touch.WRITE))
    hits = [r for r in child.resume(limit=here + 500).reasons if isinstance(r, WatchHit)]
    assert [hit.by for hit in hits] == [Actor.DEBUGGER]
    assert child.tick == here
    child.go(here + 50)
    child.resume(backwards=True)
    assert child.tick == here - 1


def test_a_branch_keeps_its_bookmarks_to_itself(parent: Timeline) -> None:
    before = sorted(Path(parent.reader.path).parent.iterdir())
    parent.go(1000)
    child = branch(parent)
    child.bookmarks.put(Bookmark("here", Tick(1000)))
    assert child.seek("@here").tick == 1000
    assert parent.bookmarks.get("here") is None
    assert sorted(Path(parent.reader.path).parent.iterdir()) == before


def test_the_timeline_itself_offers_it(parent: Timeline) -> None:
    parent.go(1000)
    child = parent.branch([Edit(0, Target.PHYSICAL, 0x300000, b"x")], seed=3)
    assert isinstance(child, Branch)
    assert [type(e) for e in child.edits] == [DebuggerWrite]
    console = [e for e in events_in(child.store) if isinstance(e, ConsoleOutput | IrqRaised)]
    assert len(console) <= len(events_in(parent.store))
    assert child.position >= Position(0, 0)
