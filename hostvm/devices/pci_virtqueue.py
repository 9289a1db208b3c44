"""A virtqueue of virtio 1.0: the Guest puts its three parts where it likes, each by itself.

So there is nothing to take from before the Guest has said where that is and has enabled the queue; what it said stands
in the device's registers, which is where it comes from after a restore. Only then are addresses checked for the first
time, and at each use again.

Source: virtio specification 1.0, 2.4; lguest's Launcher (check_virtqueue, trigger_irq). Read next: pci_registers.py.
"""

from __future__ import annotations

from dataclasses import dataclass

from hostvm.devices.descriptor_page import PlacedQueue
from hostvm.devices.launcher_memory import LauncherMemory
from hostvm.devices.virtqueue import Chain, QueueState, Virtqueue
from hostvm.errors import GuestKilled

MOST_ENTRIES = 1 << 15
_DESCRIPTOR_SIZE, _HEAD_SIZE, _USED_SIZE = 16, 2, 8
_FLAGS, _RING = 0, 4


@dataclass(frozen=True, slots=True)
class RingPlace:
    """How many entries a ring has, and the guest-physical addresses of its parts."""

    entries: int
    descriptors: int
    available: int
    used: int


class PciVirtqueue(Virtqueue):
    """The queue, whose ring is where `place` puts it."""

    __slots__ = ("_blame", "_enabled")

    def __init__(self, memory: LauncherMemory, placed: PlacedQueue) -> None:
        device, _, fault = memory.blame.partition(":")
        self._blame = f"{device} vq {placed.name}:{fault}"
        self._enabled = False
        super().__init__(memory, placed)

    def killed(self, text: str) -> GuestKilled:
        """The Guest's end, for a mistake in this queue."""
        return GuestKilled(self._blame + text)

    def place(self, ring: RingPlace | None) -> None:
        """From now on the ring is there, or nowhere."""
        self._enabled = ring is not None
        if ring is not None:
            self._entries, self._descriptors = ring.entries, ring.descriptors
            self._available, self._used = ring.available, ring.used

    def check(self, ring: RingPlace) -> None:
        """Kill the Guest unless a ring could be there, and is as rings are at first."""
        aligned = not (ring.descriptors % 16 or ring.available % 2 or ring.used % 4)
        if not aligned:
            raise self.killed("invalid alignment in queue addresses")
        self._memory.check(ring.descriptors, _DESCRIPTOR_SIZE * ring.entries)
        self._memory.check(ring.available, _RING + _HEAD_SIZE * ring.entries)
        self._memory.check(ring.used, _RING + _USED_SIZE * ring.entries)
        flags = self._memory.read_u16(ring.used + _FLAGS)
        if flags:
            raise self.killed(f"invalid initial used.flags {flags:#x}")

    def reset(self) -> None:
        """Forget everything. The ring is the Guest's to wipe."""
        self._enabled = False
        self.restore(QueueState())

    def take(self) -> Chain | None:
        """The next chain of the Guest, or None."""
        return super().take() if self._enabled else None

    def interrupt_due(self) -> bool:
        """Whether the Guest must be told now that chains were used; it counts as told."""
        if not self._enabled or not self.untold:
            return False
        flags = self._memory.read_u16(self._available + _FLAGS)
        if flags > 1:
            raise self.killed(f"avail->flags = {flags}\n")
        return super().interrupt_due()

    def ask_for_notify(self) -> None:
        """Let the Guest ring when it has more."""
        if self._enabled:
            super().ask_for_notify()

    def _indirect(self) -> GuestKilled:
        return self.killed("vq indirect not negotiated")


__all__ = ["MOST_ENTRIES", "PciVirtqueue", "RingPlace"]
