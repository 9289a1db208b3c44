"""What is typed, on its way to a Guest's console.

From a terminal each key goes to the Guest at once and is not echoed: that is the Guest's business. ^C remains ours. A
program in the background must not read from its terminal, and gets no keyboard.
"""

from __future__ import annotations

import os
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager

_LOCAL_FLAGS = 3


@contextmanager
def keyboard() -> Iterator[int | None]:
    """Give the descriptor to read from, or None; what was changed of the terminal is put back."""
    descriptor = _standard_input()
    if descriptor is None or not os.isatty(descriptor):
        yield descriptor
        return
    if os.tcgetpgrp(descriptor) != os.getpgrp():
        yield None
        return
    before = termios.tcgetattr(descriptor)
    each_key = list(before)
    each_key[_LOCAL_FLAGS] &= ~(termios.ICANON | termios.ECHO)
    termios.tcsetattr(descriptor, termios.TCSADRAIN, each_key)
    try:
        yield descriptor
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


def _standard_input() -> int | None:
    try:
        return sys.stdin.fileno()
    except (AttributeError, ValueError, OSError):
        # Closed, or replaced by something that is no file.
        return None


__all__ = ["keyboard"]
