"""Pictures of the screen for the README: `python -m tests.tui.screenshots` takes them from a real trace, as SVG.

A picture is what pyte's screen holds, character by character, colours and all.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator, Mapping
from itertools import groupby
from pathlib import Path
from xml.sax.saxutils import escape

from pyte.screens import Char, Screen

from tests.tui.moments import fatal
from tests.tui.sitting import RACE, Sitting

FOLDER = Path(__file__).parents[2] / "docs" / "pictures"
COLUMNS, ROWS = 140, 42
KEYS: Mapping[str, tuple[str, ...]] = {"main": ("f1",), "interrupts": ("f2", "e")}
_WIDTH, _HEIGHT = 8, 17
_GROUND, _INK = "#16181d", "#d3d7de"
_COLOURS = {
    "default": _INK,
    "black": "#2b2f38",
    "red": "#f07178",
    "green": "#9ece8a",
    "brown": "#e6c07b",
    "yellow": "#e6c07b",
    "blue": "#7aa2f7",
    "magenta": "#c792ea",
    "cyan": "#7fd1de",
    "white": "#d3d7de",
    "brightblack": "#6b7280",
}


def svg(screen: Screen) -> str:
    """The screen as a picture."""
    width, height = screen.columns * _WIDTH, screen.lines * _HEIGHT
    box = f'viewBox="0 0 {width} {height}" font-family="monospace" font-size="13"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {box}>',
        f'<rect width="{width}" height="{height}" fill="{_GROUND}"/>',
    ]
    for number in range(screen.lines):
        cells = [screen.buffer[number][x] for x in range(screen.columns)]
        parts += _row(cells, number)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _look(char: Char) -> tuple[str, str, bool, bool]:
    ink = _COLOURS.get(char.fg, _INK)
    return (ink, "reverse" if char.reverse else "", char.bold, char.underscore)


def _row(cells: list[Char], number: int) -> Iterator[str]:
    column = 0
    for (ink, reverse, bold, underline), run in groupby(cells, _look):
        text = "".join(char.data for char in run)
        x, y, size = column * _WIDTH, number * _HEIGHT, len(text) * _WIDTH
        column += len(text)
        if reverse:
            yield f'<rect x="{x}" y="{y}" width="{size}" height="{_HEIGHT}" fill="{ink}"/>'
        if text.strip():
            fill = _GROUND if reverse else ink
            more = (' font-weight="bold"' if bold else "") + (
                ' text-decoration="underline"' if underline else ""
            )
            yield (
                f'<text x="{x}" y="{y + 13}" fill="{fill}"{more} textLength="{size}"'
                f' xml:space="preserve">{escape(text)}</text>'
            )


async def pictures() -> dict[str, str]:
    """Name and SVG of each."""
    found = {}
    async with Sitting(RACE, COLUMNS, ROWS) as user:
        await user.known()
        await user.press(":")
        await user.type(f"seek {fatal() - 1}")
        await user.press("i")
        for name, keys in KEYS.items():
            await user.press(*keys)
            found[name] = svg(user.screen)
    return found


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, picture in asyncio.run(pictures()).items():
        (FOLDER / f"{name}.svg").write_text(picture, encoding="utf-8")
        sys.stdout.write(f"{FOLDER / name}.svg\n")
