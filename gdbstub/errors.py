"""Errors of the stub, by who is to blame.

The peer's bytes can be wrong (`PacketError`), and the target can refuse or be unable (`TargetFault`). Both are answers,
not ends: the session says `E nn`, or the text where the peer understands one, and lives on. Numbers are those of the
protocol's File-I/O part, which are the same on every system; GDB shows them and does no more with them.

Source: GDB manual, E.13.9.2 Errno Values.
"""

from __future__ import annotations

from enum import IntEnum


class Errno(IntEnum):
    """Error numbers as the protocol defines them."""

    NONE = 0
    EPERM = 1
    ENOENT = 2
    EBADF = 9
    EACCES = 13
    EFAULT = 14
    EINVAL = 22
    EMFILE = 24
    EROFS = 30


class StubError(Exception):
    """Base of what the stub raises on purpose: `text` for people, `number` for peers that take no text."""

    number = Errno.EINVAL

    def __init__(self, text: str, number: Errno | None = None) -> None:
        super().__init__(text)
        self.text = text
        if number is not None:
            self.number = number


class PacketError(StubError):
    """The peer said something that is no command of the protocol."""


class TargetFault(StubError):
    """The target cannot do what was asked; its state is as it was."""

    number = Errno.EFAULT


__all__ = ["Errno", "PacketError", "StubError", "TargetFault"]
