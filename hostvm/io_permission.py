"""Whether a program may use a port: IOPL, then the I/O permission bitmap of the TSS. The engine lets everybody.

Source: Intel SDM volume 1, 19.5. Read next: gap_filler.py, whose hooks ask.
"""

from __future__ import annotations

from collections.abc import Callable

from hostvm.cpu_state import HF_CPL
from hostvm.engine_layout import Env
from hostvm.x86 import Cr0, Eflags

_BITMAP = 102
_PE, _IOPL = int(Cr0.PE), int(Eflags.IOPL)


def may_use_port(env: Env, read: Callable[[int, int], bytes], port: int, size: int) -> bool:
    """Whether `size` ports from `port` on may be used now; `read` gives bytes at a linear address."""
    if not env.cr[0] & _PE or env.hflags & HF_CPL <= (env.eflags & _IOPL) >> 12:
        return True
    offset = read(env.tr.base + _BITMAP & 0xFFFFFFFF, 2)
    at = int.from_bytes(offset, "little") + port // 8
    if len(offset) < 2 or at + 1 > env.tr.limit:
        return False
    bits = int.from_bytes(read(env.tr.base + at & 0xFFFFFFFF, 2), "little")
    return not bits >> port % 8 & (1 << size) - 1


__all__ = ["may_use_port"]
