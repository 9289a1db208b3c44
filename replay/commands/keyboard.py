"""What is typed, on its way to a Guest's console.

From a terminal each key goes to the Guest at once and is not echoed: that is the Guest's business. There are two ways.
(i) *On the side*: ^C and the other keys that send signals remain ours. (ii) *Interactive* (`record -i`): every key is
the Guest's, ^C too, and ^A is the way out, as in QEMU: ^A x ends, ^A ^A or ^A a types ^A, ^A h says so.

A program in the background must not read from its terminal, and gets no keyboard. What was changed of the terminal is
put back at the end; and if we are killed, by a process that waits for just that (terminal_guard.py).
"""

from __future__ import annotations

import os
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeAlias

from hostvm.errors import ConfigurationError

ESCAPE = 0x01
END_KEYS = b"xX\x18"
LITERAL_KEYS = b"aA\x01"
HELP = "^A x ends the recording, ^A ^A types ^A"

_IFLAG, _LFLAG, _CC = 0, 3, 6
_SIDE_LOCAL = termios.ICANON | termios.ECHO
_RAW_LOCAL = _SIDE_LOCAL | termios.ISIG | termios.IEXTEN
_RAW_INPUT = termios.ICRNL | termios.INLCR | termios.IGNCR | termios.IXON | termios.BRKINT
_GUARD = Path(__file__).with_name("terminal_guard.py")

Attributes: TypeAlias = list[Any]


class EscapeKeys:
    """Takes our keys out of what is typed. `end` and `show_help` are called for them."""

    def __init__(self, end: Callable[[], None], show_help: Callable[[], None]) -> None:
        self._end = end
        self._show_help = show_help
        self._escaped = False

    def __call__(self, typed: bytes) -> bytes:
        """What of it is the Guest's."""
        passed = bytearray()
        for key in typed:
            if not self._escaped and key != ESCAPE:
                passed.append(key)
            elif not self._escaped:
                self._escaped = True
            else:
                self._escaped = False
                self._act(key, passed)
        return bytes(passed)

    def _act(self, key: int, passed: bytearray) -> None:
        if key in END_KEYS:
            self._end()
        elif key in LITERAL_KEYS:
            passed.append(ESCAPE)
        else:
            self._show_help()


@contextmanager
def keyboard(*, interactive: bool = False) -> Iterator[int | None]:
    """Give the descriptor to read from, or None; what was changed of the terminal is put back.

    Raises: ConfigurationError when it is to be interactive and there is no terminal.
    """
    descriptor = _standard_input()
    terminal = descriptor is not None and os.isatty(descriptor)
    if interactive and not terminal:
        raise ConfigurationError("-i: the standard input is not a terminal")
    if descriptor is None or not terminal:
        yield descriptor
        return
    if os.tcgetpgrp(descriptor) != os.getpgrp():
        if interactive:
            raise ConfigurationError("-i: in the background there is nobody who types")
        yield None
        return
    with _changed(descriptor, _RAW_LOCAL if interactive else _SIDE_LOCAL, interactive=interactive):
        yield descriptor


@contextmanager
def _changed(descriptor: int, local: int, *, interactive: bool) -> Iterator[None]:
    before = termios.tcgetattr(descriptor)
    during = _copy(before)
    during[_LFLAG] &= ~local
    during[_CC][termios.VMIN], during[_CC][termios.VTIME] = 1, 0
    if interactive:
        during[_IFLAG] &= ~_RAW_INPUT
    with _guarded(descriptor, before, during):
        try:
            termios.tcsetattr(descriptor, termios.TCSADRAIN, during)
            yield
        finally:
            termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


def _copy(attributes: Attributes) -> Attributes:
    return [list(part) if isinstance(part, list) else part for part in attributes]


@contextmanager
def _guarded(descriptor: int, before: Attributes, during: Attributes) -> Iterator[None]:
    """Have a process put the terminal back if this one dies in here."""
    # Its own input is something else, so it needs the terminal under another number.
    its = os.dup(descriptor)
    settings = [repr(before), repr(during)]
    command = [sys.executable, "-I", "-S", str(_GUARD), str(its), *settings]
    # A session of its own: what kills us, or the keys of the terminal, must not reach it.
    guard = subprocess.Popen(  # noqa: S603 - this interpreter and a file of ours
        command, stdin=subprocess.PIPE, pass_fds=[its], start_new_session=True
    )
    os.close(its)
    with guard:
        assert guard.stdin is not None
        try:
            yield
        finally:
            # A word instead of an end: all is well.
            with suppress(BrokenPipeError):
                guard.stdin.write(b"done")
                guard.stdin.close()


def _standard_input() -> int | None:
    try:
        return sys.stdin.fileno()
    except (AttributeError, ValueError, OSError):
        # Closed, or replaced by something that is no file.
        return None


__all__ = ["HELP", "EscapeKeys", "keyboard"]
