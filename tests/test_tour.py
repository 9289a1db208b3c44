"""docs/tour.txt leads past every source file, once, and to nothing that is not there."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = ("hostvm", "replay", "gdbstub", "tui")
SOURCES = {".py", ".c", ".h", ".S", ".lds"}
ENTRY = re.compile(rf"((?:{'|'.join(PACKAGES)})/\S+) {{2,}}(\S.*)")
HEADING = re.compile(r"(\d+)\. \S.*")


def tour() -> list[str]:
    return (ROOT / "docs" / "tour.txt").read_text(encoding="utf-8").splitlines()


def listed() -> list[tuple[str, str]]:
    found = (ENTRY.fullmatch(line) for line in tour())
    return [(match[1], match[2]) for match in found if match]


def sources() -> set[str]:
    files = (path for package in PACKAGES for path in (ROOT / package).rglob("*"))
    return {
        path.relative_to(ROOT).as_posix()
        for path in files
        if (path.suffix in SOURCES or path.name == "Makefile") and "images" not in path.parts
    }


def test_every_source_file_is_on_the_tour() -> None:
    missing = sources() - {path for path, _ in listed()}
    assert not missing, f"put these into docs/tour.txt: {sorted(missing)}"


def test_every_stop_of_the_tour_exists() -> None:
    gone = {path for path, _ in listed()} - sources()
    assert not gone, f"take these out of docs/tour.txt: {sorted(gone)}"


def test_no_file_is_visited_twice() -> None:
    visits = Counter(path for path, _ in listed())
    assert [path for path, count in visits.items() if count > 1] == []


def test_no_line_names_a_file_and_says_nothing() -> None:
    stops = {path for path, _ in listed()}
    mute = [line for line in tour() if line.split(" ")[0] in sources() - stops]
    assert mute == []


def test_sections_are_numbered_in_order() -> None:
    numbers = [int(match[1]) for line in tour() if (match := HEADING.fullmatch(line))]
    assert numbers == list(range(1, len(numbers) + 1))


def test_lines_fit_a_page() -> None:
    assert [line for line in tour() if len(line) > 120 or line != line.rstrip()] == []
