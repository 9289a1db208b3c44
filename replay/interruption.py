"""Putting off ^C: while something is half done, and where C has just called Python.

Python raises KeyboardInterrupt between any two of its steps, so also between making a file and entering the `try`
that would remove it. Inside of `put_off` a ^C is only noted; it comes when the block is left, where somebody can
be waiting for it:

    draft = TraceDraft(path, temporary)
    try:
        draft.open()        # puts off: the file is there, and `draft` knows it, or neither
        ...
    finally:
        draft.remove()

It does so in the main thread alone: no other is interrupted. Whoever has a handler of their own for SIGINT, which
raises nothing, has it called a moment later.

The engine calls Python back, and an exception that leaves such a function is lost: ctypes shows it and goes on. What
the function does is guarded; its first step and its last are not. A ^C there comes a moment later: `interrupt`.

Source: Python's library reference, signal, "Execution of Python signal handlers"; ctypes, "Callback functions".
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import CodeType, FrameType


@contextmanager
def put_off() -> Iterator[None]:
    """Let what is inside happen as a whole; a ^C meanwhile comes at its end."""
    handler = signal.getsignal(signal.SIGINT)
    if not callable(handler) or threading.current_thread() is not threading.main_thread():
        yield
        return
    waiting = False

    def note(_number: int, _frame: FrameType | None) -> None:
        nonlocal waiting
        waiting = True

    signal.signal(signal.SIGINT, note)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
        if waiting:
            signal.raise_signal(signal.SIGINT)


# Files and functions that guard what the engine calls.
_GUARDS = (("hostvm/engine_stop.py", "call"), ("unicorn/unicorn_py3/unicorn.py", "wrapper"))
_A_MOMENT_S = 0.001


def interrupt(number: int, frame: FrameType | None) -> None:
    """A handler for SIGINT: raises KeyboardInterrupt, as Python's own does, but where it would not be lost."""
    while frame is not None:
        if _guards(frame.f_code):
            threading.Timer(_A_MOMENT_S, os.kill, (os.getpid(), number)).start()
            return
        frame = frame.f_back
    raise KeyboardInterrupt


def _guards(code: CodeType) -> bool:
    return any(code.co_name == name and code.co_filename.endswith(file) for file, name in _GUARDS)


def handle_interrupts() -> None:
    """Have ^C come to `interrupt`, unless somebody has decided otherwise."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, interrupt)


__all__ = ["handle_interrupts", "interrupt", "put_off"]
