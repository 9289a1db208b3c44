"""docs/python.md: its script runs, prints what the page says, and the names it lists are all there are."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

import pytest

from replay.predicate import NAMES

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "python.md"
_BLOCK = re.compile(r"```(\w*)\n(.*?)```", re.DOTALL)


def test_the_worked_example_prints_what_the_page_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    blocks = _BLOCK.findall(PAGE.read_text(encoding="utf-8"))
    script = next(text for kind, text in blocks if kind == "python")
    expected = next(text for kind, text in blocks if not kind)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(script, str(PAGE), "exec"), {"__name__": "example"})
    assert printed.getvalue() == expected


def test_the_page_lists_all_names_of_expressions() -> None:
    listed = PAGE.read_text(encoding="utf-8").split("and these names: ")[1].split(".\n")[0]
    assert set(re.findall(r"`(\w+)`", listed)) == set(NAMES)
