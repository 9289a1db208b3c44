"""A Guest's memory as its Launcher sees it: guest-physical addresses up to the end of the device pages.

The Launcher's check is not the Host's: it takes 64-bit addresses from rings, and a range may end exactly at the limit
in every generation but 2.6.23. Every access is checked, those to the Launcher's own places too: an address may have
come out of a checkpoint.

Source: lguest's Launcher (check_pointer). Read next: virtqueue.py.
"""

from __future__ import annotations

from hostvm.errors import GuestKilled
from hostvm.memory import MemoryAccess
from hostvm.units import HostPhysical


class LauncherMemory:
    """The first `limit` bytes of the slice of `physical` that begins at `base`.

    `exclusive`: a range must end before the limit. `blame` is what a text that kills begins with.
    """

    __slots__ = ("_base", "_last", "_physical", "blame", "limit")

    def __init__(
        self, physical: MemoryAccess, base: HostPhysical, limit: int, *, exclusive: bool = False
    ) -> None:
        self._physical = physical
        self._base = base
        self._last = limit - exclusive
        self.blame = ""
        self.limit = limit

    def blaming(self, blame: str) -> LauncherMemory:
        """The same memory for one who is named when the Guest is killed."""
        same = LauncherMemory(self._physical, self._base, self.limit)
        same._last, same.blame = self._last, blame
        return same

    def check(self, address: int, count: int) -> None:
        """Kill the Guest unless the range is its own."""
        if address < 0 or count < 0 or address + count > self._last:
            raise self.killed(f"Invalid address {address:#x}")

    def killed(self, text: str) -> GuestKilled:
        """The Guest's end, for a mistake that is told to nobody in particular."""
        return GuestKilled(self.blame + text)

    def read(self, address: int, count: int) -> bytes:
        """Bytes at a guest-physical address."""
        self.check(address, count)
        return self._physical.read(self._base + address, count)

    def write(self, address: int, data: bytes) -> None:
        """Store bytes at a guest-physical address."""
        self.check(address, len(data))
        if data:
            self._physical.write(self._base + address, data)

    def read_u16(self, address: int) -> int:
        """Little-endian half word."""
        return int.from_bytes(self.read(address, 2), "little")

    def write_u16(self, address: int, value: int) -> None:
        """Store a little-endian half word."""
        self.write(address, value.to_bytes(2, "little"))


__all__ = ["LauncherMemory"]
