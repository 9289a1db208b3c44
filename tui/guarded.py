"""A terminal that is put back even when lgreplay is killed: a small program waits beside it for our end.

prompt_toolkit puts the terminal back on every way out that Python notices. SIGKILL it cannot notice; for that there is
terminal_restorer.py, which sees its standard input end.
"""

from __future__ import annotations

import os
import subprocess
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_RESTORER = Path(__file__).with_name("terminal_restorer.py")


@contextmanager
def guarded_terminal(descriptor: int = 1) -> Iterator[None]:
    """While this lasts, our sudden end puts the terminal at `descriptor` back as it is now."""
    try:
        before = termios.tcgetattr(descriptor)
        restorer = subprocess.Popen(  # noqa: S603 - our own program
            [sys.executable, "-I", "-S", str(_RESTORER), str(descriptor), repr(before)],
            stdin=subprocess.PIPE,
            pass_fds=(descriptor,),
            start_new_session=True,
        )
    except (OSError, termios.error):
        yield
        return
    assert restorer.stdin is not None
    try:
        yield
    finally:
        # If it is gone already, there is nothing that it should do.
        with suppress(OSError):
            os.write(restorer.stdin.fileno(), b"done")
        restorer.stdin.close()
        restorer.wait()


__all__ = ["guarded_terminal"]
