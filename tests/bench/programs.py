"""Guests that do one thing and nothing else: machine code of a few bytes, wrapped into a kernel file.

They never switch paging on, so a generation whose Host maps addresses to themselves is needed.
"""

from __future__ import annotations

import struct

from hostvm.launcher import GuestConfig

ENTRY = 0x100000
TABLE = 0x40000
LGUEST_DATA = 0x20000
MEMORY = 4 << 20

# mov $0x80000,%esp; mov $TABLE,%edi; mov $1,%eax; outer: xor %ecx,%ecx; call inner; jmp outer
# inner: imul $1664525,%eax,%eax; add $1013904223,%eax; mov %eax,%edx; shr $8,%edx; add %edx,(%edi,%ecx,4);
#        test $1,%dl; jz 1f; xor (%edi,%ecx,4),%ebx; 1: inc %ecx; cmp $4096,%ecx; jb inner; ret
COMPUTE = bytes.fromhex(
    "bc00000800 bf00000400 b801000000 31c9 e802000000 ebf7"
    "69c00d661900 055ff36e3c 89c2 c1ea08 01148f f6c201 7403 331c8f 41 81f900100000 72dc c3"
)
_FREE_THE_RING = bytes.fromhex("bf18000200 b940000000 b0ff f3aa")
# movl $0x80,syscall_vec of LGUEST_DATA
_NAME_SYSCALL_VECTOR = bytes.fromhex("c7056c05020080000000")
_LGUEST_INIT = bytes.fromhex("b801000000 bb00000200 cd1f")
# 1: xor %eax,%eax; int $0x1f; jmp 1b
HYPERCALLS = _FREE_THE_RING + _NAME_SYSCALL_VECTOR + _LGUEST_INIT + bytes.fromhex("31c0 cd1f ebfa")
HYPERCALL_SETUP_TICKS = 2000


def kernel(code: bytes) -> bytes:
    """An ELF file with `code` at ENTRY, which is also where it starts."""
    header = struct.pack("<4s12B", b"\x7fELF", 1, 1, 1, *bytes(9))
    header += struct.pack("<HHIIIIIHHHHHH", 2, 3, 1, ENTRY, 52, 0, 0, 52, 32, 1, 0, 0, 0)
    header += struct.pack("<8I", 1, 84, ENTRY, ENTRY, len(code), len(code), 5, 4)
    return header + code


def guest(code: bytes) -> GuestConfig:
    """A Guest that runs `code` from its first instruction on."""
    return GuestConfig(kernel(code), memory=MEMORY, name="bench")
