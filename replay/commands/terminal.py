"""The terminal while a command runs: a status line on stderr, and the Guest's console on stdout.

Both may be the same screen, and there the console comes first: the status line stands only where the console has ended
its line, and goes away before the console writes. What a Guest writes is not trusted: on a screen its control
characters are shown and not obeyed. In a file they are left as they are.
"""

from __future__ import annotations

import sys
from typing import Final

_OBEYED: Final = frozenset("\n\r\t\b")
_ERASE: Final = "\r\x1b[K"
_WIDTH: Final = 79
_NORMAL: Final = "\x1b[0m\x1b[?25h\x1b[?1000l\x1b[?1049l\r\n"


def harmless(data: bytes) -> str:
    """Text in which no character steers the terminal, but for ends of lines, tabs and backspaces."""
    text = data.decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() or c in _OBEYED else ascii(c)[1:-1] for c in text)


class Terminal:
    """Shows status and console. Status is shown only where stderr is a screen.

    `interactive`: the screen is the Guest's, which may do with it as it likes, and there is no status.
    """

    def __init__(self, *, interactive: bool = False) -> None:
        self._is_guests = interactive
        self._escaped = False
        self._has_status = sys.stderr.isatty() and not interactive
        self._is_screen = sys.stdout.isatty()
        self._line_ended = True
        self._shown = False
        self.reader_gone = False

    def status(self, text: str) -> None:
        """Show how far things are."""
        if self._has_status and (self._line_ended or not self._is_screen):
            sys.stderr.write(_ERASE + text[:_WIDTH])
            sys.stderr.flush()
            self._shown = True

    def clear(self) -> None:
        """Take the status line away."""
        if self._shown:
            sys.stderr.write(_ERASE)
            sys.stderr.flush()
            self._shown = False

    def console(self, data: bytes) -> None:
        """Write what the Guest has written, at once; nothing any more when nobody reads it."""
        if not data or self.reader_gone:
            return
        self.clear()
        try:
            if self._is_screen and not self._is_guests:
                sys.stdout.write(harmless(data))
            else:
                sys.stdout.buffer.write(data)
            sys.stdout.flush()
        except BrokenPipeError:
            self.reader_gone = True
        self._line_ended = data.endswith(b"\n")
        self._escaped |= self._is_guests and b"\x1b" in data

    def take_back(self) -> None:
        """The screen is not the Guest's any more: normal colours, the usual screen, and a cursor."""
        self._is_guests = False
        if self._escaped and self._is_screen:
            sys.stdout.write(_NORMAL)
            sys.stdout.flush()

    def say(self, text: str) -> None:
        """Write a line of our own to stderr, at the beginning of a line."""
        self.clear()
        if self._is_screen and not self._line_ended:
            sys.stderr.write("\n")
        sys.stderr.write(text + "\n")
        sys.stderr.flush()


__all__ = ["Terminal", "harmless"]
