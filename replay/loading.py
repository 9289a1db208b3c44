"""Loading many modules at once, without looking for garbage meanwhile.

Python looks for cycles of garbage whenever some hundred objects are new. Modules are nothing but new objects, and none
of them ever goes; so while they are loaded that is time for nothing, and so is every later look at them: a tenth of
what a short recording takes.

Source: Python's library reference, gc.freeze. Read next: __main__.py, cli.py.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_MANY = 50


@contextmanager
def loading() -> Iterator[None]:
    """Load modules inside. If they were many, whatever there is then is taken to stay."""
    before, was_on = len(sys.modules), gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if len(sys.modules) - before >= _MANY:
            gc.freeze()
        if was_on:
            gc.enable()


__all__ = ["loading"]
