"""The virtio random number generator: the World's bytes, as many as the Guest has room for.

Source: lguest's Launcher (rng_input). Read next: block.py.
"""

from __future__ import annotations

from hostvm.devices.device import Device
from hostvm.devices.virtqueue import Chain, Virtqueue, Waiting, scatter, size
from hostvm.world import Action


class RngDevice(Device):
    """One queue, of buffers to fill."""

    name = "rng"

    def begin(self, queue: Virtqueue, chain: Chain) -> None:
        """Ask the World for bytes."""
        if chain.readable:
            raise queue.killed("Output buffers in rng?")
        room = size(chain.writable)
        if room:
            self.wait_for(queue, Waiting(chain.head, Action.ENTROPY, 0, room, chain.writable))
        else:
            queue.add_used(chain.head, 0)

    def finish(self, queue: Virtqueue, waiting: Waiting, data: bytes) -> None:
        """Hand the World's bytes over."""
        queue.add_used(waiting.head, scatter(self.memory, waiting.pieces, data))


__all__ = ["RngDevice"]
