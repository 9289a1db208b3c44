"""Errors of the machine, by who is to blame.

The Guest's mistakes kill the Guest: `GuestKilled` may be raised anywhere in hostvm and is caught in one place, the
Machine's run loop. The user's configuration mistakes are `ConfigurationError`. An engine that does not fit is
`EngineMisfit`. Page tables that lead nowhere, which only a forged checkpoint can hold, are a `MachineCheck`. Our own
mistakes are assertions.
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


class MachineCheck(HostvmError):
    """The CPU went to a physical address where nothing is: page tables that no Host of ours made."""

    def __init__(self, address: int, eip: int) -> None:
        super().__init__(address, eip)
        self.address = address
        self.eip = eip

    def __str__(self) -> str:
        return (
            f"nothing at physical address {self.address:#010x}, reached from eip {self.eip:#010x}"
        )


__all__ = ["ConfigurationError", "EngineMisfit", "GuestKilled", "HostvmError", "MachineCheck"]
