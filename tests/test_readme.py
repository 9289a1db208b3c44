"""The session in the README is what the commands really print."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / "README.md"
_ANYTHING = "..."


def _session() -> list[tuple[str, list[str]]]:
    """(command, lines of output) of the first block in the README."""
    block = re.search(r"```\n(.*?)```", README.read_text(), re.DOTALL)
    assert block is not None
    steps: list[tuple[str, list[str]]] = []
    for line in block.group(1).splitlines():
        if line.startswith("$ "):
            steps.append((line[2:], []))
        else:
            steps[-1][1].append(line)
    return steps


def _shown(expected: list[str], actual: list[str]) -> bool:
    """Whether `actual` is `expected`, where a line of dots stands for any lines."""
    if _ANYTHING not in expected:
        return expected == actual
    gap = expected.index(_ANYTHING)
    head, tail = expected[:gap], expected[gap + 1 :]
    return actual[:gap] == head and actual[len(actual) - len(tail) :] == tail


def _on_the_screen(done: subprocess.CompletedProcess[str]) -> list[str]:
    """Output, then the summary on stderr without the line that says how long it took."""
    summary = [line for line in done.stderr.splitlines() if not re.search(r", [0-9.]+ s; ", line)]
    return done.stdout.splitlines() + summary


def test_the_session_in_the_readme_is_what_the_commands_print(tmp_path: Path) -> None:
    steps = _session()
    assert [command.split()[1] for command, _ in steps] == ["record", "replay", "events"]
    for command, expected in steps:
        done = subprocess.run(
            [sys.executable, "-m", "replay", *command.split()[1:]],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        shown = _on_the_screen(done)
        assert _shown(expected, shown), f"{command} printed {shown}"


@pytest.mark.parametrize("link", re.findall(r"\]\(([^)]+)\)", README.read_text()))
def test_every_link_in_the_readme_leads_to_a_file(link: str) -> None:
    assert (README.parent / link).exists()
