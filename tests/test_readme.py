"""What README.md shows is what happens."""

from __future__ import annotations

from tests.readme_session import BLOCK, README, comparable, replayed


def test_the_session_goes_as_shown() -> None:
    """After a change to the machine: `python -m tests.readme_session`."""
    text = README.read_text(encoding="utf-8")
    assert BLOCK.search(text)
    assert comparable(replayed(text)) == comparable(text)
