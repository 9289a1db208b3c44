"""What all devices do alike: start, stop, serve their queues, wait for the World.

A device is started by the Guest's driver, does nothing before, and is wiped by a reset. When a queue is rung, its
device takes chains until there are none or until one must wait. What came from the World ends the chain that waits,
and the rest follows. A reset forgets what was waited for; the World's answer then finds nobody and is dropped.

Source: lguest's Launcher (start_device, reset_device and the threads). Read next: console.py, rng.py, block.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from hostvm.devices.descriptor_page import PlacedDevice
from hostvm.devices.launcher_memory import LauncherMemory
from hostvm.devices.pci_virtqueue import PciVirtqueue
from hostvm.devices.virtqueue import Chain, QueueState, Virtqueue, Waiting
from hostvm.world import Action


class DeviceHost(Protocol):
    """What a device needs of the Guest that it belongs to."""

    def console_output(self, data: bytes) -> None:
        """Show what the Guest printed."""
        ...

    def raise_irq(self, irq: int) -> None:
        """Make a virtual interrupt pending."""
        ...

    def packet_sent(self, device: int, frame: bytes) -> None:
        """Put a frame on the wire."""
        ...

    def request(self, device: int, irq: int, action: Action, position: int, count: int) -> None:
        """Tell the World what a device waits for."""
        ...

    def dma_buffer(self, key: int) -> tuple[int, int] | None:
        """A buffer that the Guest has bound to `key` (2.6.23): guest-physical address and interrupt."""
        ...


@dataclass(frozen=True, slots=True)
class DeviceState:
    """A device's part of the machine's state.

    `typed` is a console's; `sectors` are a disk's, as (number, content), in order. `registers` are a function's on PCI
    (pci_function.py).
    """

    running: bool
    queues: tuple[QueueState, ...]
    typed: bytes = b""
    sectors: tuple[tuple[int, bytes], ...] = ()
    registers: bytes = b""


class Device:
    """A device in its place; kinds of devices say what is to be done with a chain."""

    name = "device"

    def __init__(self, placed: PlacedDevice, memory: LauncherMemory, host: DeviceHost) -> None:
        self.placed = placed
        self.memory = memory
        self.host = host
        self.running = False
        self.queues = tuple(
            PciVirtqueue(memory, queue) if queue.name else Virtqueue(memory, queue)
            for queue in placed.queues
        )

    def begin(self, queue: Virtqueue, chain: Chain) -> None:
        """Do what a chain asks for: give it back, or have it wait. May kill the Guest."""
        raise NotImplementedError

    def finish(self, queue: Virtqueue, waiting: Waiting, data: bytes) -> None:
        """Give back a chain for which the World has answered."""
        raise NotImplementedError

    # ---- what the driver does ---------------------------------------------------------------------

    def start(self) -> None:
        """The driver is ready."""
        self.running = True
        for queue in self.queues:
            self.serve(queue)

    def reset(self) -> None:
        """The driver gave the device up, or begins anew."""
        self.memory.write(self.placed.accepted, bytes(self.placed.feature_len))
        for queue in self.queues:
            queue.reset()
        self.running = False

    def serve(self, queue: Virtqueue) -> None:
        """Take chains until none is left or one waits."""
        while queue.waiting is None:
            chain = queue.take()
            if chain is None:
                self.tell(queue)
                queue.ask_for_notify()
                return
            self.begin(queue, chain)

    def tell(self, queue: Virtqueue) -> None:
        """Interrupt the Guest for what was used, unless it does not want that."""
        if queue.interrupt_due():
            self.host.raise_irq(queue.irq)

    # ---- what the World does ----------------------------------------------------------------------

    def wait_for(self, queue: Virtqueue, waiting: Waiting) -> None:
        """Have a chain wait for the World."""
        queue.waiting = waiting
        self._request(queue, waiting)

    def ask_again(self) -> None:
        """Tell the World once more of what is waited for: it may be another World."""
        for queue in self.queues:
            if queue.waiting is not None and queue.waiting.action is not Action.INPUT:
                self._request(queue, queue.waiting)

    def _request(self, queue: Virtqueue, waiting: Waiting) -> None:
        number = self.placed.number
        self.host.request(number, queue.irq, waiting.action, waiting.position, waiting.count)

    def complete(self, queue: Virtqueue, data: bytes) -> None:
        """The World has answered."""
        waiting, queue.waiting = queue.waiting, None
        if waiting is not None:
            self.finish(queue, waiting, data[: waiting.count])
            self.serve(queue)

    # ---- state ------------------------------------------------------------------------------------

    def state(self) -> DeviceState:
        """All that is not in the Guest's memory."""
        return DeviceState(self.running, tuple(queue.state() for queue in self.queues))

    def restore(self, state: DeviceState) -> None:
        """Be as in `state`."""
        self.running = state.running
        for queue, its in zip(self.queues, state.queues, strict=True):
            queue.restore(its)

    def digest_bytes(self) -> bytes:
        """Bytes that are equal exactly if the states are."""
        parts: list[object] = [self.running]
        for queue in self.queues:
            state = queue.state()
            parts += [state.taken, state.untold]
            if state.waiting is not None:
                its = state.waiting
                parts += [its.head, int(its.action), its.position, its.count, its.pieces]
        return ascii(parts).encode("ascii")


__all__ = ["Device", "DeviceHost", "DeviceState"]
