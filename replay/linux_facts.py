"""What a Linux says of itself in a line or a short list: version, command line, who has which addresses.

A `struct resource` is seven words in all kernels with 32-bit physical addresses: first and last address, name, flags,
parent, next sibling, first child. The lists may be under change, and what is read be anything: so a limit.

Read next: linux_memory.py. Source: what kernels from 2.6.23 to 3.11 were seen to have in memory; /proc/iomem.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from replay.linux_memory import KernelMemory, NoLinux

_RESOURCE = struct.Struct("<7I")
_LONGEST_LINE = 4096
_LONGEST_NAME = 64
_MOST = 1000


def version(kernel: KernelMemory) -> str:
    """The kernel's banner. Raises: NoLinux."""
    text = kernel.text(kernel.symbol("linux_banner"), _LONGEST_LINE).strip()
    if not text:
        raise NoLinux("linux_banner is not mapped here")
    return text


def command_line(kernel: KernelMemory) -> str:
    """What the kernel was started with. Raises: NoLinux."""
    saved = kernel.variable("saved_command_line") or kernel.symbol("boot_command_line")
    return kernel.text(saved, _LONGEST_LINE)


def resources(kernel: KernelMemory, root: str) -> Iterator[str]:
    """The tree under `iomem_resource` or `ioport_resource` as lines, as in /proc. Raises: NoLinux."""
    digits = 8 if root == "iomem_resource" else 4
    pending = [(_resource(kernel, kernel.symbol(root))[6], 0)]
    seen = 0
    while pending:
        address, depth = pending.pop()
        if not address:
            continue
        seen += 1
        if seen > _MOST:
            raise NoLinux(f"{root} is no tree here")
        first, last, name, _, _, sibling, child = _resource(kernel, address)
        called = kernel.text(name, _LONGEST_NAME) if name else "<BAD>"
        yield f"{'  ' * depth}{first:0{digits}x}-{last:0{digits}x} : {called}"
        pending += [(sibling, depth), (child, depth + 1)]


def _resource(kernel: KernelMemory, address: int) -> tuple[int, ...]:
    raw = kernel.read(address, _RESOURCE.size)
    if len(raw) < _RESOURCE.size:
        raise NoLinux(f"a resource at {address:#010x} is not mapped here")
    return _RESOURCE.unpack(raw)


__all__ = ["command_line", "resources", "version"]
