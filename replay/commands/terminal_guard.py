"""A program of its own that puts a terminal back when the recorder that changed it was killed.

It is told the terminal's descriptor and its settings, those of before and those of the recorder, and waits at its
standard input. When a word comes, the recorder has ended by itself. When the input ends without one, it was killed. By
then a shell may have made settings of its own, which have to stay: so it acts only if the recorder's are still there.

It is started by its path, without the packages around it, and must import next to nothing.
"""

import ast
import os
import signal
import sys
import termios


def main() -> None:
    """Wait, and put the terminal back if need be."""
    descriptor = int(sys.argv[1])
    before, during = map(ast.literal_eval, sys.argv[2:4])
    # Setting a terminal from outside its foreground is what this is for.
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    if os.read(0, 16):
        return
    if termios.tcgetattr(descriptor) == during:
        termios.tcsetattr(descriptor, termios.TCSANOW, before)


if __name__ == "__main__":
    main()
