"""Stopping the engine from inside one of its hooks, and saying why.

A hook is called from the engine's C code: an exception cannot pass through that, so it is carried over it and raised
again when the engine has come back. Read next: cpu.py, which asks why.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Any, Protocol

from hostvm.delivery import CpuShutdown
from hostvm.engine import Engine


class Why(Enum):
    """Why the engine was stopped from inside a hook."""

    NOTHING = 0
    EARLY_FETCH = 1
    LATE_FETCH = 2
    UNDO = 3
    GAP = 4
    NEW_HOOK = 5
    SHUTDOWN = 6
    PROBE = 7


class EngineStop:
    """What the hooks of one engine leave behind for whoever started it."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.why = Why.NOTHING
        self.failure: BaseException | None = None

    def stop(self, why: Why) -> None:
        """Have the engine come back."""
        self.why = why
        self._engine.stop()

    def fail(self, failure: BaseException) -> None:
        """Carry an exception over the engine's frames."""
        if isinstance(failure, CpuShutdown):
            self.stop(Why.SHUTDOWN)
            return
        self.failure = failure
        self._engine.stop()

    def raise_failure(self) -> None:
        """Raise the exception that was carried: for use when there is one."""
        assert self.failure is not None
        failure, self.failure = self.failure, None
        raise failure

    def forget(self) -> None:
        """Whatever the hooks left behind."""
        self.why, self.failure = Why.NOTHING, None

    def take(self) -> Why:
        """The reason, once."""
        why, self.why = self.why, Why.NOTHING
        return why


class HasStop(Protocol):
    """Who has hooks."""

    stopping: EngineStop


def guarded(hook: Callable[..., Any]) -> Callable[..., Any]:
    """Let no exception pass through the engine's C frames: ctypes would swallow it."""

    def call(self: HasStop, *arguments: Any) -> Any:
        try:
            return hook(self, *arguments)
        except BaseException as failure:  # noqa: BLE001 - raised again by raise_failure
            self.stopping.fail(failure)
            return 0

    return call


__all__ = ["EngineStop", "Why", "guarded"]
