"""The sitting in docs/tui.md, sat again. `python -m tests.tui.documented` puts the real screens into the document.

A block of `keys` is what is pressed: a line that begins with : or / is typed and entered, other lines are keys by name,
with spaces between. The block of `screen` below it is what there is to see then. `open` in a block of keys begins a
sitting at a trace.
"""

from __future__ import annotations

import asyncio
import re
import shlex
from pathlib import Path

from tests.tui.sitting import SHIPPED, Sitting

DOCUMENT = Path(__file__).parents[2] / "docs" / "tui.md"
COLUMNS, ROWS = 100, 30
STEP = re.compile(
    r"^```keys\n(?P<keys>.*?)^```\n\n^```screen\n(?P<screen>.*?)^```$", re.MULTILINE | re.DOTALL
)
OPEN = re.compile(r"lgreplay tui traces/(\S+)")


async def act(user: Sitting, line: str) -> None:
    """Do what a line of a block of keys says."""
    if line[0] in ":/":
        await user.press(line[0])
        await user.type(line[1:])
        return
    await user.press(*shlex.split(line))


async def sat_again(text: str) -> str:
    """`text` with its screens as they are now."""
    user: Sitting | None = None
    parts: list[str] = []
    end = 0
    try:
        for step in STEP.finditer(text):
            for line in step["keys"].splitlines():
                if found := OPEN.fullmatch(line):
                    if user is not None:
                        await user.__aexit__(None, None, None)
                    user = Sitting(SHIPPED / found[1], COLUMNS, ROWS)
                    await user.__aenter__()
                    await user.known()
                else:
                    assert user is not None, "open a trace first"
                    await act(user, line)
            assert user is not None
            parts += [text[end : step.start("screen")], f"{user.text}\n"]
            end = step.end("screen")
    finally:
        if user is not None:
            await user.__aexit__(None, None, None)
    return "".join([*parts, text[end:]])


def screens() -> list[tuple[str, str]]:
    """Keys and screen of each step of the document."""
    text = DOCUMENT.read_text(encoding="utf-8")
    return [(step["keys"], step["screen"]) for step in STEP.finditer(text)]


if __name__ == "__main__":
    before = DOCUMENT.read_text(encoding="utf-8")
    DOCUMENT.write_text(asyncio.run(sat_again(before)), encoding="utf-8")
