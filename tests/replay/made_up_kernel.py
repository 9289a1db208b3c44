"""A kernel's memory that is made up: words and texts at addresses, and symbols."""

from __future__ import annotations

import struct

from replay.linux_memory import KernelMemory

BASE = 0xC0100000


class MadeUp:
    """`size` bytes from BASE on, zero at first."""

    def __init__(self, size: int = 0x20000) -> None:
        self.raw = bytearray(size)
        self.symbols: dict[str, int] = {}

    def read(self, address: int, count: int) -> bytes:
        at = address - BASE
        return bytes(self.raw[at : at + count]) if 0 <= at < len(self.raw) else b""

    def put(self, address: int, data: bytes) -> None:
        self.raw[address - BASE : address - BASE + len(data)] = data

    def words(self, address: int, *values: int) -> None:
        self.put(address, struct.pack(f"<{len(values)}I", *values))

    def kernel(self) -> KernelMemory:
        return KernelMemory(self.read, self.symbols.get)


__all__ = ["BASE", "MadeUp"]
