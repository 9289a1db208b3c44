"""docs/sweep.md shows what happens. After a change: `python -m tests.test_sweep_doc`."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from tests.readme_session import BLOCK, replayed

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "sweep.md"
TRACES = tuple((ROOT / "traces" / "iret-race").glob("*.lgt"))
_SCRIPT = re.compile(r"```python\n(.*?)```", re.DOTALL)


def test_the_worked_example_goes_as_shown() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert len(BLOCK.findall(text)) == 6
    assert replayed(text, TRACES) == text


def test_the_script_finds_the_same() -> None:
    script = _SCRIPT.findall(PAGE.read_text(encoding="utf-8"))[0]
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "302511 crashed: page fault in the kernel at * (*) 316539\n"


if __name__ == "__main__":
    PAGE.write_text(replayed(PAGE.read_text(encoding="utf-8"), TRACES), encoding="utf-8")
