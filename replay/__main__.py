"""The command `lgreplay`, also as `python -m replay`.

A ^C may come while Python still loads our modules, or when all is done and it clears up; its user must not be able to
tell, so neither may end in a traceback.
"""

from __future__ import annotations

import signal
import sys
from typing import NoReturn

# As in exit_codes.py, which is not loaded yet when this is needed.
INTERRUPTED = 130


def main() -> NoReturn:
    """Run one command and exit with its code."""
    try:
        from replay.loading import loading  # noqa: PLC0415

        with loading():
            from replay.cli import run  # noqa: PLC0415
            from replay.engine_abort import say_when_aborted  # noqa: PLC0415
            from replay.interruption import handle_interrupts  # noqa: PLC0415

        handle_interrupts()
        say_when_aborted()
        code = run(sys.argv[1:])
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    except KeyboardInterrupt:
        print("lgreplay: interrupted", file=sys.stderr)  # noqa: T201
        code = INTERRUPTED
    sys.exit(code)


if __name__ == "__main__":
    main()
