"""Putting off ^C while something is half done.

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

Source: Python's library reference, signal, "Execution of Python signal handlers".
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


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


__all__ = ["put_off"]
