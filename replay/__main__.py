"""The command `lgreplay`, also as `python -m replay`."""

from __future__ import annotations

import sys
from typing import NoReturn

from replay.cli import run


def main() -> NoReturn:
    """Run one command and exit with its code."""
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
