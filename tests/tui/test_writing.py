"""Writing from the screen: into the past it opens a branch, shown, saved and left; into the present it just goes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

import replay
from hostvm.edits import Edit, Register, Target
from replay.branch import BadEdit
from replay.events import DebuggerWrite
from replay.log import TraceReader
from replay.timeline import Timeline
from tests.tui.moments import fatal
from tests.tui.sitting import RACE, Sitting
from tests.tui.test_live import verified, wish
from tui.chosen_look import ChosenLook
from tui.desk import REFUSALS, Desk
from tui.live import recorded
from tui.writing import edits_of


@pytest.fixture(scope="module")
def timeline() -> Iterator[Timeline]:
    with replay.open(RACE) as opened:
        opened.go(fatal())
        yield opened


def edits(timeline: Timeline, text: str) -> list[Edit]:
    return edits_of(timeline, ChosenLook(timeline.machine), text)[1]


@pytest.mark.parametrize(
    "text",
    [
        "word[esp] = 5",
        "$var = 5",
        "var {int}$esp = 5",
        "{int} esp = 5",
        "*esp+0 = 2+3",
        "esp+0,4 = 5",
        "mem esp = 05 00 0000",
        "mem esp = 0x05000000",
        "current word[esp] = 5",
        "guest word[esp] = 5",
    ],
)
def test_many_words_write_the_same(timeline: Timeline, text: str) -> None:
    if text.startswith("$var"):
        assert edits(timeline, "$eax = 5") == edits(timeline, "var $eax = 5")
        return
    esp = timeline.evaluate("esp")
    assert edits(timeline, text) == [Edit(0, Target.LINEAR, esp, b"\5\0\0\0")]


def test_registers_of_all_sizes_and_both_signs(timeline: Timeline) -> None:
    assert edits(timeline, "eax = -1") == [Edit(0, Target.REGISTER, Register.EAX, b"\xff" * 4)]
    assert edits(timeline, "$st0 = 1")[0].data == b"\1" + bytes(9)
    assert edits(timeline, "xmm7 = 1")[0].data == b"\1" + bytes(15)
    assert edits(timeline, "$eip = lguest_iret")[0].data == timeline.address(
        "lguest_iret"
    ).to_bytes(4, "little")


def test_bytes_texts_words_of_the_shared_page_and_physical_memory(timeline: Timeline) -> None:
    assert edits(timeline, 'mem esp = "ab" 00')[0].data == b"ab\0"
    assert edits(timeline, "physical byte[0x1000] = 7") == [Edit(0, Target.PHYSICAL, 0x1000, b"\7")]
    assert edits(timeline, "irq_enabled = 0x200")[0].target == Target.PHYSICAL
    assert edits(timeline, "pte eip = 0")[0].target == Target.PHYSICAL


@pytest.mark.parametrize(
    "text",
    [
        *("", "eax", "= 5", "eax =", "eax == 5", "byte[esp] = 256", "byte[esp] = -129"),
        *("eax = 1 << 32", "mem = 90", "mem esp =", "mem esp = 9", 'mem esp = "a', "mem esp = zz"),
        *("idt 14 = 5", "real-idt 14 = 5", "spte eip = 5", "ds = 5", "cr3 = 5", "nosuch = 5"),
        *("machine word[0] = 5", "eax = nosuch", "mem 0 = 90"),
    ],
)
def test_what_cannot_be_written_is_refused_in_one_line_and_opens_no_branch(
    timeline: Timeline, text: str
) -> None:
    desk = Desk(timeline)
    with pytest.raises(REFUSALS) as refused:
        desk.write(text)
    assert "\n" not in str(refused.value)
    assert desk.timeline is timeline


def test_a_write_opens_a_branch_which_is_shown_saved_and_left(tmp_path: Path) -> None:
    saved = tmp_path / "branch.lgt"

    async def session() -> None:
        async with Sitting(RACE, 120, 40) as user:
            await user.known()
            await user.press(":")
            await user.type(f"seek {fatal()}")
            before = user.text
            await user.press(":")
            await user.type("break first_process")
            await user.press(":")
            await user.type("set $eax = 5")
            assert "branch leave" in user.message, "it is said once what has happened"
            assert f"[branch at {fatal():,}]" in user.lines[0]
            assert "*eax 00000005" in user.text
            await user.press(":")
            await user.type("set word[esp] = 6")
            assert "branch leave" not in user.message
            await user.press("i", "I")
            assert "eax 00000005" in user.text
            await user.press(":")
            await user.type("branch")
            assert "1  branch at tick" in user.text
            assert "2 edits" in user.text
            await user.press(":")
            await user.type("info b")
            assert "break first_process" in user.text, "stops go along"
            await user.press("escape", ":")
            await user.type(f"branch save {saved}")
            await user.press(":")
            await user.type("branch save /nowhere/at/all.lgt")
            assert user.tui.refused
            await user.press(":")
            await user.type("delete")
            await user.press(":")
            await user.type("branch leave")
            await user.press("i", "I")
            assert user.lines[:2] == before.splitlines()[:2]
            await user.press(":")
            await user.type("branch leave")
            assert "no branch" in user.message

    asyncio.run(session())
    with TraceReader(saved) as reader:
        writes = [event for event in reader.events() if isinstance(event, DebuggerWrite)]
    assert [write.tick for write in writes] == [fatal()] * 2
    assert verified(saved) >= fatal()


def test_r_writes_what_is_selected(tmp_path: Path) -> None:
    async def session() -> None:
        async with Sitting(RACE, 120, 40) as user:
            await user.press(":")
            await user.type(f"seek {fatal()}")
            await user.press(":")
            await user.type("focus memory")
            await user.press("l", "r")
            esp = user.tui.shot.cpu.regs[4] if user.tui.shot else 0
            assert f":set byte[{esp + 1:#x}] = 0x" in user.text
            await user.press("escape", ":")
            await user.type("focus irq")
            await user.press("r")
            assert "select" in user.message
            await user.press(":")
            await user.type("focus registers")
            await user.press("r", "backspace", "backspace")
            await user.type("77")
            assert "[branch at" in user.lines[0]
            assert user.tui.shot is not None
            assert user.tui.shot.cpu.regs[0] & 0xFF == 0x77

    asyncio.run(session())


def test_in_the_present_of_a_recording_a_write_is_an_event_and_before_it_a_branch(
    tmp_path: Path,
) -> None:
    path = tmp_path / "live.lgt"

    async def session() -> None:
        async with Sitting(live.timeline, 120, 40) as user:
            await user.press(":")
            await user.type("until in_kernel and tick > 20000")
            here = user.tick
            await user.press(":")
            await user.type("set $esi = 0x1234")
            assert "an event of the recording" in user.message
            assert "*esi 00001234" in user.text
            assert "[branch" not in user.lines[0]
            await user.press("s", "s", ":")
            await user.type("seek -2")
            await user.press(":")
            await user.type(f"seek {here}")
            await user.press(":")
            await user.type("set $edi = 0x77")
            assert f"[branch at {here:,}]" in user.lines[0]
            await user.press("c")
            assert "was killed: unhandled trap 14" in user.lines[0]
            await user.press(":")
            await user.type("branch leave")
            assert user.tick == here

    with recorded(wish(path), ()) as live:
        asyncio.run(session())
    with TraceReader(path) as reader:
        writes = [event for event in reader.events() if isinstance(event, DebuggerWrite)]
    assert [write.data for write in writes] == [b"\x34\x12\0\0"]
    assert verified(path) > 0


def test_what_a_guest_may_not_be_given_is_refused_where_it_is_written(timeline: Timeline) -> None:
    timeline.go(0)
    with pytest.raises(BadEdit, match="on the processor"):
        Desk(timeline).write("eax = 5")
