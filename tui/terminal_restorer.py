"""A program of its own that puts a terminal back when the screen's process was killed.

It waits at its standard input. When a word comes, all ended well. When the input ends without one, the process was
killed; if the terminal is still as a full screen needs it, its settings, screen and cursor are put back.

It is started by its path, without the packages around it, and must import next to nothing.
"""

import ast
import os
import signal
import sys
import termios

_LOCAL = 3
# Normal colours, cursor shown and of the usual keys, mouse and pasting as usual, and the screen that was there before.
_NORMAL = (
    b"\x1b[0m\x1b[?25h\x1b[?1l\x1b[?1000l\x1b[?1003l\x1b[?1006l\x1b[?1015l\x1b[?2004l\x1b[?1049l\r"
)


def main() -> None:
    """Wait, and put the terminal back if need be."""
    descriptor = int(sys.argv[1])
    before = ast.literal_eval(sys.argv[2])
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    if os.read(0, 16):
        return
    if not termios.tcgetattr(descriptor)[_LOCAL] & termios.ICANON:
        os.write(descriptor, _NORMAL)
        termios.tcsetattr(descriptor, termios.TCSANOW, before)


if __name__ == "__main__":
    main()
