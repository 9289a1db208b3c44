"""This computer's time for a recording, and the pace of a machine by it."""

from __future__ import annotations

from replay.host_clock import SHORTEST_SPAN_NS, HostClock, Pace


def test_time_stands_still_while_it_rests() -> None:
    clock = HostClock()
    before = clock.tsc()
    clock.rest()
    clock.rest()
    rested = [HostClock() for _ in range(1000)]
    clock.go_on()
    clock.go_on()
    assert before <= clock.tsc() < rested[-1].tsc()


def test_a_faster_machine_makes_more_ticks_in_the_same_time() -> None:
    slow, fast = Pace(), Pace()
    for span in range(20):
        slow.note(span * 1_000, span * 2_000_000)
        fast.note(span * 1_000_000, span * 2_000_000)
    assert abs(fast.ticks_in(2_000_000) - 1_000_000) < 10_000
    assert slow.ticks_in(2_000_000) < 2_000


def test_spans_too_short_to_tell_are_joined() -> None:
    pace = Pace()
    before = pace.ticks_in(10**9)
    pace.note(0, 0)
    pace.note(1_000_000, SHORTEST_SPAN_NS - 1)
    assert pace.ticks_in(10**9) == before
    pace.note(1_000_000, SHORTEST_SPAN_NS)
    assert pace.ticks_in(10**9) > before


def test_a_span_with_a_pause_in_it_tells_nothing() -> None:
    pace = Pace()
    before = pace.ticks_in(10**9)
    pace.note(0, 0)
    pace.pause()
    pace.note(1, 10**12)
    assert pace.ticks_in(10**9) == before
