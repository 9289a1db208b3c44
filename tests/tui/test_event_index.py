"""All events by kind: against a plain count, while a log grows, and where it is damaged."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostvm.observations import IrqDelivered, IrqRaised
from hostvm.units import Tick
from replay.errors import TraceFormatError
from replay.event_store import EventStore, Position, kind_of
from replay.events import Kind
from replay.frontier import BranchStore
from replay.log import TraceReader
from tests.tui.sitting import RACE, Sitting
from tui.event_index import LANES, EventIndex
from tui.values import Filter


@pytest.fixture
def store() -> Iterator[EventStore]:
    with TraceReader(RACE) as reader:
        yield EventStore(reader)


def whole(store: EventStore) -> EventIndex:
    index = EventIndex(store)
    while not index.whole:
        index.grow()
    return index


def test_densities_count_every_event_of_a_lane_once(store: EventStore) -> None:
    index = whole(store)
    with TraceReader(RACE) as reader:
        events = list(reader.events())
    last = events[-1].tick
    for lane in LANES:
        counts = index.density(lane, 0, last, 97)
        assert len(counts) == 97
        assert sum(counts) == sum(kind_of(event) in lane.kinds for event in events)
    half = Counter(kind_of(event) for event in events if event.tick <= last // 2)
    for lane in LANES:
        assert sum(index.density(lane, 0, last // 2, 10)) == sum(half[k] for k in lane.kinds)


@given(st.integers(0, 1_500_000), st.sampled_from([0, 2, 31]))
def test_the_events_around_a_tick_are_those_of_a_plain_search(tick: int, irq: int) -> None:
    with TraceReader(RACE) as reader:
        store = EventStore(reader)
        index = whole(store)

        def wanted(event: object) -> bool:
            return isinstance(event, IrqDelivered) and event.irq == irq

        kinds = frozenset({Kind.IRQ_DELIVERED})
        before = next(store.find_before(Tick(tick), wanted, kinds), None)
        after = next(store.find_after(Tick(tick - 1), wanted, kinds), None) if tick else None
        found = index.around(Kind.IRQ_DELIVERED, irq, tick)
        assert found[0] == (before.tick if before else None)
        if tick:
            assert found[1] == (after.tick if after else None)


def test_it_follows_a_log_that_grows_and_one_that_loses_its_end(store: EventStore) -> None:
    growing = BranchStore(store, Position(0, 5))
    index = whole(growing)
    assert len(index) == 5
    begin = int(growing.last_tick_of(growing.chunk_count - 1)) + 1
    for number in range(6000):
        growing.append(IrqRaised(Tick(begin + number), 0, 1))
    assert not index.whole
    while not index.whole:
        index.grow()
    assert len(index.matching(Filter(frozenset({Kind.IRQ_RAISED}), 1))) >= 6000
    growing.cut(100)
    growing.begin_chunk()
    growing.append(IrqRaised(Tick(begin + 9000), 0, 2))
    while not index.whole:
        index.grow()
    assert len(index) == 101
    assert index.tick_of(100) == begin + 9000
    assert len(index.matching(Filter(number=2))) >= 1


def test_damage_in_the_log_is_said_and_the_screen_lives_on() -> None:
    async def session() -> None:
        user = Sitting(RACE, 100, 30)
        index = user.tui.engine._desk.camera.index

        def damaged() -> None:
            raise TraceFormatError("race.lgt", 0x1234, "not what it was")

        index.grow = damaged  # type: ignore[method-assign]
        async with user:
            await user.until(lambda: "0x1234" in user.message)
            await user.press("i")
            assert user.tick == 1

    asyncio.run(session())
