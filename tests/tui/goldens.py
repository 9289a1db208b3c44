"""Pictures of every pane and screen, kept as text. `python -m tests.tui.goldens` makes them anew: read the difference.

What is drawn is a moment of a shipped trace: the step that takes the fatal interrupt of traces/iret-race.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import replay
from tests.tui.moments import fatal
from tests.tui.sitting import RACE
from tui.arrangement import SCREENS
from tui.panes import PANES, View
from tui.screen import Layout, compose
from tui.snapshot import Camera
from tui.text import Line, plain
from tui.values import Snapshot, Wish

FOLDER = Path(__file__).parent / "goldens"
SIZES = ((78, 14), (44, 9))
SCREEN_SIZES = ((80, 23), (160, 48))


@cache
def moment() -> Snapshot:
    """The moment, with what changed in the tick before it."""
    with replay.open(RACE) as timeline:
        camera = Camera(timeline)
        while not camera.index.whole:
            camera.index.grow()
        camera.sources.read()
        timeline.seek(fatal() - 1)
        wish = Wish(columns=67, rows=40, tasks=True)
        before = camera.take(wish)
        timeline.step(replay.Unit.TICK)
        return camera.take(wish, (), before)


def drawn(lines: list[Line]) -> str:
    return "".join(f"{plain(line).rstrip()}\n" for line in lines)


def pictures() -> Iterator[tuple[str, str]]:
    """Name and text of each."""
    shot = moment()
    for name, pane in PANES.items():
        for width, height in SIZES:
            yield f"{name}-{width}x{height}", drawn(pane.draw(shot, width, height, View()))
    for name, arrangement in SCREENS.items():
        layout = Layout(arrangement=arrangement, name=name, focus=arrangement.panes[1])
        for width, height in SCREEN_SIZES:
            yield f"screen-{name}-{width}x{height}", drawn(compose(shot, layout, width, height))


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for old in FOLDER.glob("*.txt"):
        old.unlink()
    for name, text in pictures():
        (FOLDER / f"{name}.txt").write_text(text, encoding="utf-8")
    sys.stdout.write(f"{len(list(FOLDER.glob('*.txt')))} pictures in {FOLDER}\n")
