"""What this program is: its own version, and what it runs on."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

DISTRIBUTION = "lgreplay"
ENGINE = "unicorn"


def lgreplay_version() -> str:
    """Version of the installed distribution, or "uninstalled" in a bare checkout."""
    try:
        return version(DISTRIBUTION)
    except PackageNotFoundError:
        return "uninstalled"


def version_line() -> str:
    """The answer to `--version`."""
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return f"{DISTRIBUTION} {lgreplay_version()} ({ENGINE} {version(ENGINE)}, {python})"


__all__ = ["ENGINE", "lgreplay_version", "version_line"]
