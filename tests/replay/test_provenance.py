"""Who wrote this, why was that not delivered, and when does an expression hold: against somebody who walks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from hostvm.observations import IrqDelivered, IrqRaised
from hostvm.units import Tick
from replay.bookmarks import Bookmark, BookmarkError
from replay.location_values import value_of
from replay.locations import (
    GdtEntry,
    GuestEntry,
    IdtEntry,
    NoSuchLocation,
    PendingBit,
    RealIdtEntry,
    Register,
    ShadowEntry,
    SharedField,
)
from replay.look import GuestPhysicalSpace, Look
from replay.moves import Unit
from replay.named_stops import NAMES, NoSuchStop, named_stop
from replay.places import Place
from replay.predicate import BadPredicate, evaluate, parse
from replay.stops import Actor, Predicate
from replay.timeline import Timeline, open_timeline
from replay.where import BadPlace
from replay.whynot import Why, reasons
from tests.replay.histories import interrupt_ticks, record_guest, timeline_of, true_ticks
from tests.replay.recorded import events_of

LOCATIONS = [
    Register("eax"),
    Register("esp"),
    Register("cr3"),
    Register("eflags"),
    SharedField("irq_enabled"),
    PendingBit(0),
    IdtEntry(32),
    GdtEntry(2),
    RealIdtEntry(0x80),
]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return record_guest(tmp_path_factory.mktemp("history") / "x.lgt", "kestrel", "")


@pytest.fixture
def timeline(path: Path) -> Iterator[Timeline]:
    with timeline_of(path) as timeline:
        yield timeline


@pytest.fixture
def middle(timeline: Timeline, path: Path) -> Timeline:
    """Standing behind an interrupt in the middle of things."""
    ticks = interrupt_ticks(path)
    timeline.go(ticks[len(ticks) // 2] + 700)
    return timeline


def walked_back(timeline: Timeline, location: object, limit: int) -> int | None:
    """The last step before the cursor that changed a location, found one step at a time."""
    origin = timeline.tick
    timeline.go(origin - limit)
    value, found = value_of(timeline.look, location), None  # type: ignore[arg-type]
    for tick in range(origin - limit, origin):
        timeline.step(Unit.TICK)
        now = value_of(timeline.look, location)  # type: ignore[arg-type]
        if now != value:
            value, found = now, tick
    return found


@pytest.mark.parametrize("location", LOCATIONS, ids=str)
def test_the_last_write_is_the_last_step_that_changed_it(
    middle: Timeline, location: Register
) -> None:
    origin, digest = middle.tick, middle.machine.digest()
    write = middle.last_write(location)
    assert (middle.tick, middle.machine.digest()) == (origin, digest)
    by_walking = walked_back(middle, location, 2500)
    if write is None or write.tick < origin - 2500:
        assert by_walking is None
    else:
        assert write.tick == by_walking
    if write is not None:
        middle.go(write.tick)
        assert value_of(middle.look, location) == write.old != write.new
        again = middle.next_write(location)
        assert again is not None
        assert (again.tick, again.old, again.new) == (write.tick, write.old, write.new)
        middle.go(write.tick + 1)
        assert value_of(middle.look, location) == write.new


def test_a_value_is_followed_back_write_by_write(middle: Timeline) -> None:
    location = SharedField("irq_enabled")
    ticks = []
    for _ in range(5):
        write = middle.last_write(location)
        assert write is not None
        ticks.append(write.tick)
        middle.go(write.tick)
    assert ticks == sorted(ticks, reverse=True)
    assert len(set(ticks)) == 5


def test_page_table_entries_have_writers(timeline: Timeline) -> None:
    timeline.go(timeline.end_tick // 2)
    address = timeline.machine.guests[0].tables.kernel_address + 0x100000
    own = timeline.last_write(GuestEntry(address))
    shadow = timeline.last_write(ShadowEntry(address))
    assert own is not None
    assert own.by is Actor.GUEST
    assert shadow is not None
    assert shadow.by is Actor.HOST
    assert shadow.tick > own.tick


def test_what_is_not_there_is_refused(timeline: Timeline) -> None:
    for location in (
        Register("rax"),
        IdtEntry(256),
        GdtEntry(32),
        PendingBit(32),
        PendingBit(0, guest=1),
        GuestEntry(0xC0100000, guest=1),
        SharedField("nonsense"),
        SharedField("irq_enabled"),
        GuestEntry(0),
    ):
        with pytest.raises(NoSuchLocation):
            timeline.last_write(location)


def test_a_place_never_written_has_no_writer(middle: Timeline) -> None:
    assert middle.last_write(Place(0xF00000, 4, GuestPhysicalSpace(0))) is None


# ---- why not ---------------------------------------------------------------------------------------


def test_why_not_gives_each_reason_with_its_first_and_last_tick(
    timeline: Timeline, path: Path
) -> None:
    raised = [e.tick for e in events_of(path) if isinstance(e, IrqRaised) and e.irq == 0]
    delivered = [e.tick for e in events_of(path) if isinstance(e, IrqDelivered) and e.irq == 0]
    held = next((r, d) for r, d in zip(raised, delivered, strict=False) if d > r)
    for tick in (held[0] - 3, held[0] + 1, (held[0] + held[1]) // 2, held[1], held[1] + 5):
        timeline.go(tick)
        for obstacle in timeline.whynot(0):
            until = timeline.end_tick if obstacle.until is None else obstacle.until
            assert obstacle.since <= tick < until
            expected = [obstacle.since - 1, obstacle.since, until - 1, until]
            holds = []
            for place in expected:
                timeline.go(place)
                holds.append(obstacle.why in reasons(timeline.look, 0))
            ends = [False, True, True, obstacle.until is None]
            assert holds == ends or obstacle.since == timeline.first_tick
            timeline.go(tick)


def test_why_not_asks_only_the_events_of_the_interrupt_in_question(
    timeline: Timeline, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a Linux it went to each of ten thousand events, and gdb lost patience."""
    timeline.go(timeline.end_tick // 2)
    went: list[Tick] = []
    run_to = Timeline.run_to

    def noted(self: Timeline, goal: Tick) -> None:
        went.append(goal)
        run_to(self, goal)

    monkeypatch.setattr(Timeline, "run_to", noted)
    never_raised = 5
    (found,) = (o for o in timeline.whynot(never_raised) if o.why is Why.NOT_RAISED)
    assert (found.since, found.until) == (timeline.first_tick, None)
    assert 20 * len(went) < len(list(events_of(path)))


def test_before_the_host_knows_the_guest_nothing_is_raised_and_all_is_blocked(
    timeline: Timeline,
) -> None:
    timeline.go(10)
    whys = {obstacle.why for obstacle in timeline.whynot(0)}
    assert {Why.NOT_RAISED, Why.BLOCKED, Why.NO_HANDLER} <= whys
    with pytest.raises(ValueError, match="no IRQ 32"):
        timeline.whynot(32)


# ---- expressions -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1 + 2 * 3", 7),
        ("(1 << 4 | 1) ^ 0x10", 1),
        ("~0 == 0xffffffff and not 0", 1),
        ("1 < 2 < 3 <= 3 != 4", 1),
        ("1 // 0 + 5 % 0", 0),
        ("1 >> -1", 0),
        ("byte[eip] == word[eip] & 0xff", 1),
        ("tick == 1000", 1),
        ("phys[0xfffffff0]", 0),
    ],
)
def test_expressions_have_values(timeline: Timeline, text: str, value: int) -> None:
    timeline.go(1000)
    assert evaluate(text, timeline.look) == value


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1 +",
        "eax = 1",
        "foo",
        "__import__('os')",
        "eip()",
        "[1]",
        "'x'",
        "dword[1]",
        "1 in (1,)",
    ],
)
def test_what_is_no_predicate_is_refused_with_a_reason(text: str) -> None:
    with pytest.raises(BadPredicate):
        parse(text)


@pytest.mark.parametrize(
    ("text", "domain"),
    [
        ("eip == 16", (16, 16)),
        ("pending and 4 <= eip < 8", (4, 7)),
        ("8 > eip and eip >= 2", (2, 7)),
        ("eip == 16 or pending", None),
        ("in_noirq and word[esp]", (100, 119)),
        ("in_noirq and pending", None),
    ],
)
def test_a_predicate_knows_where_alone_it_can_be_true(
    text: str, domain: tuple[int, int] | None
) -> None:
    assert parse(text, noirq=(100, 120)).domain == domain


def test_symbols_are_names_too(timeline: Timeline) -> None:
    address = timeline.symbols.address_of("lguest_iret")
    assert address is not None
    stop = timeline.predicate("eip == lguest_iret")
    assert stop.domain == (address, address)
    timeline.stops.add(stop)
    timeline.resume()
    assert timeline.machine.cpu.eip == address


@pytest.mark.parametrize(
    "text",
    [
        "pending",
        "not irq_enabled",
        "deliverable",
        "held",
        "in_noirq",
        "pending and in_noirq",
        "halted or blocked == 0",
        "in_noirq or not irq_enabled and pending == 0",
    ],
)
def test_conditions_that_little_can_change_are_found_as_if_every_tick_were_looked_at(
    timeline: Timeline, path: Path, text: str
) -> None:
    delivered = [e.tick for e in events_of(path) if isinstance(e, IrqDelivered)]
    middle = delivered[len(delivered) // 3]
    first, last = middle - 6000, middle + 6000
    timeline.go(first)
    stop = named_stop(timeline, text) if text in NAMES else timeline.predicate(text)
    assert isinstance(stop, Predicate)
    assert stop.depends
    true = true_ticks(path, first, last, stop.holds)
    timeline.stops.add(stop)
    rises, falls = [], []
    while (tick := timeline.resume(limit=last).tick) < last:
        rises.append(tick)
    while (tick := timeline.resume(backwards=True, limit=first).tick) > first:
        falls.append(tick)
    assert rises == [t for t in sorted(true) if t - 1 not in true and first < t < last]
    assert falls[::-1] == [t for t in sorted(true) if t + 1 not in true and first < t < last]


@pytest.mark.parametrize("name", NAMES)
def test_every_named_stop_is_met(timeline: Timeline, name: str) -> None:
    timeline.go(timeline.end_tick // 2)
    timeline.stops.add(named_stop(timeline, name))
    backwards = name not in ("ended", "console")
    assert type(timeline.resume(backwards=backwards).reasons[0]).__name__ in (
        "EventMet",
        "PredicateTrue",
    )


def test_an_unknown_stop_is_refused(timeline: Timeline) -> None:
    with pytest.raises(NoSuchStop, match="there are raised"):
        named_stop(timeline, "nonsense")
    with pytest.raises(NoSuchStop):
        named_stop(timeline, "raised", -1)


def test_nesting_counts_handlers(timeline: Timeline, path: Path) -> None:
    depths = set()
    for tick in interrupt_ticks(path)[1:40]:
        timeline.go(tick)
        timeline.step(Unit.SWITCH)
        depths.add(evaluate("nesting", timeline.look))
    assert max(depths) >= 1
    timeline.stops.add(timeline.predicate("in_user"))
    timeline.resume(backwards=True)
    assert evaluate("nesting", timeline.look) == 0


# ---- places and bookmarks --------------------------------------------------------------------------


def test_places_in_time_have_many_names(timeline: Timeline, path: Path) -> None:
    events = list(events_of(path))
    end = timeline.end_tick
    for where, tick in (
        ("end", end),
        ("start", 0),
        ("1,000", 1000),
        ("50%", end // 2),
        ("event 10", events[10].tick),
        ("-7", events[10].tick - 7),
        ("+1", events[10].tick - 6),
    ):
        assert timeline.seek(where).tick == tick, where
    for where in ("", "nowhere", "101%", "event 99999999", "@missing", "1.5"):
        with pytest.raises(BadPlace):
            timeline.seek(where)


def test_bookmarks_are_kept_beside_the_trace(tmp_path: Path) -> None:
    path = record_guest(tmp_path / "x.lgt")
    with timeline_of(path) as timeline:
        timeline.bookmarks.put(Bookmark("crash", Tick(4321), "here it is"))
        with pytest.raises(ValueError, match="no name"):
            timeline.bookmarks.put(Bookmark("two words", Tick(1)))
    with timeline_of(path) as timeline:
        assert list(timeline.bookmarks) == [Bookmark("crash", Tick(4321), "here it is")]
        assert timeline.seek("@crash").tick == 4321
        timeline.bookmarks.remove("crash")
        assert not list(timeline.bookmarks)
    marks = path.with_name("x.lgt.marks")
    for damage in ("{", "[]", '{"trace": "00"}', '{"trace": 1, "bookmarks": {}}'):
        marks.write_text(damage)
        with pytest.raises(BookmarkError):
            open_timeline(path)


def test_looking_changes_nothing(middle: Timeline) -> None:
    digest = middle.machine.digest()
    look: Look = middle.look
    evaluate("nesting + word[esp] + phys[0] + eflags + deliverable", look)
    middle.whynot(0)
    middle.last_write(Register("eip"))
    middle.read(0, 1 << 16)
    assert middle.machine.digest() == digest
