"""Two ways of counting and delivering, with the compiled part and without; tests try both."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from hostvm.native import VARIABLE, load

COMPILED, PYTHON = "compiled", "python"
NOT_BUILT = f"the compiled part was not tried: {load().text}"


def is_built() -> bool:
    """Whether there is a compiled part to try."""
    return load().library is not None


_needed = pytest.mark.skipif(not is_built(), reason=NOT_BUILT)
WAYS = (pytest.param(COMPILED, marks=_needed), PYTHON)
both_ways = pytest.mark.parametrize("way", WAYS)
needs_compiled = _needed


@contextmanager
def counting(way: str) -> Iterator[None]:
    """Machines that are made meanwhile count in this way."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(VARIABLE, "0" if way == PYTHON else "1")
        yield
