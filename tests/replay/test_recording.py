"""What is recorded is replayed, and whatever else is in a trace is noticed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hostvm.errors import ConfigurationError
from hostvm.observations import EndReason, GuestEnded, Hypercall, StateDigest
from hostvm.units import Nanoseconds, Tick
from hostvm.world import DEVICE_VECTOR, NMI_VECTOR, TIMER_VECTOR, Action, Completion, Request
from replay import machine_header
from replay.errors import Divergence, ReplayError, TraceTruncated
from replay.events import (
    ClockReading,
    DeviceCompletion,
    Event,
    HostInterrupt,
    HostTurnInterrupt,
    HostWoken,
    RandomChoice,
    TscReading,
)
from replay.host_world import HostWorld
from replay.keep import Keep
from replay.log import TraceReader
from replay.machine_header import TraceMismatch
from replay.recording import RecordingWorld
from replay.session import LOOK_AHEAD, ReplayWorld, Session
from replay.trace_header import TraceEndReason
from replay.virtual_world import VirtualWorld
from replay.world_time import FAR
from tests.replay.recorded import (
    Silent,
    altered,
    events_of,
    hello,
    record_hello,
    verify,
)

SENT = Completion(0, 3, 5, b"sector")


@pytest.fixture(scope="session")
def trace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recorded") / "hello.trace"
    record_hello(path)
    return path


@dataclass
class ScriptedWorld(VirtualWorld):
    """Answers `host_interrupt` and `completions` from lists, and counts how often it was asked."""

    vectors: list[int | None] = field(default_factory=list)
    deliveries: list[tuple[Completion, ...]] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(0)

    def host_interrupt(self, tick: Tick, guest: int) -> int | None:
        return self.vectors.pop(0)

    def completions(self, tick: Tick) -> tuple[Completion, ...]:
        return self.deliveries.pop(0)


def recorded(world: VirtualWorld) -> tuple[RecordingWorld, list[Event]]:
    events: list[Event] = []
    recording = RecordingWorld(world)
    recording.attach(events.append)
    return recording, events


def replaying(*events: Event, guests: int = 1) -> ReplayWorld:
    return ReplayWorld(events, guests)


T = Tick(10)
CALL = Hypercall(T, 0, 5, (1, 2))


class TestRecordingWorld:
    def test_each_answer_becomes_an_event_at_the_place_where_it_was_given(self) -> None:
        world, events = recorded(VirtualWorld(1))
        ns = world.clock(T, 0)
        world.observe(CALL)
        value = world.choose(T, 1, 4)
        counter = world.tsc(Tick(11), 0)
        assert events == [
            ClockReading(T, 0, ns),
            CALL,
            RandomChoice(T, 1, 4, value),
            TscReading(Tick(11), 0, counter),
        ]

    def test_interrupts_are_told_apart_by_where_they_were_taken(self) -> None:
        world, events = recorded(ScriptedWorld(vectors=[TIMER_VECTOR, DEVICE_VECTOR]))
        world.interrupt_taken(T, 0, TIMER_VECTOR, 0xC0001000, 7)
        world.host_interrupt(T, 0)
        world.program_timer(T, Nanoseconds(0))
        world.wait(T, 0)
        assert events == [
            HostInterrupt(T, 0, TIMER_VECTOR, 0xC0001000, 7),
            HostTurnInterrupt(T, 0, TIMER_VECTOR),
            HostWoken(T, 0, DEVICE_VECTOR),
        ]

    def test_no_interrupt_and_no_completion_leave_no_event(self) -> None:
        world, events = recorded(ScriptedWorld(vectors=[None], deliveries=[()]))
        assert world.host_interrupt(T, 0) is None
        assert world.completions(T) == ()
        assert world.wait(T, 0) is None
        assert events == []

    def test_after_no_interrupt_there_is_none_at_the_same_place_in_the_log(self) -> None:
        world, _ = recorded(ScriptedWorld(vectors=[None, TIMER_VECTOR]))
        assert world.host_interrupt(T, 0) is None
        assert world.host_interrupt(T, 0) is None
        world.observe(CALL)
        assert world.host_interrupt(T, 0) == TIMER_VECTOR

    def test_completions_at_one_place_in_the_log_are_fetched_once(self) -> None:
        world, _ = recorded(ScriptedWorld(deliveries=[(SENT,), (SENT,)]))
        assert world.completions(T) == (SENT,)
        assert world.completions(T) == ()
        world.observe(CALL)
        assert world.completions(T) == (SENT,)

    def test_what_was_asked_before_the_log_was_open_comes_first(self) -> None:
        world = RecordingWorld(VirtualWorld(1))
        first = world.choose(Tick(0), 0, 4)
        events: list[Event] = []
        world.attach(events.append)
        second = world.choose(Tick(0), 0, 4)
        assert events == [RandomChoice(Tick(0), 0, 4, value) for value in (first, second)]

    def test_going_idle_is_told_before_the_wait(self) -> None:
        world = RecordingWorld(VirtualWorld(1))
        told: list[str] = []
        world.attach(lambda _: told.append("event"), lambda: told.append("idle"))
        world.program_timer(T, Nanoseconds(0))
        world.wait(T, 0)
        assert told == ["idle", "event"]


class TestReplayWorld:
    def test_a_question_is_answered_by_the_next_event(self) -> None:
        world = replaying(
            ClockReading(T, 0, Nanoseconds(77)), RandomChoice(T, 0, 4, 3), TscReading(T, 0, 9)
        )
        assert (world.clock(T, 0), world.choose(T, 0, 4), world.tsc(T, 0)) == (77, 3, 9)
        assert world.next_event() is None
        assert world.events_taken == 3

    @pytest.mark.parametrize(
        "ask",
        [
            lambda world: world.clock(T, 1),
            lambda world: world.clock(Tick(11), 0),
            lambda world: world.tsc(T, 0),
            lambda world: world.choose(T, 0, 4),
            lambda world: world.wait(T, 0),
            lambda world: world.observe(CALL),
            lambda world: world.interrupt_taken(T, 0, TIMER_VECTOR, 0, 0),
        ],
    )
    def test_any_other_question_is_a_divergence(self, ask: Callable[[ReplayWorld], object]) -> None:
        world = replaying(ClockReading(T, 0, Nanoseconds(77)))
        with pytest.raises(Divergence, match="clock_reading") as caught:
            ask(world)
        assert caught.value.tick in (10, 11)

    def test_a_choice_of_another_bound_is_a_divergence(self) -> None:
        with pytest.raises(Divergence, match="choose one of 5"):
            replaying(RandomChoice(T, 0, 4, 3)).choose(T, 0, 5)

    def test_the_next_interrupt_is_known_beforehand(self) -> None:
        taken = HostInterrupt(Tick(500), 0, TIMER_VECTOR, 0xC0000000, 9)
        world = replaying(ClockReading(T, 0, Nanoseconds(1)), taken)
        assert world.horizon(Tick(0)) == 500
        assert world.interrupt_line(Tick(499)) is None
        assert world.interrupt_line(Tick(500)) == TIMER_VECTOR

    def test_without_interrupts_the_horizon_is_far(self) -> None:
        assert replaying(ClockReading(T, 0, Nanoseconds(1))).horizon(Tick(0)) == FAR

    def test_looking_ahead_is_bounded_and_the_horizon_then_safe(self) -> None:
        fetched = 0

        def many() -> Iterable[Event]:
            nonlocal fetched
            for tick in range(10 * LOOK_AHEAD):
                fetched += 1
                yield ClockReading(Tick(tick), 0, Nanoseconds(tick))

        assert 0 < ReplayWorld(many(), 1).horizon(Tick(0)) < LOOK_AHEAD
        assert fetched <= LOOK_AHEAD + 1

    def test_many_events_at_one_tick_do_not_stop_the_horizon_from_moving_on(self) -> None:
        crowd = [ClockReading(T, 0, Nanoseconds(n)) for n in range(LOOK_AHEAD + 10)]
        assert ReplayWorld(crowd, 1).horizon(T) > T

    @pytest.mark.parametrize("field_", ["tick", "guest", "vector", "eip", "check"])
    def test_an_interrupt_taken_differently_is_a_divergence(self, field_: str) -> None:
        wanted = HostInterrupt(T, 0, TIMER_VECTOR, 0xC0000000, 9)
        taken: Any = replace(wanted, **{field_: getattr(wanted, field_) + 1})
        with pytest.raises(Divergence, match="0xc000000"):
            replaying(wanted).interrupt_taken(
                taken.tick, taken.guest, taken.vector, taken.eip, taken.check
            )

    def test_passing_an_interrupt_by_is_a_divergence(self) -> None:
        with pytest.raises(Divergence, match="pass on to tick 11") as caught:
            replaying(HostInterrupt(T, 0, TIMER_VECTOR, 0, 0)).horizon(Tick(11))
        assert caught.value.tick == T

    def test_an_interrupt_in_the_hosts_turn_is_taken_there_only(self) -> None:
        world = replaying(CALL, HostTurnInterrupt(T, 0, TIMER_VECTOR))
        assert world.host_interrupt(T, 0) is None
        world.observe(CALL)
        assert world.host_interrupt(T, 1) is None
        assert world.host_interrupt(T, 0) == TIMER_VECTOR

    def test_waiting_is_answered_by_waking(self) -> None:
        assert replaying(HostWoken(T, 0, DEVICE_VECTOR)).wait(T, 0) == DEVICE_VECTOR

    def test_waiting_at_the_end_is_for_ever(self) -> None:
        assert replaying().wait(T, 0) is None
        assert replaying(StateDigest(Tick(11), 0, b"digest")).wait(T, 0) is None

    def test_all_completions_of_a_tick_are_delivered_together(self) -> None:
        one = DeviceCompletion(T, 0, 3, 5, b"a")
        world = replaying(one, replace(one, data=b"b"), replace(one, tick=Tick(11)))
        assert [done.data for done in world.completions(T)] == [b"a", b"b"]

    @pytest.mark.parametrize(
        "event",
        [
            DeviceCompletion(T, 1, 0, 1, b""),
            DeviceCompletion(T, 0, 0, 32, b""),
            HostWoken(T, 0, 14),
            HostTurnInterrupt(T, 0, 8),
            HostInterrupt(T, 0, 0x80, 0, 0),
        ],
    )
    def test_what_no_machine_has_is_refused_before_the_machine_sees_it(self, event: Event) -> None:
        world = replaying(event)
        with pytest.raises(Divergence, match="impossible input"):
            _ = (
                world.completions(T),
                world.wait(T, 0) if isinstance(event, HostWoken) else None,
                world.host_interrupt(T, 0),
                world.interrupt_line(T),
            )

    def test_an_nmi_is_an_interrupt_like_any_other(self) -> None:
        assert replaying(HostInterrupt(T, 0, NMI_VECTOR, 0, 0)).interrupt_line(T) == NMI_VECTOR

    def test_past_the_end_of_a_torn_trace_the_tear_is_at_fault(self) -> None:
        world = ReplayWorld((), 1, TraceTruncated("x.trace", 512, "torn"))
        with pytest.raises(TraceTruncated):
            world.clock(T, 0)
        with pytest.raises(TraceTruncated):
            world.wait(T, 0)
        with pytest.raises(TraceTruncated):
            world.observe(CALL)


Ask = tuple[str, int, int]
QUESTIONS = st.lists(
    st.tuples(
        st.sampled_from(
            ["clock", "tsc", "choose", "turn", "wait", "timer", "submit", "fetch", "see"]
        ),
        st.integers(0, 3),
        st.integers(0, 1),
    ),
    max_size=60,
)


def put(questions: Iterable[Ask], world: RecordingWorld | ReplayWorld) -> list[object]:
    """Ask the questions in order, each some ticks after the one before; return the answers."""
    answers: list[object] = []
    tick = Tick(0)
    for what, step, guest in questions:
        tick = Tick(tick + step * 300)
        match what:
            case "clock":
                answers.append(world.clock(tick, guest))
            case "tsc":
                answers.append(world.tsc(tick, guest))
            case "choose":
                answers.append(world.choose(tick, guest, 4))
            case "turn":
                answers.append(world.host_interrupt(tick, guest))
            case "wait":
                answers.append(world.wait(tick, guest))
                if answers[-1] is None:
                    return answers
            case "timer":
                world.program_timer(tick, Nanoseconds(1_184_846_400_000_000_000 + tick * 10 + 3000))
            case "submit":
                world.submit(tick, Request(guest, 0, 2, Action.ENTROPY, 0, 8))
            case "fetch":
                answers.append(world.completions(tick))
            case _:
                world.observe(Hypercall(tick, guest, 5, ()))
    return answers


@given(st.integers(0, 1000), QUESTIONS)
@settings(max_examples=300)
def test_whatever_is_asked_in_whatever_order_the_replay_answers_alike(
    seed: int, questions: list[Ask]
) -> None:
    recording, events = recorded(VirtualWorld(seed))
    answers = put(questions, recording)
    replay = ReplayWorld(events, 2)
    assert put(questions, replay) == answers
    assert replay.next_event() is None


class TestRecordAndReplay:
    def test_a_virtual_recording_is_verified_to_its_last_event(
        self, trace: Path, tmp_path: Path
    ) -> None:
        shown = verify(trace)
        with TraceReader(trace) as reader:
            assert reader.end is not None
            assert reader.end.reason == TraceEndReason.FINISHED
            assert (shown.last_tick, shown.events) == (reader.end.tick, reader.event_count)
        assert shown.torn is None

    def test_a_recording_by_this_computers_clock_is_verified(self, tmp_path: Path) -> None:
        recorded_ = record_hello(tmp_path / "t", HostWorld(3))
        assert verify(tmp_path / "t").events == recorded_.events

    def test_two_guests_are_recorded_and_verified(self, tmp_path: Path) -> None:
        watcher = Silent()
        recorded_ = record_hello(tmp_path / "t", watcher=watcher, config=hello(guests=2))
        assert {o.guest for o in watcher.observations if isinstance(o, GuestEnded)} == {0, 1}
        assert verify(tmp_path / "t").events == recorded_.events

    def test_equal_seeds_make_equal_recordings(self, trace: Path, tmp_path: Path) -> None:
        again = record_hello(tmp_path / "t", VirtualWorld(1))
        with TraceReader(trace) as reader:
            assert reader.end == again.end
        assert list(events_of(trace)) == list(events_of(tmp_path / "t"))

    def test_other_seeds_make_other_recordings(self, trace: Path, tmp_path: Path) -> None:
        record_hello(tmp_path / "t", VirtualWorld(2))
        assert list(events_of(trace)) != list(events_of(tmp_path / "t"))

    def test_the_watcher_sees_the_console_and_the_end(self, tmp_path: Path) -> None:
        watcher = Silent()
        recorded_ = record_hello(tmp_path / "t", watcher=watcher)
        assert b"crunch is done" in watcher.console
        assert isinstance(watcher.observations[-1], (GuestEnded, StateDigest))
        assert watcher.tick == recorded_.end.tick

    def test_a_recording_ends_at_the_limit_of_ticks(self, tmp_path: Path) -> None:
        recorded_ = record_hello(tmp_path / "t", max_ticks=123_457)
        assert (recorded_.end.tick, recorded_.end.reason) == (123_457, TraceEndReason.LIMIT)
        assert verify(tmp_path / "t").last_tick == 123_457

    def test_a_recording_ends_when_the_watcher_wants_it(self, tmp_path: Path) -> None:
        recorded_ = record_hello(
            tmp_path / "t", watcher=Silent(stop_at=100_000), config=hello("loops=1000")
        )
        assert recorded_.end.reason == TraceEndReason.INTERRUPTED
        assert verify(tmp_path / "t").last_tick == recorded_.end.tick

    def test_stopping_an_idle_guest_makes_a_trace_that_is_verified(self, tmp_path: Path) -> None:
        class Impatient(HostWorld):
            def wait(self, tick: Tick, guest: int) -> int | None:
                self.stop()
                return super().wait(tick, guest)

        recorded_ = record_hello(tmp_path / "t", Impatient(0))
        assert verify(tmp_path / "t").last_tick == recorded_.end.tick

    def test_what_cannot_be_built_leaves_no_file(self, tmp_path: Path) -> None:
        config = hello()
        tiny = replace(config, guests=(replace(config.guests[0], memory=1 << 20),))
        with pytest.raises(ConfigurationError, match="too little"):
            record_hello(tmp_path / "t", config=tiny)
        assert list(tmp_path.iterdir()) == []

    def test_a_flight_recording_is_replayed_from_its_first_checkpoint(self, tmp_path: Path) -> None:
        keep = Keep(bytes=20_000)
        config = hello("loops=1000 hz=100000", digest_interval=1 << 21)
        recorded_ = record_hello(
            tmp_path / "t", config=config, keep_last=keep, max_ticks=14_000_000
        )
        shown = verify(tmp_path / "t")
        assert 0 < shown.first_tick < shown.last_tick == recorded_.end.tick
        assert shown.events < recorded_.events

    def test_a_torn_trace_is_verified_as_far_as_it_goes(self, trace: Path, tmp_path: Path) -> None:
        class Killed(Silent):
            def progress(self, tick: Tick) -> None:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            record_hello(tmp_path / "t", watcher=Killed(), config=hello("loops=20"))
        shown = verify(tmp_path / "t")
        assert shown.torn is not None
        assert shown.last_tick > 0
        assert shown.events > 0


def without(rank: int) -> Callable[[list[Event]], list[Event]]:
    return lambda events: events[:rank] + events[rank + 1 :]


def _changed(event: Any) -> Any:
    """The same event but for its last number, bytes or text."""
    name = [name for name in event.__slots__ if name not in ("tick", "guest", "bound")][-1]
    value = getattr(event, name)
    match value:
        case bool():
            other: object = not value
        case EndReason():
            other = EndReason.KILLED
        case int():
            other = value ^ 1
        case bytes():
            other = bytes((value[0] ^ 1,)) + value[1:] if value else b"\1"
        case str():
            other = value + "!"
        case tuple():
            other = ((1, 1), *value[1:]) if isinstance(event, StateDigest) else value[:-1]
        case _:
            raise AssertionError(event)
    return replace(event, **{name: other})


class TestAlteredTraces:
    """No change to what a trace says goes unnoticed, if it matters."""

    def test_an_unchanged_copy_is_verified(self, trace: Path, tmp_path: Path) -> None:
        verify(altered(trace, tmp_path / "t"))

    @settings(max_examples=30)
    @given(data=st.data())
    def test_a_missing_event_is_noticed(
        self, trace: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
    ) -> None:
        rank = data.draw(st.integers(0, len(list(events_of(trace))) - 1))
        path = altered(trace, tmp_path_factory.mktemp("t") / "t", without(rank))
        with pytest.raises(Divergence):
            verify(path)

    @settings(max_examples=30)
    @given(data=st.data())
    def test_a_changed_event_is_noticed(
        self, trace: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
    ) -> None:
        # Whether a clock shows a nanosecond more may decide nothing: the time is written down only now and then.
        told = [
            rank
            for rank, event in enumerate(events_of(trace))
            if not isinstance(event, ClockReading)
        ]
        rank = data.draw(st.sampled_from(told))

        def change(events: list[Event]) -> list[Event]:
            return [*events[:rank], _changed(events[rank]), *events[rank + 1 :]]

        path = altered(trace, tmp_path_factory.mktemp("t") / "t", change)
        with pytest.raises(Divergence):
            verify(path)

    def test_another_final_digest_is_noticed(self, trace: Path, tmp_path: Path) -> None:
        path = altered(trace, tmp_path / "t", end=lambda e: replace(e, digest=bytes(24)))
        with pytest.raises(Divergence, match="final digest"):
            verify(path)

    @pytest.mark.parametrize("step", [-1, 1])
    def test_another_end_is_noticed(self, trace: Path, tmp_path: Path, step: int) -> None:
        def early(events: list[Event]) -> list[Event]:
            last = events[-1].tick + step
            return [event for event in events if event.tick <= last]

        path = altered(trace, tmp_path / "t", early, lambda e: replace(e, tick=Tick(e.tick + step)))
        with pytest.raises(Divergence):
            verify(path)

    @pytest.mark.parametrize(
        ("field_", "value", "said"),
        [
            ("engine_version", "2.1.3", "CPU engine unicorn 2.1.3; here it is unicorn 2.1.4"),
            ("cpu_model", "8086", "processor model 8086"),
            ("maths", b"\1\2", "x87 mathematics 0102"),
        ],
    )
    def test_a_trace_of_something_else_is_refused_in_one_line(
        self, trace: Path, field_: str, value: object, said: str
    ) -> None:
        changed: dict[str, Any] = {field_: value}
        with TraceReader(trace) as reader:
            header = replace(reader.header, **changed)
            with pytest.raises(TraceMismatch, match=said) as caught:
                machine_header._check("x.trace", header)
        assert "\n" not in str(caught.value)

    def test_a_trace_without_a_digest_interval_is_refused(
        self, trace: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with TraceReader(trace) as reader:
            header = replace(reader.header, digest_interval=0)
            monkeypatch.setattr(TraceReader, "header", header)
            with pytest.raises(ReplayError, match="every 0 ticks"):
                Session(reader)
