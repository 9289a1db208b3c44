"""Kernels of a few pages, made by Python: for Guests that mean harm, and for those that must not come to any.

`prologue` is what a well-behaved kernel begins with. Read next: hostile_attacks.py.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping

from hostvm.abi import Abi, Call
from hostvm.devices.config import BlockConfig, RngConfig
from hostvm.devices.descriptor_page import lay_out_devices
from hostvm.lguest_data import RING_SLOTS, DataLayout
from hostvm.x86 import PAGE_SIZE

MEMORY = 1 << 20
DEVICES = (BlockConfig(64), RngConfig())
PROLOGUE, HANDLER, ROOM, STACK, DATA = 0xF000, 0x10000, 0x14000, 0x16000, 0x20000
DIRECTORIES, TABLES = (0x30000, 0x32000), (0x31000, 0x33000)
SEGMENTS, DESCRIPTORS, AVAILABLE, REQUESTS, TEXT = 0x34000, 0x35000, 0x36000, 0x37000, 0x38000
SOURCES = (*TABLES, SEGMENTS, DESCRIPTORS, AVAILABLE, REQUESTS, TEXT)
KERNEL_ADDRESS = 0xC0000000
PAGE = lay_out_devices(MEMORY, DEVICES)
LIMIT = PAGE.pfn_limit * PAGE_SIZE

REGISTERS = ("eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi")
USER_CS, USER_DS, KERNEL_CS, KERNEL_DS = 0x73, 0x7B, 0x61, 0x69
_FLAT = ((0xFFFF, 0x00CFFB00), (0xFFFF, 0x00CFF300))


def words(*values: int) -> bytes:
    """As they lie in memory."""
    return struct.pack(f"<{len(values)}I", *(value & 0xFFFFFFFF for value in values))


def mov(register: str, value: int) -> bytes:
    return bytes((0xB8 + REGISTERS.index(register),)) + words(value)


def store(address: int, value: int) -> bytes:
    return b"\xc7\x05" + words(address, value)


def hypercall(abi: Abi, number: int, *arguments: int) -> bytes:
    loads = zip(abi.hypercall_registers, (number, *arguments), strict=False)
    return b"".join(mov(register, value) for register, value in loads) + b"\xcd\x1f"


def numbers_of(abi: Abi) -> Mapping[Call, int]:
    return {call: number for number, call in abi.hypercalls.items()}


def gate(address: int, kind: int = 0xE, dpl: int = 0) -> tuple[int, int]:
    lo = KERNEL_CS << 16 | address & 0xFFFF
    return lo, address & 0xFFFF0000 | 1 << 15 | dpl << 13 | kind << 8


def data_page(layout: DataLayout, statuses: bytes = b"\xff" * RING_SLOTS) -> bytearray:
    """A shared page that the Host accepts."""
    page = bytearray(PAGE_SIZE)
    page[layout.hcall_status : layout.hcall_status + RING_SLOTS] = statuses
    for offset, value in ((layout.kernel_address, KERNEL_ADDRESS), (layout.syscall_vec, 0x80)):
        if offset is not None:
            struct.pack_into("<I", page, offset, value)
    return page


def elf(entry: int, pages: Mapping[int, bytes]) -> bytes:
    """A kernel file with a segment for each piece of memory."""
    end = 52 + 32 * len(pages)
    header = b"\x7fELF\x01\x01\x01" + bytes(9)
    header += struct.pack("<HHIIIIIHHHHHH", 2, 3, 1, entry, 52, 0, 0, 52, 32, len(pages), 0, 0, 0)
    content = b""
    for address, data in pages.items():
        offset = end + len(content)
        header += words(1, offset, address, address, len(data), len(data), 7, PAGE_SIZE)
        content += data
    return header + content


def prologue(abi: Abi) -> bytes:
    """INIT, user segments, a stack and a gate for every vector that a Guest may have; then into the handler."""
    call = numbers_of(abi)
    code = mov("esp", STACK) + hypercall(abi, call[Call.LGUEST_INIT], DATA)
    if Call.LOAD_GDT in call:
        code += hypercall(abi, call[Call.LOAD_GDT], SEGMENTS, 32)
    else:
        for selector, flat in zip((USER_CS, USER_DS), _FLAT, strict=True):
            code += hypercall(abi, call[Call.LOAD_GDT_ENTRY], selector >> 3, *flat)
    code += hypercall(abi, call[Call.SET_STACK], KERNEL_DS, STACK, 1)
    for vector in (*range(0x30), 0x80):
        kind, dpl = (0xF, 3) if vector in (0, 3, 4, 0x80) else (0xE, 0)
        code += hypercall(abi, call[Call.LOAD_IDT_ENTRY], vector, *gate(HANDLER, kind, dpl))
    enable = store(DATA + abi.data.irq_enabled, 0x200)
    return code + enable + jump_to_handler(PROLOGUE + len(code) + len(enable))


def good_segments() -> bytes:
    """A GDT with the kernel's and the users' segments."""
    table = bytearray(PAGE_SIZE)
    kernel = ((0xFFFF, 0x00CF9B00), (0xFFFF, 0x00CF9300))
    for selector, (lo, hi) in zip(
        (KERNEL_CS, KERNEL_DS, USER_CS, USER_DS), (*kernel, *_FLAT), strict=True
    ):
        struct.pack_into("<II", table, selector & ~7, lo, hi)
    return bytes(table)


def jump_to_handler(here: int) -> bytes:
    return b"\xe9" + words(HANDLER - here - 5)
