"""The virtio network card: frames go out at once, frames that come in take a buffer of the Guest or are lost.

A frame that comes in is the World's, and it comes by itself. The card keeps nothing: where the Guest has put no buffer
that it fits into, it is dropped, as Ethernet may. So the card has no state beside its queues, and a buffer for input
stays in the ring until a frame takes it, unlike a console's.

Each frame has a header of ten bytes before it in the ring, for work that the card can do for the Guest (checksums,
segments). None of that is offered, so the header is zero towards the Guest, and what the Guest writes there is of no
meaning. In 2.6.24 it has two bytes less, on PCI two more, which say that a frame came in one buffer.

Source: virtio specification 0.9.5, appendix C; lguest's Launcher (net_input, net_output). Read next: block.py.
"""

from __future__ import annotations

from hostvm.devices.device import Device
from hostvm.devices.virtqueue import Chain, Virtqueue, gather, scatter, size

LONGEST_FRAME = 1 << 16


class NetDevice(Device):
    """Queue 0 is for what comes in, queue 1 for what goes out."""

    name = "net"

    def serve(self, queue: Virtqueue) -> None:
        """Send; buffers for what comes in wait in the ring."""
        if queue is not self.queues[0]:
            super().serve(queue)

    def begin(self, queue: Virtqueue, chain: Chain) -> None:
        """Send a frame."""
        if chain.writable:
            raise queue.killed("Input buffers in net output queue?")
        frame = gather(self.memory, chain.readable)[len(self.placed.net_head) :]
        queue.add_used(chain.head, 0)
        if 0 < len(frame) <= LONGEST_FRAME:
            self.host.packet_sent(self.placed.number, frame)

    def complete(self, queue: Virtqueue, data: bytes) -> None:
        """A frame has come in."""
        if queue is not self.queues[0] or not self.running or not data:
            return
        chain = queue.take()
        if chain is not None:
            self._receive(queue, chain, data)
            self.tell(queue)

    def _receive(self, queue: Virtqueue, chain: Chain, frame: bytes) -> None:
        if chain.readable:
            raise queue.killed("Output buffers in net input queue?")
        whole = self.placed.net_head + frame
        if size(chain.writable) < len(whole):
            queue.put_back()
        else:
            queue.add_used(chain.head, scatter(self.memory, chain.writable, whole))


__all__ = ["LONGEST_FRAME", "NetDevice"]
