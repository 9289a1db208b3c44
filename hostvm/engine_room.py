"""Room for the CPU engine, asked for before the engine does.

The engine reserves a gigabyte of address space for translated code at once, and where it gets none it ends the whole
process with a message of its own. So the same is tried here first, and given back.
"""

from __future__ import annotations

import mmap

from hostvm.errors import ConfigurationError

# One GiB for translated code, and what else an engine was seen to take.
ENGINE_ROOM = (1 << 30) + (64 << 20)


def require_engine_room() -> None:
    """See whether this process may have as much address space as one more engine takes.

    Raises: ConfigurationError.
    """
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0)
    try:
        mmap.mmap(-1, ENGINE_ROOM, flags=flags).close()
    except OSError as error:
        size = ENGINE_ROOM >> 20
        raise ConfigurationError(f"too little memory: the CPU engine needs {size} MiB") from error


__all__ = ["ENGINE_ROOM", "require_engine_room"]
