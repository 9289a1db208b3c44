"""Building the compiled part: at installation, or by hand with `python hostvm/native/build.py` after a change.

It is plain C with no headers but the compiler's own: one shared library for every Python of a platform, put beside its
sources. Used by hatch_build.py before anything is installed; so it imports nothing of this program.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

LIBRARY = "lgnative.so"
SOURCES = ("engine.h", "count.c", "deliver.c", "run.c")
_FLAGS = ("-std=c11", "-O2", "-Wall", "-Wextra", "-fPIC", "-shared", "-fvisibility=hidden")
_SWITCH = "LGREPLAY_NATIVE"


def source_digest(folder: Path) -> str:
    """What the library in `folder` must have been built from."""
    return sha256(b"".join((folder / name).read_bytes() for name in SOURCES)).hexdigest()[:16]


def build(folder: Path) -> str | None:
    """Build the library in `folder`; None, or why there is none now."""
    target = folder / LIBRARY
    target.unlink(missing_ok=True)
    if os.environ.get(_SWITCH) == "0":
        return f"{_SWITCH}=0 says so"
    if sys.byteorder != "little" or sys.platform == "win32" or sys.maxsize < 1 << 32:
        return f"it is not for {platform.machine()} with {sys.platform}"
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if compiler is None:
        return "there is no C compiler"
    partial = target.with_suffix(f".{os.getpid()}")
    sources = [str(folder / name) for name in SOURCES if name.endswith(".c")]
    source = f'-DLG_SOURCE="{source_digest(folder)}"'
    done = subprocess.run(
        [compiler, *_FLAGS, source, "-o", str(partial), *sources],
        check=False,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        partial.unlink(missing_ok=True)
        first = (done.stderr.splitlines() or ["no message"])[0]
        return f"{compiler} failed: {first}"
    partial.replace(target)
    return None


if __name__ == "__main__":
    _reason = build(Path(__file__).parent)
    sys.exit(_reason and f"no compiled part, because {_reason}")

__all__ = ["LIBRARY", "SOURCES", "build", "source_digest"]
