"""The pictures in the README are of what there is."""

from __future__ import annotations

import asyncio
from xml.etree import ElementTree as ET

from tests.tui.screenshots import FOLDER, ROWS, pictures


def test_the_pictures_are_what_one_sees() -> None:
    taken = asyncio.run(pictures())
    for name, picture in taken.items():
        kept = (FOLDER / f"{name}.svg").read_text(encoding="utf-8")
        assert picture == kept, "take them anew with make screenshots"


def test_the_pictures_are_well_formed_and_in_the_readme() -> None:
    readme = (FOLDER.parents[1] / "README.md").read_text(encoding="utf-8")
    for path in FOLDER.glob("*.svg"):
        root = ET.parse(path).getroot()
        rows = {element.get("y") for element in root.iter() if element.tag.endswith("text")}
        assert 10 < len(rows) <= ROWS
        assert f"docs/pictures/{path.name}" in readme
