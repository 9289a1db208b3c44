"""Settings for all tests: how many examples hypothesis tries, and that no test depends on the user's surroundings."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from tests.gdbstub.debuggers import NO_LLDB, lldb
from tests.hostvm.ways import NOT_BUILT, WAYS, counting, is_built
from tests.linux_kernels import NOT_SET, boots

# On a loaded computer a slow example says nothing; a hanging one meets the timeout.
_CALM = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

# The same examples every time: a change that breaks nothing must not fail. `make fuzz` looks for new ones.
settings.register_profile("repeatable", _CALM, derandomize=True, max_examples=100)
settings.register_profile("fuzz", _CALM, max_examples=int(os.environ.get("FUZZ_EXAMPLES", "5000")))
settings.load_profile("repeatable")

# Programs that tests start must not take colours or columns from the terminal of whoever starts the tests.
os.environ.pop("COLUMNS", None)
os.environ["TERM"] = "dumb"

# Whoever starts the tests in the background of a script has ^C ignored, in all programs that they start too.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What could not be tried is said where everybody looks."""
    if not boots():
        terminalreporter.write_line(NOT_SET, yellow=True)
    if not is_built():
        terminalreporter.write_line(NOT_BUILT, yellow=True)
    if lldb() is None:
        terminalreporter.write_line(NO_LLDB, yellow=True)


@pytest.fixture(params=WAYS)
def each_way(request: pytest.FixtureRequest) -> Iterator[None]:
    """With the compiled part, and without."""
    with counting(request.param):
        yield
