"""Errors of the machine, by who is to blame.

The Guest's mistakes kill the Guest: `GuestKilled` may be raised anywhere in hostvm and is caught in one place, the
Machine's run loop. The user's configuration mistakes are `ConfigurationError`. An engine that does not fit is
`EngineMisfit`. Our own mistakes are assertions.
"""

from __future__ import annotations


class HostvmError(Exception):
    """Base of every error that hostvm raises on purpose."""


class GuestKilled(HostvmError):
    """The Guest did what it must not; `reason` is lguest's text for it."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class ConfigurationError(HostvmError):
    """The user asked for a machine that cannot be built; the text is one line for the terminal."""


class EngineMisfit(HostvmError):
    """The installed CPU engine does not behave as this program relies on; the text says what differs."""


__all__ = ["ConfigurationError", "EngineMisfit", "GuestKilled", "HostvmError"]
