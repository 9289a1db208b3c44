"""Recordings in which somebody goes about while they are made."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from hostvm.edits import Edit, Register, Target
from hostvm.launcher import GuestConfig
from hostvm.machine import MachineConfig
from hostvm.units import Tick
from replay.branch import Branch, set_register
from replay.catalogue import find_kernel
from replay.commands.plan import Wish, make_plan
from replay.edited_world import BadEdit
from replay.events import DebuggerWrite
from replay.host_world import Console, HostWorld
from replay.live import LiveTimeline, record_live
from replay.log import TraceReader
from replay.machine_header import Origin
from replay.moves import Unit
from replay.session import Session
from replay.stops import Breakpoint, Cancelled, HistoryEnd
from replay.trace_header import TraceEndReason
from replay.virtual_world import VirtualWorld
from replay.world_time import FAR
from tests.patience import PATIENCE
from tests.replay.histories import MEMORY, record_guest


@contextmanager
def live(
    path: Path,
    command_line: str = "loops=1",
    guest: str = "hello",
    *,
    host: bool = False,
    max_ticks: int = FAR,
) -> Iterator[LiveTimeline]:
    kernel = find_kernel(guest)
    setup = GuestConfig(kernel.content, command_line, MEMORY, abi=kernel.abi, name=kernel.name)
    config = MachineConfig((setup,), 1 << 16)
    origin = Origin("host" if host else "virtual", 1)
    with record_live(
        config,
        lambda since: HostWorld(1) if host else VirtualWorld(1, since=since),
        path,
        origin,
        max_ticks=max_ticks,
    ) as timeline:
        yield timeline


@contextmanager
def broken_off(timeline: LiveTimeline, when: threading.Event) -> Iterator[None]:
    """What is inside is told to break off from another thread, once something has happened."""

    def cancel() -> None:
        assert when.wait(PATIENCE)
        timeline.cancel()

    thread = threading.Thread(target=cancel)
    thread.start()
    yield
    thread.join()


def verified(path: Path) -> TraceReader:
    """The trace, which replays to its end."""
    with TraceReader(path) as reader:
        assert reader.complete
        for _ in Session(reader).verify():
            pass
        return reader


def events_of(path: Path) -> list[object]:
    with TraceReader(path) as reader:
        return list(reader.events())


def test_whoever_only_looks_changes_nothing(tmp_path: Path) -> None:
    plain = record_guest(tmp_path / "plain.lgt")
    with live(tmp_path / "live.lgt") as timeline:
        address = timeline.address("trap_entry_32")
        number = timeline.stops.add(Breakpoint(address))
        for _ in range(4):
            timeline.resume()
            timeline.step(Unit.INSTRUCTION, count=3)
        timeline.go(1000)
        timeline.resume(backwards=True)
        timeline.stops.remove(number)
        arrival = timeline.resume()
        assert arrival.reasons == (HistoryEnd(),)
    assert events_of(tmp_path / "live.lgt") == events_of(plain)
    end = verified(tmp_path / "live.lgt").end
    assert end is not None
    assert end.reason is TraceEndReason.FINISHED


def test_the_trace_ends_where_somebody_has_been(tmp_path: Path) -> None:
    with live(tmp_path / "live.lgt") as timeline:
        timeline.stops.add(Breakpoint(timeline.address("start_kernel")))
        here = timeline.resume().tick
        timeline.go(10)
        assert timeline.end_tick == here
        assert timeline.seek("end").tick == here
        assert timeline.frontier.tick > here
    end = verified(tmp_path / "live.lgt").end
    assert end is not None
    assert (end.tick, end.reason) == (here, TraceEndReason.INTERRUPTED)


def test_a_limit_of_ticks_ends_it(tmp_path: Path) -> None:
    with live(tmp_path / "live.lgt", max_ticks=70_000) as timeline:
        assert timeline.resume().tick == 70_000
        assert timeline.resume().reasons == (HistoryEnd(),)
    end = verified(tmp_path / "live.lgt").end
    assert end is not None
    assert (end.tick, end.reason) == (70_000, TraceEndReason.LIMIT)


@pytest.mark.parametrize("host", [False, True])
def test_a_write_in_the_present_is_an_event_and_changes_what_comes(
    tmp_path: Path, host: bool
) -> None:
    path = tmp_path / "live.lgt"
    with live(path, host=host) as timeline:
        timeline.stops.add(Breakpoint(timeline.address("start_kernel")))
        here = timeline.resume().tick
        timeline.write([set_register("esi", 0x1234), set_register("edi", 0x5678)])
        assert timeline.tick == timeline.end_tick == here
        assert timeline.cpu.regs[6:8] == (0x1234, 0x5678)
        timeline.step(Unit.TICK, backwards=True)
        assert timeline.cpu.regs[6] != 0x1234
        timeline.step(Unit.TICK)
        assert timeline.cpu.regs[6] == 0x1234
        timeline.resume()
    edits = [event for event in events_of(path) if isinstance(event, DebuggerWrite)]
    assert [(e.tick, e.address) for e in edits] == [(here, Register.ESI), (here, Register.EDI)]
    end = verified(path).end
    assert end is not None
    assert end.tick > here


def test_what_is_past_is_changed_in_a_branch_only(tmp_path: Path) -> None:
    path = tmp_path / "live.lgt"
    with live(path) as timeline:
        timeline.stops.add(Breakpoint(timeline.address("start_kernel")))
        timeline.resume()
        timeline.go(timeline.tick + 5000)
        timeline.resume(backwards=True)
        assert isinstance(timeline.branch([set_register("esi", 7)]), Branch)
    assert not [event for event in events_of(path) if isinstance(event, DebuggerWrite)]
    verified(path)


def test_what_cannot_be_written_is_refused_and_nothing_happens(tmp_path: Path) -> None:
    with live(tmp_path / "live.lgt") as timeline:
        with pytest.raises(BadEdit):
            timeline.write([set_register("esi", 7)])
        timeline.go(100)
        with pytest.raises(BadEdit):
            timeline.write([Edit(5, Target.PHYSICAL, 0, b"x")])
        assert timeline.end_tick == Tick(100)
    verified(tmp_path / "live.lgt")


def test_broken_off_it_stands_in_the_present_and_goes_on_from_there(tmp_path: Path) -> None:
    path = tmp_path / "live.lgt"
    with live(path, "loops=100000", host=True) as timeline:
        for _ in range(3):
            before = timeline.tick
            under_way = threading.Event()
            timeline.progress = lambda _, begun=under_way: begun.set()
            with broken_off(timeline, under_way):
                arrival = timeline.resume()
            assert arrival.reasons == (Cancelled(),)
            assert timeline.tick == timeline.end_tick > before
            timeline.step(Unit.INSTRUCTION, backwards=True)
    verified(path)


def test_a_guest_that_sleeps_is_woken_after_it_was_broken_off(tmp_path: Path) -> None:
    path = tmp_path / "live.lgt"
    heard, speaks = os.pipe()
    plan = make_plan(Wish(guests=("kestrel",), command_line="init=echo"))
    assert plan.typed is not None
    world = HostWorld(1, Console(heard, 0, *plan.typed))
    said = bytearray()
    answered = threading.Event()

    def hear(data: bytes) -> None:
        said.extend(data)
        if b"hello, you" in said:
            answered.set()

    asleep = threading.Event()

    def sleep(poll: Callable[[], None]) -> None:
        if b"type something" in said:
            asleep.set()
        poll()

    with record_live(plan.config, lambda _: world, path, Origin("host", 1)) as timeline:
        timeline.frontier.console = hear
        world.while_waiting = partial(sleep, world.while_waiting)
        places = []
        for _ in range(2):
            asleep.clear()
            with broken_off(timeline, asleep):
                assert timeline.resume().reasons == (Cancelled(),)
            places.append(timeline.tick)
            timeline.step(Unit.INSTRUCTION, backwards=True)
            timeline.seek("end")
        # It sleeps, and does nothing more.
        assert places[0] == places[1]
        os.write(speaks, b"hello, you\n")
        with broken_off(timeline, answered):
            timeline.resume()
        assert timeline.tick > places[1]
        assert b"hello, you" in said
    verified(path)
    os.close(heard)
    os.close(speaks)
