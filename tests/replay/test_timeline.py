"""Time travel against somebody who walks: every tick, every stop and every step compared with single steps forward."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from hostvm.observations import DirectTraps, IrqDelivered, TrapReflected
from hostvm.units import Tick
from replay.events import StateDigest
from replay.log import LogWriter, TraceReader
from replay.look import GuestPhysicalSpace, GuestSpace, Look
from replay.moves import Unit
from replay.places import Place
from replay.stops import (
    Arrival,
    Breakpoint,
    BreakpointHit,
    Cancelled,
    EventStop,
    Happening,
    HistoryEnd,
    HistoryStart,
    Predicate,
    PredicateTrue,
    Stepped,
    Touch,
    WatchHit,
    Watchpoint,
)
from replay.timeline import Timeline
from tests.replay.histories import (
    Instant,
    forward_digests,
    interrupt_ticks,
    record_guest,
    timeline_of,
    true_ticks,
    walk,
)
from tests.replay.recorded import events_of

SPAN = 6000


@pytest.fixture(scope="module", params=["hello", "kestrel", "kestrel-2.6.27"])
def path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    line = "loops=2" if request.param == "hello" else ""
    return record_guest(tmp_path_factory.mktemp("history") / "x.lgt", request.param, line)


@pytest.fixture
def timeline(path: Path) -> Iterator[Timeline]:
    with timeline_of(path) as timeline:
        yield timeline


@pytest.fixture(scope="module")
def stretch(path: Path) -> list[Instant]:
    """Some thousand ticks in the thick of it: an interrupt with as many events around it as there are."""
    events = [int(event.tick) for event in events_of(path)]
    middle = max(
        interrupt_ticks(path)[1:],
        key=lambda tick: sum(abs(event - tick) < SPAN // 2 for event in events),
    )
    return walk(path, middle - SPAN // 2, middle + SPAN // 2)


def ticks_forward(timeline: Timeline, last: int) -> list[int]:
    found: list[int] = []
    while (arrival := timeline.resume(limit=last)).tick < last:
        found.append(arrival.tick)
    return found


def ticks_back(timeline: Timeline, first: int) -> list[int]:
    found: list[int] = []
    while (arrival := timeline.resume(backwards=True, limit=first)).tick > first:
        found.append(arrival.tick)
    return found


@pytest.mark.parametrize("room", [2 << 20, 64 << 20])
def test_wherever_one_comes_from_a_tick_has_the_state_of_the_forward_run(
    path: Path, room: int
) -> None:
    rng = random.Random(room)
    timeline = timeline_of(path, room)
    with timeline:
        compare_seeks(timeline, path, rng)


def compare_seeks(timeline: Timeline, path: Path, rng: random.Random) -> None:
    goals = [rng.randrange(timeline.end_tick + 1) for _ in range(40)]
    goals += [tick + d for tick in interrupt_ticks(path)[:20] for d in (0, 1)]
    expected = forward_digests(path, goals)
    rng.shuffle(goals)
    for goal in goals:
        assert timeline.go(goal).tick == goal
        assert timeline.machine.digest() == expected[goal], goal


def test_a_thousand_steps_forward_and_a_thousand_back_pass_the_same_states(
    timeline: Timeline, path: Path
) -> None:
    start = interrupt_ticks(path)[1] - 500
    timeline.go(start)
    there = [(timeline.tick, timeline.machine.register_digest())]
    for _ in range(1000):
        timeline.step(Unit.TICK)
        there.append((timeline.tick, timeline.machine.register_digest()))
    back = [there[-1]]
    for _ in range(1000):
        timeline.step(Unit.TICK, backwards=True)
        back.append((timeline.tick, timeline.machine.register_digest()))
    assert back == there[::-1]
    assert [i.registers for i in walk(path, start, start + 1000)] == [d for _, d in there]


def test_instruction_steps_pass_every_beginning_and_nothing_else(
    timeline: Timeline, stretch: list[Instant]
) -> None:
    beginnings = [i.tick for i in stretch if i.begins]
    timeline.go(beginnings[0])
    forward = [timeline.step(Unit.INSTRUCTION).tick for _ in beginnings[1:1500]]
    assert forward == beginnings[1:1500]
    back = [timeline.step(Unit.INSTRUCTION, backwards=True).tick for _ in forward]
    assert back == beginnings[: len(back)][::-1]


def test_breakpoints_hit_every_beginning_of_their_instruction_in_both_directions(
    timeline: Timeline, stretch: list[Instant]
) -> None:
    rng = random.Random(7)
    first, last = stretch[0].tick, stretch[-1].tick
    addresses = [rng.choice([i for i in stretch[1:-1] if i.begins]).eip for _ in range(5)]
    # Back in a program, the first instruction often cannot even be fetched: its page is not mapped.
    addresses += [b.eip for a, b in pairwise(stretch[1:-1]) if a.cpl < b.cpl == 3][:3]
    for address in addresses:
        expected = [i.tick for i in stretch if i.begins and i.eip == address]
        expected = [tick for tick in expected if first < tick < last]
        number = timeline.stops.add(Breakpoint(address))
        timeline.go(first)
        assert ticks_forward(timeline, last) == expected
        assert ticks_back(timeline, first) == expected[::-1]
        timeline.go(expected[0] - 1)
        assert BreakpointHit(number) in timeline.resume().reasons
        timeline.stops.remove(number)


def test_a_condition_and_a_ring_choose_among_the_hits(
    timeline: Timeline, stretch: list[Instant]
) -> None:
    first, last = stretch[0].tick, stretch[-1].tick
    middle = stretch[len(stretch) // 2]
    expected = [
        i.tick
        for i in stretch[1:-1]
        if i.begins and i.eip == middle.eip and i.esp == middle.esp and i.cpl == middle.cpl
    ]
    timeline.stops.add(
        Breakpoint(
            middle.eip,
            ring=middle.cpl,
            condition=lambda look: look.cpu.regs[4] == middle.esp,
        )
    )
    timeline.go(last)
    assert ticks_back(timeline, first) == expected[::-1]
    assert ticks_forward(timeline, last) == expected


def changing_places(path: Path, first: int, last: int) -> list[int]:
    """Guest-physical addresses of words that differ between two ticks: somebody wrote there."""
    with timeline_of(path) as timeline:
        timeline.go(first)
        guest = timeline.machine.guests[0]
        size = guest.loaded.pfn_limit << 12
        before = timeline.machine.memory.read(guest.base, size)
        timeline.go(last)
        after = timeline.machine.memory.read(guest.base, size)
    return [
        at
        for page in range(0, size, 4096)
        if before[page : page + 4096] != after[page : page + 4096]
        for at in range(page, page + 4096, 4)
        if before[at : at + 4] != after[at : at + 4]
    ]


def test_watchpoints_find_every_change_whoever_makes_it(
    timeline: Timeline, path: Path, stretch: list[Instant]
) -> None:
    first, last = stretch[0].tick, stretch[-1].tick
    rng = random.Random(3)
    addresses = rng.sample(changing_places(path, first, last), 6)
    base = timeline.machine.guests[0].base
    seen = walk(path, first, last, [(base + at, 4) for at in addresses])
    for index, address in enumerate(addresses):
        contents = [i.watched[index] for i in seen]
        changes = [
            int(i.tick)
            for i, old, new in zip(seen, contents, contents[1:], strict=False)
            if old != new
        ]
        number = timeline.stops.add(
            Watchpoint(Place(address, 4, GuestPhysicalSpace(0)), Touch.CHANGE)
        )
        timeline.go(first)
        inner = [tick + 1 for tick in changes if tick + 1 < last]
        assert ticks_forward(timeline, last) == inner, hex(address)
        timeline.go(last)
        assert ticks_back(timeline, first) == [t for t in changes if t > first][::-1]
        timeline.stops.remove(number)


def test_a_watch_tells_old_and_new_and_who(
    timeline: Timeline, path: Path, stretch: list[Instant]
) -> None:
    first, last = stretch[0].tick, stretch[-1].tick
    address = changing_places(path, first, last)[0]
    place = Place(address, 4, GuestPhysicalSpace(0))
    number = timeline.stops.add(Watchpoint(place))
    timeline.go(last)
    arrival = timeline.resume(backwards=True)
    (hit,) = [r for r in arrival.reasons if isinstance(r, WatchHit)]
    assert hit.number == number
    assert hit.tick == arrival.tick
    assert timeline.read(address, 4, place.space) == hit.old != hit.new
    timeline.step(Unit.TICK)
    assert timeline.read(address, 4, place.space) == hit.new


def test_events_are_found_from_the_log(timeline: Timeline, path: Path) -> None:
    events = list(events_of(path))
    ticks = sorted({e.tick for e in events if not isinstance(e, StateDigest | DirectTraps)})
    timeline.go(ticks[-1] + 1)
    back = [timeline.step(Unit.EVENT, backwards=True).tick for _ in range(20)]
    assert back == ticks[-20:][::-1]
    forward = [timeline.step(Unit.EVENT).tick for _ in range(19)]
    assert forward == ticks[-19:]
    timeline.stops.add(EventStop(Happening.ENDED))
    timeline.go(0)
    assert timeline.resume().tick == events[-1].tick or timeline.resume().tick <= timeline.end_tick


def test_world_switches_are_where_the_guest_is_entered_and_left(
    timeline: Timeline, stretch: list[Instant]
) -> None:
    switches = [b.tick for a, b in pairwise(stretch) if bool(a.cpl) != bool(b.cpl)]
    assert len(switches) > 3
    timeline.go(stretch[0].tick)
    forward = [timeline.step(Unit.SWITCH).tick for _ in switches]
    assert forward == switches
    back = [timeline.step(Unit.SWITCH, backwards=True).tick for _ in switches[:-1]]
    assert back == switches[:-1][::-1]


def test_predicates_stop_where_they_become_true_in_the_direction_of_travel(
    timeline: Timeline, stretch: list[Instant]
) -> None:
    first, last = stretch[0].tick, stretch[-1].tick
    true = {i.tick for i in stretch if i.cpl == 0 and i.eip < 0xFFC00000}
    rises = [t for t in sorted(true) if t - 1 not in true and first < t < last]
    falls = [t for t in sorted(true) if t + 1 not in true and first < t < last]
    number = timeline.stops.add(
        Predicate(
            "in the Host",
            lambda look: look.machine.cpu.cpl == 0 and look.machine.cpu.eip < 0xFFC00000,
        )
    )
    timeline.go(first)
    assert ticks_forward(timeline, last) == rises
    timeline.go(last)
    assert ticks_back(timeline, first) == falls[::-1]
    timeline.go(rises[0] - 1)
    assert PredicateTrue(number) in timeline.resume().reasons


def test_a_call_stepped_over_is_stepped_back_over(
    timeline: Timeline, stretch: list[Instant]
) -> None:
    found = 0
    for instant in stretch:
        if not instant.begins or found == 12:
            continue
        timeline.go(instant.tick)
        if timeline.read(instant.eip, 1)[:1] != b"\xe8" or not instant.cpl:
            continue
        arrival = timeline.step(Unit.OVER)
        if arrival.tick > stretch[-1].tick:
            continue
        found += 1
        assert timeline.machine.cpu.eip == instant.eip + 5
        assert timeline.step(Unit.OVER, backwards=True).tick == instant.tick
        timeline.go(instant.tick)
        inside = timeline.step(Unit.INSTRUCTION).tick
        assert timeline.step(Unit.OUT).tick == arrival.tick
        timeline.go(inside)
        assert timeline.step(Unit.OUT, backwards=True).tick == instant.tick
    assert found


def test_both_edges_of_history_are_told(timeline: Timeline) -> None:
    assert timeline.resume(backwards=True).reasons == (HistoryStart(),)
    assert timeline.resume().reasons == (HistoryEnd(),)
    assert timeline.tick == timeline.end_tick
    assert timeline.step(Unit.TICK).reasons == (HistoryEnd(),)
    assert timeline.step(Unit.TICK, backwards=True).reasons == (Stepped(),)
    assert timeline.go(-5).reasons == (HistoryStart(),)


def test_a_cancelled_move_leaves_the_cursor_where_it_was(timeline: Timeline) -> None:
    timeline.go(1234)
    before = timeline.machine.digest()

    def cancel(_: Tick) -> None:
        timeline.cancel()

    timeline.progress = cancel
    timeline.stops.add(Predicate("never", lambda _: False))
    assert type(timeline.resume().reasons[0]).__name__ == "Cancelled"
    assert (timeline.tick, timeline.machine.digest()) == (1234, before)


def test_a_slow_search_is_cancelled_from_another_thread_a_few_steps_later(
    timeline: Timeline,
) -> None:
    timeline.seek("50%")
    origin = timeline.tick
    looked = 0

    def never(_: Look) -> bool:
        nonlocal looked
        looked += 1
        if looked == 1000:
            thread = threading.Thread(target=timeline.cancel)
            thread.start()
            thread.join()
        return False

    timeline.stops.add(Predicate("never", never))
    assert timeline.resume(backwards=True) == Arrival(origin, (Cancelled(),))
    assert timeline.tick == origin
    assert looked < 2000


def test_back_to_the_handler_of_an_interrupt_every_time(timeline: Timeline, path: Path) -> None:
    delivered = [e.tick for e in events_of(path) if isinstance(e, IrqDelivered) and e.irq == 0]
    rng = random.Random(11)
    pairs = list(pairwise([*delivered, int(timeline.end_tick)]))
    lo, hi = timeline_gate(timeline, delivered[0], 32)
    timeline.stops.add(Breakpoint(lo & 0xFFFF | hi & 0xFFFF0000))
    for begin, end in rng.choices([(a, b) for a, b in pairs if b - a > 400], k=20):
        timeline.go(rng.randrange(begin + 300, end))
        arrival = timeline.resume(backwards=True)
        assert begin < arrival.tick <= begin + 300
        assert isinstance(arrival.reasons[0], BreakpointHit)


def timeline_gate(timeline: Timeline, tick: int, vector: int) -> tuple[int, int]:
    timeline.go(tick)
    return timeline.machine.guests[0].lguest.idt[vector]


def test_a_linear_watch_follows_the_page_tables(timeline: Timeline, path: Path) -> None:
    """A program's stack over forks and copied pages: what one address shows, whatever page is behind it."""
    first, last = around_a_copied_page(path)
    timeline.go(first)
    places = [
        Place(address & ~3, 4, GuestSpace(0, directory))
        for address, directory in user_stacks(timeline, first, last)
    ]
    assert places
    for place in places:
        shown = walk_contents(path, first, last, place)
        changes = [a for (a, old), (_, new) in pairwise(shown) if old != new]
        number = timeline.stops.add(Watchpoint(place))
        timeline.go(first)
        assert ticks_forward(timeline, last) == [t + 1 for t in changes if t + 1 < last]
        timeline.go(last)
        assert ticks_back(timeline, first) == [t for t in changes if t > first][::-1]
        timeline.stops.remove(number)


def around_a_copied_page(path: Path) -> tuple[int, int]:
    faults = [e.tick for e in events_of(path) if isinstance(e, TrapReflected) and e.vector == 14]
    ticks = faults or interrupt_ticks(path)[1:]
    middle = ticks[len(ticks) // 2]
    return middle - 2500, middle + 2500


def user_stacks(timeline: Timeline, first: int, last: int) -> list[tuple[int, int]]:
    """Some stack addresses of programs that run in a stretch, with their page directories."""
    found: dict[int, int] = {}
    timeline.go(first)
    timeline.stops.add(timeline.predicate("in_user"))
    while timeline.resume(limit=last).tick < last and len(found) < 4:
        found[timeline.look.directory] = timeline.cpu.regs[4] - 4
    timeline.stops.clear()
    return [(address, directory) for directory, address in found.items()] or [
        (timeline.cpu.regs[4], timeline.look.directory)
    ]


def walk_contents(path: Path, first: int, last: int, place: Place) -> list[tuple[int, bytes]]:
    seen: list[tuple[int, bytes]] = []

    def note(look: Look) -> bool:
        seen.append((int(look.tick), look.read(place.address, place.length, place.space)))
        return False

    true_ticks(path, first, last, note)
    return seen


_FROM_THE_STACK = {bytes((opcode,)) for opcode in (0xC3, *range(0x58, 0x60))}


def test_reads_are_seen(timeline: Timeline, stretch: list[Instant]) -> None:
    """What a POP or RET takes is met by a watch for reads, in both directions."""
    first = stretch[0].tick
    loads = []
    for instant in (i for i in stretch[100:-100] if i.begins and i.cpl == 1):
        timeline.go(instant.tick)
        # POP r32 and RET take their word from where ESP points to.
        if timeline.read(instant.eip, 1) in _FROM_THE_STACK:
            loads.append((instant.tick, instant.esp))
        if len(loads) == 40:
            break
    assert loads
    for tick, address in loads[:4]:
        timeline.go(tick)
        number = timeline.stops.add(Watchpoint(Place(address, 4), Touch.READ))
        hits = [t for t, a in loads if a == address]
        timeline.go(tick)
        assert timeline.resume().tick == tick + 1
        timeline.go(hits[-1] + 1)
        assert timeline.resume(backwards=True, limit=first).tick == hits[-1]
        timeline.stops.remove(number)


def test_an_unfinished_trace_is_travelled_as_far_as_it_is_whole(path: Path, tmp_path: Path) -> None:
    """Cut off anywhere, at the tick of a digest too: its last tick is reached, and left again."""
    whole = list(events_of(path))
    digest = next(i for i, e in enumerate(whole) if isinstance(e, StateDigest) and i > 50)
    for count in (digest, digest + 1, digest - 40):
        torn = tmp_path / f"{count}.lgt"
        with TraceReader(path) as reader:
            images = {image.name: reader.image(image.name) for image in reader.header.images}
            with LogWriter(torn, reader.header, images) as writer:
                for event in whole[:count]:
                    writer.write(event)
        with timeline_of(torn) as timeline:
            last = timeline.seek("end").tick
            assert whole[count - 1].tick - 1 <= last <= whole[count - 1].tick
            assert timeline.machine.digest() == forward_digests(path, [last])[last]
            assert timeline.step(Unit.TICK, backwards=True).tick == last - 1
            assert timeline.resume().reasons == (HistoryEnd(),)
