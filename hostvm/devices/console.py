"""The virtio console: what the Guest prints is shown at once, what was typed waits until the Guest has a buffer.

Typing comes by itself, from a World that knows nothing of buffers; so there is room for as much as a terminal keeps
of a line, and what comes when that is full is lost. The Guest is interrupted for each buffer of input.

Source: lguest's Launcher (console_input, console_output). Read next: rng.py.
"""

from __future__ import annotations

from dataclasses import replace

from hostvm.devices.descriptor_page import PlacedDevice
from hostvm.devices.device import Device, DeviceHost, DeviceState
from hostvm.devices.launcher_memory import LauncherMemory
from hostvm.devices.virtqueue import Chain, Virtqueue, Waiting, gather, scatter, size
from hostvm.world import Action

MOST_TYPED = 4096


class ConsoleDevice(Device):
    """Queue 0 is for input, queue 1 for output."""

    name = "console"

    def __init__(self, placed: PlacedDevice, memory: LauncherMemory, host: DeviceHost) -> None:
        super().__init__(placed, memory, host)
        self._typed = b""

    def begin(self, queue: Virtqueue, chain: Chain) -> None:
        """Print, or take a buffer for input."""
        if queue is self.queues[0]:
            self._begin_input(queue, chain)
            return
        if chain.writable:
            raise queue.killed("Input buffers in console output queue?")
        text = gather(self.memory, chain.readable)
        queue.add_used(chain.head, 0)
        if text:
            self.host.console_output(text)

    def _begin_input(self, queue: Virtqueue, chain: Chain) -> None:
        if chain.readable:
            raise queue.killed("Output buffers in console in queue?")
        room = size(chain.writable)
        if not room:
            queue.add_used(chain.head, 0)
            return
        queue.waiting = Waiting(chain.head, Action.INPUT, 0, room, chain.writable)
        self._deliver(queue)

    def _deliver(self, queue: Virtqueue) -> None:
        waiting = queue.waiting
        if waiting is not None and self._typed:
            queue.waiting = None
            self.finish(queue, waiting, self._typed[: waiting.count])

    def finish(self, queue: Virtqueue, waiting: Waiting, data: bytes) -> None:
        """Put what was typed into the Guest's buffer."""
        self._typed = self._typed[len(data) :]
        queue.add_used(waiting.head, scatter(self.memory, waiting.pieces, data))
        self.tell(queue)

    def complete(self, queue: Virtqueue, data: bytes) -> None:
        """Something was typed."""
        if queue is self.queues[0]:
            self._typed = (self._typed + data)[:MOST_TYPED]
            self._deliver(queue)
            if self.running:
                self.serve(queue)

    def state(self) -> DeviceState:
        """All that is not in the Guest's memory."""
        return replace(super().state(), typed=self._typed)

    def restore(self, state: DeviceState) -> None:
        """Be as in `state`."""
        super().restore(state)
        self._typed = state.typed

    def digest_bytes(self) -> bytes:
        """Bytes that are equal exactly if the states are."""
        return super().digest_bytes() + self._typed


__all__ = ["MOST_TYPED", "ConsoleDevice"]
