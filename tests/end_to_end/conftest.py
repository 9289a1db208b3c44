"""Programs at a terminal of their own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pexpect
import pytest

from tests.end_to_end.commands import command, environment
from tests.end_to_end.terminals import Spawn
from tests.patience import PATIENCE


@pytest.fixture
def at_a_terminal(tmp_path: Path) -> Iterator[Spawn]:
    """Start a program at a terminal of its own; whatever is left of it is killed in the end."""
    started: list[Any] = []

    def spawn(program: str, *rest: str) -> Any:
        child = pexpect.spawn(
            program,
            list(rest),
            cwd=str(tmp_path),
            env=environment(),
            timeout=PATIENCE,
            encoding="utf-8",
        )
        child.delaybeforesend = None
        started.append(child)
        return child

    yield spawn
    for child in started:
        child.close(force=True)


@pytest.fixture
def terminal(at_a_terminal: Spawn) -> Spawn:
    """Start a command at a terminal of its own."""
    return lambda *arguments: at_a_terminal(*command(*arguments))
