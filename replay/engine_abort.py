"""A line where the CPU engine ends the process.

For one kind of instruction, a bit test of a register with LOCK, the engine cannot make code: it calls abort(), and no
Python is run any more, but for a handler that C itself calls. Nothing can be saved then; a recording is as a killed
program leaves it. A hardware processor raises #UD, so only programs that look for trouble have such code.

Read next: hostvm/cpu.py, its limits.
"""

from __future__ import annotations

import ctypes
import os
import signal

from replay.exit_codes import ExitCode

_LINE = (
    b"lgreplay: aborted, most likely by the CPU engine: it has no code for a bit test of a register with LOCK."
    b" A recording's FILE.incomplete can be read\n"
)


def _say_so(_signal: int) -> None:
    os.write(2, _LINE)
    os._exit(ExitCode.REFUSED)


_HANDLER = ctypes.CFUNCTYPE(None, ctypes.c_int)(_say_so)


def say_when_aborted() -> None:
    """From now on SIGABRT is a line on stderr and an exit code."""
    install = ctypes.CDLL(None).signal
    install.argtypes, install.restype = [ctypes.c_int, ctypes.c_void_p], ctypes.c_void_p
    install(signal.SIGABRT, ctypes.cast(_HANDLER, ctypes.c_void_p))


__all__ = ["say_when_aborted"]
