"""Exit codes of `lgreplay`, and what each means; docs/commands.md and `--help` show this table."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from types import MappingProxyType


class ExitCode(IntEnum):
    """What the caller of a command learns from it. Python itself exits with 1 after a traceback, which is a bug."""

    OK = 0
    DIVERGED = 1
    REFUSED = 2
    INTERRUPTED = 130
    BROKEN_PIPE = 141


MEANINGS: Mapping[ExitCode, str] = MappingProxyType(
    {
        ExitCode.OK: "all went well; a recording ended by ^C too, its trace is whole",
        ExitCode.DIVERGED: "the replay did something else than the trace says, or a test did not pass"
        " (or lgreplay has a bug: a traceback)",
        ExitCode.REFUSED: "the command, a file or this computer is at fault; one line on stderr says why",
        ExitCode.INTERRUPTED: "interrupted by ^C; files are as a killed program leaves them",
        ExitCode.BROKEN_PIPE: "whoever read the output has gone",
    }
)

__all__ = ["MEANINGS", "ExitCode"]
