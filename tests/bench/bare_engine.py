"""The engine as it comes, for comparison. Its binding carries no types, so it is Any here."""

from __future__ import annotations

from importlib import import_module
from typing import Any

_engine: Any = import_module("unicorn")
registers: Any = import_module("unicorn.x86_const")


def bare_engine() -> Any:
    """An i386 without memory."""
    return _engine.Uc(_engine.UC_ARCH_X86, _engine.UC_MODE_32)
