"""Guests that do one thing and nothing else: machine code of a few bytes, wrapped into a kernel file.

They never switch paging on, so a generation whose Host maps addresses to themselves is needed. And programs of that
kind, for kestrel.
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
# The same, but ended by a hlt behind ROUNDS calls: mov $ROUNDS,%ebp; outer: ...; dec %ebp; jnz outer; hlt
ROUNDS = 100
COMPUTE_AND_STOP = COMPUTE[:15] + b"\xbd" + struct.pack("<I", ROUNDS)
COMPUTE_AND_STOP += bytes.fromhex("31c9 e804000000 4d 75f6 f4") + COMPUTE[24:]
_FREE_THE_RING = bytes.fromhex("bf18000200 b940000000 b0ff f3aa")
# movl $0x80,syscall_vec of LGUEST_DATA
_NAME_SYSCALL_VECTOR = bytes.fromhex("c7056c05020080000000")
_LGUEST_INIT = bytes.fromhex("b801000000 bb00000200 cd1f")
# 1: xor %eax,%eax; int $0x1f; jmp 1b
HYPERCALLS = _FREE_THE_RING + _NAME_SYSCALL_VECTOR + _LGUEST_INIT + bytes.fromhex("31c0 cd1f ebfa")
HYPERCALL_SETUP_TICKS = 2000
# outer: mov $0x200000,%ecx; inner: incl (%ecx); add $4096,%ecx; cmp $0x300000,%ecx; jb inner;
#        mov $5,%eax; mov $1,%ebx; int $0x1f (FLUSH_TLB of everything); jmp outer
PAGE_FAULTS = (
    _FREE_THE_RING
    + _NAME_SYSCALL_VECTOR
    + _LGUEST_INIT
    + bytes.fromhex(
        "b900002000 ff01 81c100100000 81f900003000 72f0 b805000000 bb01000000 cd1f ebdd"
    )
)
PROGRAM = 0x08048000
_PROGRAM_HEADERS = 84


def kernel(code: bytes) -> bytes:
    """An ELF file with `code` at ENTRY, which is also where it starts."""
    header = struct.pack("<4s12B", b"\x7fELF", 1, 1, 1, *bytes(9))
    header += struct.pack("<HHIIIIIHHHHHH", 2, 3, 1, ENTRY, 52, 0, 0, 52, 32, 1, 0, 0, 0)
    header += struct.pack("<8I", 1, 84, ENTRY, ENTRY, len(code), len(code), 5, 4)
    return header + code


def guest(code: bytes) -> GuestConfig:
    """A Guest that runs `code` from its first instruction on."""
    return GuestConfig(kernel(code), memory=MEMORY, name="bench")


def program(code: bytes, data: bytes = b"") -> bytes:
    """A static i386 program: `code`, `data` at once behind it, and a page of zeros."""
    start, size = PROGRAM + _PROGRAM_HEADERS, _PROGRAM_HEADERS + len(code) + len(data)
    header = struct.pack("<4s12B", b"\x7fELF", 1, 1, 1, *bytes(9))
    header += struct.pack("<HHIIIIIHHHHHH", 2, 3, 1, start, 52, 0, 0, 52, 32, 1, 0, 0, 0)
    header += struct.pack("<8I", 1, 0, PROGRAM, PROGRAM, size, size + 4096, 7, 4096)
    return header + code + data


def system_calls() -> bytes:
    """1: mov $20,%eax; int $0x80; jmp 1b"""
    return program(bytes.fromhex("b814000000 cd80 ebf7"))


def mappings() -> bytes:
    """1: old_mmap of 256 pages; write to each; munmap; jmp 1b"""
    length = 256 << 12
    arguments = struct.pack("<6I", 0, length, 3, 0x22, 0xFFFFFFFF, 0)
    # mov $90,%eax; mov $arguments,%ebx; int $0x80; mov %eax,%edi; mov $256,%ecx
    # 2: incl (%edi); add $4096,%edi; loop 2b; mov %eax,%ebx; mov $length,%ecx; mov $91,%eax; int $0x80; jmp 1b
    code = bytes.fromhex("b85a000000 bb") + b"%s" + bytes.fromhex("cd80 89c7 b900010000")
    code += bytes.fromhex("ff07 81c700100000 e2f6 89c3 b9") + struct.pack("<I", length)
    code += bytes.fromhex("b85b000000 cd80 eb")
    size = len(code) - 2 + 4 + 1
    code = code % struct.pack("<I", PROGRAM + _PROGRAM_HEADERS + size)
    return program(code + bytes((256 - size,)), arguments)


def disk_reads() -> bytes:
    """open("/dev/vda"); 1: lseek to 0; read a sector; jmp 1b"""
    # mov $5,%eax; mov $name,%ebx; xor %ecx,%ecx; int $0x80; mov %eax,%esi
    opening = bytes.fromhex("b805000000 bb") + b"%s" + bytes.fromhex("31c9 cd80 89c6")
    # mov $19,%eax; mov %esi,%ebx; xor %ecx,%ecx; xor %edx,%edx; int $0x80
    # mov $3,%eax; mov %esi,%ebx; mov $buffer,%ecx; mov $512,%edx; int $0x80; jmp
    reading = bytes.fromhex("b813000000 89f3 31c9 31d2 cd80 b803000000 89f3 b9") + b"%s"
    reading += bytes.fromhex("ba00020000 cd80 ebde")
    size = len(opening + reading) + 4
    where = PROGRAM + _PROGRAM_HEADERS + size
    name = b"/dev/vda\0"
    place = struct.pack("<I", where)
    return program(opening % place + reading % struct.pack("<I", where + 16), name)
