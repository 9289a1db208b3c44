"""A Linux kernel's memory, read by its symbols: what all that is told of a Linux stands on.

Two functions are enough, one that reads memory and one that knows symbols, so that a kernel for a test can be made up.
Read next: linux_tasks.py, linux_facts.py, linux_modules.py.
"""

from __future__ import annotations

from collections.abc import Callable

from replay.errors import ReplayError


class NoLinux(ReplayError):
    """This Guest is no Linux that can be read here; the text says what is missing."""


class KernelMemory:
    """`read` gives up to so many bytes of the kernel's memory, `address_of` a symbol's address."""

    def __init__(
        self, read: Callable[[int, int], bytes], address_of: Callable[[str], int | None]
    ) -> None:
        self.read = read
        self.address_of = address_of

    def word(self, address: int) -> int | None:
        """The 32 bits at an address; None where nothing is mapped."""
        raw = self.read(address, 4)
        return int.from_bytes(raw, "little") if len(raw) == 4 else None

    def symbol(self, name: str) -> int:
        """A symbol's address. Raises: NoLinux."""
        address = self.address_of(name)
        if address is None:
            raise NoLinux(f"there is no symbol {name}: no Linux, or one without symbols")
        return address

    def variable(self, name: str) -> int:
        """The 32 bits of a variable. Raises: NoLinux."""
        value = self.word(self.symbol(name))
        if value is None:
            raise NoLinux(f"{name} is not mapped here")
        return value

    def text(self, address: int, limit: int) -> str:
        """The characters at an address, up to a zero or `limit` bytes; what is no text is made visible."""
        return self.read(address, limit).partition(b"\0")[0].decode("utf-8", "backslashreplace")


__all__ = ["KernelMemory", "NoLinux"]
