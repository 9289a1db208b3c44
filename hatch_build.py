"""Builds the compiled part (hostvm/native) when lgreplay is installed, if there is a C compiler; goes on without one.

It is plain C with no headers but the compiler's own, loaded with ctypes: one file for every Python of a platform. The
file is put beside its sources, for an editable installation; a wheel takes it from there.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import sysconfig
from hashlib import sha256
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

FOLDER = "hostvm/native"
LIBRARY = "lgnative.so"
HEADERS, SOURCES = ("engine.h",), ("count.c", "deliver.c", "run.c")
FLAGS = ("-std=c11", "-O2", "-Wall", "-Wextra", "-fPIC", "-shared", "-fvisibility=hidden")
WITHOUT = "LGREPLAY_NATIVE"


class NativeBuildHook(BuildHookInterface[Any]):
    """hatchling's way in."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, and have a wheel carry the result."""
        folder = Path(self.root) / FOLDER
        built = compile_in(folder)
        self.app.display_info(built or "lgreplay: with the compiled part")
        if built is None and version != "editable":
            build_data["artifacts"].append(f"{FOLDER}/{LIBRARY}")
            build_data["pure_python"] = False
            build_data["tag"] = f"py3-none-{_platform_tag()}"


def _platform_tag() -> str:
    return sysconfig.get_platform().replace("-", "_").replace(".", "_")


def compile_in(folder: Path) -> str | None:
    """Build the library in `folder`; None, or one line that says why there is none."""
    target = folder / LIBRARY
    target.unlink(missing_ok=True)
    if os.environ.get(WITHOUT) == "0":
        return f"lgreplay: without the compiled part, as {WITHOUT}=0 says"
    if sys.byteorder != "little" or sys.platform == "win32" or sys.maxsize < 1 << 32:
        return f"lgreplay: without the compiled part, which is not for {platform.machine()} with {sys.platform}"
    compiler = shutil.which(os.environ.get("CC", "cc")) or shutil.which("gcc")
    if compiler is None:
        return "lgreplay: without the compiled part, because there is no C compiler (slower, otherwise the same)"
    digest = sha256(b"".join((folder / name).read_bytes() for name in HEADERS + SOURCES))
    source = f'-DLG_SOURCE="{digest.hexdigest()[:16]}"'
    partial = target.with_suffix(f".{os.getpid()}")
    command = [compiler, *FLAGS, source, "-o", str(partial), *(str(folder / s) for s in SOURCES)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        partial.unlink(missing_ok=True)
        first = (done.stderr.splitlines() or ["?"])[0]
        return f"lgreplay: without the compiled part, because {compiler} failed: {first}"
    partial.replace(target)
    return None
