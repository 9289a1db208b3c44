"""Several Guests in one trace: which of them the panes show is the user's choice, and said."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

import replay
from hostvm.launcher import GuestConfig
from hostvm.machine import MachineConfig
from replay.catalogue import find_kernel
from replay.events import ConsoleOutput
from replay.timeline import Timeline
from replay.virtual_world import VirtualWorld
from tests.replay.recorded import record_hello
from tests.tui.sitting import RACE, Sitting
from tui.chosen_look import ChosenLook
from tui.snapshot import Camera
from tui.values import Wish

MIDDLE = 1_000_000


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Guest 0 is hello, Guest 1 is kestrel, another kernel."""
    guests = tuple(
        GuestConfig(find_kernel(name).content, command_line, 16 << 20, name=name)
        for name, command_line in (("hello", "loops=1"), ("kestrel", ""))
    )
    path = tmp_path_factory.mktemp("guests") / "two.lgt"
    config = MachineConfig(guests, 1 << 16)
    record_hello(path, VirtualWorld(1), config=config, max_ticks=2_000_000)
    return path


@pytest.fixture
def timeline(two: Path) -> Iterator[Timeline]:
    with replay.open(two) as opened:
        yield opened


def running(timeline: Timeline, guest: int) -> None:
    """Go to where a Guest's kernel has the processor, and the other one has been in."""
    other = 1 - guest
    timeline.go(MIDDLE)
    stop = timeline.predicate(f"in_kernel and guest == {guest}")
    timeline.resume_with(((0, stop),), backwards=False)
    assert timeline.machine.guests[other].regs.eip


def test_a_guest_that_is_away_is_shown_as_it_will_go_on(timeline: Timeline) -> None:
    running(timeline, 1)
    camera = Camera(timeline)
    while not camera.index.whole:
        camera.index.grow()
    followed = camera.take(Wish())
    assert (followed.position.guest, followed.position.runs, followed.away) == (1, 1, False)
    camera.choose(1)
    kept = camera.take(Wish())
    assert (kept.code, kept.cpu, kept.stack) == (followed.code, followed.cpu, followed.stack)
    camera.choose(0)
    shown = camera.take(Wish())
    saved = timeline.machine.guests[0].regs
    assert shown.away
    assert (shown.position.guest, shown.position.runs) == (0, 1)
    assert shown.position.eip == followed.position.eip, "the processor is where it is"
    assert shown.cpu.eip == shown.eip == saved.eip
    assert shown.stack.address == saved.esp
    assert saved.eip in {each.address for each in shown.code}
    assert {gate.way for gate in shown.gates} == {"away"}
    assert shown.noirq != followed.noirq
    assert shown.memory.address == saved.esp & ~3


def test_each_guest_has_its_own_symbols_console_and_interrupts(timeline: Timeline) -> None:
    running(timeline, 1)
    camera = Camera(timeline)
    while not camera.index.whole:
        camera.index.grow()
    written = {0: b"", 1: b""}
    for event in timeline.reader.events():
        if isinstance(event, ConsoleOutput) and event.tick < timeline.tick:
            written[event.guest] += event.data
    assert all(written.values())
    for guest in (0, 1):
        camera.choose(guest)
        assert camera.take(Wish()).console == written[guest]
        assert timeline.address("lguest_entry" if guest == 0 else "init_paging") > 0xC0000000
        lguest = timeline.machine.guests[guest].lguest
        assert camera.look.evaluate(timeline, "noirq_start") == lguest.noirq_start
        assert camera.look.evaluate(timeline, "pending") == lguest.irqs_pending


def test_an_expression_is_one_over_the_registers_of_the_guest_that_is_shown(
    timeline: Timeline,
) -> None:
    running(timeline, 1)
    look = ChosenLook(timeline.machine)
    assert look.said("esp + 4") == "esp + 4"
    look.chosen = 0
    saved = timeline.machine.guests[0].regs
    assert timeline.evaluate(look.said("esp + 4")) == saved.esp + 4
    assert look.said("word[ebp] + eip") == f"word[{saved.ebp:#x}] + {saved.eip:#x}"


def test_the_key_and_the_command_choose_and_the_status_line_says_so(two: Path) -> None:
    async def session() -> None:
        async with Sitting(two, 120, 40) as user:
            await user.known()
            await user.press(":")
            await user.type(f"seek {MIDDLE}")
            await user.press(":")
            await user.type("until in_kernel and guest == 1")
            assert "guest 1 of 0-1" in user.lines[0]
            await user.press("a")
            assert "guest 0 of 0-1 (kept, 1 runs)" in user.lines[0]
            assert "guest 0:  IF=" in user.lines[1]
            assert "Registers of guest 0, saved" in user.text
            await user.press("a")
            assert "guest 1 of 0-1 (kept)" in user.lines[0]
            await user.press("a")
            assert "(kept" not in user.lines[0]
            await user.press(":")
            await user.type("guest 0")
            assert "(kept, 1 runs)" in user.lines[0]
            await user.press("f2", ":")
            await user.type("wrote idt 14")
            assert "idt 14:" in user.message
            await user.press(":")
            await user.type("guest 2")
            assert "there is no guest 2" in user.message
            await user.press(":")
            await user.type("filter irq guest 1")
            assert user.tui.shot is not None
            rows = user.tui.shot.events.rows
            assert rows
            assert all(row.details.startswith("g1 ") for row in rows)
            await user.press(":")
            await user.type("filter guest")
            assert "guest which" in user.message
            await user.press(":")
            await user.type("guest")
            assert "kept" not in user.lines[0]

    asyncio.run(session())


def test_whatever_guest_is_shown_every_pane_can_be_drawn_at_any_moment(two: Path) -> None:
    async def session() -> None:
        async with Sitting(two, 200, 60) as user:
            for place in ("start", "10%", "50%", "end"):
                await user.press(":")
                await user.type(f"seek {place}")
                for _ in range(3):
                    await user.press("f1", "f2", "f3", "f4", "f5", "a")
            assert not user.left

    asyncio.run(session())


def test_one_guest_is_no_choice() -> None:
    async def session() -> None:
        async with Sitting(RACE, 100, 30) as user:
            await user.press("a")
            assert "one guest" in user.message
            assert "guest 0 of" not in user.lines[0]

    asyncio.run(session())
