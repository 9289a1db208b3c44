"""Starting `lgreplay` as an installation starts it: with its modules compiled.

pip compiles them when it installs; in a tree under development the environment may forbid Python to keep what it
compiled (PYTHONDONTWRITEBYTECODE), and then each start compiles a few hundred modules. Here a folder of our own keeps
them; the first start of all fills it, so that one does not count.
"""

from __future__ import annotations

import os
from functools import cache
from tempfile import TemporaryDirectory


@cache
def _folder() -> TemporaryDirectory[str]:
    return TemporaryDirectory()


def environment() -> dict[str, str]:
    """The environment of such a process."""
    ours = {**os.environ, "PYTHONPYCACHEPREFIX": _folder().name}
    ours.pop("PYTHONDONTWRITEBYTECODE", None)
    return ours


__all__ = ["environment"]
