"""Somebody at a terminal: what the fixtures of conftest.py give, and how it ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pexpect

Spawn = Callable[..., Any]


def ended(child: Any) -> int:
    child.expect(pexpect.EOF)
    child.wait()
    assert child.exitstatus is not None, child.signalstatus
    return int(child.exitstatus)


__all__ = ["Spawn", "ended"]
