"""The modules that a Linux has loaded, and where each lies.

They are a list that begins at `modules`: in `struct module` the list comes behind the state, and behind it the name.
Where a module was put is found out, since that depends on version and configuration: of the words of the structure two
are the addresses of its first part, which is given up when the module has begun, and of its lasting part, and four the
sizes of both and of the code in them. The structure lies in that lasting part itself, which is how it is known.

Read next: linux_memory.py; gdbstub/module_files.py. Source: kernels from 2.6.23 to 3.11.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from replay.linux_memory import KernelMemory, NoLinux

_LIST, _NAME = 4, 12
_NAME_BYTES = 60
_WORDS = 128
_PAGE = 4096
_MOST = 1000
_MOST_BYTES = 1 << 26


@dataclass(frozen=True, slots=True)
class Module:
    """A module: `address` of its struct module, `core` of its lasting part, which has `size` bytes.

    `init`: where the part for its beginning lies; 0 when that has been given up.
    """

    name: str
    address: int
    core: int
    size: int
    init: int = 0


def loaded_modules(kernel: KernelMemory) -> Iterator[Module]:
    """All modules, the last loaded first; none of a kernel that cannot have any. Raises: NoLinux."""
    kernel.symbol("init_task")
    head = kernel.address_of("modules")
    if head is None:
        return
    at, seen = kernel.word(head), 0
    while at != head:
        seen += 1
        if not at or seen > _MOST:
            # Before the list is set up, there is none.
            return
        found = _module(kernel, at - _LIST)
        if found is not None:
            yield found
        at = kernel.word(at)


def _module(kernel: KernelMemory, address: int) -> Module | None:
    """One, or None while it is being put together."""
    raw = kernel.read(address, 4 * _WORDS)
    name = kernel.text(address + _NAME, _NAME_BYTES)
    if not name.isprintable():
        raise NoLinux(f"at {address:#010x} there is no module")
    words = struct.unpack(f"<{len(raw) // 4}I", raw[: len(raw) & ~3])
    for first, core, _, size, first_code, code in zip(
        *(words[at:] for at in range((_NAME + _NAME_BYTES) // 4, (_NAME + _NAME_BYTES) // 4 + 6)),
        strict=False,
    ):
        aligned = not (core % _PAGE or first % _PAGE) and core
        if (
            aligned
            and core <= address < core + size
            and code <= size < _MOST_BYTES
            and first_code < _MOST_BYTES
        ):
            return Module(name, address, core, size, first)
    return None


__all__ = ["Module", "loaded_modules"]
