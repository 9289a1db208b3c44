"""Waiting in tests: for the thing itself, never for a time, and as long as a loaded machine may need.

A test that meets the end of its patience has found something that hangs. How quick something is, is measured in
tests/bench.
"""

from __future__ import annotations

import time
from collections.abc import Callable

# Seconds: longer than anything takes, and shorter than the limit of a test (pyproject.toml).
PATIENCE = 300.0


def wait_until(condition: Callable[[], bool], what: str = "it did not happen") -> None:
    """Return once a condition is true."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.002)
