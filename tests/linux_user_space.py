"""A user space for the tests' kernels that does one of several things, in C: typed at, a disk, a network, a restart.

What it does is in linux_init.c, which is compiled when it is needed; so these tests want a gcc that knows the i386.
"""

from __future__ import annotations

import gzip
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.hostvm.user_programs import compiled
from tests.linux_kernels import CHARACTER_DEVICE, DIRECTORY, PROGRAM, entry

_SOURCE = Path(__file__).with_name("linux_init.c")
_NODES = {"console": (5, 1), "null": (1, 3), "hvc0": (229, 0)}


@cache
def _init() -> bytes:
    with TemporaryDirectory() as folder:
        return compiled(_SOURCE.read_text("utf-8"), Path(folder))


def user_space(folder: Path) -> Path:
    """The archive as a file in `folder`, once; the test is skipped, loudly, where nothing can be compiled."""
    path = folder / "initramfs-tests.gz"
    if not path.exists():
        folders = (entry(name, DIRECTORY) for name in ("dev", "proc", "mnt"))
        nodes = (
            entry(f"dev/{name}", CHARACTER_DEVICE, device=number) for name, number in _NODES.items()
        )
        archive = (*folders, *nodes, entry("init", PROGRAM, _init()), entry("TRAILER!!!", 0))
        path.write_bytes(gzip.compress(b"".join(archive)))
    return path


__all__ = ["user_space"]
