"""Whatever keys are pressed, in whatever order: nothing crashes, nothing blocks, and n steps undo n steps."""

from __future__ import annotations

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tui.moments import fatal
from tests.tui.sitting import NAMED, RACE, Sitting
from tui.commands import TABLE
from tui.keys import keys

LEAVING = {"quit"}
_KEYS = [
    "".join(NAMED.get(key, "a" if key == "<any>" else key) for key in sequence.split())
    for entry in keys()
    if entry.action not in LEAVING
    for sequence in entry.keys
]
_ARGUMENTS = (
    "",
    "0",
    "1",
    "-1",
    "7",
    "99999999999999999999",
    "eax",
    "esp+4",
    "lguest_iret",
    "irq_pending",
    "idt 14",
    "pte eip",
    "eax == 3 and in_noirq",
    "50%",
    "@a",
    "deliverable",
    "delivered 0",
    "(((",
    "word[esp",
    "1 << 200",
    "timeline",
    "memory",
    "guest",
    "none",
    "\u4e2d\u6587",
)
_NAMES = [name for entry in TABLE for name in entry.names if name not in ("quit", "q", "exit")]
# Searches that go through all of history take their time; here they are broken off like everything else.
_LINES = st.builds(
    lambda name, argument: f":{name} {argument}\r",
    st.sampled_from(_NAMES),
    st.sampled_from(_ARGUMENTS),
)
_ANYTHING = st.text(st.characters(codec="utf-8", exclude_characters="q"), max_size=3)
PRESSES = st.lists(
    st.one_of(st.sampled_from(_KEYS), st.sampled_from(_KEYS), _LINES, _ANYTHING), max_size=40
)
SIZES = st.sampled_from([(80, 24), (120, 40), (30, 8), (200, 60), (5, 2)])


@given(PRESSES, st.lists(SIZES, min_size=1, max_size=3))
@settings(max_examples=12)
def test_random_keys_neither_crash_nor_block(
    presses: list[str], sizes: list[tuple[int, int]]
) -> None:
    async def session() -> None:
        async with Sitting(RACE, 100, 30) as user:
            for number, press in enumerate(presses):
                user.send(press)
                if number % 8 == 7:
                    await user.resize_at_once(*sizes[number // 8 % len(sizes)])
                await asyncio.sleep(0.003)
            user.send("\x03")
            await asyncio.sleep(0.05)
            await user.press("escape", "c-c", "escape")
            if not user.left:
                await user.resize(100, 30)
                assert user.tui.shot is not None
                assert f"{user.tick:,}" in user.lines[0] or user.tui.busy

    asyncio.run(session())


@given(
    st.lists(st.sampled_from([("i", "I"), ("s", "S"), ("e", "E")]), min_size=1, max_size=6),
    st.integers(-1000, 3000),
)
@settings(max_examples=8)
def test_steps_and_as_many_back_give_the_same_screen(
    pairs: list[tuple[str, str]], behind: int
) -> None:
    async def session() -> None:
        async with Sitting(RACE, 120, 40) as user:
            await user.known()
            await user.press(":")
            await user.type(f"seek {fatal() + behind}")
            # From an event: a tick between two events is no place that a step of events comes back to.
            await user.press("e", "i", "I")
            before = user.text
            for forth, _ in pairs:
                await user.press(forth)
            for _, back in reversed(pairs):
                await user.press(back)
            await user.press("i", "I")
            assert user.text == before or len({unit for unit, _ in pairs}) > 1

    asyncio.run(session())
